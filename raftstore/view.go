package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/persistence"
)

// Consistency is what a read promises.
type Consistency int

const (
	// Linearizable reads see every write acknowledged before they began.
	Linearizable Consistency = iota
	// Stale reads see what this node has, at once.
	Stale
)

// ReadOptions say what a read needs.
type ReadOptions struct {
	Consistency Consistency
	// MaxStale bounds how stale a Stale read may be. What is not proved to be within
	// it becomes a linearizable read, about once in that time on a follower: a round
	// proves it for the reads that follow. 0 = no bound.
	MaxStale time.Duration
	// At reads the past: the state as of this index. 0 = the newest.
	At uint64
	// MinIndex is what the version must have reached; the read waits for it.
	MinIndex uint64
}

// ReadInfo says what a read is worth.
type ReadInfo struct {
	// Index is the version read.
	Index uint64
	// Staleness is how long ago the version was certainly the newest; 0 for a
	// linearizable read, -1 if it is not known.
	Staleness time.Duration
	// Leader is the leader's id as far as this node knows.
	Leader string
}

// View opens a version of the data for reading; close it soon.
// Errors: those of ReadIndex; ErrDiskFull if this node cannot catch up because
// its disk is full; persistence.CompactedError and FutureIndexError for At.
func (s *Store) View(ctx context.Context, o ReadOptions) (*persistence.View, ReadInfo, error) {
	var info ReadInfo
	info.Leader, _, _ = s.Leader()
	if o.Consistency == Stale {
		info.Staleness = s.staleness()
		if o.MaxStale > 0 && !s.within(o.MaxStale) {
			o.Consistency, info.Staleness = Linearizable, 0
		}
	}
	need := o.MinIndex
	if o.Consistency == Linearizable {
		index, err := s.ReadIndex(ctx)
		if err != nil {
			return nil, info, err
		}
		need = max(need, index)
	}
	if err := s.waitApplied(ctx, need); err != nil {
		return nil, info, err
	}
	view, err := s.viewAt(o.At)
	if err != nil {
		return nil, info, err
	}
	info.Index = view.Index()
	return view, info, nil
}

func (s *Store) viewAt(index uint64) (*persistence.View, error) {
	if index == 0 {
		return s.db.View()
	}
	return s.db.ViewAt(index)
}

// waitApplied waits until readers on this node can see index.
func (s *Store) waitApplied(ctx context.Context, index uint64) error {
	if s.db.Published() >= index {
		return nil
	}
	ctx, cancel := s.withDeadline(ctx)
	defer cancel()
	if s.disk.full() {
		// It takes nothing from the leader: what is not here soon does not come.
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, 2*s.cfg.CommitTimeout)
		defer stop()
	}
	err := s.waitVisible(ctx, index)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, persistence.ErrClosed):
		return ErrShuttingDown
	case s.disk.full():
		return ErrDiskFull
	}
	return fmt.Errorf("%w: waiting for index %d: %w", ErrNotReady, index, err)
}

// waitVisible waits until everything up to index that the state machine is shown
// is published. The leader has cut index down to such an entry; but where its log
// was compacted it cannot know, so now and then this looks into the own log.
func (s *Store) waitVisible(ctx context.Context, index uint64) error {
	for {
		step, cancel := context.WithTimeout(ctx, s.cfg.CommitTimeout)
		err := s.db.WaitPublished(step, index)
		cancel()
		if err == nil || !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
		if s.raft.CommitIndex() < index {
			continue
		}
		need, err := s.logs.settled(index, s.db.Published)
		if err != nil {
			return err
		}
		if need <= s.db.Published() {
			return nil
		}
	}
}

// freshness remembers when the leader said what it had committed, so that a
// follower can say since when its version may be stale.
type freshness struct {
	mu    sync.Mutex
	marks []mark // oldest first
	fresh time.Time
}

type mark struct {
	at     time.Time
	commit uint64
}

const (
	maxMarks  = 64
	markEvery = 5 * time.Millisecond
)

// heard is told the leader's commit index with each message from it.
func (s *Store) heard(commit uint64, at time.Time) { s.fresh.note(s, commit, at) }

// note says that at this time nothing beyond commit was committed.
func (f *freshness) note(s *Store, commit uint64, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.recentLocked(at) {
		return
	}
	if len(f.marks) == maxMarks {
		f.settleLocked(s)
		if len(f.marks) == maxMarks || f.recentLocked(at) {
			return
		}
	}
	f.marks = append(f.marks, mark{at: at, commit: commit})
}

func (f *freshness) recentLocked(at time.Time) bool {
	n := len(f.marks)
	return n > 0 && n < maxMarks && at.Sub(f.marks[n-1].at) < markEvery
}

// settleLocked drops the marks whose commit index is visible here.
func (f *freshness) settleLocked(s *Store) {
	for len(f.marks) > 0 {
		commit := f.marks[0].commit
		if commit > s.raft.CommitIndex() {
			return // what is here may not be what was committed
		}
		index, err := s.logs.settled(commit, s.db.Published)
		if err != nil || index > s.db.Published() {
			return
		}
		f.fresh = f.marks[0].at
		f.marks = append(f.marks[:0], f.marks[1:]...)
	}
}

// age is how long ago this node's version was the newest; -1 = not known.
func (f *freshness) age(s *Store) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settleLocked(s)
	if f.fresh.IsZero() {
		return -1
	}
	return time.Since(f.fresh)
}

// staleness is how long ago this node's version was the newest, by when it heard
// of the leader; -1 = never heard. A message may have been long on its way, most of
// all if this node was paused, so this informs and bounds nothing.
func (s *Store) staleness() time.Duration {
	if s.raft.State() == raft.Leader {
		return s.leaderStaleness()
	}
	return s.fresh.age(s)
}

// within says whether this node's version was certainly the newest at a time not
// longer ago than limit. A follower knows that from the read rounds that it began
// itself; the leader from acknowledgements, by when their messages were sent.
func (s *Store) within(limit time.Duration) bool {
	var age time.Duration
	if s.raft.State() == raft.Leader {
		age = s.leaderStaleness()
	} else {
		age = s.proved.age(s)
	}
	return age >= 0 && age <= limit
}

// leaderStaleness is how long ago a majority certainly took this node for the leader.
func (s *Store) leaderStaleness() time.Duration {
	voters := s.voters()
	if len(voters) == 1 {
		return 0
	}
	var ages []time.Duration
	for _, id := range voters {
		if string(id) == s.id.nodeID {
			continue
		}
		if at, ok := s.acks.last(id); ok {
			ages = append(ages, time.Since(at))
		}
	}
	need := len(voters) / 2 // besides this node
	if len(ages) < need {
		return -1
	}
	return kth(ages, need)
}

// kth is the k-th smallest of ages, from 1.
func kth(ages []time.Duration, k int) time.Duration {
	for i := range k {
		for j := i + 1; j < len(ages); j++ {
			if ages[j] < ages[i] {
				ages[i], ages[j] = ages[j], ages[i]
			}
		}
	}
	return ages[k-1]
}
