package fsm_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm"
	. "github.com/neogan74/konsul/fsm/fsmtest"
	"github.com/neogan74/konsul/internal/persistence"
)

// compacted is a machine at index 100 that has let go of what is older than 80:
// key "old" was set at 1 and deleted at 2, "kept" was set at 3, "k" always.
func compacted(t *testing.T, ring int) *Machine {
	t.Helper()
	m := Open(t, persistence.Options{InMemory: true, History: persistence.History{MinAge: 1, MinIndexes: 20, MaxIndexes: 20}})
	m.SetRing(ring, 1<<20)
	m.Txn(Set("old", "1"))
	m.Txn(Delete("old"))
	m.Txn(Set("kept", "1"))
	for len(m.Log) < 100 {
		m.Txn(Set("k", "1"))
	}
	persist(t, m)
	if got := m.DB.Floor(); got != 80 {
		t.Fatalf("floor %d, want 80", got)
	}
	return m
}

func wantCompacted(t *testing.T, err error) {
	t.Helper()
	var c *persistence.CompactedError
	if !errors.As(err, &c) || c.Oldest != 80 {
		t.Errorf("got %v, want compacted with 80", err)
	}
}

func TestASnapshotLetsGoOfHistory(t *testing.T) {
	m := compacted(t, 4)
	_, err := m.Subscribe(fsm.Filter{}, 79)
	wantCompacted(t, err)
	events, complete := next(t, subscribe(t, m, fsm.Filter{}, 80))
	if len(events) == 0 || events[0].Index != 81 || complete != 100 {
		t.Errorf("%d events up to %d", len(events), complete)
	}
}

// A consumer that never reads costs nothing and is told so in the end.
func TestASlowConsumerIsCutOff(t *testing.T) {
	m := Open(t, persistence.Options{InMemory: true, History: persistence.History{MinAge: 1, MinIndexes: 20, MaxIndexes: 20}})
	m.SetRing(4, 1<<20)
	slow := subscribe(t, m, fsm.Filter{}, 0)
	quiet := subscribe(t, m, fsm.Filter{Key: []byte("none")}, 0)
	for len(m.Log) < 100 {
		m.Txn(Set("k", "1"))
	}
	persist(t, m)
	_, _, err := slow.Next(t.Context())
	wantCompacted(t, err)
	idle(t, quiet)
	if got := quiet.Progress(); got != 100 {
		t.Errorf("the quiet one is at %d", got)
	}
	// It has missed nothing, so it is not cut off, though its cursor is old.
	m.Txn(Set("none", "1"))
	for len(m.Log) < 106 {
		m.Txn(Set("k", "1"))
	}
	persist(t, m)
	if events, _ := next(t, quiet); len(events) != 1 || events[0].Index != 101 {
		t.Errorf("the quiet one got %v", events)
	}
}

// What the ring still holds is served, however high the floor is.
func TestTheRingReachesBelowTheFloor(t *testing.T) {
	m := compacted(t, 1000)
	events, _ := next(t, subscribe(t, m, fsm.Filter{}, 0))
	if len(events) == 0 || events[0].Index != 1 {
		t.Errorf("got %d events", len(events))
	}
}

func TestWaitingBelowTheFloor(t *testing.T) {
	m := compacted(t, 4)
	for name, tc := range map[string]struct {
		filter fsm.Filter
		after  uint64
		now    bool
	}{
		"a prefix, not known":              {fsm.Filter{Prefix: []byte("old")}, 1, true},
		"a deleted key, not known":         {fsm.Filter{Key: []byte("old")}, 1, true},
		"an existing key knows its change": {fsm.Filter{Key: []byte("kept")}, 2, true},
		"an existing key knows there none": {fsm.Filter{Key: []byte("kept")}, 3, false},
		"above the floor":                  {fsm.Filter{Prefix: []byte("old")}, 85, false},
		"ahead of this node":               {fsm.Filter{Prefix: []byte("k")}, 1000, false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			err := m.WaitChange(ctx, tc.filter, tc.after)
			if tc.now && err != nil || !tc.now && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// After a restart the log is replayed from below what clients have seen: they
// resume where they were, without a gap or a repeat.
func TestWatchingAcrossARestart(t *testing.T) {
	const n, stopped, durable = 900, 700, 300
	h := newHistory(t, 31, n)
	o := persistence.Options{Dir: t.TempDir()}
	m := Open(t, o)
	m.ApplyIn(h.logs[:stopped], h.sizes(1, 16))
	if err := m.DB.MakeDurable(t.Context(), durable); err != nil {
		t.Fatal(err)
	}
	m.Stop()

	m = Open(t, o)
	m.SetRing(100, 1<<20)
	start := m.DB.Published()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for i, from := range []uint64{0, durable - 1, durable, durable + 1, 500, stopped - 1, stopped, stopped + 1} {
		for j, f := range filters {
			w := h.follow(m, f, from, uint64(i*100+j))
			wg.Go(func() {
				if err := w.run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
	}
	m.ApplyIn(h.logs[start:], h.sizes(2, 7))
	wg.Wait()
}

// Counts are exact wherever the replay begins.
func TestCountsAfterARestart(t *testing.T) {
	const n, durable = 600, 400
	h := newHistory(t, 37, n)
	o := persistence.Options{Dir: t.TempDir()}
	m := Open(t, o)
	m.ApplyIn(h.logs, h.sizes(1, 16))
	if err := m.DB.MakeDurable(t.Context(), durable); err != nil {
		t.Fatal(err)
	}
	m.Stop()
	for _, from := range []int{durable, 100} {
		m = Open(t, o)
		if got, want := m.DB.Counts().Keys, uint64(len(h.model.States[durable])); got != want {
			t.Errorf("%d keys at the start, want %d", got, want)
		}
		m.ApplyIn(h.logs[from:], h.sizes(2, 16))
		if got, want := m.DB.Counts().Keys, uint64(len(h.model.Keys())); got != want {
			t.Errorf("%d keys after a replay from %d, want %d", got, from, want)
		}
		m.Stop()
	}
}

// Advance makes entries visible that the state machine never gets.
func TestAdvance(t *testing.T) {
	m := New(t)
	m.Txn(Set("k", "1"))
	sub := subscribe(t, m, fsm.Filter{}, 1)
	m.Advance(4)
	m.Advance(2)
	if got := m.DB.Published(); got != 4 {
		t.Errorf("published %d", got)
	}
	if got := sub.Progress(); got != 4 {
		t.Errorf("progress %d", got)
	}
	m.StoreConfiguration(5, raft.Configuration{})
	if got := m.DB.Published(); got != 5 {
		t.Errorf("published %d", got)
	}
}
