package raftstore

import (
	"errors"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/snapshot"
)

// recovered is what a start found on disk and decided.
type recovered struct {
	db *persistence.DB
	// newest is the newest usable snapshot; nil = none. header is its header.
	newest *raft.SnapshotMeta
	header snapshot.Header
	// restore: raft has to restore newest into the engine.
	restore bool
}

// recovery decides how this node comes back. The log and the snapshots are the
// truth; the engine is a cache of them that is kept if it can be trusted.
type recovery struct {
	cfg    Config
	keys   *encryption.Directory
	log    hclog.Logger
	logs   *logStore
	stable raft.StableStore
	snaps  *snapshotStore
	reg    prometheus.Registerer
	// clean: the last run ended with a clean shutdown.
	clean bool

	first, last uint64 // of the log; 0 = empty
	term        uint64
}

func (r *recovery) run() (recovered, error) {
	var out recovered
	var err error
	if r.first, err = r.logs.FirstIndex(); err != nil {
		return out, fmt.Errorf("reading log: %w", err)
	}
	if r.last, err = r.logs.LastIndex(); err != nil {
		return out, fmt.Errorf("reading log: %w", err)
	}
	if r.term, err = r.stable.GetUint64(keyCurrentTerm); err != nil && err.Error() != notFoundText {
		return out, fmt.Errorf("reading term: %w", err)
	}
	if out.newest, out.header, err = r.snapshot(); err != nil {
		return out, err
	}
	snapIndex := uint64(0)
	if out.newest != nil {
		snapIndex = out.newest.Index
	}
	if snapIndex > 0 && r.last == 0 && r.term == 0 {
		// With the log went what was written since, and the votes this node has given.
		return out, fmt.Errorf("%w: there is a snapshot up to index %d, but the raft log is gone: put %s back, or %s",
			ErrDamaged, snapIndex, r.logs.dir, r.wayBack())
	}
	var fresh bool
	if out.db, fresh, err = r.engine(snapIndex); err != nil {
		return out, err
	}
	if out.newest == nil {
		return out, nil
	}
	// Raft makes a received snapshot durable before the state machine has taken it
	// over, and its own before nothing: only the engine's word counts.
	out.restore = fresh || out.db.DurableIndex() < snapIndex
	if !out.restore {
		out.db.Publish(snapIndex)
		out.db.SetCounts(persistence.Counts{Keys: out.header.Keys, Services: out.header.Services})
	}
	return out, nil
}

// snapshot finds the newest snapshot that is whole and from which the log goes on.
func (r *recovery) snapshot() (*raft.SnapshotMeta, snapshot.Header, error) {
	list, err := r.snaps.List()
	if err != nil {
		return nil, snapshot.Header{}, fmt.Errorf("listing snapshots: %w", err)
	}
	var bad []*raft.SnapshotMeta
	var badErr error
	var good *raft.SnapshotMeta
	var header snapshot.Header
	for _, meta := range list {
		h, err := r.snaps.verify(meta.ID)
		if err == nil {
			good, header = meta, h
			break
		}
		bad, badErr = append(bad, meta), err
	}
	from := uint64(0)
	if good != nil {
		from = good.Index
	}
	if len(bad) > 0 && (r.last < bad[0].Index || r.first > from+1) {
		return nil, header, fmt.Errorf("%w: snapshot %s is corrupt (%w) and the log does not reach back to replace it: %s",
			ErrDamaged, bad[0].ID, badErr, r.wayBack())
	}
	if r.last > 0 && r.first > from+1 {
		return nil, header, fmt.Errorf("%w: the log starts at %d but the newest snapshot ends at %d: %s",
			ErrDamaged, r.first, from, r.wayBack())
	}
	for _, meta := range bad {
		r.log.Warn("a snapshot is corrupt and is set aside; the log replaces it", "id", meta.ID, "error", badErr)
		if err := r.snaps.setAside(meta.ID); err != nil {
			return nil, header, err
		}
	}
	return good, header, nil
}

func (r *recovery) wayBack() string {
	return fmt.Sprintf("move %s away and let the node join its cluster again, or restore a backup", r.cfg.DataDir)
}

// engine opens the engine, or an empty one if it cannot be trusted (fresh).
func (r *recovery) engine(snapIndex uint64) (db *persistence.DB, fresh bool, err error) {
	var why string
	db, err = r.open()
	switch {
	case errors.Is(err, persistence.ErrCorrupt):
		why = err.Error()
	case err != nil:
		return nil, false, err
	case r.cfg.InMemory:
		return db, false, nil
	case !r.cfg.SyncWrites && !r.clean && (r.last > 0 || snapIndex > 0):
		why = "writes are not synced and the last shutdown was not clean"
	case db.MaxVersion() > max(r.last, snapIndex) && !restoredAhead(db, max(r.last, snapIndex)):
		newest := db.MaxVersion()
		why = fmt.Sprintf("it has entries up to %d, but the log and the snapshots only up to %d", newest, max(r.last, snapIndex))
		if r.last == 0 && snapIndex == 0 && r.term == 0 {
			_ = db.Close()
			return nil, false, fmt.Errorf("%w: the engine has data up to index %d, but the raft log and the snapshots are gone: "+
				"put %s back, or %s", ErrDamaged, newest, r.logs.dir, r.wayBack())
		}
		if r.cfg.SyncWrites {
			// The log had these entries on disk before the engine did: they were acknowledged,
			// and the engine may be the last to have them.
			_ = db.Close()
			return nil, false, fmt.Errorf("%w: the engine is ahead of the raft log: %s: put %s back, or %s",
				ErrDamaged, why, r.logs.dir, r.wayBack())
		}
	default:
		return db, false, nil
	}
	r.log.Warn("the engine is rebuilt from the newest snapshot and the log", "reason", why, "snapshot", snapIndex)
	if db != nil {
		if err := db.Close(); err != nil {
			return nil, false, fmt.Errorf("closing engine: %w", err)
		}
	}
	if err := persistence.Reset(r.cfg.DataDir); err != nil {
		return nil, false, fmt.Errorf("making a new engine: %w", err)
	}
	db, err = r.open()
	return db, true, err
}

func (r *recovery) open() (*persistence.DB, error) {
	return persistence.Open(persistence.Options{
		Dir: r.cfg.DataDir, InMemory: r.cfg.InMemory, SyncWrites: r.cfg.SyncWrites,
		EncryptionKey: r.keys.Engine(), Badger: r.cfg.Badger, History: r.cfg.History, MaintenanceInterval: r.cfg.MaintenanceInterval, Registerer: r.reg,
	}, r.log.Named("engine"))
}
