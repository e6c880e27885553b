package raftstore

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// acks counts, causally, which followers have acknowledged this leader since
// when. Its clock is a counter, so a paused process or machine cannot stretch it.
//
// Each read round takes the next number. Each AppendEntries notes the number at
// the moment it is sent; when its success comes back in the same term, that
// number stands for the follower: it was in this leader's term at some moment
// after every round up to that number began. A majority of voters for which
// that holds cannot have elected a later leader before the round began.
//
// raft.VerifyLeader alone does not prove it: it counts the answer to a message
// that was sent before it was called. Such an answer may have lain in the
// socket's buffer of a paused leader while another one was elected.
type acks struct {
	seq atomic.Uint64

	mu    sync.Mutex
	term  uint64
	acked map[raft.ServerID]ack
	// moved is closed and replaced when an acknowledgement comes in.
	moved chan struct{}
}

type ack struct {
	seq  uint64
	sent time.Time // when the acknowledged message was sent, by the monotonic clock
}

func newAcks() *acks {
	return &acks{acked: make(map[raft.ServerID]ack), moved: make(chan struct{})}
}

// begin starts a round and returns its number.
func (a *acks) begin() uint64 { return a.seq.Add(1) }

// sending is to be called before a message leaves; its result goes to received.
func (a *acks) sending() ack { return ack{seq: a.seq.Load(), sent: time.Now()} }

// received notes the success of a message of term.
func (a *acks) received(from raft.ServerID, term uint64, sent ack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if term < a.term {
		return
	}
	if term > a.term {
		a.term = term
		clear(a.acked)
	}
	if sent.seq < a.acked[from].seq || sent.sent.Before(a.acked[from].sent) {
		return
	}
	a.acked[from] = sent
	close(a.moved)
	a.moved = make(chan struct{})
}

// confirmed reports whether a majority of voters, self included, has
// acknowledged term since round seq began; if not, next is closed at the next
// acknowledgement.
func (a *acks) confirmed(self raft.ServerID, voters []raft.ServerID, term, seq uint64) (ok bool, next <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	count := 0
	for _, id := range voters {
		if id == self || (a.term == term && a.acked[id].seq >= seq) {
			count++
		}
	}
	return count > len(voters)/2, a.moved
}

// lastOr is when the newest acknowledged message to a peer was sent, and a
// channel that is closed at the next acknowledgement of anybody.
func (a *acks) lastOr(id raft.ServerID) (time.Time, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.acked[id].sent, a.moved
}

// last is when the newest acknowledged message to a peer was sent.
func (a *acks) last(id raft.ServerID) (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.acked[id]
	return at.sent, ok
}
