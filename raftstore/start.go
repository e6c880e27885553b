package raftstore

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/snapshot"
	"github.com/neogan74/konsul/internal/statefile"
)

// recovered is what a start found on disk and decided.
type recovered struct {
	db *persistence.DB
	// newest is the newest usable snapshot; nil = none. header is its header.
	newest *raft.SnapshotMeta
	header snapshot.Header
	// restore: raft has to restore newest into the engine.
	restore bool
	// base is where raft goes on from: newest, or a checkpoint that is newer, or nil.
	base *raft.SnapshotMeta
	// clusterID is the cluster that base is of; "" = not known.
	clusterID string
	// bad snapshots are newer than newest, or damaged: a new one is wanted.
	bad []string
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
	found, err := r.glance()
	if err != nil {
		return out, err
	}
	snapIndex := found.index()
	if snapIndex > 0 && r.last == 0 && r.term == 0 {
		// With the log went what was written since, and the votes this node has given.
		return out, fmt.Errorf("%w: there is a snapshot up to index %d, but the raft log is gone: put %s back, or %s",
			ErrDamaged, snapIndex, r.logs.dir, wayBack(r.cfg.DataDir))
	}
	var fresh bool
	if out.db, fresh, err = r.engine(snapIndex); err != nil {
		return out, err
	}
	if !fresh {
		sound, err := r.goOn(&out, found)
		if err != nil || sound {
			return out, err
		}
	}
	// Raft restores the engine, so all of the snapshot has to be right.
	if found, err = r.verify(found); err != nil {
		return out, err
	}
	out.newest, out.header = found.meta, found.header
	out.base, out.restore, out.clusterID = found.meta, found.meta != nil, found.header.ClusterID
	return out, r.checkLog(out.base)
}

// goOn looks whether the engine has everything up to a point from which raft can go
// on: a checkpoint, or the newest snapshot, which is then not read.
func (r *recovery) goOn(out *recovered, found snapshots) (bool, error) {
	durable := out.db.DurableIndex()
	cp, err := r.checkpoint()
	if err != nil {
		return false, err
	}
	switch {
	case cp != nil && cp.usable(durable, r.first, r.last, r.logs.termOf) && cp.Index >= found.good() && r.linked(found.good()):
		out.base, out.clusterID = cp.meta(), cp.ClusterID
		out.db.SetCounts(cp.counts())
	case found.meta == nil || found.good() > durable || len(found.bad) > 0 && r.last < found.newest:
		// Raft makes a received snapshot durable before the state machine has taken it
		// over, and its own before nothing: only the engine's word counts.
		return false, nil
	default:
		out.base, out.clusterID = found.meta, found.header.ClusterID
		out.db.SetCounts(persistence.Counts{Keys: found.header.Keys, Services: found.header.Services})
	}
	if r.last > 0 && r.first > out.base.Index+1 {
		return false, nil
	}
	out.newest, out.header, out.bad = found.meta, found.header, found.bad
	out.db.Publish(out.base.Index)
	return true, r.checkLog(out.base)
}

// linked is false if the log begins just behind the newest snapshot, as it does after a
// restore. Raft takes what it starts from for its newest snapshot: from a checkpoint
// further on a leader could not send entries to whom it has sent that snapshot, for want
// of the entry before them, and would send it for ever.
func (r *recovery) linked(snapIndex uint64) bool { return snapIndex == 0 || r.first != snapIndex+1 }

func (r *recovery) checkpoint() (*checkpoint, error) {
	if r.cfg.InMemory {
		return nil, nil
	}
	cp, err := readCheckpoint(r.cfg.DataDir)
	if errors.Is(err, statefile.ErrDamaged) {
		r.log.Warn("the checkpoint is damaged; the start takes longer", "error", err)
		return nil, nil
	}
	return cp, err
}

// checkLog reads what raft will apply: a damaged entry is found here, not by raft.
func (r *recovery) checkLog(base *raft.SnapshotMeta) error {
	from := r.first
	if base != nil {
		from = max(from, base.Index+1)
	}
	if r.last == 0 || r.cfg.InMemory {
		return nil
	}
	if err := r.logs.check(from, r.last); err != nil {
		return fmt.Errorf("reading log %s: %w: %s", r.logs.dir, err, wayBack(r.cfg.DataDir))
	}
	return nil
}

// snapshots are the snapshots that a start found.
type snapshots struct {
	meta   *raft.SnapshotMeta // the newest that is good; nil = none
	header snapshot.Header
	list   []*raft.SnapshotMeta // all that raft knows
	bad    []string             // that are not good and newer than meta
	badErr error
	newest uint64 // the newest index, good or bad; as far as it can be told
}

func (s snapshots) good() uint64 {
	if s.meta == nil {
		return 0
	}
	return s.meta.Index
}

// index is the newest index of any.
func (s snapshots) index() uint64 { return max(s.newest, s.good()) }

// glance looks at the snapshots without reading them.
func (r *recovery) glance() (snapshots, error) {
	if err := r.snaps.mend(); err != nil {
		return snapshots{}, err
	}
	list, err := r.snaps.List()
	if err != nil {
		return snapshots{}, fmt.Errorf("listing snapshots: %w", err)
	}
	lost, err := r.snaps.unlisted(list)
	if err != nil {
		return snapshots{}, err
	}
	s := snapshots{list: list, bad: lost}
	for _, id := range lost {
		s.badErr = errSnapRecord
		var term, index uint64
		if _, err := fmt.Sscanf(id, "%d-%d-", &term, &index); err == nil { // as raft names them
			s.newest = max(s.newest, index)
		}
	}
	return s, s.pick(func(meta *raft.SnapshotMeta) (snapshot.Header, error) {
		if r.snaps.dir == "" {
			return r.snaps.verify(meta.ID)
		}
		return r.snaps.glance(meta)
	})
}

