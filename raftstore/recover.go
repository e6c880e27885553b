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
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/statefile"
)

// Recovery is what Recover finds and does.
type Recovery struct {
	NodeID, ClusterID string
	// Before are the members by the newest configuration of this node, After those
	// that there will be.
	Before, After []Server
	// Index is the last entry that this node has: all up to it is kept, also what was
	// not committed yet.
	Index uint64
	// Backup is where what is changed was put first, set by Recover.
	Backup string
}

// Recover gives a node that has lost the majority of its cluster for good a new set
// of members. The node must not be running, and must be one of them. All that it has
// in its log counts as committed from then on: what no majority had may come back,
// what only the lost nodes had is lost. The members that are not this node start
// with an empty data directory.
//
// confirm is shown what is going to happen, before anything changes; its error ends
// Recover. It may be repeated if it did not end; until it has, the node does not start.
// Indexes go on far behind the newest one, with a history that begins there. Errors:
// ErrLocked if the node is running, ErrBadConfig, ErrDamaged.
func Recover(ctx context.Context, cfg Config, members []Server, confirm func(Recovery) error) (r Recovery, err error) {
	cfg = cfg.withDefaults()
	cfg.BindAddr = "127.0.0.1:0"
	if cfg.InMemory || cfg.DataDir == "" {
		return r, fmt.Errorf("%w: there is nothing to recover without a data directory", ErrBadConfig)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, nodeIDFile)); err != nil {
		return r, fmt.Errorf("%w: %s is not a node's data directory: %w", ErrBadConfig, cfg.DataDir, err)
	}
	conf, err := configuration(members)
	if err != nil {
		return r, err
	}
	s := &Store{cfg: cfg, log: cfg.Logger.Named("recover"), stop: make(chan struct{})}
	defer func() {
		s.abandon()
	}()
	found, stable, err := s.openAtRest()
	if err != nil {
		return r, err
	}
	if r, err = s.planRecovery(found, members); err != nil {
		return r, err
	}
	if err := confirm(r); err != nil {
		return r, err
	}
	if r.Backup, err = backUpRaft(cfg.DataDir); err != nil {
		return r, err
	}
	failpoint.Hit("recover.after-backup")
	// From here on the engine may hold entries that nobody but this node ever had.
	if err := s.noteRecovery(recovering{}); err != nil {
		return r, err
	}
	failpoint.Hit("recover.after-begin")
	term, err := s.applyRest(found, r.Index)
	if err != nil {
		return r, err
	}
	failpoint.Hit("recover.after-apply")
	_ = stable // raft keeps its term: nobody may vote in it twice
	if err := s.startAnew(ctx, conf, r.Index, term); err != nil {
		return r, fmt.Errorf("%w: what was there before is in %s", err, r.Backup)
	}
	return r, nil
}

// openAtRest opens all that a node has on disk, without raft.
func (s *Store) openAtRest() (found recovered, stable raft.StableStore, err error) {
	clean, err := s.claim()
	if err != nil {
		return found, nil, err
	}
	if err := s.openEncryption(); err != nil {
		return found, nil, err
	}
	if s.metrics, err = newMetrics(s); err != nil {
		return found, nil, err
	}
	if s.logs, err = openLog(s.cfg, s.keys, s.log); err != nil {
		return found, nil, err
	}
	if stable, err = newStableStore(func() raft.StableStore { return s.logs.raw() }); err != nil {
		return found, nil, err
	}
	if s.snaps, err = openSnapshots(s.cfg, s.keys, s.log); err != nil {
		return found, nil, err
	}
	if _, err := s.endRecovery(); err != nil {
		return found, nil, err
	}
	rec := recovery{cfg: s.cfg, keys: s.keys, log: s.log, logs: s.logs, stable: stable, snaps: s.snaps, clean: clean}
	found, err = rec.run()
	s.db = found.db
	if err != nil {
		return found, nil, err
	}
	if err := s.id.confirm(found.clusterID); err != nil {
		return found, nil, err
	}
	s.fsm, err = fsm.New(s.db, s.log, prometheus.NewRegistry(), fsm.WithFatal(s.cannotApply))
	return found, stable, err
}

