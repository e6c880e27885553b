package raftstore

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/persistence"
)

// Raft takes a snapshot after so many entries, looked at every SnapshotInterval. What
// disk use depends on is bytes: until the next snapshot the log keeps all entries, and
// the engine all versions that a replay would read. So a snapshot is also taken when the
// entries since the last one come to a share of the engine, which bounds both, and what
// snapshots cost beside the writes. In a large engine only that counts: a snapshot is as
// large as the state, and 8,192 entries are a second's writes.
const (
	paceEvery = time.Second
	// paceShare: entries worth a 1/paceShare of the engine's tables, and at least
	// paceBytes, make a snapshot due.
	paceShare = 4
	paceBytes = 64 << 20
	// pacePause is the least time between two of these snapshots.
	pacePause = 10 * time.Second
	// minTrailing entries are kept behind a snapshot, however large they are, and of the
	// others as many as come to a 1/trailingShare of the tables or to trailingBytes.
	minTrailing   = 64
	trailingShare = 16
	trailingBytes = 16 << 20
	// quietBytes since the last snapshot, or a 1/quietShare of the tables, make one due when
	// nothing was applied for quietTime: what a burst left behind is not kept until the next one.
	quietBytes = 8 << 20
	quietShare = 16
	quietTime  = 20 * time.Second
	// largeEngine is from how many bytes of tables on an engine is large.
	largeEngine = paceShare * paceBytes
)

// pace counts the bytes of entries applied, and remembers how far back they go.
type pace struct {
	applied atomic.Int64
	mu      sync.Mutex
	marks   []paceMark // oldest first
}

// paceMark: entries up to index had so many bytes, since the start of the process.
type paceMark struct {
	index uint64
	bytes int64
}

const (
	// markBytes is how far marks are apart, and maxPaceMarks how many are kept: together more
	// than any limit that a log of usual entries comes to.
	markBytes    = 1 << 20
	maxPaceMarks = 4096
)

func (p *pace) note(logs []*raft.Log) {
	n := 0
	for _, l := range logs {
		n += len(l.Data)
	}
	total := p.applied.Add(int64(n))
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.marks) > 0 && total-p.marks[len(p.marks)-1].bytes < markBytes {
		return
	}
	if len(p.marks) == maxPaceMarks {
		p.marks = append(p.marks[:0], p.marks[maxPaceMarks/4:]...)
	}
	p.marks = append(p.marks, paceMark{logs[len(logs)-1].Index, total})
}

// within is how many of the newest entries come to at most limit bytes; false if all that
// are known do.
func (p *pace) within(limit int64) (entries uint64, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	total := p.applied.Load()
	for i, m := range p.marks {
		if total-m.bytes <= limit {
			return p.marks[len(p.marks)-1].index - m.index, i > 0
		}
	}
	return 0, len(p.marks) > 0
}

// paceSnapshots takes snapshots by bytes until the node stops.
func (s *Store) paceSnapshots() {
	tick := time.NewTicker(paceEvery)
	defer tick.Stop()
	index, from, last := s.fsm.SnapshotIndex(), s.pace.applied.Load(), time.Now()
	var first uint64
	seen, moved := from, time.Now()
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
		tables := s.tableBytes()
		s.tuneRaft(tables)
		applied := s.pace.applied.Load()
		if applied != seen {
			seen, moved = applied, time.Now()
		}
		quiet := applied-from >= share(tables, quietShare, quietBytes) && time.Since(moved) >= quietTime
		if time.Since(last) < pacePause || applied-from < share(tables, paceShare, paceBytes) && !quiet {
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

// tuneRaft tells raft what follows from bytes: how much of the log it keeps behind a
// snapshot, which it counts in entries (10,240 of them can be ten gigabytes), and that it
// takes none by itself while the engine, of which tables is the size, is large.
func (s *Store) tuneRaft(tables int64) {
	want := s.cfg.TrailingLogs
	if entries, known := s.pace.within(share(tables, trailingShare, trailingBytes)); known {
		want = min(want, max(entries, minTrailing))
	}
	rc := s.raft.ReloadableConfig()
	if have := rc.TrailingLogs; want < s.cfg.TrailingLogs && want > have*3/4 && want < have*5/4 {
		want = have // near enough
	}
	threshold := s.snapshotThreshold(tables)
	if rc.TrailingLogs == want && rc.SnapshotThreshold == threshold {
		return
	}
	rc.TrailingLogs, rc.SnapshotThreshold = want, threshold
	if err := s.raft.ReloadConfig(rc); err != nil {
		s.log.Warn("changing when raft takes snapshots", "trailing_logs", want, "snapshot_threshold", threshold, "error", err)
	}
}

// snapshotThreshold is after how many entries raft takes a snapshot by itself.
func (s *Store) snapshotThreshold(tables int64) uint64 {
	if s.isLarge(tables) {
		return math.MaxUint64
	}
	return s.cfg.SnapshotThreshold
}

// isLarge: the bytes that were written decide about snapshots, not the entries.
func (s *Store) isLarge(tables int64) bool { return tables >= s.cfg.largeEngine }

// overdue takes a snapshot when neither raft nor pace does: both count from where this
// process started, which may be a checkpoint, and a node that is restarted often would never
// cut its log.
func (s *Store) overdue() {
	t := time.NewTicker(2 * s.cfg.SnapshotInterval)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
		}
		last := s.raft.LastIndex()
		if newest := s.fsm.SnapshotIndex(); last-min(newest, last) < s.cfg.SnapshotThreshold {
			continue
		}
		tables := s.tableBytes()
		if s.isLarge(tables) && persistence.DirUsage(s.logs.dir) < share(tables, overdueShare, s.cfg.largeEngine) {
			continue
		}
		if err := s.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
			s.log.Warn("taking an overdue snapshot", "error", err)
		}
	}
}

// overdueShare: a log that takes a 1/overdueShare of a large engine's tables on disk, and as
// much as makes an engine large, should have been cut.
const overdueShare = 2

// tableBytes is what the engine's tables take on disk; 0 if that is not known. It looks at
// every file of theirs.
func (s *Store) tableBytes() int64 {
	u, err := s.db.Usage()
	if err != nil {
		return 0
	}
	return u.SST
}

// share is a part of what the engine's tables take, and at least so many bytes.
func share(tables, part, least int64) int64 { return max(least, tables/part) }
