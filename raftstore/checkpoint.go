package raftstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/statefile"
)

const (
	checkpointFile   = "checkpoint.json"
	checkpointFormat = 1
	// checkpointEntries and checkpointBytes are what a start may have to apply again, and
	// what comes in a second besides. Right after a start an entry costs 100 to 200 us:
	// what it reads is not in memory.
	checkpointEntries = 8_192
	checkpointBytes   = 32 << 20
	// checkpointAge is when a checkpoint is taken of however little.
	checkpointAge = time.Minute
	// checkpointLook is how often that is looked at.
	checkpointLook = time.Second
	// checkpointTimeout bounds one.
	checkpointTimeout = 30 * time.Second
)

// checkpoint says from where a start may go on without a snapshot: everything up to
// Index is durable in the engine. It has what raft keeps in a snapshot's metadata. It
// is not a snapshot: nothing is cut from the log for it, and a node whose engine
// cannot be trusted goes back to its newest snapshot.
type checkpoint struct {
	Index              uint64             `json:"index"`
	Term               uint64             `json:"term"`
	Configuration      raft.Configuration `json:"configuration"`
	ConfigurationIndex uint64             `json:"configuration_index"`
	ClusterID          string             `json:"cluster_id"`
	Keys               uint64             `json:"keys"`
	Services           uint64             `json:"services"`
}

// meta is what raft takes for a snapshot at the start.
func (c *checkpoint) meta() *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: "checkpoint", Index: c.Index, Term: c.Term,
		Configuration: c.Configuration, ConfigurationIndex: c.ConfigurationIndex,
	}
}

func readCheckpoint(dir string) (*checkpoint, error) {
	var c checkpoint
	found, err := statefile.Read(filepath.Join(dir, checkpointFile), checkpointFormat, &c)
	if err != nil || !found {
		return nil, err
	}
	return &c, nil
}

// checkpoints takes them.
type checkpoints struct {
	s *Store
	// mu makes what is applied and the configuration one.
	mu        sync.Mutex
	conf      raft.Configuration
	confIndex uint64
	bytes     int64 // applied since the last checkpoint
	last      uint64
	at        time.Time
	// ahead, if not 0, is what the engine shows while raft is not yet there: a crash
	// came between the engine's sync and the snapshot or checkpoint that was to follow.
	ahead uint64
}

func newCheckpoints(s *Store, start *raft.SnapshotMeta) *checkpoints {
	c := &checkpoints{s: s, at: time.Now()}
	if start != nil {
		c.conf, c.confIndex, c.last = start.Configuration, start.ConfigurationIndex, start.Index
	}
	if shown := s.db.Published(); shown > c.last {
		c.ahead = shown
	}
	return c
}

// applied is told what was applied, under mu.
func (c *checkpoints) applied(logs []*raft.Log) {
	if n := len(logs); n > 0 && logs[n-1].Index >= c.ahead {
		c.ahead = 0
	}
	for _, l := range logs {
		c.bytes += int64(len(l.Data))
		if l.Type == raft.LogConfiguration {
			c.conf, c.confIndex = raft.DecodeConfiguration(l.Data), l.Index
		}
	}
}

// restored is told that a snapshot took the place of everything, under mu.
func (c *checkpoints) restored() {
	index := c.s.db.Published()
	c.ahead = 0
	c.conf, c.confIndex = raft.Configuration{}, 0 // the next configuration entry tells
	c.last, c.bytes, c.at = index, 0, time.Now()
	list, err := c.s.snaps.List()
	if err != nil {
		return
	}
	for _, meta := range list {
		if meta.Index == index {
			c.conf, c.confIndex = meta.Configuration, meta.ConfigurationIndex
		}
	}
}

// Snapshot implements raft.FSM. A snapshot must not hold more than raft believes.
func (f *raftFSM) Snapshot() (raft.FSMSnapshot, error) {
	f.store.points.mu.Lock()
	ahead := f.store.points.ahead
	f.store.points.mu.Unlock()
	if ahead > 0 {
		return nil, fmt.Errorf("entries up to %d are still being applied again", ahead)
	}
	if f.store.ticker.Load() != nil && f.store.jumping() {
		return nil, fmt.Errorf("the log has yet to reach index %d of a restore", f.Reset())
	}
	snap, err := f.FSM.Snapshot()
	if err != nil {
		return nil, err
	}
	return &snapshotUnderWay{FSMSnapshot: snap, s: f.store, epoch: f.store.epoch.Load()}, nil
}

