package raftstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// The keys hashicorp/raft uses, and ours for its vote.
var (
	keyCurrentTerm  = []byte("CurrentTerm")
	keyLastVoteTerm = []byte("LastVoteTerm")
	keyLastVoteCand = []byte("LastVoteCand")
	keyVote         = []byte("konsul.vote")
)

// stableStore is raft's term and vote, with two properties that raft asks of
// nobody but needs:
//
//   - A vote is one record. Raft writes the term and the candidate one after the
//     other; after a crash in between, the new term would stand beside the old
//     candidate, and raft grants a repeated request of "its" candidate without
//     looking at the candidate's log. So the term waits in memory for the
//     candidate, and both are written at once.
//   - The term never goes back. Raft handles heartbeats beside its main
//     goroutine, and a heartbeat of an old term that lost a race could write that
//     term over a newer one in which this node has voted. That is refused; raft
//     then ends the process, which is safe. transport.go makes it next to impossible.
type stableStore struct {
	// live is the store below: it changes when the log is opened again.
	live func() raft.StableStore

	mu          sync.Mutex
	term        uint64
	pendingTerm uint64 // LastVoteTerm without its candidate; 0 = none
}

func newStableStore(live func() raft.StableStore) (*stableStore, error) {
	term, err := live().GetUint64(keyCurrentTerm)
	if err != nil && err.Error() != notFoundText {
		return nil, fmt.Errorf("reading current term: %w", err)
	}
	return &stableStore{live: live, term: term}, nil
}

// forgetHalfBootstrap takes a node for new whose term is 1 and that has neither entries nor
// a snapshot nor a vote. Raft bootstraps by writing the term 1, then the first entry; a
// crash came in between. No leader is of that term: the first election is for term 2.
func (s *stableStore) forgetHalfBootstrap(logs *logStore, snaps *snapshotStore) error {
	last, err := logs.LastIndex()
	if err != nil || last > 0 || s.term != 1 {
		return err
	}
	list, err := snaps.List()
	if err != nil || len(list) > 0 {
		return err
	}
	if term, _, err := s.vote(); err != nil || term > 0 {
		return err
	}
	s.term = 0
	return nil
}

// notFoundText is how raft's stores say that a key is absent.
const notFoundText = "not found"

// SetUint64 implements raft.StableStore.
func (s *stableStore) SetUint64(key []byte, val uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case bytes.Equal(key, keyLastVoteTerm):
		s.pendingTerm = val
		return nil
	case bytes.Equal(key, keyCurrentTerm):
		if val < s.term {
			return fmt.Errorf("term would go back from %d to %d", s.term, val)
		}
		if val == s.term {
			return nil // already durable
		}
		if err := s.live().SetUint64(key, val); err != nil {
			return err
		}
		s.term = val
		return nil
	}
	return s.live().SetUint64(key, val)
}

// Set implements raft.StableStore.
func (s *stableStore) Set(key, val []byte) error {
	if !bytes.Equal(key, keyLastVoteCand) {
		return s.live().Set(key, val)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	term := s.pendingTerm
	if term == 0 {
		return fmt.Errorf("a candidate without a term")
	}
	if err := s.live().Set(keyVote, append(binary.BigEndian.AppendUint64(nil, term), val...)); err != nil {
		return err
	}
	s.pendingTerm = 0
	return nil
}

// GetUint64 implements raft.StableStore.
func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	switch {
	case bytes.Equal(key, keyCurrentTerm):
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.term, nil
	case !bytes.Equal(key, keyLastVoteTerm):
		return s.live().GetUint64(key)
	}
	term, _, err := s.vote()
	return term, err
}

// Get implements raft.StableStore.
func (s *stableStore) Get(key []byte) ([]byte, error) {
	if !bytes.Equal(key, keyLastVoteCand) {
		return s.live().Get(key)
	}
	_, cand, err := s.vote()
	return cand, err
}

func (s *stableStore) vote() (term uint64, candidate []byte, err error) {
	b, err := s.live().Get(keyVote)
	if err != nil && err.Error() != notFoundText {
		return 0, nil, err
	}
	if len(b) < 8 {
		return 0, nil, nil
	}
	return binary.BigEndian.Uint64(b), b[8:], nil
}
