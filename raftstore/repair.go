package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// snapVerifyRate is how fast the newest snapshot is read after a start, in bytes a second.
	snapVerifyRate = 50 << 20
	// snapRetry is the pause before another attempt to replace a damaged snapshot.
	snapRetry = 2 * time.Second
)

// snapshotCheck verifies, after the start, the snapshot that the start did not read.
// A damaged one is no danger while the engine is sound, but this node could neither
// rebuild its engine nor help a follower with it: a new one is taken at once, and the
// damaged one is set aside when that is on disk.
type snapshotCheck struct {
	s *Store
	// newest is the snapshot to verify, nil for none; bad are known to be damaged.
	newest *raft.SnapshotMeta
	bad    []string
	why    atomic.Pointer[error]
}

// Degraded says what is wrong with this node's files that it is about to mend; nil if
// nothing is.
func (s *Store) Degraded() error {
	if s.check == nil {
		return nil
	}
	if err := s.check.why.Load(); err != nil {
		return *err
	}
	return nil
}

func (c *snapshotCheck) run() {
	if len(c.bad) == 0 && c.newest != nil && c.s.snaps.dir != "" {
		if !c.afterTables() {
			return
		}
		damage, err := c.s.snaps.verifySlowly(c.newest.ID, snapVerifyRate, c.s.stop)
		switch {
		case damage != nil:
			c.s.log.Error("the newest snapshot is damaged", "id", c.newest.ID, "error", damage)
			c.bad = append(c.bad, c.newest.ID)
		case errors.Is(err, ErrShuttingDown):
			return
		case errors.Is(err, fs.ErrNotExist) && c.s.fsm.SnapshotIndex() > c.newest.Index:
			c.s.log.Info("the snapshot of the start was replaced before it was verified", "id", c.newest.ID)
		case err != nil:
			c.s.log.Warn("the newest snapshot was not verified", "id", c.newest.ID, "error", err)
		default:
			c.s.log.Info("the newest snapshot is whole", "id", c.newest.ID)
		}
	}
	if len(c.bad) > 0 {
		c.replace()
	}
}

// afterTables waits until the engine's tables are verified: one reader at a time is
// enough beside the work.
func (c *snapshotCheck) afterTables() bool {
	t := time.NewTicker(snapRetry)
	defer t.Stop()
	for {
		select {
		case <-c.s.stop:
			return false
		case <-t.C:
			if c.s.db.Unverified() == 0 {
				return true
			}
		}
	}
}

// replace takes a new snapshot, as often as it needs, and sets the damaged ones aside.
func (c *snapshotCheck) replace() {
	why := fmt.Errorf("snapshot %s is damaged; a new one is being taken", c.bad[0])
	c.why.Store(&why)
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-c.s.stop:
			return
		case <-t.C:
		}
		before := c.s.fsm.SnapshotIndex()
		err := c.take()
		if err == nil {
			break
		}
		c.s.log.Warn("no snapshot to replace a damaged one yet", "newest", before, "error", err)
		t.Reset(snapRetry)
	}
	for _, id := range c.bad {
		if err := c.s.snaps.setAside(id); err != nil {
			c.s.log.Warn("a damaged snapshot stays where it is", "id", id, "error", err)
		}
	}
	c.why.Store(nil)
	c.s.log.Info("the damaged snapshot was replaced", "index", c.s.fsm.SnapshotIndex())
}

// take returns when there is a new snapshot. Right after a start raft has nothing to
// take one of, until a leader has told what is committed.
func (c *snapshotCheck) take() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-c.s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return await(ctx, c.s.raft.Snapshot())
}

// logDamaged hears of a log entry that is needed, by a follower or by raft, and cannot be
// read. If it was applied a snapshot can stand in for it; if not, this node lacks
// what it acknowledged.
func (s *Store) logDamaged(index uint64, err error) {
	if index > s.db.Published() {
		s.cfg.Fatal(fmt.Errorf("%w: %s", err, wayBack(s.cfg.DataDir)))
		return
	}
	if s.mending.Swap(true) {
		return
	}
	s.log.Error("a log entry is damaged; a snapshot takes its place", "index", index, "error", err)
	go func() {
		defer s.mending.Store(false)
		if err := s.raft.Snapshot().Error(); err != nil { // ends with raft
			s.log.Warn("taking a snapshot in place of a damaged log entry", "error", err)
		}
	}()
}
