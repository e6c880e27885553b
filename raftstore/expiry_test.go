package raftstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// hourApart gives the nodes clocks that are an hour apart.
func hourApart(i int, cfg *raftstore.Config) {
	off := time.Duration(i-1) * time.Hour
	cfg.SetClock(func() time.Time { return time.Now().Add(off) })
}

// life is a key with a TTL: when it was sent, acknowledged, and seen gone on a node.
type life struct {
	ttl         time.Duration
	sent, acked time.Time
	gone        time.Time
}

// lives watches keys come and go.
type lives struct {
	t  *testing.T
	mu sync.Mutex
	of map[string]*life
}

func newLives(t *testing.T) *lives {
	t.Helper()
	return &lives{t: t, of: map[string]*life{}}
}

func setTTL(key string, ttl time.Duration) *command.Txn {
	txn := raftstoretest.Set(key, "v")
	txn.Then[0].Ttl = int64(ttl)
	return txn
}

// put writes a key through the node; an unknown outcome is nobody's life.
func (l *lives) put(n *raftstoretest.Node, key string, ttl time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), raftstoretest.Patience)
	defer cancel()
	sent := time.Now()
	_, err := n.Store.Apply(ctx, command.Type_TYPE_TXN, setTTL(key, ttl), "")
	acked := time.Now()
	if errors.Is(err, raftstore.ErrOutcomeUnknown) {
		return
	}
	if err != nil {
		l.t.Errorf("putting %s: %v", key, err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	li := l.life(key)
	li.ttl, li.sent, li.acked = ttl, sent, acked
}

func (l *lives) life(key string) *life {
	if l.of[key] == nil {
		l.of[key] = &life{}
	}
	return l.of[key]
}

// watch books on one node when keys go, until the test ends.
func (l *lives) watch(n *raftstoretest.Node) {
	l.t.Helper()
	sub, err := n.Store.FSM().Subscribe(fsm.Filter{Prefix: []byte("ttl/")}, n.Store.AppliedIndex())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(sub.Close)
	go func() {
		for {
			events, _, err := sub.Next(context.Background())
			if err != nil {
				return
			}
			now := time.Now()
			l.mu.Lock()
			for _, ev := range events {
				if li := l.life(string(ev.Key)); ev.Deleted && li.gone.IsZero() {
					li.gone = now
				}
			}
			l.mu.Unlock()
		}
	}()
}

// judge waits until every key is gone and checks that none went early, nor later than
// allowed. It prints how late they were.
func (l *lives) judge(allowed time.Duration) {
	l.t.Helper()
	raftstoretest.Eventually(l.t, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for key, li := range l.of {
			if li.ttl > 0 && li.gone.IsZero() {
				return fmt.Errorf("%s with ttl %s has not gone %s after it was acknowledged", key, li.ttl, time.Since(li.acked))
			}
		}
		return nil
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	var late []time.Duration
	for key, li := range l.of {
		if li.ttl == 0 {
			continue // outcome unknown
		}
		if early := li.sent.Add(li.ttl).Sub(li.gone); early > 0 {
			l.t.Errorf("%s with ttl %s went %s early", key, li.ttl, early)
		}
		late = append(late, li.gone.Sub(li.acked.Add(li.ttl)))
	}
	if len(late) == 0 {
		l.t.Fatal("no key was judged")
	}
	slices.Sort(late)
	at := func(p float64) time.Duration { return late[int(p*float64(len(late)-1))].Round(time.Millisecond) }
	l.t.Logf("%d keys: late by min %s, median %s, p99 %s, max %s; allowed %s", len(late), at(0), at(0.5), at(0.99), at(1), allowed)
	if worst := late[len(late)-1]; worst > allowed {
		l.t.Errorf("one went %s late, allowed %s", worst, allowed)
	}
}

func randomTTL() time.Duration { return 100*time.Millisecond + rand.N(3*time.Second) }

func TestTTLIsNeverEarlyAndHardlyLate(t *testing.T) {
	c := raftstoretest.New(t, 3, hourApart)
	l := newLives(t)
	l.watch(c.Followers()[0])
	for i := range 300 {
		l.put(c.Nodes[i%3], fmt.Sprintf("ttl/%d", i), randomTTL())
	}
	l.judge(1500 * time.Millisecond)
	c.CheckEqual()
}

// Leaders go without a word, and come back with clocks that have gone on meanwhile.
// Nothing goes early, or later than the outages and 2 s.
func TestTTLOverLeaderChanges(t *testing.T) {
	c := raftstoretest.New(t, 3, hourApart)
	l := newLives(t)
	for _, n := range c.Nodes {
		l.watch(n)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	for w, n := range c.Nodes {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.put(n, fmt.Sprintf("ttl/%d-%d", w, i), randomTTL())
				<-time.After(10 * time.Millisecond) // not a wait: a rate
			}
		})
	}
	var outages time.Duration
	for range 4 {
		old := c.Leader()
		began := time.Now()
		old.Isolate()
		c.Leader(old)
		outages += time.Since(began)
		raftstoretest.Eventually(t, func() error {
			if time.Since(began) < 2*time.Second {
				return errors.New("the old leader's clock shall be ahead")
			}
			return nil
		})
		old.Rejoin()
		raftstoretest.Eventually(t, func() error { // it takes office with a clock that stood at another time
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if old.Store.IsLeader() {
				return nil
			}
			_ = c.Leader().Store.Transfer(ctx, old.ID)
			return errors.New("not the leader")
		})
	}
	stop()
	wg.Wait()
	t.Logf("4 outages of %s in all", outages)
	l.judge(outages + 2*time.Second)
	c.CheckEqual()
}

