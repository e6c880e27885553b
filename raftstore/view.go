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
	// MaxStale bounds how stale a Stale read may be; beyond it the read becomes a
	// linearizable one. 0 = no bound.
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
		if o.MaxStale > 0 && (info.Staleness < 0 || info.Staleness > o.MaxStale) {
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

// heard is told the leader's commit index with each message accepted from it.
func (s *Store) heard(commit uint64, now time.Time) {
	f := s.fresh
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.marks); n > 0 && (now.Sub(f.marks[n-1].at) < markEvery || n == maxMarks) {
		if n == maxMarks {
			f.settleLocked(s)
		}
		if n := len(f.marks); n == maxMarks || (n > 0 && now.Sub(f.marks[n-1].at) < markEvery) {
			return
		}
	}
	f.marks = append(f.marks, mark{at: now, commit: commit})
}

// settleLocked drops the marks whose commit index is visible here.
func (f *freshness) settleLocked(s *Store) {
	for len(f.marks) > 0 {
		index, err := s.logs.settled(f.marks[0].commit, s.db.Published)
		if err != nil || index > s.db.Published() {
			return
		}
		f.fresh = f.marks[0].at
		f.marks = append(f.marks[:0], f.marks[1:]...)
	}
}

// staleness is how long ago this node's version was the newest, as the leader
// of the time knew; -1 = never heard.
func (s *Store) staleness() time.Duration {
	if s.raft.State() == raft.Leader {
		return s.leaderStaleness()
	}
	f := s.fresh
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settleLocked(s)
	if f.fresh.IsZero() {
		return -1
	}
	return time.Since(f.fresh)
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
