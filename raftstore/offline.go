package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/internal/snapshot"
)

// restoringSuffix is put to the name of a data directory that is being made.
const restoringSuffix = ".restoring"

// RestoreOffline makes cfg.DataDir, which must be absent or empty, the data directory
// of a node that is a new cluster of its own with the data of src. It returns the new
// cluster's id. Others join it as they join any cluster.
//
// It is made beside, under the name DataDir.restoring, and gets its name when it is
// whole and durable: after a crash it is there or it is not, and the next call removes
// what is left over.
func RestoreOffline(ctx context.Context, cfg Config, src snapshot.Source) (clusterID string, err error) {
	cfg = cfg.withDefaults()
	if cfg.NodeID != "" && !validID(cfg.NodeID) {
		return "", fmt.Errorf("%w: the node id %q must be 1 to 128 of A-Z a-z 0-9 . _ -", ErrBadConfig, cfg.NodeID)
	}
	final := filepath.Clean(cfg.DataDir)
	if err := emptyDir(final); err != nil {
		return "", err
	}
	cfg.DataDir = final + restoringSuffix
	if err := os.RemoveAll(cfg.DataDir); err != nil {
		return "", fmt.Errorf("removing what an earlier restore left: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(cfg.DataDir))
		}
	}()
	if clusterID, err = makeDataDir(ctx, cfg, persistence.Checked(src)); err != nil {
		return "", fmt.Errorf("making a data directory of the backup: %w", err)
	}
	failpoint.Hit("offline.before-rename")
	// Over an empty directory a rename goes through.
	if err := os.Rename(cfg.DataDir, final); err != nil {
		return "", fmt.Errorf("making a data directory of the backup: %w", err)
	}
	failpoint.Hit("offline.after-rename")
	return clusterID, syncDir(filepath.Dir(final))
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking at the data directory: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("%w: %s is not empty (%s is there): a backup is restored offline into an empty directory only. "+
			"Name another one, or restore into the running cluster, without --data-dir", ErrBadConfig, dir, entries[0].Name())
	}
	return nil
}

// makeDataDir writes a node's identity, a snapshot that has it as the only voter, and a
// log that knows the snapshot's term. The engine is made of the snapshot at the start.
func makeDataDir(ctx context.Context, cfg Config, src snapshot.Source) (clusterID string, err error) {
	if err := cfg.makeDir(); err != nil {
		return "", err
	}
	var keys *encryption.Directory
	if keys, _, err = encryption.OpenDirectory(cfg.DataDir, cfg.Encryption, true); err != nil {
		return "", err
	}
	id, err := loadIdentity(cfg.DataDir, cfg.NodeID)
	if err != nil {
		return "", err
	}
	clusterID = newID()
	if err := id.setCluster(clusterID); err != nil {
		return "", err
	}
	failpoint.Hit("offline.after-identity")
	const term = 1
	logs, err := openLog(cfg, keys, cfg.Logger)
	if err != nil {
		return "", err
	}
	err = logs.raw().SetUint64(keyCurrentTerm, term)
	if err = errors.Join(err, logs.Close()); err != nil {
		return "", err
	}
	failpoint.Hit("offline.after-log")
	snaps, err := openSnapshots(cfg, keys, cfg.Logger)
	if err != nil {
		return "", err
	}
	h := src.Header()
	index := h.Index + 1 // above all that is in it
	state, err := newClusterState(src, clusterID, index)
	if err != nil {
		return "", err
	}
	addr := cfg.AdvertiseAddr
	or(&addr, cfg.BindAddr)
	conf := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(id.nodeID), Address: raft.ServerAddress(addr)}}}
	_, names := raft.NewInmemTransport("") // only encodes addresses
	sink, err := snaps.Create(raft.SnapshotVersionMax, index, term, conf, index, names)
	if err != nil {
		return "", err
	}
	if _, err := snapshot.Copy(&untilDone{ctx, sink}, state); err != nil {
		return "", errors.Join(err, sink.Cancel())
	}
	failpoint.Hit("offline.before-close")
	return clusterID, errors.Join(sink.Close(), syncDir(cfg.DataDir))
}

// newClusterState is the state of src in a cluster of its own.
func newClusterState(src snapshot.Source, clusterID string, index uint64) (snapshot.Source, error) {
	b, err := persistence.EncodeRecord(&record.Cluster{Id: clusterID, CreateIndex: index})
	if err != nil {
		return nil, err
	}
	h := src.Header()
	h.ClusterID, h.Index = clusterID, index
	own := []snapshot.Record{{Key: persistence.ClusterKey(), Version: index, Value: b}}
	return persistence.NewRestored(src, h, own, 0), nil
}

// untilDone ends a stream with its context.
type untilDone struct {
	ctx context.Context
	w   io.Writer
}

func (u *untilDone) Write(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.w.Write(b)
}