// Without a deadline the log stands still; a deadline far away makes cluster time
// move once a second; a nearer one is not missed for that.
func TestTicksOnlyWhileThereIsADeadline(t *testing.T) {
	c := raftstoretest.New(t, 1)
	n := c.Nodes[0]
	n.MustPut("a", "b")
	before := n.Store.Raft().LastIndex()
	for began := time.Now(); time.Since(began) < 1500*time.Millisecond; {
		if now := n.Store.Raft().LastIndex(); now != before {
			t.Fatalf("entry %d came by itself, though nothing has a deadline", now)
		}
		<-time.After(20 * time.Millisecond)
	}
	l := newLives(t)
	l.watch(n)
	if _, err := n.Store.Apply(t.Context(), command.Type_TYPE_TXN, setTTL("far", time.Hour), ""); err != nil {
		t.Fatal(err)
	}
	from, began := n.Store.Raft().LastIndex(), time.Now()
	raftstoretest.Eventually(t, func() error {
		if n.Store.Raft().LastIndex() < from+3 { // the first may come at once
			return errors.New("no ticks")
		}
		return nil
	})
	if took := time.Since(began); took < 1500*time.Millisecond || took > 5*time.Second {
		t.Errorf("three ticks took %s", took)
	}
	l.put(n, "ttl/near", 200*time.Millisecond)
	l.judge(600 * time.Millisecond)
	if _, err := n.Store.Apply(t.Context(), command.Type_TYPE_TXN,
		&command.Txn{Then: []*command.Op{{Kind: command.Op_DELETE, Key: []byte("far")}}}, ""); err != nil {
		t.Fatal(err)
	}
	v, _, err := n.Store.View(t.Context(), raftstore.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	now, err := v.Time()
	if err != nil || now <= 0 || n.Store.ClusterTime() < now {
		t.Errorf("cluster time is %d, in the state %d: %v", n.Store.ClusterTime(), now, err)
	}
}

// What is due while the disk is full goes when there is room again.
func TestTicksWaitForRoomOnTheDisk(t *testing.T) {
	c := raftstoretest.New(t, 1)
	n := c.Nodes[0]
	l := newLives(t)
	l.watch(n)
	l.put(n, "ttl/a", 300*time.Millisecond)
	began := time.Now()
	n.Store.SetDiskFull(true)
	raftstoretest.Eventually(t, func() error {
		if time.Since(began) < time.Second {
			return errors.New("it is not long due")
		}
		return nil
	})
	if got, err := n.Get("ttl/a", raftstore.ReadOptions{Consistency: raftstore.Stale}); err != nil || got != "v" {
		t.Fatalf("%q, %v", got, err)
	}
	n.Store.SetDiskFull(false)
	l.judge(time.Since(began) + 2*time.Second)
}

// Time goes on where it stood after all nodes were down, and a service that expires
// says so for an hour.
func TestTTLOverRestarts(t *testing.T) {
	c := raftstoretest.New(t, 3, hourApart)
	e := c.Leader().Store.Engine()
	if err := e.SetService("web", []byte("data"), 3*time.Second); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, n := range c.Nodes {
		n.Stop()
	}
	for _, n := range c.Nodes {
		n.Start()
	}
	e = c.Leader().Store.Engine()
	for {
		got, err := e.GetService("web")
		if errors.Is(err, persistence.ErrServiceExpired) {
			break
		}
		if err != nil || string(got) != "data" {
			t.Fatalf("%q, %v", got, err)
		}
		if time.Since(began) > raftstoretest.Patience {
			t.Fatal("it does not expire")
		}
		<-time.After(5 * time.Millisecond)
	}
	if lived := time.Since(began); lived < 3*time.Second-50*time.Millisecond {
		t.Errorf("it lived %s only", lived)
	}
	names, err := e.ListServices()
	if err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	c.CheckEqual()
}
