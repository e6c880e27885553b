package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/neogan74/konsul/internal/peer"
	"github.com/neogan74/konsul/raftstore"
)

// leading refuses an operation that arrives at a node that does not lead. The
// node never passes it on: whoever sent it looks again. So there are no loops.
func leading[Req, Resp any](m *Manager, fn func(context.Context, Req) (Resp, error)) func(context.Context, Req) (Resp, error) {
	return func(ctx context.Context, req Req) (Resp, error) {
		if !m.store.IsLeader() {
			var nothing Resp
			return nothing, raftstore.ErrNotLeader
		}
		return fn(ctx, req)
	}
}

// onLeader runs an operation on the leader: here, or over internal/peer. While
// nobody leads it waits, at most timing.forward.
//
// again says that repeating the operation is harmless even when an earlier
// attempt may have been carried out.
func onLeader[Req, Resp any](ctx context.Context, m *Manager, method uint16, req Req, again bool,
	here func(context.Context, Req) (Resp, error)) (Resp, error) {
	var nothing Resp
	if m.store.Removed() {
		return nothing, m.removedError()
	}
	patience := time.Now().Add(m.time.forward)
	b := backoff{min: 20 * time.Millisecond, max: 250 * time.Millisecond}
	for {
		changed := m.store.LeaderChanges()
		resp, err := tryLeader(ctx, m, method, req, here)
		if err == nil || !repeatable(err, again) {
			return resp, err
		}
		if time.Now().After(patience) || b.waitOr(ctx, changed) != nil {
			return nothing, err
		}
	}
}

// tryLeader asks the node that this one takes for the leader, once.
func tryLeader[Req, Resp any](ctx context.Context, m *Manager, method uint16, req Req,
	here func(context.Context, Req) (Resp, error)) (Resp, error) {
	var nothing Resp
	if m.store.IsLeader() {
		return here(ctx, req)
	}
	id, addr, ok := m.store.Leader()
	if !ok || id == m.cfg.NodeID { // elected, but not ready to lead yet
		return nothing, raftstore.ErrNoLeader
	}
	resp, err := call[Resp](ctx, m, addr, method, req)
	return resp, outcome(err)
}

// outcome says what no answer means: nothing happened, or nobody knows.
func outcome(err error) error {
	switch {
	case errors.Is(err, peer.ErrInterrupted):
		return fmt.Errorf("%w: %w", raftstore.ErrOutcomeUnknown, err)
	case errors.Is(err, peer.ErrNotSent):
		return fmt.Errorf("%w: %w", raftstore.ErrNoLeader, err)
	}
	return err
}

// repeatable says whether trying again may help and cannot harm.
func repeatable(err error, again bool) bool {
	switch Code(err) {
	case "no_leader", "not_leader":
		return true
	case "outcome_unknown", "shutting_down":
		return again
	}
	return false
}
