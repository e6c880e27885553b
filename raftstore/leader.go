package raftstore

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm/command"
)

// leadership is what this node knows about who leads.
type leadership struct {
	// readyTerm is the term in which this node leads and has applied an entry of
	// its own; 0 = none.
	readyTerm atomic.Uint64

	mu      sync.Mutex
	changed chan struct{}
	waits   map[*leaderWait]struct{}
	grace   time.Duration
	now     func() string
}

func newLeadership() *leadership { return &leadership{changed: make(chan struct{})} }

func (l *leadership) ready() uint64 { return l.readyTerm.Load() }

func (l *leadership) changes() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *leadership) signal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

// leadershipPoll finds transitions that raft's channels dropped.
const leadershipPoll = 100 * time.Millisecond

// watchLeadership signals changes of the leader, and makes a new leader ready:
// after an entry of its own term everything that earlier leaders committed is
// applied here, so reads may be served. Raft's LeaderCh drops transitions, so
// state and term are looked at as well.
func (s *Store) watchLeadership() {
	seen := make(chan raft.Observation, 64)
	obs := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	s.raft.RegisterObserver(obs)
	defer s.raft.DeregisterObserver(obs)
	tick := time.NewTicker(leadershipPoll)
	defer tick.Stop()
	var last leaderView
	for {
		if now := s.leaderView(); now != last {
			s.metrics.leaderSeen(last, now)
			last = now
			s.leader.signal()
		}
		s.takeOffice()
		s.leader.sweep(time.Now())
		select {
		case <-seen:
		case <-s.raft.LeaderCh():
		case <-tick.C:
		case <-s.stop:
			return
		}
	}
}

type leaderView struct {
	id    raft.ServerID
	addr  raft.ServerAddress
	state raft.RaftState
}

func (s *Store) leaderView() leaderView {
	addr, id := s.raft.LeaderWithID()
	return leaderView{id: id, addr: addr, state: s.raft.State()}
}

// takeOffice makes this node ready if it leads in a term for which it is not.
func (s *Store) takeOffice() {
	term := s.raft.CurrentTerm()
	if s.raft.State() != raft.Leader || s.leader.ready() == term {
		return
	}
	// It counts as a proposal for Shutdown, which waits for those: raft forgets
	// what is queued when it stops.
	s.gate.count.Add(1)
	defer s.gate.count.Add(-1)
	if s.usable() != nil {
		return
	}
	start := time.Now()
	if err := s.firstEntry(); err != nil {
		s.log.Debug("first entry of a new leader failed", "term", term, "error", err)
		return
	}
	// A node leads at most once in a term: if it still does, the entry was of this term.
	if s.raft.State() != raft.Leader || s.raft.CurrentTerm() != term {
		return
	}
	s.leader.readyTerm.Store(term)
	s.restored() // what was applied before may have been a restore, which brings a time of its own
	s.leader.signal()
	s.log.Info("this node leads", "term", term, "took", time.Since(start))
}

// firstEntry returns when everything before it and an entry of this term are
// applied here. It is a command that changes nothing, not raft's Barrier: state
// machines are not shown barriers, so a snapshot behind one would have an index
// that the engine has not published, and nodes would differ in the newest they have
// (a snapshot was refused, and a digest waited, until the next write).
func (s *Store) firstEntry() error {
	return s.raft.Apply(officeEntry, s.cfg.Election).Error()
}

// officeEntry is a transaction without operations.
var officeEntry = func() []byte {
	b, err := command.Encode(nil, command.Type_TYPE_TXN, &command.Txn{})
	if err != nil {
		panic(err) // nothing but the constants above could make this fail
	}
	return b
}()

// giveUpLeadership hands over to another voter, if there is one and this node
// leads. It does not wait.
func (s *Store) giveUpLeadership() {
	if s.raft.State() != raft.Leader || len(s.voters()) < 2 {
		return
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 2*s.cfg.Election)
		defer cancel()
		if err := await(ctx, s.raft.LeadershipTransfer()); err != nil {
			s.log.Warn("handing over leadership failed", "error", err)
		}
	}()
}

// voters are the voting members by the latest configuration.
func (s *Store) voters() []raft.ServerID {
	var ids []raft.ServerID
	for _, srv := range s.raft.GetConfiguration().Configuration().Servers {
		if srv.Suffrage == raft.Voter {
			ids = append(ids, srv.ID)
		}
	}
	return ids
}

// afterChange calls then once the leader has not been at addr for grace: who
// waits for an answer from there waits in vain. The returned function ends it.
func (l *leadership) afterChange(addr string, grace time.Duration, now func() string, then func()) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &leaderWait{addr: addr, then: then}
	if l.waits == nil {
		l.waits = make(map[*leaderWait]struct{})
	}
	l.waits[w] = struct{}{}
	l.grace, l.now = grace, now
	return func() {
		l.mu.Lock()
		delete(l.waits, w)
		l.mu.Unlock()
	}
}

// leaderWait is somebody who waits for an answer of the leader at addr.
type leaderWait struct {
	addr  string
	since time.Time // when the leader was first seen elsewhere
	then  func()
}

// sweep ends the waits for a leader that is one no more.
func (l *leadership) sweep(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waits) == 0 {
		return
	}
	addr := l.now()
	for w := range l.waits {
		switch {
		case addr == "" || addr == w.addr:
			w.since = time.Time{}
		case w.since.IsZero():
			w.since = at
		case at.Sub(w.since) > l.grace:
			w.then()
			delete(l.waits, w)
		}
	}
}
