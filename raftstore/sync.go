package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/snapshot"
)

// A node in memory moves to a data directory while it runs: Sync makes the directory
// what the next start, no longer in memory, finds and goes on from. It holds a snapshot of
// the state, and the log from there on: from then on each entry is written there, too,
// before it is acknowledged. So nothing is lost whatever comes between the sync and the
// restart, and indexes go on. The engine is not written: the start restores it from the
// snapshot, as for any node that has lost its engine.
//
// The file SYNCING stands in the directory from the first step to the last. A start refuses
// a directory with it, and the next Sync clears it.
const syncingFile = "SYNCING"

// mirrorBytes of log beside the snapshot make a new snapshot due.
const mirrorBytes = 256 << 20

// mirror is the data directory that a node in memory writes along.
type mirror struct {
	dir   string
	lock  *dirLock
	logs  *logStore
	snaps *snapshotStore
	term  uint64        // stored
	first uint64        // the first index of the log
	last  uint64        // the last one that may be in it
	bytes int64         // of entries since the newest snapshot
	full  chan struct{} // has a token when a new snapshot is due
}

// Synced says what a Sync has written.
type Synced struct {
	Dir string
	// Index is that of the snapshot; the log has everything after it.
	Index          uint64
	Keys, Services uint64
	Took           time.Duration
}

// Sync writes everything to the data directory dir, of a node in memory, and from then on
// every write. dir must be empty, or not there, or the remains of a Sync that failed; a
// second Sync to the same directory writes a new snapshot. On return a start on dir has
// everything. Errors: ErrBadConfig, ErrLocked, and those of the disk; the node then goes on
// as before, and dir is refused by a start.
func (s *Store) Sync(ctx context.Context, dir string) (Synced, error) {
	begin := time.Now()
	if !s.cfg.InMemory {
		return Synced{}, fmt.Errorf("%w: this node is not in memory: what it has is on disk already", ErrBadConfig)
	}
	if err := s.usable(); err != nil {
		return Synced{}, err
	}
	if s.ClusterID() == "" {
		return Synced{}, ErrNotReady
	}
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	m := s.logs.mirror.Load()
	if m != nil && m.dir != dir {
		return Synced{}, fmt.Errorf("%w: it is synced to %s already", ErrBadConfig, m.dir)
	}
	var out Synced
	var err error
	if m == nil {
		out, err = s.newMirror(ctx, dir)
	} else {
		out, err = s.writeSnapshot(ctx, m)
	}
	if err != nil {
		return Synced{}, fmt.Errorf("syncing to %s: %w", dir, err)
	}
	out.Dir, out.Took = dir, time.Since(begin)
	s.log.Info("synced to a data directory", "dir", dir, "index", out.Index, "keys", out.Keys, "took", out.Took.Round(time.Millisecond))
	return out, nil
}

// newMirror makes a mirror and attaches it.
func (s *Store) newMirror(ctx context.Context, dir string) (out Synced, err error) {
	m, keys, err := s.prepareMirror(dir)
	if err != nil {
		return out, err
	}
	defer func() {
		if err != nil {
			// SYNCING stays: nobody takes this for a node's directory.
			s.logs.detach()
			s.disk.leave(dir)
			err = errors.Join(err, m.close())
		}
	}()
	s.disk.follow(dir)
	cfg := s.diskConfig(dir)
	if m.logs, err = openLog(cfg, keys, s.log); err != nil {
		return out, err
	}
	// A node with its data in memory does not end for a disk. Whoever appends waits in the gate.
	m.logs.fatal = func(err error) { go s.forsake(err.Error()) }
	if m.snaps, err = openSnapshots(cfg, keys, s.log); err != nil {
		return out, err
	}
	failpoint.Hit("sync.after-log")
	if err := s.attach(m); err != nil {
		return out, err
	}
	failpoint.Hit("sync.after-attach")
	if out, err = s.writeSnapshot(ctx, m); err != nil {
		return out, err
	}
	failpoint.Hit("sync.after-snapshot")
	if err := s.writeIdentity(dir); err != nil {
		return out, err
	}
	failpoint.Hit("sync.after-identity")
	if err := s.finishSync(m); err != nil {
		return out, err
	}
	failpoint.Hit("sync.after-done")
	s.wg.Go(func() { s.tendMirror(m) })
	return out, nil
}

// finishSync has a start take the directory, unless it was forsaken meanwhile.
func (s *Store) finishSync(m *mirror) error {
	s.logs.gate.Lock()
	defer s.logs.gate.Unlock()
	if s.logs.mirror.Load() != m {
		return errors.New("it was given up meanwhile: sync again")
	}
	if err := os.Remove(filepath.Join(m.dir, syncingFile)); err != nil {
		return err
	}
	if err := syncDir(m.dir); err != nil {
		return errors.Join(err, m.disown("the end of the sync failed"))
	}
	return nil
}

