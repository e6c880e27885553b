//go:build cluster

package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

func status(err error) int {
	if e := (*harness.APIError)(nil); errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// Watchers on each node, and one that goes from node to node, see every change
// exactly once and in order while the leader is killed and nodes restart; so
// does one that starts afterwards at any older index.
func TestWatchersMissAndRepeatNothing(t *testing.T) {
	c := three(t)
	from := mustPut(t, c.Nodes[0], "w/first", "1")
	var ws []*watcher
	for _, n := range c.Nodes {
		ws = append(ws, follow(t, "the watcher of "+n.Name, "w/", from, n))
	}
	ws = append(ws, follow(t, "the wandering watcher", "w/", from, c.Nodes...))

	load := c.StartWriters("w/load", 6, 60)
	stopGroups := writeGroups(t, c)
	for i := range pick(3, 10) {
		harness.Hold(t.Context(), 1200*time.Millisecond)
		n := c.Leader()
		if i%3 == 2 {
			n = c.Other(n)
		}
		n.Restart()
		n.WaitReady(30 * time.Second)
	}
	load.Stop()
	stopGroups()
	c.WaitReady(30 * time.Second)
	end := mustPut(t, c.Nodes[1], "w/last", "1")

	all := ws[0].upTo(t, end)
	if err := ordered(all); err != nil {
		t.Fatalf("%s: %v", ws[0].name, err)
	}
	for _, w := range ws[1:] {
		if err := sameEvents(all, w.upTo(t, end)); err != nil {
			t.Errorf("%s and %s: %v", ws[0].name, w.name, err)
		}
	}
	acknowledgedOnce(t, load.Ledger, all)
	fromAnyIndex(t, c, all, end)
	t.Logf("%d events; the wandering watcher connected %d times", len(all), ws[3].resumed)
}

// acknowledgedOnce checks that each acknowledged write is an event at its index.
func acknowledgedOnce(t *testing.T, l *harness.Ledger, all []change) {
	t.Helper()
	acks := l.Acks()
	unknown := l.Unknowns()
	for _, c := range all {
		if a, ok := acks[c.key]; ok {
			if c.index != a.Index || c.value != a.Value {
				t.Fatalf("event %s, but the write was acknowledged at %d", c, a.Index)
			}
			delete(acks, c.key)
		} else if _, ok := unknown[c.key]; !ok && len(c.key) > 6 && c.key[:7] == "w/load/" {
			t.Fatalf("event %s of a write that was refused", c)
		}
	}
	for key, a := range acks {
		t.Fatalf("%d acknowledged writes are no events, e.g. %s at %d", len(acks), key, a.Index)
	}
}

// fromAnyIndex starts watchers at older indexes, also inside and right before a group.
func fromAnyIndex(t *testing.T, c *harness.Cluster, all []change, end uint64) {
	t.Helper()
	for range pick(10, 50) {
		i := rand.IntN(len(all))
		from := all[i].index
		rest := all[i:]
		for len(rest) > 0 && rest[0].index == from {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			continue
		}
		w := follow(t, fmt.Sprint("a watcher from ", from), "w/", from, c.Nodes[rand.IntN(3)])
		if err := sameEvents(rest, w.upTo(t, end)); err != nil {
			t.Fatalf("%s: %v", w.name, err)
		}
		w.end()
	}
}

// writeGroups writes and deletes several keys at one index, through all nodes, until stopped.
func writeGroups(t *testing.T, c *harness.Cluster) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	nodes := c.Nodes
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			items := map[string]string{}
			for k := range 1 + rand.IntN(20) {
				items[fmt.Sprintf("w/group/%d", k)] = fmt.Sprint(i)
			}
			_, _ = nodes[i%3].Post(ctx, "/batch/set", map[string]any{"items": items})
			if i%5 == 4 {
				_, _ = nodes[i%3].Do(ctx, "DELETE", "/kv?prefix=w/group/1", nil)
			}
			harness.Hold(ctx, 5*time.Millisecond)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// A blocking read ends when what it covers changes, not when something else does.
func TestBlockingReads(t *testing.T) {
	c := three(t)
	last := mustPut(t, c.Nodes[0], "b/key", "1")
	for _, n := range c.Nodes {
		got, index := make(chan error, 1), last
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			e, err := n.Read(ctx, "b/key", fmt.Sprintf("index=%d&wait=15s", index))
			if err == nil && (e.ModifyIndex <= index || e.Value == "1") {
				err = fmt.Errorf("woke with %+v", e)
			}
			got <- err
		}()
		mustPut(t, n, "b/other", "x")
		select {
		case err := <-got:
			t.Fatalf("%s: ended without a change: %v", n.Name, err)
		case <-time.After(300 * time.Millisecond):
		}
		last = mustPut(t, c.Other(n), "b/key", n.Name)
		if err := <-got; err != nil {
			t.Fatalf("%s: %v", n.Name, err)
		}
	}
	begin := time.Now()
	if _, err := c.Nodes[1].Read(soon(t), "b/key", fmt.Sprintf("index=%d&wait=1s", last)); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < 900*time.Millisecond || d > 5*time.Second {
		t.Errorf("a wait of 1s took %s", d)
	}
}
