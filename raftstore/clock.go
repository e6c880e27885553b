package raftstore

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm/command"
)

// clusterClock is cluster time while this node leads: where the state machine
// stood when this node became ready, and what its monotonic clock has counted
// since. Wall clocks decide nothing.
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
	return o.base + int64(max(c.now().Sub(o.since), 0)), true
}

// stamp gives the commands among entries, which raft on this node as the leader is
// about to append, their cluster time. Entries of a leader that is not ready yet
// stay without, which is no time at all.
//
// This is the one place where all of this holds: the entries' term is known, and so
// whether the clock is theirs (raft may take a proposal that was made in one term
// into the next one); they are in their order, so that stamps grow along the log;
// and nothing comes after that could hold an entry up before it is in the log.
func (s *Store) stamp(entries []*raft.Log) {
	if s.raft.State() != raft.Leader {
		return // the leader whose entries these are has stamped them
	}
	now, ok := s.clock.at(entries[0].Term)
	if !ok {
		return
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

// beginOffice starts the clock of a term where the state machine stands: at the
// newest time that any entry before said. What has passed on other clocks since
// then counts for nothing, so nothing expires early.
func (s *Store) beginOffice(term uint64) {
	base, _ := s.fsm.Clock()
	s.clock.begin(term, base)
}
