package fsm

import (
	"context"
	"fmt"
	"io"

	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/snapshot"
)

// Backup streams the state as of the last applied index to w: all of it, or with
// since what changed after that index, deletions included. Writes go on. Errors:
// persistence.CompactedError and FutureIndexError for since, before anything is
// written. begin, if not nil, is told the header before that. Nothing is durable on
// return.
func (f *FSM) Backup(ctx context.Context, w io.Writer, since uint64, begin func(snapshot.Header)) (snapshot.Header, snapshot.Footer, error) {
	s, err := f.Snapshot()
	if err != nil {
		return snapshot.Header{}, snapshot.Footer{}, err
	}
	defer s.Release()
	p := s.(*pinned)
	h := p.header
	h.Since = since
	if err := f.checkSince(since, h.Index); err != nil {
		return h, snapshot.Footer{}, err
	}
	if begin != nil {
		begin(h)
	}
	// It ends with the caller, and with the state machine.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(f.ctx, cancel)()
	footer, err := p.view.WriteTo(ctx, w, h)
	if err != nil {
		if f.ctx.Err() != nil {
			err = ErrClosed
		}
		return h, footer, fmt.Errorf("backing up index %d: %w", h.Index, err)
	}
	return h, footer, nil
}

// checkSince says whether the history reaches back to since. The stream looks again;
// this is so that a client learns it before the answer has begun.
func (f *FSM) checkSince(since, index uint64) error {
	switch floor := f.db.Floor(); {
	case since == 0:
	case since > index:
		return &persistence.FutureIndexError{Newest: index}
	case since < floor:
		return &persistence.CompactedError{Oldest: floor}
	}
	return nil
}
