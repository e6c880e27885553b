package checks

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

const (
	// followPause is the pause after the state could not be followed.
	followPause = time.Second
	// resetPause is the one after it was replaced: while that goes on nobody can follow it.
	resetPause = 50 * time.Millisecond
)

// maxSpread is over how long the first runs of all checks are spread when this node
// starts, or begins anew: each within its own interval, if that is shorter.
const maxSpread = time.Minute

// follow keeps the tasks what the state says, until Close. The changes come from a
// subscription; only when it ends, because the state was replaced or this runner was
// too slow for the history, all services are read again.
func (r *Runner) follow() {
	for r.node.Ready(r.ctx) != nil {
		// What it has may be old: checks of instances that are gone.
		if !r.pause(followPause) {
			return
		}
	}
	for r.ctx.Err() == nil {
		err := r.followOnce()
		if errors.Is(err, fsm.ErrReset) || errors.Is(err, persistence.ErrCompacted) {
			r.pause(resetPause) // then read again and go on
			continue
		}
		if r.ctx.Err() == nil && !errors.Is(err, fsm.ErrClosed) {
			r.log.Warn("following the services failed and is tried again", "error", err)
		}
		r.pause(followPause)
	}
}

// pause returns false if the runner is closed.
func (r *Runner) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// followOnce follows until that fails. Instances and this node's own checks are two
// subscriptions from one index; whichever ends takes the other with it.
func (r *Runner) followOnce() error {
	index, err := r.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, filter := range []fsm.Filter{{Services: true}, {Node: r.node.NodeID()}} {
		wg.Go(func() { cancel(r.subscribe(ctx, filter, index)) })
	}
	wg.Wait()
	return context.Cause(ctx) // the first one's
}

func (r *Runner) subscribe(ctx context.Context, filter fsm.Filter, index uint64) error {
	sub, err := r.node.FSM().Subscribe(filter, index)
	if err != nil {
		return err
	}
	defer sub.Close()
	for {
		events, _, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		for i := range events {
			r.note(&events[i])
		}
	}
}

// load reads all checks of this node and returns the index they are of.
func (r *Runner) load() (uint64, error) {
	view, err := r.node.DB().View()
	if err != nil {
		return 0, err
	}
	defer view.Close()
	known := make(map[owner]bool)
	me := r.node.NodeID()
	err = view.Services(func(in persistence.Instance) error {
		if in.Node == me && len(in.Checks) > 0 {
			o := owner{in.Name, in.Id}
			known[o] = true
			r.set(o, in.Checks, maxSpread)
		}
		return r.ctx.Err()
	})
	if err != nil {
		return 0, err
	}
	err = view.NodeChecks(me, func(_ string, c *record.Check) error {
		o := owner{instance: c.Id}
		known[o] = true
		r.set(o, []*record.Check{c}, maxSpread)
		return nil
	})
	if err != nil {
		return 0, err
	}
	r.keep(known)
	return view.Index(), nil
}

// note takes a change of the registry.
func (r *Runner) note(ev *fsm.Event) {
	me := r.node.NodeID()
	switch {
	case ev.Name != "":
		var list []*record.Check
		if ev.Service != nil && ev.Service.Node == me {
			list = ev.Service.Checks
		}
		r.set(owner{ev.Name, ev.ID}, list, soon)
	case ev.Node == me && ev.Check != nil:
		r.set(owner{instance: ev.ID}, []*record.Check{ev.Check}, soon)
	case ev.Node == me:
		r.set(owner{instance: ev.ID}, nil, soon)
	}
}
