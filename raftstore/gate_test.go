package raftstore_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// proposed is what became of one proposal.
type proposed struct {
	index uint64
	err   error
}

// held is a leader whose batches stay on their way until release.
type held struct {
	*raftstoretest.Node
	t       *testing.T
	release func()
	all     []chan proposed
}

// hold lets the leader's first batch, of one proposal, be under way and not come back.
func hold(t *testing.T, c *raftstoretest.Cluster) *held {
	t.Helper()
	h := &held{Node: c.Leader(), t: t}
	h.MustPut("before", "1")
	open := make(chan struct{})
	h.release = sync.OnceFunc(func() { close(open) })
	t.Cleanup(h.release)
	syncs := make(chan struct{}, 100)
	h.Store.GateSync(func() {
		syncs <- struct{}{}
		<-open
	})
	h.propose(within(t, raftstoretest.Patience), "0")
	<-syncs
	return h
}

// propose begins a write and returns when it is admitted.
func (h *held) propose(ctx context.Context, key string) {
	ch := make(chan proposed, 1)
	before := h.Store.Proposals()
	go func() {
		res, err := h.Store.Propose(ctx, command.Type_TYPE_TXN, raftstoretest.Set(key, "v"))
		ch <- proposed{res.GetIndex(), err}
	}()
	h.all = append(h.all, ch)
	raftstoretest.Eventually(h.t, func() error {
		if h.Store.Proposals() == before {
			return errors.New("not admitted")
		}
		return nil
	})
}

// While a batch is under way proposals gather; then they go together, in order.
func TestProposalsGather(t *testing.T) {
	c := raftstoretest.New(t, 3)
	h := hold(t, c)
	for i := 1; i < 10; i++ {
		h.propose(within(t, raftstoretest.Patience), fmt.Sprint(i))
		time.Sleep(time.Millisecond) // admitted, and behind the one before
	}
	last := h.Store.Raft().LastIndex()
	time.Sleep(20 * time.Millisecond)
	if now := h.Store.Raft().LastIndex(); now != last {
		t.Errorf("the log grew from %d to %d while a batch was under way", last, now)
	}
	h.release()
	for i, ch := range h.all {
		if got := <-ch; got.err != nil || got.index != last+uint64(i) {
			t.Errorf("proposal %d: %d, %v; want %d", i, got.index, got.err, last+uint64(i))
		}
	}
	c.CheckEqual()
}

// A proposal whose time ends in the gate was not done, and is not done later; one
// that raft has is unknown.
func TestTimeEndsInTheGate(t *testing.T) {
	c := raftstoretest.New(t, 3)
	h := hold(t, c)
	ctx, cancel := context.WithCancel(within(t, raftstoretest.Patience))
	h.propose(ctx, "given up")
	h.propose(within(t, raftstoretest.Patience), "after")
	cancel()
	if got := <-h.all[1]; !raftstore.NotApplied(got.err) || !errors.Is(got.err, context.Canceled) {
		t.Errorf("given up in the gate: %v", got.err)
	}
	h.release()
	for _, i := range []int{0, 2} {
		if got := <-h.all[i]; got.err != nil {
			t.Errorf("proposal %d: %v", i, got.err)
		}
	}
	if h.MustGet("given up") != "" {
		t.Error("what was given up was done")
	}
	if n := h.Store.Proposals(); n != 0 {
		t.Errorf("%d proposals are left", n)
	}
}

// The same for one that another node has forwarded: its time travels along.
func TestTimeOfAForwardedProposalEndsInTheGate(t *testing.T) {
	c := raftstoretest.New(t, 3)
	h := hold(t, c)
	follower := c.Followers()[0]
	ch := make(chan error, 1)
	go func() {
		_, err := follower.Store.Apply(within(t, 200*time.Millisecond), command.Type_TYPE_TXN, raftstoretest.Set("late", "v"), "")
		ch <- err
	}()
	// The follower cannot tell how far it got.
	if err := <-ch; !errors.Is(err, raftstore.ErrOutcomeUnknown) {
		t.Errorf("late: %v", err)
	}
	raftstoretest.Eventually(t, func() error {
		if n := h.Store.Proposals(); n != 2 {
			return fmt.Errorf("the leader has %d proposals", n)
		}
		return nil
	})
	h.release()
	if got := <-h.all[0]; got.err != nil {
		t.Error(got.err)
	}
	raftstoretest.Eventually(t, func() error {
		if n := h.Store.Proposals(); n != 0 {
			return fmt.Errorf("%d proposals are left", n)
		}
		return nil
	})
	if follower.MustGet("late") != "" {
		t.Error("what was late was done")
	}
}