// diskConfig is this node's configuration with a data directory.
func (s *Store) diskConfig(dir string) Config {
	cfg := s.cfg
	cfg.InMemory, cfg.DataDir = false, dir
	return cfg
}

// prepareMirror takes an empty directory and marks it as unfinished.
func (s *Store) prepareMirror(dir string) (m *mirror, keys *encryption.Directory, err error) {
	cfg := s.diskConfig(dir)
	if err := cfg.makeDir(); err != nil {
		return nil, nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, nil, err
	}
	m = &mirror{dir: dir, lock: lock, full: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.release())
		}
	}()
	if err := clearUnfinished(dir); err != nil {
		return nil, nil, err
	}
	if err := writeDurably(filepath.Join(dir, syncingFile), []byte("a sync into this directory has not finished\n")); err != nil {
		return nil, nil, err
	}
	failpoint.Hit("sync.after-marker")
	if s.cfg.Encryption != nil {
		if keys, _, err = encryption.OpenDirectory(dir, s.cfg.Encryption, true); err != nil {
			return nil, nil, fmt.Errorf("encryption at rest: %w", err)
		}
	}
	return m, keys, nil
}

// clearUnfinished empties a directory that an earlier Sync did not finish, and refuses any
// other that is not empty.
func clearUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	_, err = os.Lstat(filepath.Join(dir, syncingFile))
	_, ferr := os.Lstat(filepath.Join(dir, raftDir+forsakenSuffix))
	unfinished := err == nil || ferr == nil
	for _, e := range entries {
		name := e.Name()
		if name == lockFile || name == syncingFile || name == "lost+found" || strings.HasSuffix(name, tmpSuffix) {
			continue
		}
		if !unfinished {
			return fmt.Errorf("%w: %s is not empty, it has %s: sync to an empty directory", ErrBadConfig, dir, name)
		}
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// refuseUnfinished is for a start.
func refuseUnfinished(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, syncingFile)); err == nil {
		return fmt.Errorf("%w: %s holds a sync that did not finish (it has the file %s), and not all of the data: "+
			"sync again from the node in memory, or empty the directory to start anew", ErrDamaged, dir, syncingFile)
	}
	moving, err := movingDir(dir)
	if err != nil {
		return err
	}
	if moving != "" {
		return fmt.Errorf("%w: `konsul cluster reset` was interrupted while it moved the data to %s: repeat it: %s",
			ErrDamaged, moving, wayBack(dir))
	}
	return nil
}

// attach copies what of the log is not applied yet and has every later entry written to m
// before it counts.
func (s *Store) attach(m *mirror) error {
	applied := s.db.Published()
	s.logs.gate.Lock()
	defer s.logs.gate.Unlock()
	last, err := s.logs.raw().LastIndex()
	if err != nil {
		return err
	}
	m.first = applied + 1
	for i := applied + 1; i <= last; i++ {
		l := new(raft.Log)
		if err := s.logs.raw().GetLog(i, l); err != nil {
			return fmt.Errorf("copying log entry %d: %w", i, err)
		}
		if err := m.append([]*raft.Log{l}); err != nil {
			return err
		}
	}
	// The votes of a node that is its cluster's only one are its own; that it is in this term counts.
	if err := m.setTerm(s.raft.CurrentTerm()); err != nil {
		return err
	}
	s.logs.mirror.Store(m)
	return nil
}

func (m *mirror) setTerm(term uint64) error {
	if term <= m.term {
		return nil
	}
	if err := m.logs.raw().SetUint64(keyCurrentTerm, term); err != nil {
		return fmt.Errorf("storing the term: %w", err)
	}
	m.term = term
	return nil
}

// append stores entries; they are durable on return.
func (m *mirror) append(logs []*raft.Log) error {
	if err := m.setTerm(logs[len(logs)-1].Term); err != nil {
		return err
	}
	if first := logs[0].Index; first <= m.last {
		// What could not be written lately raft does not believe in, though some of it may be here.
		if err := m.logs.DeleteRange(first, m.last); err != nil {
			return err
		}
	}
	m.last = logs[len(logs)-1].Index
	if err := m.logs.StoreLogs(logs); err != nil {
		return fmt.Errorf("writing to %s: %w", m.dir, err)
	}
	for _, l := range logs {
		m.bytes += int64(len(l.Data))
	}
	if m.bytes > mirrorBytes {
		select {
		case m.full <- struct{}{}:
		default:
		}
	}
	return nil
}

