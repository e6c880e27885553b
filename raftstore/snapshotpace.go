package raftstore

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Raft takes a snapshot after so many entries, looked at every SnapshotInterval. What
// disk use depends on is bytes: until the next snapshot the log keeps all entries, and
// the engine all versions that a replay would read. So a snapshot is also taken when the
// entries since the last one come to a share of the engine, which bounds both, and what
// snapshots cost beside the writes.
const (
	paceEvery = time.Second
	// paceShare: entries worth a 1/paceShare of the engine's tables, and at least
	// paceBytes, make a snapshot due.
	paceShare = 4
	paceBytes = 64 << 20
	// pacePause is the least time between two of these snapshots.
	pacePause = 10 * time.Second
)

// pace counts the bytes of entries applied.
type pace struct{ applied atomic.Int64 }

func (p *pace) note(logs []*raft.Log) {
	n := 0
	for _, l := range logs {
		n += len(l.Data)
	}
	p.applied.Add(int64(n))
}

// paceSnapshots takes snapshots by bytes until the node stops.
func (s *Store) paceSnapshots() {
	tick := time.NewTicker(paceEvery)
	defer tick.Stop()
	index, from, last := s.fsm.SnapshotIndex(), s.pace.applied.Load(), time.Now()
	var first uint64
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		if now, err := s.logs.FirstIndex(); err == nil && now != first {
			first = now
			s.snaps.reap(first)
		}
		if now := s.fsm.SnapshotIndex(); now != index {
			index, from, last = now, s.pace.applied.Load(), time.Now()
			continue
		}
		if time.Since(last) < pacePause || s.pace.applied.Load()-from < s.paceLimit() {
			continue
		}
		last = time.Now()
		done := make(chan error, 1)
		go func() { done <- s.raft.Snapshot().Error() }() // ends with raft at the latest
		select {
		case <-s.stop:
			return
		case err := <-done:
			if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) && !errors.Is(err, raft.ErrRaftShutdown) {
				s.log.Warn("taking a snapshot because the log is large", "error", err)
			}
		}
	}
}

// reap removes the snapshots that this node could not start from any more, because the
// log, which begins at first, does not go on where they end. Raft's store keeps a number
// of them, and each is as large as the whole state.
func (s *snapshotStore) reap(first uint64) {
	if s.dir == "" {
		return
	}
	list, err := s.List()
	if err != nil || len(list) < 2 {
		return
	}
	for _, meta := range list[1:] { // newest first
		if first <= meta.Index+1 {
			continue
		}
		// Under a name that a start sweeps, in case that the process ends half way.
		path := filepath.Join(s.dir, meta.ID)
		if err := os.Rename(path, path+tmpSuffix); err != nil {
			s.log.Warn("removing a snapshot that the log has left behind", "id", meta.ID, "error", err)
			continue
		}
		if err := os.RemoveAll(path + tmpSuffix); err != nil {
			s.log.Warn("removing a snapshot that the log has left behind", "id", meta.ID, "error", err)
		}
	}
}

func (s *Store) paceLimit() int64 {
	u, err := s.db.Usage()
	if err != nil {
		return paceBytes
	}
	return max(paceBytes, u.SST/paceShare)
}