// replacing is called before another state takes the place of this one, which raft notes down
// as a snapshot that it has. One that is under way is of the state before: should it end
// later, it would be raft's newest, and a leader that has the log from the other one on would
// send followers snapshots for ever. So it fails, or if it is ending it ends first.
func (s *Store) replacing() {
	s.ending.Lock()
	s.epoch.Add(1)
	s.ending.Unlock()
}

// snapshotUnderWay is one that raft takes. From the moment that it is whole until raft has
// noted it down, which it does last but Release, it has the store's ending.
type snapshotUnderWay struct {
	raft.FSMSnapshot
	s      *Store
	epoch  uint64
	ending bool
}

var errReplaced = errors.New("a restore has replaced the state")

// Persist implements raft.FSMSnapshot.
func (u *snapshotUnderWay) Persist(sink raft.SnapshotSink) error {
	return u.FSMSnapshot.Persist(&sinkUnderWay{sink, u})
}

// Release implements raft.FSMSnapshot.
func (u *snapshotUnderWay) Release() {
	if u.ending {
		u.s.ending.Unlock()
	}
	u.FSMSnapshot.Release()
}

type sinkUnderWay struct {
	raft.SnapshotSink
	u *snapshotUnderWay
}

// Write implements raft.SnapshotSink.
func (k *sinkUnderWay) Write(b []byte) (int, error) {
	if k.u.s.epoch.Load() != k.u.epoch {
		return 0, errReplaced
	}
	return k.SnapshotSink.Write(b)
}

// Close implements raft.SnapshotSink.
func (k *sinkUnderWay) Close() error {
	k.u.s.ending.Lock()
	if k.u.s.epoch.Load() != k.u.epoch {
		k.u.s.ending.Unlock()
		return errReplaced
	}
	k.u.ending = true
	return k.SnapshotSink.Close()
}

// run takes a checkpoint now and then.
func (c *checkpoints) run() {
	if c.s.cfg.InMemory {
		return
	}
	t := time.NewTicker(checkpointLook)
	defer t.Stop()
	for {
		select {
		case <-c.s.stop:
			return
		case <-t.C:
		}
		if !c.due() {
			continue
		}
		if err := c.take(); err != nil {
			c.s.log.Warn("no checkpoint was taken; the next start takes longer", "error", err)
		}
	}
}

func (c *checkpoints) due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	behind := c.s.db.Published() - min(c.last, c.s.db.Published())
	return behind >= checkpointEntries || c.bytes >= checkpointBytes || behind > 0 && time.Since(c.at) >= checkpointAge
}

// take makes everything applied durable in the engine and notes it down.
func (c *checkpoints) take() error {
	c.mu.Lock()
	if c.ahead > 0 { // conf is not yet that of the index which the engine shows
		c.mu.Unlock()
		return nil
	}
	db := c.s.db
	counts, index := db.Counts(), db.Published()
	cp := checkpoint{
		Index: index, Configuration: c.conf, ConfigurationIndex: c.confIndex,
		ClusterID: c.s.ClusterID(), Keys: counts.Keys, Services: counts.Services,
	}
	c.bytes, c.at = 0, time.Now()
	known := index <= c.last || cp.ConfigurationIndex == 0
	c.mu.Unlock()
	if known {
		return nil
	}
	if cp.Term = c.s.logs.termOf(index); cp.Term == 0 {
		return nil // a snapshot has just taken its place
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkpointTimeout)
	defer cancel()
	failpoint.Hit("checkpoint.before-durable")
	if err := db.MakeDurable(ctx, index); err != nil {
		return fmt.Errorf("taking a checkpoint: %w", err)
	}
	failpoint.Hit("checkpoint.after-durable")
	if err := statefile.Write(filepath.Join(c.s.cfg.DataDir, checkpointFile), checkpointFormat, cp); err != nil {
		return fmt.Errorf("taking a checkpoint: %w", err)
	}
	failpoint.Hit("checkpoint.after-write")
	c.mu.Lock()
	c.last = index
	c.mu.Unlock()
	return nil
}

// usable says whether a start may go on from c, with an engine that is durable up to
// durable and the log that is there.
func (c *checkpoint) usable(durable, first, last uint64, termOf func(uint64) uint64) bool {
	return c.Index <= durable && first <= c.Index && c.Index <= last && termOf(c.Index) == c.Term
}

func (c *checkpoint) counts() persistence.Counts {
	return persistence.Counts{Keys: c.Keys, Services: c.Services}
}

// dropCheckpoint forgets the checkpoint. Durable on return.
func dropCheckpoint(dir string) error {
	err := os.Remove(filepath.Join(dir, checkpointFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing checkpoint: %w", err)
	}
	return syncDir(dir)
}
