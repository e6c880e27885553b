package raftstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/peer"
)

// membershipWatch finds out that this node was removed: from the log, if the
// entry reached it, and else from the leader, who does not answer a stranger.
type membershipWatch struct {
	id  *identity
	log hclog.Logger

	mu     sync.Mutex
	member bool // by the last configuration that was applied
}

func newMembershipWatch(id *identity, newest *raft.SnapshotMeta, log hclog.Logger) *membershipWatch {
	w := &membershipWatch{id: id, log: log}
	if newest != nil {
		w.member = w.listed(newest.Configuration)
	}
	return w
}

func (w *membershipWatch) listed(conf raft.Configuration) bool {
	for _, srv := range conf.Servers {
		if string(srv.ID) == w.id.nodeID {
			return true
		}
	}
	return false
}

// note is told each configuration that is applied. A node that has just joined
// sees old ones in which it is not yet: only leaving one is a removal.
func (w *membershipWatch) note(conf raft.Configuration) {
	w.mu.Lock()
	was := w.member
	w.member = w.listed(conf)
	now := w.member
	w.mu.Unlock()
	switch {
	case now:
		w.mark(false)
	case was:
		w.mark(true)
	}
}

// refused: the leader says that this node is not a member. That is a removal if
// it was one by what it has applied, or, as it may have applied nothing since its
// start, if its log gives it a vote: a vote is given to members only.
func (w *membershipWatch) refused(log raft.Configuration) {
	w.mu.Lock()
	was := w.member
	w.mu.Unlock()
	for _, srv := range log.Servers {
		was = was || (string(srv.ID) == w.id.nodeID && srv.Suffrage == raft.Voter)
	}
	if was {
		w.mark(true)
	}
}

// disowned is told that the leader takes this node for a stranger.
func (s *Store) disowned() {
	s.members.refused(s.raft.GetConfiguration().Configuration())
}

func (w *membershipWatch) mark(removed bool) {
	if w.id.removed() == removed {
		return
	}
	if err := w.id.setRemoved(removed); err != nil {
		w.log.Error("recording whether this node is a member", "error", err)
		return
	}
	if removed {
		w.log.Warn("this node was removed from the cluster: it serves stale reads only")
	} else {
		w.log.Info("this node is a member of the cluster again")
	}
}

// watchMembership asks around when no leader has been heard of for long: the
// others do not send anything to a node they have removed.
func (s *Store) watchMembership() {
	every := 4 * max(s.cfg.Election, s.cfg.Heartbeat)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if _, _, ok := s.Leader(); !ok && !s.id.removed() {
				s.askMembership(every)
			}
		case <-s.stop:
			return
		}
	}
}

func (s *Store) askMembership(timeout time.Duration) {
	servers, err := s.Servers()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, srv := range servers {
		if srv.ID == s.id.nodeID {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := s.client.Call(ctx, srv.Address, methodMember, nil)
			var remote *peer.Error
			if errors.As(err, &remote) && errors.Is(DecodeError(remote), ErrNotMember) {
				s.disowned()
			}
		}()
	}
	wg.Wait()
}
