package fsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/neogan74/konsul/internal/persistence"
)

var (
	// ErrReset ends a subscription when the whole state was replaced by a
	// snapshot: read again and subscribe anew from the index of that read.
	ErrReset = errors.New("the state was replaced by a snapshot")
	// ErrUnsubscribed is returned by Next after Close.
	ErrUnsubscribed = errors.New("subscription closed")
)

// Bounds of one answer of Next, of one look into the ring and of one read of
// history, in events. One index is never split, so an answer may be longer.
const (
	nextMaxEvents  = 256
	nextMaxBytes   = 1 << 20
	scanMaxSlots   = 4096
	historyMaxRead = 4096
)

// Subscription is a cursor over the changes that match a filter. It stores no events, and
// at most some MB of keys while it is far behind: a consumer that is slow, or stops reading,
// costs little and is told *persistence.CompactedError when the history has moved past it.
// One goroutine may use it; Close may be called from any other.
type Subscription struct {
	hub *hub
	w   *watcher
	// backlog is where the changes are that the ring does not have any more; nil before and after that.
	backlog *persistence.Backlog
}

// Subscribe starts a subscription with the first change after index from,
// which may be one that this node has not applied yet. If the history no longer
// reaches back to it the error is a *persistence.CompactedError; while the state
// is being replaced it is ErrReset.
func (f *FSM) Subscribe(filter Filter, from uint64) (*Subscription, error) {
	if floor := f.db.Floor(); from < floor && !f.hub.reaches(from) {
		return nil, &persistence.CompactedError{Oldest: floor}
	}
	w, err := f.hub.watch(filter.target(), from)
	if err != nil {
		return nil, err
	}
	return &Subscription{hub: f.hub, w: w}, nil
}

// Next waits for events and returns those of one or more whole indexes, in
// order, with the index up to which the subscription is now complete. A caller
// that wants to report progress in between gives a ctx with a deadline and asks
// Progress when it has passed: nothing is lost by that.
//
// Errors: of ctx; ErrReset; ErrClosed; ErrUnsubscribed; *persistence.CompactedError.
func (s *Subscription) Next(ctx context.Context) ([]Event, uint64, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		slots, where, err := s.look()
		switch {
		case err != nil:
			return nil, 0, err
		case where.events:
			s.backlog = nil
			events, err := decode(slots)
			return events, where.complete, err
		case where.history:
			events, complete, err := s.readHistory(ctx, where.complete)
			if err != nil || len(events) > 0 {
				return events, complete, err
			}
		case where.idle:
			select {
			case <-s.w.wake:
			case <-ctx.Done():
			}
		}
	}
}

// Progress is the index up to which Next has returned everything: the place to
// resume from. It moves on while nothing matches.
func (s *Subscription) Progress() uint64 {
	s.hub.mu.RLock()
	defer s.hub.mu.RUnlock()
	if s.w.pending || s.w.err != nil {
		return s.w.cursor
	}
	return max(s.w.cursor, s.hub.ring.last)
}

// Close ends the subscription; a waiting Next returns ErrUnsubscribed.
func (s *Subscription) Close() { s.hub.unwatch(s.w, ErrUnsubscribed) }

// found says what look came across.
type found struct {
	idle    bool // nothing, and the watcher will be woken
	events  bool // the slots returned
	history bool // the cursor is behind the ring: read up to complete elsewhere
	// complete is the index up to which the answer is complete.
	complete uint64
}

// look takes the next matching slots out of the ring and moves the cursor. If
// it finds none of these it has looked through a bounded part: look again.
func (s *Subscription) look() ([]*slot, found, error) {
	h, w := s.hub, s.w
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch {
	case w.err != nil:
		return nil, found{}, w.err
	case !w.pending:
		return nil, found{idle: true}, nil
	case w.cursor < h.ring.base:
		return nil, found{history: true, complete: h.ring.last}, nil
	}
	slots, complete, all := collect(h.ring.after(w.cursor), w.target)
	if all {
		complete = h.ring.last // not below the cursor, or it would not be pending
		w.pending = false
	}
	w.cursor = complete
	return slots, found{events: len(slots) > 0, complete: complete}, nil
}

// collect picks the matching slots from the front of recent, whole indexes
// only, within the bounds. It returns the last index it has looked through, and
// whether that was all.
func collect(recent []*slot, t target) (picked []*slot, complete uint64, all bool) {
	size := 0
	for i, s := range recent {
		full := len(picked) >= nextMaxEvents || size >= nextMaxBytes || i >= scanMaxSlots
		if full && s.change.Index != complete {
			return picked, complete, false
		}
		complete = s.change.Index
		if t.matches(s.change.Key) {
			picked = append(picked, s)
			size += s.size()
		}
	}
	return picked, complete, true
}

func decode(slots []*slot) ([]Event, error) {
	events := make([]Event, len(slots))
	for i, s := range slots {
		ev, err := s.get()
		if err != nil {
			return nil, err
		}
		events[i] = *ev
	}
	return events, nil
}

// readHistory reads the next events from the engine, up to an index that the
// ring has reached, and moves the cursor.
func (s *Subscription) readHistory(ctx context.Context, upTo uint64) ([]Event, uint64, error) {
	w := s.w
	if s.backlog == nil {
		s.backlog = s.hub.db.Backlog(w.stored)
	}
	changes, complete, err := s.backlog.Next(ctx, w.cursor, upTo, historyMaxRead)
	if err == nil && complete <= w.cursor {
		err = fmt.Errorf("no progress after index %d", w.cursor)
	}
	var events []Event
	for i := 0; i < len(changes) && err == nil; i++ {
		if !w.matches(changes[i].Key) {
			continue
		}
		var ev *Event
		if ev, err = newEvent(&changes[i]); err == nil {
			events = append(events, *ev)
		}
	}
	// The state may have been replaced while it was read: then what was read may
	// be of either, and only the reset counts.
	s.hub.mu.RLock()
	defer s.hub.mu.RUnlock()
	if w.err != nil {
		return nil, 0, w.err
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading history: %w", err)
	}
	w.cursor = complete
	return events, complete, nil
}