func (s *Store) planRecovery(found recovered, members []Server) (Recovery, error) {
	last, err := s.logs.LastIndex()
	if err != nil {
		return Recovery{}, fmt.Errorf("reading log: %w", err)
	}
	r := Recovery{NodeID: s.id.nodeID, ClusterID: s.ClusterID(), After: members, Index: last}
	var conf raft.Configuration
	if found.base != nil {
		conf, r.Index = found.base.Configuration, max(last, found.base.Index)
	}
	for i := r.Index; i > 0 && i <= last && (found.base == nil || i > found.base.Index); i-- {
		var l raft.Log
		if err := s.logs.GetLog(i, &l); err != nil {
			return r, fmt.Errorf("reading log entry %d: %w", i, err)
		}
		if l.Type == raft.LogConfiguration {
			conf = raft.DecodeConfiguration(l.Data)
			break
		}
	}
	r.Before = serversOf(conf)
	switch {
	case r.Index == 0 || r.ClusterID == "":
		return r, fmt.Errorf("%w: %s has never been in a cluster: there is nothing to recover", ErrBadConfig, s.cfg.DataDir)
	case s.id.removed():
		return r, fmt.Errorf("%w: this node was removed from its cluster: recover one that was a member to the end", ErrBadConfig)
	}
	for _, m := range members {
		if m.ID == r.NodeID && m.Voter {
			return r, nil
		}
	}
	return r, fmt.Errorf("%w: this node, %q, must be one of the members, and have a vote", ErrBadConfig, r.NodeID)
}

// applyRest applies all entries that the engine does not have yet; it returns the
// term of the last one.
func (s *Store) applyRest(found recovered, last uint64) (term uint64, err error) {
	from := uint64(1)
	if found.base != nil {
		from, term = found.base.Index+1, found.base.Term
	}
	if found.restore {
		_, rc, err := s.snaps.Open(found.newest.ID)
		if err != nil {
			return 0, fmt.Errorf("opening snapshot: %w", err)
		}
		if err := s.fsm.Restore(rc); err != nil { // closes it
			return 0, fmt.Errorf("restoring snapshot: %w", err)
		}
	}
	for i := from; i <= last; i++ {
		l := new(raft.Log)
		if err := s.logs.GetLog(i, l); err != nil {
			return 0, fmt.Errorf("reading log entry %d: %w", i, err)
		}
		if term = l.Term; l.Type == raft.LogCommand {
			s.fsm.Apply(l)
		} else {
			s.fsm.Advance(i)
		}
	}
	return term, nil
}

// recoveryGap is how far behind the newest entry of this node the indexes go on. Those
// between were given out by the nodes that are lost, to writes that are lost with them, and
// may not come back for others: clients remember them, and so do backups. At 10,000 writes
// a second it is what the others may have written in 79 days; JSON has room for 2^17 of them.
const recoveryGap = 1 << 36

// startAnew writes a snapshot of all there is with the new members, and empties the
// log, which may have configurations in it. From the moment that the snapshot has its
// name it is the truth: a start that finds the record of it ends what was begun, and
// makes the engine anew from it, whose history begins there.
func (s *Store) startAnew(ctx context.Context, conf raft.Configuration, last, term uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, trans := raft.NewInmemTransport("recover")
	index := max(last, s.db.Published()) + recoveryGap // a restore may be ahead of the log
	sink, err := s.snaps.Create(raft.SnapshotVersionMax, index, term, conf, 1, trans)
	if err != nil {
		return fmt.Errorf("taking a snapshot: %w", err)
	}
	if err := s.noteRecovery(recovering{Snapshot: sink.ID()}); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	failpoint.Hit("recover.after-record")
	if err := s.fsm.WriteAs(ctx, sink, index); err != nil {
		return errors.Join(fmt.Errorf("taking a snapshot: %w", err), sink.Cancel())
	}
	failpoint.Hit("recover.after-stream")
	if err := sink.Close(); err != nil {
		return fmt.Errorf("taking a snapshot: %w", err)
	}
	failpoint.Hit("recover.after-snapshot")
	if ended, err := s.endRecovery(); err != nil || !ended {
		return errors.Join(err, errRecovering(s.cfg.DataDir))
	}
	return nil
}

const (
	recoveringFile = "recovering.json"
	// Format 1 was written when everything was applied; who knows only that takes a record
	// without a snapshot for one whose snapshot is there.
	recoveringFormat = 2
)

// recovering says that Recover is under way. What it applies may be what no majority ever
// had, so a node with this record may not go on with its old members.
type recovering struct {
	// Snapshot is, or will be, the snapshot in which the node's new members are; "" until
	// Recover has come so far.
	Snapshot string `json:"snapshot"`
}

func (s *Store) noteRecovery(r recovering) error {
	if err := statefile.Write(filepath.Join(s.cfg.DataDir, recoveringFile), recoveringFormat, r); err != nil {
		return fmt.Errorf("noting the recovery: %w", err)
	}
	return nil
}

