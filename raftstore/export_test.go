package raftstore

import (
	"time"

	"github.com/hashicorp/raft"
)

// TrustVerifyLeader leaves the causal part of the read proof out.
func (c *Config) TrustVerifyLeader() { c.trustVerifyLeader = true }

// SetLargeEngine says from how many bytes of tables on an engine is large.
func (c *Config) SetLargeEngine(bytes int64) { c.largeEngine = bytes }

// HoldHeartbeats calls fn with each answered heartbeat before raft sees the
// answer; nil undoes it.
func (s *Store) HoldHeartbeats(fn func(peer string)) {
	if fn == nil {
		s.trans.hold.Store(nil)
		return
	}
	hold := func(id raft.ServerID, req *raft.AppendEntriesRequest) {
		if isHeartbeat(req) {
			fn(string(id))
		}
	}
	s.trans.hold.Store(&hold)
}

// BeginSnapshot is a snapshot of raft's that is under way until it is released.
func (s *Store) BeginSnapshot() (raft.FSMSnapshot, error) { return (&raftFSM{s.fsm, s}).Snapshot() }

// Disk lets a test fill the disk.
func (s *Store) SetDiskFull(full bool) {
	s.disk.low.Store(full)
	if full {
		s.disk.onFull()
	}
}

// SnapshotIndex is the index of the newest snapshot.
func (s *Store) SnapshotIndex() uint64 { return s.fsm.SnapshotIndex() }

// Raft is raft itself.
func (s *Store) Raft() *raft.Raft { return s.raft }

// RoundsBegun is the number of read rounds begun so far.
func (s *Store) RoundsBegun() uint64 { return s.acks.seq.Load() }

// WaitMainLoop returns when raft's main goroutine has taken the verification
// that a round has just queued: more of them than its queue holds.
func (s *Store) WaitMainLoop() {
	for range 200 {
		_ = s.raft.VerifyLeader()
	}
}

// FirstLogIndex is where the log starts.
func (s *Store) FirstLogIndex() uint64 {
	first, err := s.logs.FirstIndex()
	if err != nil {
		panic(err)
	}
	return first
}

// RefusedAtOnce proposes nothing in particular and tells whether raft refused.
func (s *Store) RefusedAtOnce() bool {
	return refused(s.raft.Apply(officeEntry, 0))
}

// Heard pretends that the leader said what is committed.
func (s *Store) Heard(commit uint64) { s.heard(commit, time.Now()) }

// Staleness is what a stale read would say.
func (s *Store) Staleness() time.Duration { return s.staleness() }

// GateSync calls fn before each sync that this leader leaves to go on.
func (s *Store) GateSync(fn func()) { s.logs.flush.gate.Store(&fn) }

// SetClock replaces the clock that cluster time is counted from.
func (c *Config) SetClock(now func() time.Time) { c.now = now }

// Extensions are those of an entry, as the log on disk has it.
func (s *Store) Extensions(index uint64) ([]byte, error) {
	var l raft.Log
	err := s.logs.stored(index, &l)
	return l.Extensions, err
}

// Entry is the term of an entry, and whether it is a command.
func (s *Store) Entry(index uint64) (term uint64, isCommand bool, err error) {
	var l raft.Log
	err = s.logs.raw().GetLog(index, &l)
	return l.Term, l.Type == raft.LogCommand, err
}

// StartedFrom is the index behind which raft began to apply entries, 0 for the
// beginning.
func (s *Store) StartedFrom() uint64 { return s.startedFrom }

// ForgetLogCache makes the next reads of the log come from the disk.
func (s *Store) ForgetLogCache() { s.logs.cache.truncate(0, ^uint64(0)) }

// AgeCheckpoint makes the last checkpoint an hour old.
func (s *Store) AgeCheckpoint() {
	s.points.mu.Lock()
	defer s.points.mu.Unlock()
	s.points.at = time.Now().Add(-time.Hour)
}

// SetDiskLow says that the disk is full without handing leadership over.
func (s *Store) SetDiskLow(low bool) { s.disk.low.Store(low) }

// TermOf is the term of an entry in this node's log, 0 = not there.
func (s *Store) TermOf(index uint64) uint64 { return s.logs.termOf(index) }

// SetFailing says that the last append failed.
func (s *Store) SetFailing() { s.logs.failedAt.Store(time.Now().UnixNano()) }

// Forsake gives up what a Sync has made.
func (s *Store) Forsake(why string) { s.forsake(why) }
