package api

import (
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a Server needs to know. Zero values take the defaults below.
type Config struct {
	// Version is the program's, for build information and /cluster/status.
	Version string
	// PersistenceType is "badger" or "memory"; default "badger".
	PersistenceType string
	// RaftDir, SnapshotDir and BackupDir are the directories of the Raft log, its snapshots
	// and the backups, whose sizes are shown in /health and as
	// konsul_persistence_database_size_bytes{type="raft|snapshots|backups"}; empty = not shown.
	RaftDir, SnapshotDir, BackupDir string

	// MoveTo is the data directory that a node in memory can move to (/admin/config,
	// /admin/sync); empty on any other node.
	MoveTo string

	// WriteTimeout bounds one write; then the answer is 504 outcome_unknown. Default 10 s.
	WriteTimeout time.Duration
	// ReadTimeout bounds what a linearizable read may wait for a leader and for this
	// node to catch up. Default 10 s.
	ReadTimeout time.Duration
	// AdminTimeout bounds joining, leaving, transfers, snapshots and digests. Default 60 s.
	AdminTimeout time.Duration
	// Keepalive is the pause after which a watch sends a comment. Default 15 s.
	Keepalive time.Duration
	// SendTimeout bounds one write to a client that does not read. Default 20 s.
	SendTimeout time.Duration

	// MaxInFlight bounds the requests worked on at the same time; more get 429.
	// Waiting blocking reads and watches count under MaxWaiting. Default 4,096.
	MaxInFlight int
	// MaxWaiting bounds the watches and waiting blocking reads together. Default 10,000.
	MaxWaiting int

	// Data is about backup and restore.
	Data DataConfig

	Logger hclog.Logger
	// Registerer takes this package's metrics; Gatherer is what /metrics shows.
	Registerer prometheus.Registerer
	Gatherer   prometheus.Gatherer
}

func (c Config) withDefaults() Config {
	set(&c.Version, "unknown")
	set(&c.PersistenceType, "badger")
	set(&c.WriteTimeout, 10*time.Second)
	set(&c.ReadTimeout, 10*time.Second)
	set(&c.AdminTimeout, 60*time.Second)
	set(&c.Keepalive, 15*time.Second)
	set(&c.SendTimeout, 20*time.Second)
	set(&c.MaxInFlight, 4096)
	set(&c.MaxWaiting, 10000)
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Registerer == nil || c.Gatherer == nil {
		reg := prometheus.NewRegistry()
		c.Registerer, c.Gatherer = reg, reg
	}
	c.Logger = c.Logger.Named("api")
	return c
}

func set[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}
