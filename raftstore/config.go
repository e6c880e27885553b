package raftstore

import (
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/peer"
	"github.com/neogan74/konsul/internal/persistence"
)

// Config is what a node needs to know. Zero fields mean the default, which
// stands with each.
type Config struct {
	// NodeID is the node's name in the cluster. Empty: the one kept in the data
	// directory, or a new random one. One that differs from the kept one is an error.
	NodeID string
	// DataDir holds everything of this node; made with mode 0700 if absent.
	DataDir string
	// BackupDir is where Engine puts its backups, and nowhere else; "" = anywhere.
	BackupDir string
	// BindAddr is host:port for the other nodes; port 0 picks one. 127.0.0.1:7000.
	BindAddr string
	// AdvertiseAddr is how the other nodes reach BindAddr; host names stay names. BindAddr.
	AdvertiseAddr string

	// SyncWrites fsyncs the log before a write is acknowledged. Without it a power
	// cut may lose acknowledged writes, and a node that was not shut down cleanly
	// rebuilds its engine from its newest snapshot.
	SyncWrites bool
	Badger     persistence.BadgerOptions
	History    persistence.History

	// SnapshotThreshold is how many entries make a snapshot worth while (8192),
	// looked at every SnapshotInterval to twice that (30 s). TrailingLogs entries
	// stay in the log behind a snapshot, for followers that were away (10240).
	SnapshotThreshold uint64
	SnapshotInterval  time.Duration
	TrailingLogs      uint64
	// SnapshotRetention is how many snapshots are kept (2).
	SnapshotRetention int

	// Heartbeat: a follower that hears nothing for this long calls an election
	// (500 ms); the leader sends one ten times as often. Election is the time one
	// attempt may take (500 ms). LeaderLease: a leader that reaches no majority for
	// this long steps down (500 ms). CommitTimeout: a follower learns of a commit
	// at the latest this long after it, when no entries follow (50 ms).
	Heartbeat, Election, LeaderLease, CommitTimeout time.Duration
	// MaxAppendEntries bounds the entries of one message and of one batch (512, at most 1024).
	MaxAppendEntries int
	// QueueDepth bounds the proposals in flight on this node (4096); more are ErrOverloaded.
	QueueDepth int
	// RequestTimeout bounds a write or read whose context has no deadline (10 s).
	RequestTimeout time.Duration
	// ElectionWait bounds how long a request waits for a leader to appear (5 s).
	ElectionWait time.Duration
	// StallTimeout: a leader whose log append takes longer gives up its office (5 s).
	StallTimeout time.Duration

	// MaintenanceInterval is how often the engine's garbage is collected and, if it is
	// worth it, its tables compacted. 0 = only on request.
	MaintenanceInterval time.Duration
	// MinFreeSpace is the floor of free bytes on the data directory's disk below
	// which this node takes no writes. 0 = no floor; cmd sets DefaultMinFreeSpace.
	MinFreeSpace int64
	// SegmentSize is the size of a file of the log, in bytes, preallocated (32 MiB,
	// less if that were more than a sixteenth of the disk).
	SegmentSize int

	// Encryption has the master keys of encryption at rest; nil for none. A data
	// directory is encrypted from its first start on, or never.
	Encryption *encryption.Keys

	// InMemory keeps nothing on disk: a cluster of one, for tests and trials.
	InMemory bool

	Logger hclog.Logger
	// Registerer gets this node's metrics; nil for none. Two nodes must not share one.
	Registerer prometheus.Registerer
	// Fatal is called when this replica cannot go on; it must end the process.
	// Nil: panic.
	Fatal func(error)
	// Wrap secures connections between nodes (TLS); nil for plain TCP.
	Wrap peer.WrapFunc

	// trustVerifyLeader leaves out the causal part of the read proof. Only a test
	// sets it, to show that it fails without.
	trustVerifyLeader bool
	// largeEngine is from how many bytes of tables on bytes alone decide about snapshots.
	largeEngine int64
	// now is the clock from which the leader counts cluster time: time.Now but for tests.
	now func() time.Time
}

// DefaultMinFreeSpace is enough for the engine to flush and compact what it has
// in memory, for a log segment, and for a snapshot of a small store.
const DefaultMinFreeSpace = 256 << 20

const (
	defaultSegmentSize = 32 << 20
	minSegmentSize     = 1 << 20
)

// withDefaults returns a copy with every zero field filled.
func (c Config) withDefaults() Config {
	or(&c.BindAddr, "127.0.0.1:7000")
	or(&c.SnapshotThreshold, 8192)
	or(&c.SnapshotInterval, 30*time.Second)
	or(&c.TrailingLogs, 10240)
	or(&c.SnapshotRetention, 2)
	or(&c.Heartbeat, 500*time.Millisecond)
	or(&c.Election, max(500*time.Millisecond, c.Heartbeat))
	or(&c.LeaderLease, min(500*time.Millisecond, c.Heartbeat))
	or(&c.CommitTimeout, 50*time.Millisecond)
	or(&c.MaxAppendEntries, 512)
	or(&c.QueueDepth, 4096)
	or(&c.RequestTimeout, 10*time.Second)
	or(&c.ElectionWait, 5*time.Second)
	or(&c.StallTimeout, 5*time.Second)
	or(&c.largeEngine, largeEngine)
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Fatal == nil {
		c.Fatal = func(err error) { panic(err) }
	}
	return c
}

func or[T comparable](field *T, def T) {
	var zero T
	if *field == zero {
		*field = def
	}
}

// validate names the first field that cannot be honoured. Raft checks its own.
func (c Config) validate() error {
	switch {
	case c.DataDir == "" && !c.InMemory:
		return fmt.Errorf("%w: no data directory", ErrBadConfig)
	case len(c.NodeID) > 128:
		return fmt.Errorf("%w: node id is longer than 128 bytes", ErrBadConfig)
	case c.SnapshotRetention < 1:
		return fmt.Errorf("%w: at least one snapshot must be kept", ErrBadConfig)
	case c.QueueDepth < 1:
		return fmt.Errorf("%w: the queue must hold at least one proposal", ErrBadConfig)
	case c.MinFreeSpace < 0:
		return fmt.Errorf("%w: free space floor is negative", ErrBadConfig)
	case c.SegmentSize != 0 && c.SegmentSize < minSegmentSize:
		return fmt.Errorf("%w: log segments must be at least 1 MiB", ErrBadConfig)
	}
	if err := c.Badger.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadConfig, err)
	}
	return nil
}

// segmentSize fits the log's files to the disk, so that one preallocated file
// is not a large part of a small one.
func (c Config) segmentSize() int {
	if c.SegmentSize != 0 {
		return c.SegmentSize
	}
	size := defaultSegmentSize
	if total, _, _, err := persistence.DiskSpace(c.DataDir); err == nil && total > 0 {
		size = min(size, int(total/16))
	}
	return max(size, 4*minSegmentSize)
}

// makeDir makes the data directory for this user alone.
func (c Config) makeDir() error {
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("making data directory: %w", err)
	}
	return nil
}
