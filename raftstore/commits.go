package raftstore

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// readProof is the leader's answer to a follower that asks for a read index.
//
//	+------------+-----------------+------------------+
//	| index (8)  | entry's term (8)| leader's term (8)|   big endian
//	+------------+-----------------+------------------+
//
// The entry at index is committed. Its term is 0 if the leader's log does not
// have it any more.
type readProof struct {
	index, entryTerm, term uint64
}

const readProofLen = 24

func (p readProof) encode() []byte {
	b := make([]byte, 0, readProofLen)
	b = binary.BigEndian.AppendUint64(b, p.index)
	b = binary.BigEndian.AppendUint64(b, p.entryTerm)
	return binary.BigEndian.AppendUint64(b, p.term)
}

func decodeReadProof(b []byte) (readProof, error) {
	if len(b) != readProofLen {
		return readProof{}, fmt.Errorf("a read index of %d bytes, not %d", len(b), readProofLen)
	}
	return readProof{
		index:     binary.BigEndian.Uint64(b),
		entryTerm: binary.BigEndian.Uint64(b[8:]),
		term:      binary.BigEndian.Uint64(b[16:]),
	}, nil
}

// readProof describes a read index of this leader.
func (s *Store) readProof(index uint64) readProof {
	p := readProof{index: index, term: s.leader.ready()}
	// A round that began when this node led no more was another leader's: then this
	// node's own entry at the index may be one that was never committed.
	if term := s.logs.termOf(index); s.leads(p.term) {
		p.entryTerm = term
	}
	return p
}

// committed is what a follower has learned from its leader with a read index.
type committed struct {
	readProof
	leader, addr string
}

// commitTeller tells this node's raft what the leader said is committed. By itself
// raft learns that with the next message that carries entries, or when
// CommitTimeout has passed without one: 50 to 100 ms in which a follower has an
// entry that was acknowledged, but does not apply it, and linearizable reads wait.
//
// What it passes to raft is an AppendEntries without entries, as the leader could
// have sent it: previous entry and commit index are the read index. Raft checks the
// previous entry as always, so an entry that differs is never committed.
type commitTeller struct {
	s    *Store
	news chan committed // the newest only
}

const (
	// tellAgain is how long to wait for an entry that is committed but not here yet.
	tellAgain = time.Millisecond
	// tellFor bounds that: afterwards raft's own messages must do.
	tellFor = 200 * time.Millisecond
)

func newCommitTeller(s *Store) *commitTeller {
	return &commitTeller{s: s, news: make(chan committed, 1)}
}

// learn takes news. It does not wait.
func (t *commitTeller) learn(c committed) {
	if c.entryTerm == 0 || t.s.trans == nil || t.s.db.Published() >= c.index {
		return
	}
	for {
		select {
		case t.news <- c:
			return
		default:
		}
		select {
		case <-t.news: // older: one reader round follows the other
		default:
		}
	}
}

func (t *commitTeller) run() {
	for {
		select {
		case c := <-t.news:
			t.tell(c)
		case <-t.s.stop:
			return
		}
	}
}

// tell returns when raft knows, or cannot be told.
func (t *commitTeller) tell(c committed) {
	again := time.NewTimer(tellFor)
	defer again.Stop()
	for begun := time.Now(); time.Since(begun) < tellFor; {
		r := t.s.raft
		if t.s.db.Published() >= c.index || r.CommitIndex() >= c.index ||
			r.State() != raft.Follower || r.CurrentTerm() != c.term {
			return
		}
		// Raft complains in the log about a previous entry it does not have, so look first.
		if t.s.logs.termOf(c.index) == c.entryTerm && t.s.trans.tell(c.message()) {
			return
		}
		again.Reset(tellAgain)
		select {
		case <-again.C:
		case newer := <-t.news:
			c = newer
		case <-t.s.stop:
			return
		}
	}
}

// message is the message the leader could have sent.
func (c committed) message() *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{
		RPCHeader:    raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(c.leader), Addr: []byte(c.addr)},
		Term:         c.term,
		PrevLogEntry: c.index, PrevLogTerm: c.entryTerm, LeaderCommitIndex: c.index,
	}
}
