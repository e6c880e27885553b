package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/internal/peer"
)

// Open starts a node on its data directory and returns when it takes part in
// Raft. A new node has no cluster yet: Bootstrap, or SetClusterID and a leader
// that adds it. Errors: ErrBadConfig, ErrLocked, ErrDamaged.
func Open(cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Store{
		cfg: cfg, log: cfg.Logger.Named("raftstore"),
		up: make(chan struct{}), closing: make(chan struct{}), stop: make(chan struct{}), shutDone: make(chan struct{}),
		acks: newAcks(), leader: newLeadership(), fresh: &freshness{}, proved: &freshness{}, clock: newClusterClock(cfg.now),
	}
	if err := s.open(); err != nil {
		s.abandon()
		return nil, fmt.Errorf("opening node: %w", err)
	}
	close(s.up)
	return s, nil
}

// open builds the node from the disk up. Each step needs the ones before it.
func (s *Store) open() error {
	clean, err := s.claim()
	if err != nil {
		return err
	}
	if err := s.openEncryption(); err != nil {
		return err
	}
	if s.metrics, err = newMetrics(s); err != nil {
		return err
	}
	dir := s.cfg.DataDir
	if s.cfg.InMemory {
		dir = "" // until a Sync
	}
	s.disk = newDiskWatch(dir, s.cfg.MinFreeSpace, s.log)
	s.disk.check()
	if s.logs, err = openLog(s.cfg, s.keys, s.log); err != nil {
		return err
	}
	s.logs.full, s.logs.observe = s.disk.full, s.metrics.appended
	stable, err := newStableStore(func() raft.StableStore { return s.logs.raw() })
	if err != nil {
		return err
	}
	if s.snaps, err = openSnapshots(s.cfg, s.keys, s.log); err != nil {
		return err
	}
	if ended, err := s.endRecovery(); err != nil {
		return err
	} else if !ended {
		return errRecovering(s.cfg.DataDir)
	}
	if err := stable.forgetHalfBootstrap(s.logs, s.snaps); err != nil {
		return err
	}
	rec := recovery{cfg: s.cfg, keys: s.keys, log: s.log, logs: s.logs, stable: stable, snaps: s.snaps, reg: s.metrics.reg, clean: clean}
	found, err := rec.run()
	s.db = found.db
	if err != nil {
		return err
	}
	if err := s.id.confirm(found.clusterID); err != nil {
		return err
	}
	if s.fsm, err = fsm.New(s.db, s.log, s.metrics.reg, fsm.WithFatal(s.cannotApply)); err != nil {
		return err
	}
	s.logs.applied = s.fsm.LogApplied
	if found.newest != nil && !found.restore {
		s.fsm.SetSnapshotIndex(found.newest.Index, madeAt(found.header))
	}
	s.logs.covered, s.logs.damaged = s.fsm.SnapshotIndex, s.logDamaged
	s.points = newCheckpoints(s, found.base)
	s.check = &snapshotCheck{s: s, bad: found.bad}
	if found.base != nil {
		s.startedFrom = found.base.Index
	}
	if !found.restore {
		s.check.newest = found.newest
		s.snaps.start.Store(found.base)
	}
	s.members = newMembershipWatch(s.id, found.base, s.log)
	trans, err := s.connect()
	if err != nil {
		return err
	}
	// From here on the data directory is in use: a crash leaves no clean mark.
	if s.raft, err = raft.NewRaft(s.raftConfig(!found.restore), &raftFSM{FSM: s.fsm, store: s}, s.logs, stable, s.snaps, trans); err != nil {
		return fmt.Errorf("starting raft: %w", err)
	}
	s.snaps.started()
	s.begin()
	return nil
}

// claim takes the data directory for this process and learns who this node is.
func (s *Store) claim() (clean bool, err error) {
	dir := s.cfg.DataDir
	if s.cfg.InMemory {
		dir = ""
	} else {
		if err := s.cfg.makeDir(); err != nil {
			return false, err
		}
		if s.lock, err = lockDir(dir); err != nil {
			return false, err
		}
		if err := refuseUnfinished(dir); err != nil {
			return false, err
		}
		if err := sweepDataDir(dir); err != nil {
			return false, err
		}
	}
	if s.id, err = loadIdentity(dir, s.cfg.NodeID); err != nil || dir == "" {
		return true, err
	}
	return takeClean(dir)
}

// connect binds the port and makes raft's transport.
func (s *Store) connect() (raft.Transport, error) {
	s.server = peer.NewServer()
	dialer := &peer.Dialer{Identity: s.id, Wrap: s.cfg.Wrap}
	s.client = peer.NewClient(dialer)
	s.registerMethods()
	if s.cfg.InMemory {
		s.addr = s.cfg.AdvertiseAddr
		or(&s.addr, s.cfg.BindAddr)
		_, trans := raft.NewInmemTransport(raft.ServerAddress(s.addr))
		return trans, nil
	}
	ln, err := peer.Listen(peer.Options{
		BindAddr: s.cfg.BindAddr, AdvertiseAddr: s.cfg.AdvertiseAddr,
		Identity: s.id, Wrap: s.cfg.Wrap, Logger: s.log.Named("peer"),
	}, s.server)
	if err != nil {
		return nil, err
	}
	s.addr = ln.Addr().String()
	s.streams = newStreams(ln, dialer)
	inner := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s.streams, MaxPool: maxPool, Timeout: ioTimeout, Logger: s.log.Named("transport"),
	})
	s.trans = newTransport(inner, s.acks, &s.logs.flush, s.mayStand)
	return s.trans, nil
}

