package raftstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

func TestLimitsAreCheckedBeforeAnythingIsDone(t *testing.T) {
	c := raftstoretest.New(t, 1)
	before := c.Nodes[0].Store.CommitIndex()
	var limit *command.LimitError
	if _, err := c.Nodes[0].Put(strings.Repeat("k", 5000), "v"); !errors.As(err, &limit) {
		t.Errorf("a long key: %v", err)
	}
	if after := c.Nodes[0].Store.CommitIndex(); after != before {
		t.Errorf("the log grew from %d to %d", before, after)
	}
}

func TestQueueIsBounded(t *testing.T) {
	c := raftstoretest.New(t, 3, func(_ int, cfg *raftstore.Config) { cfg.QueueDepth = 4 })
	leader := c.Leader()
	ctx := within(t, raftstoretest.Patience)
	var done, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := leader.Store.Apply(ctx, command.Type_TYPE_TXN, raftstoretest.Set(fmt.Sprint(i), "v"), "")
			switch {
			case err == nil:
				done.Add(1)
			case errors.Is(err, raftstore.ErrOverloaded) && raftstore.NotApplied(err):
				refused.Add(1)
			default:
				t.Errorf("unexpected: %v", err)
			}
		}()
	}
	wg.Wait()
	if done.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d applied, %d refused", done.Load(), refused.Load())
	}
	keys, err := leader.Store.Engine().List("")
	if err != nil || int64(len(keys)) != done.Load() {
		t.Errorf("%d keys for %d writes, %v", len(keys), done.Load(), err)
	}
}

func TestCutOffLeaderDoesNotKnow(t *testing.T) {
	c := raftstoretest.New(t, 3)
	old := c.Leader()
	old.MustPut("a", "1")
	old.Isolate()
	_, err := old.Store.Apply(within(t, 5*time.Second), command.Type_TYPE_TXN, raftstoretest.Set("a", "2"), "")
	if !errors.Is(err, raftstore.ErrOutcomeUnknown) || raftstore.NotApplied(err) {
		t.Errorf("a write to a leader that is cut off: %v", err)
	}
	old.Rejoin()
	c.CheckEqual()
}

// Writers on all nodes, while leaders come and go: what was acknowledged is
// there, once, and what was certainly not applied is not.
func TestAcknowledgedWritesStay(t *testing.T) {
	c := raftstoretest.New(t, 3)
	var mu sync.Mutex
	acked := map[string]uint64{}
	var gone []string
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("w%d-%d", w, i)
				index, err := c.Nodes[w%3].Put(key, "v")
				mu.Lock()
				if err == nil {
					acked[key] = index
				} else if raftstore.NotApplied(err) {
					gone = append(gone, key)
				}
				mu.Unlock()
			}
		}()
	}
	for i := range 6 {
		leader := c.Leader()
		if i%2 == 0 {
			leader.Isolate()
			c.Leader(leader)
			leader.Rejoin()
		} else {
			_ = leader.Store.Transfer(within(t, 2*time.Second), "")
		}
	}
	stop()
	wg.Wait()
	c.CheckEqual()
	view, err := c.Leader().Store.DB().View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	for key, index := range acked {
		kv, err := view.KV([]byte(key))
		if err != nil || kv.ModifyIndex != index {
			t.Errorf("%s, acknowledged at %d: %v, %v", key, index, kv.GetModifyIndex(), err)
		}
	}
	for _, key := range gone {
		if _, err := view.KV([]byte(key)); err == nil {
			t.Errorf("%s was said not to be applied", key)
		}
	}
	t.Logf("%d acknowledged, %d not applied", len(acked), len(gone))
}

func TestRefusedIsTold(t *testing.T) {
	c := raftstoretest.New(t, 1)
	s := c.Nodes[0].Store
	if s.RefusedAtOnce() {
		t.Error("a proposal under way looks refused")
	}
	c.Nodes[0].Stop()
	for range 100 { // a raft that has stopped may still queue it: it tosses a coin
		if s.RefusedAtOnce() {
			return
		}
	}
	t.Error("a refused proposal looks like one under way")
}