// pick finds the newest snapshot that check finds good.
func (s *snapshots) pick(check func(*raft.SnapshotMeta) (snapshot.Header, error)) error {
	s.meta, s.header = nil, snapshot.Header{}
	for _, meta := range s.list {
		s.newest = max(s.newest, meta.Index)
		h, err := check(meta)
		if errors.Is(err, statefile.ErrTooNew) || errors.Is(err, snapshot.ErrTooNew) {
			return fmt.Errorf("snapshot %s: %w", meta.ID, err)
		}
		if err == nil {
			s.meta, s.header = meta, h
			s.bad = slices.DeleteFunc(s.bad, func(id string) bool { return id == meta.ID })
			return nil
		}
		if !slices.Contains(s.bad, meta.ID) {
			s.bad = append(s.bad, meta.ID)
		}
		s.badErr = err
	}
	return nil
}

// verify reads snapshots until one is whole, and sees to it that the log goes on
// from there. A snapshot whose record is gone or damaged is not worse for it, but raft's
// metadata that contradict a good record are: their configuration has no other checksum.
func (r *recovery) verify(s snapshots) (snapshots, error) {
	err := s.pick(func(meta *raft.SnapshotMeta) (snapshot.Header, error) {
		if r.snaps.dir != "" {
			if _, err := r.snaps.glance(meta); errors.Is(err, errSnapMeta) {
				return snapshot.Header{}, err
			}
		}
		h, err := r.snaps.verify(meta.ID)
		if err != nil && r.snaps.dir != "" && r.snaps.mendOne(meta.ID) == nil { // it was raft's checksum
			h, err = r.snaps.verify(meta.ID)
		}
		return h, err
	})
	if err != nil {
		return s, err
	}
	from := s.good()
	if len(s.bad) > 0 && (r.last < s.newest || r.first > from+1) {
		return s, fmt.Errorf("%w: snapshot %s is corrupt (%w) and the log does not reach back to replace it: %s",
			ErrDamaged, s.bad[0], s.badErr, wayBack(r.cfg.DataDir))
	}
	if r.last > 0 && r.first > from+1 {
		return s, fmt.Errorf("%w: the log starts at %d but the newest snapshot ends at %d: %s",
			ErrDamaged, r.first, from, wayBack(r.cfg.DataDir))
	}
	for _, id := range s.bad {
		r.log.Warn("a snapshot is corrupt and is set aside; the log replaces it", "id", id, "error", s.badErr)
		if err := r.snaps.setAside(id); err != nil {
			return s, err
		}
	}
	s.bad = nil
	return s, nil
}

// wayBack is what a person can do about a node that cannot start.
func wayBack(dir string) string {
	return fmt.Sprintf("`konsul cluster reset --data-dir %s --http-addr OTHER-NODES` makes this node a new one, which gets "+
		"everything from the others; with no other node left, restore a backup", dir)
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
				"put %s back, or %s", ErrDamaged, newest, r.logs.dir, wayBack(r.cfg.DataDir))
		}
		if r.cfg.SyncWrites {
			// The log had these entries on disk before the engine did: they were acknowledged,
			// and the engine may be the last to have them.
			_ = db.Close()
			return nil, false, fmt.Errorf("%w: the engine is ahead of the raft log: %s: put %s back, or %s",
				ErrDamaged, why, r.logs.dir, wayBack(r.cfg.DataDir))
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
	failpoint.Hit("engine.before-reset")
	if err := persistence.Reset(r.cfg.DataDir); err != nil {
		return nil, false, fmt.Errorf("making a new engine: %w", err)
	}
	failpoint.Hit("engine.after-reset")
	db, err = r.open()
	return db, true, err
}

func (r *recovery) open() (*persistence.DB, error) {
	return persistence.Open(persistence.Options{
		Dir: r.cfg.DataDir, InMemory: r.cfg.InMemory, SyncWrites: r.cfg.SyncWrites,
		EncryptionKey: r.keys.Engine(), Badger: r.cfg.Badger, History: r.cfg.History, MaintenanceInterval: r.cfg.MaintenanceInterval, Registerer: r.reg,
		VerifyBehind: true, Damaged: r.engineDamaged,
	}, r.log.Named("engine"))
}

// engineDamaged hears of damage in the engine of a node that runs. It must not go on:
// some of what it would say is lost. The engine is condemned already.
func (r *recovery) engineDamaged(err error) { r.cfg.Fatal(startAgain(err)) }

// cannotApply hears of an entry that cannot be applied: perhaps because of damage in
// the engine, of which engineDamaged hears, too, but not always first.
func (s *Store) cannotApply(err error) {
	if errors.Is(err, persistence.ErrCorrupt) {
		err = startAgain(err)
	}
	s.cfg.Fatal(err)
}

// startAgain is what a person can do about a node whose engine was found damaged.
func startAgain(err error) error {
	return fmt.Errorf("%w: %w: start the node again: it makes its engine anew from its newest snapshot and the log", ErrDamaged, err)
}
