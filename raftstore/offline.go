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
// what is left over. ErrLocked: another call is at it.
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
	lock, err := lockRestoring(cfg.DataDir)
	if err != nil {
		return "", err
	}
	given, _ := filepath.Glob(cfg.DataDir + ".*") // by giveUp, which ended before it had removed them
	for _, dir := range given {
		_ = os.RemoveAll(dir) // the next time
	}
	named := false
	defer func() {
		if err != nil && !named {
			err = errors.Join(err, giveUp(cfg.DataDir))
		}
		_ = lock.release() // nothing depends on it any more
	}()
	if err := emptyDir(final); err != nil { // somebody may have been faster
		return "", err
	}
	if err := removeAllBut(cfg.DataDir, lockFile); err != nil {
		return "", fmt.Errorf("removing what an earlier restore left: %w", err)
	}
	if clusterID, err = makeDataDir(ctx, cfg, persistence.Checked(src)); err != nil {
		return "", fmt.Errorf("making a data directory of the backup: %w", err)
	}
	failpoint.Hit("offline.before-rename")
	// Over an empty directory a rename goes through.
	if err := os.Rename(cfg.DataDir, final); err != nil {
		return "", fmt.Errorf("making a data directory of the backup: %w", err)
	}
	named = true
	failpoint.Hit("offline.after-rename")
	return clusterID, syncDir(filepath.Dir(final))
}

// lockRestoring makes dir, if it is not there, and takes it for this process, by the lock
// of a data directory, which goes with it when it gets its name.
func lockRestoring(dir string) (*dirLock, error) {
	taken := fmt.Errorf("%w: another restore is filling %s", ErrLocked, dir)
	for range 100 {
		if info, err := os.Lstat(dir); err == nil && !info.IsDir() {
			return nil, fmt.Errorf("%w: %s is in the way: it is not a directory", ErrBadConfig, dir)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("making a directory for the restore: %w", err)
		}
		l, err := lockDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just got its name, or was given up
		}
		if errors.Is(err, ErrLocked) {
			return nil, taken
		}
		if err != nil {
			return nil, err
		}
		// Whoever had it before may have taken it away between the opening and the lock.
		ours, err := l.f.Stat()
		if err != nil {
			return nil, errors.Join(err, l.release())
		}
		if there, err := os.Stat(filepath.Join(dir, lockFile)); err == nil && os.SameFile(ours, there) {
			return l, nil
		}
		if err := l.release(); err != nil {
			return nil, err
		}
	}
	return nil, taken
}

// giveUp removes a directory that lockRestoring has given. It loses its name before the
// lock in it goes: somebody else may be about to take that.
func giveUp(dir string) error {
	err := removeAllBut(dir, lockFile)
	gone := dir + "." + newRestoreID()
	if err := errors.Join(err, os.Rename(dir, gone)); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}

// removeAllBut removes what is in a directory, except for one file.
func removeAllBut(dir, stays string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != stays {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
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
