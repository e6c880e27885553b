package fsm_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/fsmtest"
)

// Blocking readers in a loop hear of every change that matters, and of no other,
// while entries are applied.
func TestWaitersMissNothing(t *testing.T) {
	const n = 1200
	for _, ring := range []int{3, 100_000} {
		t.Run(fmt.Sprint(ring), func(t *testing.T) {
			h := newHistory(t, uint64(ring)+100, n)
			m := fsmtest.New(t)
			m.SetRing(ring, 1<<20)
			m.ApplyIn(h.logs[:n/4], h.sizes(1, 8))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			var wg sync.WaitGroup
			for i := range 3 * len(filters) {
				wg.Go(func() {
					if err := h.waitForAll(ctx, m, filters[i%len(filters)], uint64(i*n/40)); err != nil {
						t.Errorf("%+v: %v", filters[i%len(filters)], err)
					}
				})
			}
			m.ApplyIn(h.logs[n/4:], h.sizes(2, 8))
			wg.Wait()
			if m.Watchers() != 0 {
				t.Errorf("%d watchers left", m.Watchers())
			}
		})
	}
}

// waitForAll does what a client of blocking reads does: wait for a change above
// the index it has, read, take the read's index.
func (h history) waitForAll(ctx context.Context, m *fsmtest.Machine, f fsm.Filter, index uint64) error {
	for {
		want := h.wanted(f, index)
		if len(want) == 0 {
			return nil
		}
		if err := m.WaitChange(ctx, f, index); err != nil {
			return fmt.Errorf("waiting for %+v after %d: %w", want[0], index, err)
		}
		published := m.DB.Published()
		if want[0].Index > published {
			return fmt.Errorf("woken after %d at %d, but the next change is at %d", index, published, want[0].Index)
		}
		index = published
	}
}

func TestWaitingEnds(t *testing.T) {
	m := fsmtest.New(t)
	m.Txn(fsmtest.Set("k", "1"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if err := m.WaitChange(ctx, fsm.Filter{Key: []byte("k")}, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := m.WaitChange(t.Context(), fsm.Filter{Key: []byte("k")}, 0); err != nil {
		t.Errorf("got %v", err)
	}
	sink := persist(t, m)
	done := make(chan error, 1)
	go func() { done <- m.WaitChange(t.Context(), fsm.Filter{}, 1) }()
	for m.Watchers() == 0 {
		runtime.Gosched()
	}
	if err := m.Restore(sink.Reader()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("after a restore: %v", err)
	}
}
