package raftstore

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm/command"
)

// clusterClock is cluster time while this node leads: the newest stamp in its log
// when it began, and what its monotonic clock has counted since. Wall clocks decide
// nothing.
//
// A clock is good for one term only. A node that led before, and leads again, must
// not go on with the clock of then: that one has counted the time in which nobody
// led, in which cluster time stood still, so deadlines set meanwhile would come early.
type clusterClock struct {
	now    func() time.Time
	office atomic.Pointer[office]
}

// office is one time of leading.
type office struct {
	term  uint64
	base  int64 // cluster time at since
	since time.Time
}

func newClusterClock(now func() time.Time) *clusterClock {
	if now == nil {
		now = time.Now
	}
	return &clusterClock{now: now}
}

// begin starts the clock for a term at base.
func (c *clusterClock) begin(term uint64, base int64) {
	c.office.Store(&office{term: term, base: base, since: c.now()})
}

// at is cluster time, if this node is in office in term.
func (c *clusterClock) at(term uint64) (int64, bool) {
	o := c.office.Load()
	if o == nil || o.term != term || term == 0 {
		return 0, false
	}
	return o.at(c.now()), true
}

// at is cluster time at now.
func (o *office) at(now time.Time) int64 { return o.base + int64(max(now.Sub(o.since), 0)) }

// stamp gives the commands among entries, which raft on this node as the leader is
// about to append, their cluster time.
//
// This is the one place where all of this holds: the entries' term is known, and so
// whether the clock is theirs (raft may take a proposal that was made in one term
// into the next one); they are in their order, so that stamps grow along the log;
// and nothing comes after that could hold an entry up before it is in the log.
func (s *Store) stamp(entries []*raft.Log) error {
	if s.raft.State() != raft.Leader {
		return nil // the leader whose entries these are has stamped them
	}
	now, err := s.officeTime(entries[0])
	if err != nil {
		return err
	}
	var ext []byte
	for _, l := range entries {
		if l.Type != raft.LogCommand || len(l.Extensions) > 0 {
			continue
		}
		if ext == nil {
			ext = command.EncodeStamp(now)
		}
		l.Extensions = ext
	}
	return nil
}

// officeTime is cluster time for the entries that first begins. With the first of a
// term the clock starts, at the newest stamp of what is in the log before it: nothing
// else comes before it in any log that has it. Were the first entries of a leader left
// without a stamp, what they give a TTL would live from whenever a clock was last needed.
func (s *Store) officeTime(first *raft.Log) (int64, error) {
	if now, ok := s.clock.at(first.Term); ok {
		return now, nil
	}
	base, err := s.newestStamp(first.Index - 1)
	if err != nil {
		return 0, fmt.Errorf("finding out what cluster time is: %w", err)
	}
	s.clock.begin(first.Term, base)
	return base, nil
}

// newestStamp is the newest cluster time in the log up to last.
func (s *Store) newestStamp(last uint64) (int64, error) {
	published := s.db.Published()
	newest, _ := s.fsm.Clock() // of what is applied, that at least
	for i := last; i > published; i-- {
		var l raft.Log
		err := s.logs.GetLog(i, &l)
		if errors.Is(err, raft.ErrLogNotFound) {
			return newest, nil // in a snapshot, so it was applied
		}
		if err != nil {
			return 0, fmt.Errorf("entry %d: %w", i, err)
		}
		if l.Type != raft.LogCommand || len(l.Extensions) == 0 {
			continue
		}
		stamp, err := command.DecodeStamp(l.Extensions)
		if err != nil {
			return 0, fmt.Errorf("entry %d: %w", i, err)
		}
		return max(newest, stamp), nil // those before are not newer
	}
	return newest, nil
}

// ClusterTime is about what cluster time is now, in nanoseconds since the cluster
// began: exact on the leader, an estimate elsewhere, which grows even while there is
// no leader and cluster time stands still. For showing how long something has to
// live, never for deciding that it is over: that is a matter of the log.
func (s *Store) ClusterTime() int64 {
	if now, ok := s.clock.at(s.leader.ready()); ok && s.raft.State() == raft.Leader {
		return max(now, s.fsm.ClusterTime())
	}
	return s.fsm.ClusterTime()
}

// restored lets the leader's clock go on from a state that was put in place of the
// one before, if that brings a later time.
func (s *Store) restored() {
	for {
		base, _ := s.fsm.Clock() // first: what is stamped later is no reason
		term, o := s.leader.ready(), s.clock.office.Load()
		if o == nil || term == 0 || o.term != term || !s.leads(term) {
			return
		}
		now := s.clock.now()
		if base <= o.at(now) {
			return
		}
		if s.clock.office.CompareAndSwap(o, &office{term: term, base: base, since: now}) {
			return
		}
	}
}