// mayStand: a node that cannot store entries must not ask for votes. After a failed append
// it may try again later: had all failed, nobody would append, and none find out that its
// disk works again.
func (s *Store) mayStand() bool {
	if s.disk.full() {
		return false
	}
	return time.Since(time.Unix(0, s.logs.failedAt.Load())) > s.cfg.StallTimeout // long ago if it did not fail
}

func (s *Store) raftConfig(keepEngine bool) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(s.id.nodeID)
	c.HeartbeatTimeout = s.cfg.Heartbeat
	c.ElectionTimeout = s.cfg.Election
	c.LeaderLeaseTimeout = s.cfg.LeaderLease
	c.CommitTimeout = s.cfg.CommitTimeout
	c.MaxAppendEntries = s.cfg.MaxAppendEntries
	c.BatchApplyCh = true
	c.SnapshotThreshold = s.snapshotThreshold(s.tableBytes())
	c.SnapshotInterval = s.cfg.SnapshotInterval
	c.TrailingLogs = s.cfg.TrailingLogs
	c.ShutdownOnRemove = false // a removed node goes on serving stale reads, and says what it is
	c.NoSnapshotRestoreOnStart = keepEngine
	c.NoLegacyTelemetry = true
	c.Logger = s.log.Named("raft")
	return c
}

// begin starts this package's goroutines. None is needed for raft to run.
func (s *Store) begin() {
	s.reads = newRounds(s)
	s.gate = newGate(s)
	s.commits = newCommitTeller(s)
	if s.trans != nil {
		plain := func(term uint64) bool {
			return s.raft.State() == raft.Follower && s.raft.CurrentTerm() == term
		}
		serving := func(term uint64, id raft.ServerID) bool {
			return s.raft.State() == raft.Leader && s.raft.CurrentTerm() == term && s.isMember(string(id))
		}
		heard := s.heard
		s.trans.serving.Store(&serving)
		s.trans.plain.Store(&plain)
		s.trans.heard.Store(&heard)
	}
	s.logs.setMay(s.mayFlushBehind)
	s.logs.setStamp(s.stamp)
	ticks := newTicker(s)
	s.ticker.Store(ticks)
	s.disk.onFull, s.disk.starved = s.giveUpLeadership, s.db.ShortOfSpace
	for _, fn := range []func(){
		s.watchRestores, s.paceSnapshots,
		func() { s.disk.run(s.stop) }, s.watchLeadership, s.watchStall, s.watchMembership, s.gate.run, s.commits.run, ticks.run,
		s.points.run, s.check.run, s.overdue,
	} {
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			fn()
		}()
	}
}

// abandon undoes a start that failed half way.
func (s *Store) abandon() {
	if s.trans != nil {
		_ = s.trans.Close()
	} else if s.streams != nil {
		_ = s.streams.Close()
	}
	if s.client != nil {
		s.client.Close()
	}
	if s.fsm != nil {
		_ = s.fsm.Close()
	}
	if s.db != nil {
		_ = s.db.Close()
	}
	if s.logs != nil {
		_ = s.logs.Close()
	}
	if s.metrics != nil {
		s.metrics.unregister()
	}
	_ = s.lock.release()
}

// raftFSM shows raft the state machine, and this package what raft tells it.
type raftFSM struct {
	*fsm.FSM
	store *Store
}

var _ raft.BatchingFSM = (*raftFSM)(nil)

// ApplyBatch implements raft.BatchingFSM. A restore that it commits is the new state at once;
// the log jumps later, if it has to.
func (f *raftFSM) ApplyBatch(logs []*raft.Log) []any {
	f.store.points.mu.Lock()
	reset := f.Reset()
	out := f.FSM.ApplyBatch(logs)
	f.store.points.applied(logs)
	f.store.points.mu.Unlock()
	f.store.pace.note(logs)
	if t := f.store.ticker.Load(); t != nil {
		if f.Reset() != reset {
			f.store.restored()
		}
		t.applied()
	}
	for _, l := range logs {
		if l.Type == raft.LogConfiguration {
			f.store.members.note(raft.DecodeConfiguration(l.Data))
		}
	}
	return out
}

// Restore implements raft.FSM. A backup put into a running cluster brings its own
// cluster time, from which the leader's clock goes on.
func (f *raftFSM) Restore(r io.ReadCloser) error {
	f.store.replacing()
	f.store.points.mu.Lock()
	err := f.FSM.Restore(r)
	f.store.points.restored()
	conf, confIndex := f.store.points.conf, f.store.points.confIndex
	f.store.points.mu.Unlock()
	f.store.forsake("a restore came after the sync")
	if err != nil {
		return err
	}
	if t := f.store.ticker.Load(); t != nil {
		f.store.restored()
		t.applied()
		if confIndex > 0 { // of a leader; not what a start restores, which may be old
			f.store.members.note(conf)
		}
	}
	return nil
}

// await waits for a raft future as long as ctx allows. For rare operations: it
// takes a goroutine, which ends with the future.
func await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

// outcome turns raft's errors into ours.
func outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrOutcomeUnknown):
		return err
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	case errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrAbortedByRestore):
		return fmt.Errorf("%w: %w", ErrOverloaded, err)
	case errors.Is(err, ErrDiskFull):
		return ErrDiskFull
	default:
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
}
