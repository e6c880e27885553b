package raftstore

import (
	"time"

	"github.com/hashicorp/raft"
)

// watchStall notices an append to the log that does not come back. Raft's main
// goroutine hangs in it, while its heartbeats, sent from others, keep the rest
// of the cluster from electing a leader that works. So they are muted; the
// others elect one, and this node finds out when its disk answers again.
func (s *Store) watchStall() {
	tick := time.NewTicker(diskInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.checkStall()
		case <-s.stop:
			return
		}
	}
}

func (s *Store) checkStall() {
	began := s.logs.appending.Load()
	stalled := began != 0 && time.Since(time.Unix(0, began)) > s.cfg.StallTimeout
	if stalled == s.stalled.Swap(stalled) {
		return
	}
	if !stalled {
		if s.trans != nil {
			s.trans.muted.Store(false)
		}
		s.log.Info("the disk answers again")
		return
	}
	leads := s.raft.State() == raft.Leader
	s.log.Error("appending to the log hangs: is the disk in trouble?", "since", time.Unix(0, began), "leader", leads)
	if s.trans != nil && leads && len(s.voters()) > 1 {
		s.trans.muted.Store(true)
		s.streams.dropDialled() // a pipeline that is open already does not ask
	}
}

// Health says what is wrong with this node, in words for people; nothing = well.
func (s *Store) Health() []string {
	var out []string
	if s.id.removed() {
		out = append(out, "this node was removed from the cluster")
	}
	if s.disk.full() {
		out = append(out, "the disk is full: this node takes no writes")
	}
	if s.stalled.Load() {
		out = append(out, "appending to the log hangs")
	} else if s.logs.failedAt.Load() != 0 {
		out = append(out, "the last append to the log failed")
	}
	if _, _, ok := s.Leader(); !ok {
		out = append(out, "no leader is known")
	}
	return out
}
