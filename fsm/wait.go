package fsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/neogan74/konsul/internal/persistence"
)

// WaitChange returns nil when something with an index above after has touched
// what the filter names, deletions included; it is what a blocking read waits
// for. It may return nil without such a change (the state was replaced; or the
// history no longer tells): the caller reads again in any case.
// Errors: of ctx, ErrClosed, of the engine.
func (f *FSM) WaitChange(ctx context.Context, filter Filter, after uint64) error {
	t := filter.target()
	// First register, then look: what comes in between is told twice, not never.
	w, err := f.hub.watch(t, after)
	if errors.Is(err, ErrReset) || errors.Is(err, persistence.ErrCompacted) {
		return nil // the state is being replaced just now, or was since
	}
	if err != nil {
		return err
	}
	defer f.hub.unwatch(w, ErrUnsubscribed)
	changed, err := f.hub.changedSince(ctx, w, after)
	if err != nil || changed {
		return err
	}
	select {
	case <-w.wake:
		return f.hub.waitErr(w)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// changedSince says whether anything above after has touched the watcher's
// target already. The ring answers if it reaches back far enough, else the
// engine. Unless the ring says yes, the watcher is armed: later changes wake it.
func (h *hub) changedSince(ctx context.Context, w *watcher, after uint64) (bool, error) {
	known, changed := h.arm(w)
	if known {
		return changed, nil
	}
	changed, err := h.db.ChangedSince(ctx, w.stored, w.exact, after)
	switch {
	case errors.Is(err, persistence.ErrCompacted):
		return true, nil // unknown; the reader will see
	case errors.Is(err, persistence.ErrFutureIndex):
		return false, nil // nothing can be above it yet
	case err != nil:
		return false, fmt.Errorf("asking the history: %w", err)
	}
	return changed, nil
}

// arm makes the watcher wait for what comes after the ring's end, and says
// whether the ring knows that something has come already.
func (h *hub) arm(w *watcher) (known, changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.err != nil || !w.pending {
		return true, w.err != nil
	}
	known = w.cursor >= h.ring.base
	if known {
		for _, s := range h.ring.after(w.cursor) {
			if w.matches(s.change.Key) {
				return true, true
			}
		}
	}
	w.pending = false
	return known, false
}

// waitErr is what a wake-up means: a change or a reset are both a reason to
// read again.
func (h *hub) waitErr(w *watcher) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if errors.Is(w.err, ErrReset) {
		return nil
	}
	return w.err
}