// errRecovering is what a node that was recovered by half answers a start.
func errRecovering(dir string) error {
	return fmt.Errorf("%w: a recovery of %s was begun and has not ended: repeat `konsul cluster recover`; "+
		"or, if the other nodes are back, %s", ErrDamaged, dir, wayBack(dir))
}

// endRecovery ends a Recover whose snapshot is there: nothing older may be started from.
// It is false if there is one that did not come so far: only Recover may go on then.
func (s *Store) endRecovery() (ended bool, err error) {
	if s.cfg.InMemory {
		return true, nil
	}
	var rec recovering
	path := filepath.Join(s.cfg.DataDir, recoveringFile)
	found, err := statefile.Read(path, recoveringFormat, &rec)
	if errors.Is(err, statefile.ErrDamaged) {
		return false, fmt.Errorf("%w: %w: remove it and repeat `konsul cluster recover`", ErrDamaged, err)
	}
	if err != nil || !found {
		return !found, err
	}
	if rec.Snapshot == "" {
		return false, nil
	}
	_, err = os.Stat(filepath.Join(s.snaps.dir, filepath.Base(rec.Snapshot)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = s.forgetLog()
	}
	if err != nil {
		return false, fmt.Errorf("ending a recovery: %w", err)
	}
	failpoint.Hit("recover.before-end")
	if err := os.Remove(path); err != nil {
		return false, fmt.Errorf("ending a recovery: %w", err)
	}
	return true, syncDir(s.cfg.DataDir)
}

// forgetLog removes the checkpoint and all entries of the log.
func (s *Store) forgetLog() error {
	if err := dropCheckpoint(s.cfg.DataDir); err != nil {
		return err
	}
	failpoint.Hit("recover.after-checkpoint")
	first, err := s.logs.FirstIndex()
	if err != nil || first == 0 {
		return err
	}
	end, err := s.logs.LastIndex()
	if err != nil {
		return err
	}
	return s.logs.raw().DeleteRange(first, end)
}

func configuration(members []Server) (raft.Configuration, error) {
	var conf raft.Configuration
	seen, voters := map[string]bool{}, 0
	for _, m := range members {
		switch {
		case !validID(m.ID):
			return conf, fmt.Errorf("%w: %q is no node id", ErrBadConfig, m.ID)
		case m.Address == "":
			return conf, fmt.Errorf("%w: node %s has no address", ErrBadConfig, m.ID)
		case seen[m.ID] || seen["addr "+m.Address]:
			return conf, fmt.Errorf("%w: node %s, or its address %s, is there twice", ErrBadConfig, m.ID, m.Address)
		}
		seen[m.ID], seen["addr "+m.Address] = true, true
		srv := raft.Server{Suffrage: raft.Nonvoter, ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Address)}
		if m.Voter {
			srv.Suffrage, voters = raft.Voter, voters+1
		}
		conf.Servers = append(conf.Servers, srv)
	}
	if voters == 0 {
		return conf, fmt.Errorf("%w: nobody would have a vote", ErrBadConfig)
	}
	return conf, nil
}

func serversOf(conf raft.Configuration) []Server {
	var out []Server
	for _, srv := range conf.Servers {
		out = append(out, Server{ID: string(srv.ID), Address: string(srv.Address), Voter: srv.Suffrage == raft.Voter})
	}
	return out
}

// backUpRaft keeps what Recover changes: the log, the snapshots and the small files
// beside them. Most of it are links, which take no space until the originals go.
func backUpRaft(dir string) (string, error) {
	to := unusedName(dir, backupPrefix)
	making := to + makingSuffix
	for _, name := range []string{raftDir, snapshotDir, clusterFile, checkpointFile} {
		if err := keep(filepath.Join(dir, name), filepath.Join(making, name)); err != nil {
			return "", fmt.Errorf("backing up before the recovery: %w", err)
		}
		failpoint.Hit("recover.kept." + name)
	}
	failpoint.Hit("recover.before-rename")
	if err := os.Rename(making, to); err != nil {
		return "", fmt.Errorf("backing up before the recovery: %w", err)
	}
	return to, syncDir(dir)
}

func keep(from, to string) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		if err := os.Link(path, target); err == nil {
			return nil
		}
		return copyFile(path, target)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncDirs(to))
}

// syncDirs makes the names in and below dir durable, and its own.
func syncDirs(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(path)
	})
	return errors.Join(err, syncDir(filepath.Dir(dir)))
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}