// Writes through all nodes at a time share batches, and each gets its own answer.
func TestForwardedProposalsAreAnsweredEach(t *testing.T) {
	c := raftstoretest.New(t, 3)
	c.Leader()
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			key := fmt.Sprint("key", i)
			index, err := c.Nodes[i%3].Put(key, key)
			if err != nil {
				t.Errorf("%s: %v", key, err)
				return
			}
			v, _, err := c.Nodes[i%3].Store.View(within(t, raftstoretest.Patience), raftstore.ReadOptions{})
			if err != nil {
				t.Errorf("%s: %v", key, err)
				return
			}
			defer v.Close()
			if kv, err := v.KV([]byte(key)); err != nil || kv.ModifyIndex != index || string(kv.Value) != key {
				t.Errorf("%s, answered %d: %v, %v", key, index, kv, err)
			}
		}()
	}
	wg.Wait()
	c.CheckEqual()
}

// When leadership is lost, what raft had is unknown and what waited was not done.
func TestLeadershipLostWithProposalsInTheGate(t *testing.T) {
	c := raftstoretest.New(t, 3)
	h := hold(t, c)
	for i := range 5 {
		h.propose(within(t, raftstoretest.Patience), fmt.Sprint("waits", i))
	}
	h.Isolate()
	c.Leader(h.Node)
	if got := <-h.all[0]; !errors.Is(got.err, raftstore.ErrOutcomeUnknown) {
		t.Errorf("under way: %v", got.err)
	}
	for i, ch := range h.all[1:] {
		if got := <-ch; !raftstore.NotApplied(got.err) {
			t.Errorf("waiting %d: %v", i, got.err)
		}
	}
	h.release()
	h.Rejoin()
	c.CheckEqual()
	for i := range 5 {
		if h.MustGet(fmt.Sprint("waits", i)) != "" {
			t.Errorf("waiting %d was said not to be done", i)
		}
	}
}

// Shutdown leaves nobody waiting and no goroutine behind.
func TestShutdownWithProposalsInTheGate(t *testing.T) {
	c := raftstoretest.New(t, 3)
	h := hold(t, c)
	for i := range 5 {
		h.propose(within(t, raftstoretest.Patience), fmt.Sprint("waits", i))
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		h.release()
	}()
	store := h.Store
	h.Stop()
	for i, ch := range h.all {
		if got := <-ch; got.err != nil && !raftstore.NotApplied(got.err) && !errors.Is(got.err, raftstore.ErrOutcomeUnknown) {
			t.Errorf("proposal %d: %v", i, got.err)
		}
	}
	if n := store.Proposals(); n != 0 {
		t.Errorf("%d proposals are left", n)
	}
}

func TestGateIsBoundedWhileABatchIsUnderWay(t *testing.T) {
	c := raftstoretest.New(t, 3, func(_ int, cfg *raftstore.Config) { cfg.QueueDepth = 4 })
	h := hold(t, c)
	for i := range 3 {
		h.propose(within(t, raftstoretest.Patience), fmt.Sprint(i))
	}
	before := runtime.NumGoroutine()
	for range 20 {
		_, err := h.Store.Propose(within(t, raftstoretest.Patience), command.Type_TYPE_TXN, raftstoretest.Set("one more", "v"))
		if !errors.Is(err, raftstore.ErrOverloaded) || !raftstore.NotApplied(err) {
			t.Fatalf("with a full queue: %v", err)
		}
	}
	if now := runtime.NumGoroutine(); now > before+10 {
		t.Errorf("%d goroutines, %d before", now, before)
	}
	h.release()
	for i, ch := range h.all {
		if got := <-ch; got.err != nil {
			t.Errorf("proposal %d: %v", i, got.err)
		}
	}
}
