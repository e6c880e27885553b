package raftstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// settledGoroutines waits until the number of goroutines is at most want, and
// shows them if it does not come to that.
func settledGoroutines(t *testing.T, want int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for runtime.NumGoroutine() > want {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			buf = buf[:runtime.Stack(buf, true)]
			t.Fatalf("%d goroutines, expected at most %d:\n%s", runtime.NumGoroutine(), want, buf)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestShutdownLeavesNothingBehind(t *testing.T) {
	before, files := runtime.NumGoroutine(), openFiles(t)
	c := raftstoretest.New(t, 3)
	for i := range 20 {
		c.Nodes[i%3].MustPut(fmt.Sprint(i), "v")
		c.Nodes[i%3].MustGet(fmt.Sprint(i))
	}
	store := c.Nodes[0].Store
	for _, n := range c.Nodes {
		n.Stop()
	}
	if err := store.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if _, err := store.ReadIndex(context.Background()); !errors.Is(err, raftstore.ErrShuttingDown) {
		t.Errorf("reading a closed store: %v", err)
	}
	settledGoroutines(t, before+1)
	if now := openFiles(t); now > files+2 {
		t.Errorf("%d open files, before %d", now, files)
	}
}

func TestLeaderChangesAndSnapshotsLeaveNothingBehind(t *testing.T) {
	c := raftstoretest.New(t, 3)
	for i := range 9 { // every connection there will be
		c.MoveTo(c.Nodes[i%3])
		for _, n := range c.Nodes {
			n.MustPut(fmt.Sprint(i), "v")
			n.MustGet(fmt.Sprint(i))
		}
	}
	snapshotAll(t, c, 0)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for i := range 50 {
		leader := c.Leader()
		next := c.Nodes[(i+1)%3]
		if next == leader {
			next = c.Nodes[(i+2)%3]
		}
		c.MoveTo(next)
		c.Nodes[i%3].MustPut("k", fmt.Sprint(i))
		if got := c.Nodes[(i+1)%3].MustGet("k"); got != fmt.Sprint(i) {
			t.Fatalf("after change %d: %q", i, got)
		}
	}
	for i := range 20 {
		snapshotAll(t, c, i)
	}
	settledGoroutines(t, goroutines+20)
	if now := openFiles(t); now > files+20 {
		t.Errorf("%d open files, before %d", now, files)
	}
	c.CheckEqual()
}

func snapshotAll(t *testing.T, c *raftstoretest.Cluster, round int) {
	t.Helper()
	c.Leader().MustPut(fmt.Sprintf("snapshot%d", round), strings.Repeat("x", 100))
	c.CheckEqual()
	for _, n := range c.Nodes {
		if err := n.Store.TakeSnapshot(context.Background()); err != nil {
			t.Fatalf("snapshot on %s: %v", n.ID, err)
		}
	}
}

func TestWritesGoOnAfterTheLeaderIsGone(t *testing.T) {
	c := raftstoretest.New(t, 3)
	c.Leader().MustPut("a", "1")
	gone := c.Leader()
	gone.Isolate()
	start := time.Now()
	for _, n := range c.Nodes {
		if n != gone {
			n.MustPut("a", "2")
		}
	}
	t.Logf("writes resumed after %s", time.Since(start))
	gone.Rejoin()
	if got := gone.MustGet("a"); got != "2" {
		t.Fatalf("the old leader read %q", got)
	}
	c.CheckEqual()
}

func TestNoMajority(t *testing.T) {
	c := raftstoretest.New(t, 3, func(_ int, cfg *raftstore.Config) {
		cfg.ElectionWait, cfg.RequestTimeout = 500*time.Millisecond, 2*time.Second
	})
	leader := c.Leader()
	leader.MustPut("a", "1")
	for _, n := range c.Followers() {
		n.Stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, err := leader.Store.Apply(ctx, 1, raftstoretest.Set("a", "2"), "")
	if !errors.Is(err, raftstore.ErrOutcomeUnknown) && !errors.Is(err, raftstore.ErrNoLeader) {
		t.Fatalf("a write without a majority: %v", err)
	}
	if _, err := leader.Get("a", raftstore.ReadOptions{}); err == nil {
		t.Fatal("a linearizable read without a majority succeeded")
	}
	if got, err := leader.Get("a", raftstore.ReadOptions{Consistency: raftstore.Stale}); err != nil || got != "1" {
		t.Fatalf("a stale read: %q, %v", got, err)
	}
}

// Raft doubles its pause with each failure to reach a follower, up to 10 s.
func TestFollowerGetsEntriesSoonAfterItIsBack(t *testing.T) {
	c := raftstoretest.New(t, 3)
	away := c.Followers()[0]
	away.Stop()
	stopped := time.Now()
	for i := range 300 { // each a failure
		c.Leader().MustPut("k", fmt.Sprint(i))
	}
	raftstoretest.Eventually(t, func() error {
		if time.Since(stopped) < 2*time.Second {
			return errors.New("not away long enough for raft to make long pauses")
		}
		return nil
	})
	away.Start()
	start := time.Now()
	if got := away.MustGet("k"); got != "299" {
		t.Fatalf("got %q", got)
	}
	took := time.Since(start)
	t.Logf("caught up after %s", took)
	if took > 2*time.Second {
		t.Errorf("it took %s to catch up", took)
	}
}

// A leader that vanishes without a word: writers that wait for its answer are
// told that the outcome is unknown as soon as another leads, and go on.
func TestWritersGoOnWhenTheLeaderVanishes(t *testing.T) {
	c := raftstoretest.New(t, 3, production)
	for round := range 4 {
		gone := c.Leader()
		var last, gap atomic.Int64
		ctx, stop := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for w, n := range c.Nodes {
			if n == gone {
				continue
			}
			for i := range 4 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for j := 0; ctx.Err() == nil; j++ {
						if _, err := n.Put(fmt.Sprintf("%d-%d-%d", w, i, j), "v"); err == nil {
							now := time.Now().UnixNano()
							gap.Store(max(gap.Load(), now-last.Swap(now)))
						}
					}
				}()
			}
		}
		raftstoretest.Eventually(t, func() error {
			if last.Load() == 0 {
				return errors.New("no write yet")
			}
			return nil
		})
		gap.Store(0)
		gone.Vanish()
		at := time.Now()
		raftstoretest.Eventually(t, func() error {
			if time.Since(at) < 2*time.Second || last.Load() < at.Add(500*time.Millisecond).UnixNano() {
				return errors.New("no write beside the leader that vanished")
			}
			return nil
		})
		t.Logf("round %d: %s without a write", round, time.Duration(gap.Load()))
		if gap.Load() > int64(4*time.Second) {
			t.Errorf("%s without a write", time.Duration(gap.Load()))
		}
		stop()
		wg.Wait()
		gone.Appear()
		c.CheckEqual()
	}
}
