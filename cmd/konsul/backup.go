package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/internal/backup"
	"github.com/neogan74/konsul/internal/config"
	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/snapshot"
	"github.com/neogan74/konsul/raftstore"
)

// spoolDir, in the data directory, takes uploaded backups until they are verified.
const spoolDir = "spool"

// openBackups prepares the backup directory; what crashes left half written goes. Nodes may
// share the directory, and the data directory need not be this one's yet: what somebody
// is writing stays.
func (n *node) openBackups(keys *encryption.Keys) error {
	dir, err := backup.New(n.cfg.Persistence.BackupDir)
	if err != nil {
		return fmt.Errorf("%w: persistence.backup_dir: %w", config.ErrInvalid, err)
	}
	dir.Encrypt(keys.Files())
	dir.KeepRoom(raftstore.BackupRoom(n.cfg.Persistence.DataDir, int64(n.cfg.Persistence.MinFreeSpace)))
	dir.Sweep(n.log)
	n.backups = dir
	return nil
}

// sweepSpool removes what a crash left in the data directory, which must be this node's.
func (n *node) sweepSpool() {
	if !n.cfg.InMemory() {
		backup.SweepSpool(filepath.Join(n.cfg.Persistence.DataDir, spoolDir))
	}
}

func (n *node) dataConfig() api.DataConfig {
	cfg := api.DataConfig{Dir: n.backups}
	if !n.cfg.InMemory() {
		cfg.SpoolDir = filepath.Join(n.cfg.Persistence.DataDir, spoolDir)
	}
	return cfg
}

// schedule is the schedule of backups; it does nothing if there is none.
func (n *node) schedule() *backup.Schedule {
	return &backup.Schedule{
		Dir: n.backups, Cluster: n.store.ClusterID, Every: n.cfg.Backup.Schedule, Keep: n.cfg.Backup.Keep, Log: n.log.Named("backup"),
		Mine: func() bool {
			if n.cfg.Backup.Node == config.BackupByLeader {
				return n.store.IsLeader()
			}
			return n.cfg.Backup.Node == n.store.NodeID()
		},
		Save: func(ctx context.Context) backup.Stream {
			return func(w io.Writer) (snapshot.Header, snapshot.Footer, error) {
				return n.store.Backup(ctx, w, raftstore.BackupOptions{})
			}
		},
	}
}

// restoreOffline is `konsul backup restore --data-dir`.
func restoreOffline(ctx context.Context, dataDir, nodeID string, keys *encryption.Keys, src snapshot.Source) (string, error) {
	return raftstore.RestoreOffline(ctx, raftstore.Config{DataDir: dataDir, NodeID: nodeID, Encryption: keys, SyncWrites: true, Logger: hclog.NewNullLogger()}, src)
}
