package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/peer"
)

// ReadIndex returns an index at or beyond every write that was acknowledged
// anywhere before the call. It does not wait for this node to have it. It waits
// for a leader at most Config.ElectionWait.
// Errors: ErrNoLeader, ErrNotReady, ErrRemoved, ErrShuttingDown, or ctx's.
func (s *Store) ReadIndex(ctx context.Context) (uint64, error) {
	ctx, cancel := s.withDeadline(ctx)
	defer cancel()
	deadline := time.Now().Add(s.cfg.ElectionWait)
	for attempt := 0; ; attempt++ {
		if err := s.usable(); err != nil {
			return 0, err
		}
		changed := s.leader.changes()
		index, err := s.reads.wait(ctx)
		if err == nil {
			return index, nil
		}
		if cerr := ctx.Err(); cerr != nil {
			return 0, fmt.Errorf("%w: %w", ErrNoLeader, cerr)
		}
		if errors.Is(err, ErrNotMember) || errors.Is(err, ErrRemoved) || !time.Now().Before(deadline) {
			return 0, err
		}
		s.pauseForLeader(ctx, changed, attempt)
	}
}

// pauseForLeader waits before another attempt: until the leader changes, but
// not long, because a change may have come before the attempt.
func (s *Store) pauseForLeader(ctx context.Context, changed <-chan struct{}, attempt int) {
	t := time.NewTimer(min(10*time.Millisecond<<min(attempt, 4), 100*time.Millisecond))
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-ctx.Done():
	case <-s.closing:
	}
}

// readRound is one round: proved here if this node leads, else asked of the leader.
func (s *Store) readRound(ctx context.Context) (uint64, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	if s.raft.State() == raft.Leader {
		return s.proveRead(ctx)
	}
	id, addr, ok := s.Leader()
	if !ok {
		return 0, ErrNoLeader
	}
	// Several tries fit into an election; a leader that is gone must not eat the time of all.
	ctx, cancel := context.WithTimeout(ctx, 2*s.cfg.Heartbeat)
	defer cancel()
	begun := time.Now()
	b, err := s.client.Call(ctx, addr, methodReadIndex, nil)
	if err != nil {
		return 0, s.remoteRead(addr, err)
	}
	proof, err := decodeReadProof(b)
	if err != nil {
		return 0, fmt.Errorf("%w: asking %s: %w", ErrNotReady, addr, err)
	}
	s.proved.note(s, proof.index, begun)
	s.commits.learn(committed{readProof: proof, leader: id, addr: addr})
	return proof.index, nil
}

// remoteRead turns an error of asking the leader into ours. A read may always be repeated.
func (s *Store) remoteRead(addr string, err error) error {
	var remote *peer.Error
	if errors.As(err, &remote) {
		err = DecodeError(remote)
		if errors.Is(err, ErrNotMember) {
			s.disowned()
		}
		if NotApplied(err) {
			return err
		}
	}
	return fmt.Errorf("%w: asking %s: %w", ErrNoLeader, addr, err)
}

// proveRead is the read index of the leader: the commit index, noted before it
// proves that it still leads, cut down to what the state machine will publish.
func (s *Store) proveRead(ctx context.Context) (uint64, error) {
	term := s.leader.ready()
	if term == 0 || term != s.raft.CurrentTerm() {
		return 0, fmt.Errorf("%w: the leader has just been elected", ErrNotReady)
	}
	commit := s.raft.CommitIndex()
	if err := s.proveLeadership(ctx, term); err != nil {
		return 0, err
	}
	if s.raft.State() != raft.Leader || s.raft.CurrentTerm() != term {
		return 0, ErrNotLeader
	}
	return s.logs.settled(commit, s.db.Published)
}

// proveLeadership returns nil if this node led in term at some moment after the
// call: a majority of voters has acknowledged a message sent after it. See acks.
func (s *Store) proveLeadership(ctx context.Context, term uint64) error {
	voters := s.voters()
	self := raft.ServerID(s.id.nodeID)
	seq := s.acks.begin()
	if ok, _ := s.acks.confirmed(self, voters, term, seq); ok {
		return nil // the only voter
	}
	// VerifyLeader makes raft send heartbeats at once, and knows of a leadership
	// lost. Its word that it still leads is not enough.
	if err := s.raft.VerifyLeader().Error(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	if s.cfg.trustVerifyLeader {
		return nil
	}
	limit := time.NewTimer(s.cfg.LeaderLease + s.cfg.Heartbeat)
	defer limit.Stop()
	for {
		ok, next := s.acks.confirmed(self, voters, term, seq)
		if ok {
			return nil
		}
		select {
		case <-next:
		case <-limit.C:
			return fmt.Errorf("%w: no majority confirmed the leader in time", ErrNotReady)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNotReady, ctx.Err())
		}
		if s.raft.State() != raft.Leader || s.raft.CurrentTerm() != term {
			return ErrNotLeader
		}
	}
}
