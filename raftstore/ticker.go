package raftstore

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm/command"
)

const (
	// tickEvery: while anything has a deadline, cluster time does not stand still in
	// the log for longer than this, so that a new leader has lost no more.
	tickEvery = time.Second
	// tickGap is the shortest time between ticks that leave nothing due: thousands of
	// deadlines a second share ten of them.
	tickGap = 100 * time.Millisecond
	// tickRetry and tickRetryMax bound the pause after a tick that failed.
	tickRetry    = 50 * time.Millisecond
	tickRetryMax = time.Second
)

// tickEntry expires what is due at the time it is stamped with.
var tickEntry = func() []byte {
	b, err := command.Encode(nil, command.Type_TYPE_TICK, &command.Tick{})
	if err != nil {
		panic(err) // nothing but the constants above could make this fail
	}
	return b
}()

// noDeadline is later than every deadline.
const noDeadline = math.MaxInt64

// ticker has the state machine expire what is due, while this node leads. Without
// deadlines it sleeps until the first one is set. One tick at a time: an entry that
// expires much is followed by its successor only when it is applied, so that clients'
// writes find room between.
type ticker struct {
	s *Store
	// horizon is up to which cluster time the ticker intends to sleep; a deadline
	// that comes to stand before it wakes it. 0 = it does not sleep.
	horizon atomic.Int64
	wake    chan struct{}
}

func newTicker(s *Store) *ticker { return &ticker{s: s, wake: make(chan struct{}, 1)} }

// applied is told that entries were applied. It costs next to nothing unless the
// ticker sleeps too long.
func (t *ticker) applied() {
	horizon := t.horizon.Load()
	if horizon == 0 {
		return
	}
	if next, ok := t.s.fsm.NextDeadline(); !ok || next >= horizon {
		return
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// run ends with the store.
func (t *ticker) run() {
	for t.awaitOffice() {
		t.hold()
	}
}

// awaitOffice returns when this node leads and is ready; false at the end.
func (t *ticker) awaitOffice() bool {
	for {
		changed := t.s.leader.changes()
		select {
		case <-t.s.stop:
			return false
		default:
		}
		if t.s.IsLeader() {
			return true
		}
		select {
		case <-changed:
		case <-t.s.stop:
			return false
		}
	}
}

// hold ticks until this node leads no more.
func (t *ticker) hold() {
	term := t.s.leader.ready()
	last := time.Now() // of the last tick that left nothing due
	var failures int
	for {
		changed := t.s.leader.changes()
		if !t.s.leads(term) {
			return
		}
		wait, due := t.wait(term, time.Since(last))
		if wait > 0 {
			if !t.sleep(wait, changed) {
				return
			}
			continue
		}
		more, err := t.tick(term, due)
		switch {
		case err != nil:
			failures++
			if !t.sleep(retryPause(failures), changed) {
				return
			}
		case !more:
			last, failures = time.Now(), 0
		}
	}
}

// wait says how long it is until the next tick, and which deadline that is for; 0
// = now. since is the time since the last one. The horizon is set before the look
// at the deadlines: one that comes between is seen here or wakes the sleeper.
func (t *ticker) wait(term uint64, since time.Duration) (time.Duration, int64) {
	t.horizon.Store(noDeadline)
	next, ok := t.s.fsm.NextDeadline()
	if !ok {
		return math.MaxInt64, noDeadline
	}
	now, ok := t.s.clock.at(term)
	if !ok {
		return 0, next // not in office any more: the caller sees
	}
	wait := min(max(time.Duration(next-now), tickGap-since), tickEvery-since)
	if wait <= 0 {
		t.horizon.Store(0)
		return 0, next
	}
	t.horizon.Store(now + int64(wait))
	return wait, next
}

// sleep returns after a time, or when there may be an earlier deadline or changed
// tells of another leader; false at the end.
func (t *ticker) sleep(d time.Duration, changed <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.wake:
	case <-changed:
	case <-t.s.stop:
		return false
	}
	return true
}

func retryPause(failures int) time.Duration {
	return min(tickRetry<<min(failures-1, 8), tickRetryMax)
}

// tick proposes one tick and waits until it is applied. It does not queue behind
// clients' writes in this package: it is one of them at most, and what is due must not
// wait for a burst to end.
func (t *ticker) tick(term uint64, due int64) (more bool, err error) {
	s := t.s
	defer func() { s.metrics.ticked(err) }()
	if s.disk.full() {
		return false, ErrDiskFull
	}
	// It counts as a proposal for Shutdown, which waits for those.
	s.gate.count.Add(1)
	defer s.gate.count.Add(-1)
	if err := s.usable(); err != nil {
		return false, err
	}
	f := s.raft.Apply(tickEntry, s.cfg.Election)
	if err := f.Error(); err != nil {
		if !errors.Is(err, raft.ErrNotLeader) && !errors.Is(err, raft.ErrLeadershipLost) {
			s.log.Debug("a tick failed and is tried again", "error", err)
		}
		return false, outcome(err)
	}
	res, ok := f.Response().(*command.Result)
	if !ok || res.Code != command.Result_OK {
		return false, fmt.Errorf("a tick was answered with %v", f.Response())
	}
	if now, ok := s.clock.at(term); ok && due <= now && res.Count > 0 {
		s.metrics.late(time.Duration(now - due))
	}
	return res.More, nil
}