// writeSnapshot writes a snapshot of what is applied now. The log reaches back to it: it was
// attached before.
func (s *Store) writeSnapshot(ctx context.Context, m *mirror) (out Synced, err error) {
	s.points.mu.Lock() // what is applied and the configuration are one
	index, conf, confIndex := s.db.Published(), s.points.conf.Clone(), s.points.confIndex
	view, err := s.db.Snapshot(index)
	s.points.mu.Unlock()
	if err != nil {
		return out, err
	}
	defer view.Close()
	term := s.logs.termOf(index)
	if term == 0 {
		term = s.raft.CurrentTerm()
	}
	counted, err := s.db.ViewAt(index)
	if err != nil {
		return out, err
	}
	counts, err := counted.CountAt()
	counted.Close()
	if err != nil {
		return out, err
	}
	_, trans := raft.NewInmemTransport(raft.ServerAddress(s.addr))
	sink, err := m.snaps.Create(raft.SnapshotVersionMax, index, term, conf, confIndex, trans)
	if err != nil {
		return out, err
	}
	_, err = view.WriteTo(ctx, roomWriter{sink, s.disk}, snapshot.Header{
		ClusterID: s.ClusterID(), Index: index, CreatedAt: time.Now().UnixNano(), Keys: counts.Keys, Services: counts.Services,
	})
	if err != nil {
		return out, errors.Join(err, sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return out, err
	}
	return Synced{Index: index, Keys: counts.Keys, Services: counts.Services}, m.cut(s, index)
}

// roomWriter leaves the log, which writes wait for, the rest of a disk.
type roomWriter struct {
	io.Writer
	disk *diskWatch
}

func (r roomWriter) Write(b []byte) (int, error) {
	if r.disk.full() {
		return 0, ErrDiskFull
	}
	return r.Writer.Write(b)
}

// cut removes what a new snapshot covers from the log.
func (m *mirror) cut(s *Store, index uint64) error {
	s.logs.gate.Lock()
	defer s.logs.gate.Unlock()
	m.bytes = 0
	last, err := m.logs.LastIndex()
	if err != nil || last == 0 {
		return err
	}
	if to := min(index, last-1); to >= m.first { // one stays: an empty log would begin anywhere
		if err := m.logs.DeleteRange(m.first, to); err != nil {
			return err
		}
		if m.first, err = m.logs.FirstIndex(); err != nil {
			return err
		}
	}
	m.snaps.reap(m.first)
	return nil
}

// tendMirror takes snapshots so that the log does not grow for ever.
func (s *Store) tendMirror(m *mirror) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		select {
		case <-s.closing:
			return
		case <-m.full:
		}
		if s.logs.mirror.Load() != m {
			return
		}
		s.syncMu.Lock()
		_, err := s.writeSnapshot(ctx, m)
		s.syncMu.Unlock()
		if err != nil && ctx.Err() == nil {
			s.log.Warn("taking a snapshot of what is synced", "dir", m.dir, "error", err)
		}
	}
}

// writeIdentity makes dir this node's.
func (s *Store) writeIdentity(dir string) error {
	id := &identity{dir: dir, nodeID: s.id.nodeID, incarnation: s.id.incarnation}
	for name, value := range map[string]string{nodeIDFile: id.nodeID, incarnationFile: id.incarnation} {
		if err := writeDurably(filepath.Join(dir, name), []byte(value+"\n")); err != nil {
			return err
		}
	}
	return id.setCluster(s.ClusterID())
}

// forsake ends a mirror that will not be the state any more, because a restore replaces that
// beside the log, or its disk does not do. A start must not take the directory then.
func (s *Store) forsake(why string) {
	m := s.logs.detach()
	if m == nil {
		return
	}
	s.disk.leave(m.dir)
	err := errors.Join(m.disown(why), m.close())
	s.log.Error("the data on disk is not what is in memory any more: sync again before the restart", "dir", m.dir, "reason", why, "error", err)
}

// forsakenSuffix is behind the name of a log that must not be used any more.
const forsakenSuffix = ".forsaken"

// disown has every start on the directory refused.
func (m *mirror) disown(why string) error {
	err := writeDurably(filepath.Join(m.dir, syncingFile), []byte(why+": sync again\n"))
	if err == nil {
		return nil
	}
	// Perhaps the disk is full. Without its log the directory is damaged, and no start goes on.
	name := filepath.Join(m.dir, raftDir)
	if rerr := os.Rename(name, name+forsakenSuffix); rerr != nil {
		return errors.Join(err, rerr)
	}
	return syncDir(m.dir)
}

// detach ends the writing along; nil if there was none.
func (s *logStore) detach() *mirror {
	s.gate.Lock()
	defer s.gate.Unlock()
	return s.mirror.Swap(nil)
}

// storeInMemory stores entries of a node in memory, and in its mirror first.
func (s *logStore) storeInMemory(logs []*raft.Log) error {
	s.gate.Lock()
	defer s.gate.Unlock()
	if m := s.mirror.Load(); m != nil {
		if err := m.append(logs); err != nil {
			return err
		}
	}
	return s.raw().StoreLogs(logs)
}

// close closes the files; who marks the directory as cleanly left does so before.
func (m *mirror) close() error {
	var err error
	if m.logs != nil {
		err = m.logs.Close()
	}
	return errors.Join(err, m.lock.release())
}

// leave is close at the end of a node that was shut down cleanly.
func (m *mirror) leave() error {
	return errors.Join(markClean(m.dir), m.close())
}
