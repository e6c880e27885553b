package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/cluster"
	"github.com/neogan74/konsul/internal/backup"
	"github.com/neogan74/konsul/internal/checks"
	"github.com/neogan74/konsul/internal/config"
	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/raftstore"
)

// node is the running parts of a Konsul node. Fields are nil until their step of the start is done.
type node struct {
	cfg      *config.Result
	log      hclog.Logger
	listener net.Listener
	store    *raftstore.Store
	cluster  *cluster.Manager
	api      *api.Server
	http     *http.Server

	checks *checks.Runner

	backups   *backup.Dir
	scheduled chan struct{} // closed when the schedule of backups has ended

	leaveCluster context.CancelFunc // ends cluster.Run
	managed      chan struct{}      // closed when cluster.Run has ended
	broken       chan error         // a part gave up
}

// startNode brings the parts up in the order in which each needs the ones before. Whatever the
// error, the node it returns must be stopped.
func startNode(cfg *config.Result, log hclog.Logger, fatal func(error)) (*node, error) {
	n := &node{cfg: cfg, log: log, broken: make(chan error, 2)}
	n.announceStart()

	// 1. The data directory, private, before anything is written to it.
	if err := prepareDataDir(cfg, log); err != nil {
		return n, err
	}
	awaitPredecessor(cfg, log)
	// 2. The API's port. It costs nothing, so a port that is taken is found before a large log is
	// read; and the node must know its address to tell the others. Clients that come before step 7
	// wait in the listener's queue.
	var err error
	if n.listener, err = listenAPI(cfg.HTTP); err != nil {
		return n, err
	}
	// 3. Metrics, which the parts register as they are made.
	metrics, err := newMetrics()
	if err != nil {
		return n, err
	}
	// 4. The master keys, if data is encrypted at rest.
	keys, err := n.masterKeys()
	if err != nil {
		return n, err
	}
	// A backup that a crash left half written may be what fills the disk, so it goes before the engine
	// asks for space.
	if err := n.openBackups(keys); err != nil {
		return n, err
	}
	// 5. Engine, log and Raft: locks the data directory and replays. Before the cluster, which asks it
	// whether there is a cluster already.
	if n.store, err = raftstore.Open(n.storeConfig(keys, metrics, fatal)); err != nil {
		return n, explainOpen(cfg, err)
	}
	n.announceNode()
	n.sweepSpool()
	// 6. Membership. It registers its methods with the store and does nothing by itself yet.
	n.cluster = cluster.New(n.clusterConfig(), n.store)
	// 7. The API, before bootstrap and join begin: nodes find each other by asking each other's API.
	n.api = api.New(n.apiConfig(metrics), n.store, n.cluster)
	n.http = n.api.HTTPServer()
	go func() {
		if err := n.http.Serve(n.listener); !errors.Is(err, http.ErrServerClosed) {
			n.broken <- fmt.Errorf("serving the API: %w", err)
		}
	}()
	// 8. Now form a cluster, join one, or go on in the one there is.
	ctx, cancel := context.WithCancel(context.Background())
	n.leaveCluster, n.managed = cancel, make(chan struct{})
	go func() {
		defer close(n.managed)
		if err := n.cluster.Run(ctx); err != nil {
			n.broken <- fmt.Errorf("cluster membership: %w", err)
		}
	}()
	// The schedule of backups, which waits for the cluster by itself.
	n.scheduled = make(chan struct{})
	go func() {
		defer close(n.scheduled)
		n.schedule().Run(ctx)
	}()
	// 8. The checks of the services on this node. They wait for it to be ready, and need all of the above
	// to tell what they find.
	if n.checks, err = checks.Start(n.store, log, metrics); err != nil {
		return n, err
	}
	log.Info("serving", "api", n.apiAddr())
	return n, nil
}

// wait returns when asked to stop, or with the error of a part that gave up.
func (n *node) wait(asked <-chan struct{}) error {
	select {
	case <-asked:
		return nil
	case err := <-n.broken:
		return err
	}
}

// stop takes the parts down, each after those that use it. ctx bounds the polite part: requests under
// way, the transfer of leadership, leaving. What acknowledged writes need is on disk already.
func (n *node) stop(ctx context.Context) error {
	var errs []error
	// 1. Say "not ready" and end watches, so that load balancers and watchers go elsewhere.
	if n.api != nil {
		n.api.Drain()
	}
	// 2. Take no more connections. Requests under way go on: while leadership moves in step 3 this
	// node passes them to the next leader.
	served := make(chan error, 1)
	if n.http != nil {
		go func() { served <- n.http.Shutdown(ctx) }()
	} else {
		served <- n.closeListener()
	}
	// 3. Hand leadership over, or leave for good, before the node is gone: the others need not wait
	// for an election.
	if n.cluster != nil {
		n.handOver(ctx)
	}
	// 4. Wait for the requests under way; then nobody uses what is below.
	if err := <-served; err != nil {
		n.log.Warn("some requests were cut off", "error", err)
		_ = n.http.Close()
	}
	// 5. No more checks, and no more work on membership: both write through the store.
	if n.checks != nil {
		n.checks.Close()
	}
	if n.leaveCluster != nil {
		n.leaveCluster()
		<-n.managed
		if n.scheduled != nil {
			<-n.scheduled
		}
	}
	// 6. Raft, the engine, the log; and the lock on the data directory, last.
	if n.store != nil {
		errs = append(errs, wrap("closing the node", n.store.Shutdown(ctx)))
	}
	return errors.Join(errs...)
}

// handOver leaves the cluster if that is configured, or else passes leadership on if it is here. Both
// are politeness: where they fail the others elect a leader after their timeout.
func (n *node) handOver(ctx context.Context) {
	if n.cfg.LeaveOnTerminate {
		err := n.cluster.LeaveSelf(ctx)
		switch {
		case err == nil:
			n.log.Info("left the cluster")
		case errors.Is(err, cluster.ErrLastVoter):
			n.log.Info("not left, because nobody else is in the cluster")
		default:
			n.log.Warn("leaving the cluster failed, stopping nevertheless", "error", err)
		}
		return
	}
	servers, err := n.store.Servers()
	if err != nil || len(servers) < 2 || !n.store.IsLeader() {
		return
	}
	// Short, because nobody answers when the whole cluster is stopped at once.
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	if err := n.store.Transfer(ctx, ""); err != nil {
		n.log.Warn("handing leadership over failed, stopping nevertheless", "error", err)
		return
	}
	n.log.Info("leadership handed over")
}

func (n *node) closeListener() error {
	if n.listener == nil {
		return nil
	}
	return n.listener.Close()
}

func (n *node) storeConfig(keys *encryption.Keys, metrics *prometheus.Registry, fatal func(error)) raftstore.Config {
	raft, data := n.cfg.Raft, n.cfg.Persistence
	return raftstore.Config{
		NodeID: raft.NodeID, DataDir: data.DataDir, BackupDir: data.BackupDir, InMemory: n.cfg.InMemory(),
		BindAddr: raft.BindAddr, AdvertiseAddr: raft.AdvertiseAddr,
		SyncWrites: data.SyncWrites, Badger: data.Badger.EngineOptions(), MaintenanceInterval: data.Maintenance, Encryption: keys, MinFreeSpace: int64(data.MinFreeSpace),
		SnapshotThreshold: raft.SnapshotThreshold, SnapshotInterval: raft.SnapshotInterval,
		TrailingLogs: raft.TrailingLogs, SnapshotRetention: raft.SnapshotRetention,
		Heartbeat: raft.HeartbeatTimeout, Election: raft.ElectionTimeout,
		LeaderLease: raft.LeaderLeaseTimeout, CommitTimeout: raft.CommitTimeout,
		MaxAppendEntries: raft.MaxAppendEntries,
		Logger:           n.log, Registerer: metrics, Fatal: fatal,
	}
}

// masterKeys reads the key file; nil if there is none.
func (n *node) masterKeys() (*encryption.Keys, error) {
	path := n.cfg.Persistence.Encryption.KeyFile
	if path == "" {
		return nil, nil
	}
	keys, err := encryption.ReadKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w (persistence.encryption.key_file)", err)
	}
	if keys.Exposed {
		n.log.Warn("other users of this machine can read the key file: chmod 600", "path", path)
	}
	return keys, nil
}

func (n *node) clusterConfig() cluster.Config {
	dataDir := n.cfg.Persistence.DataDir
	if n.cfg.InMemory() {
		dataDir = ""
	}
	return cluster.Config{
		NodeID: n.store.NodeID(), RaftAddr: n.store.Addr(), APIAddr: n.advertisedAPI(), DataDir: dataDir,
		BootstrapExpect: n.cfg.Raft.BootstrapExpect, Join: n.cfg.Raft.Join,
		LeaveOnTerminate: n.cfg.LeaveOnTerminate, Version: programVersion(), Logger: n.log,
	}
}

func (n *node) apiConfig(metrics *prometheus.Registry) api.Config {
	cfg := api.Config{
		Version: programVersion(), PersistenceType: config.TypeMemory,
		Data:   n.dataConfig(),
		Logger: n.log, Registerer: metrics, Gatherer: metrics,
	}
	if !n.cfg.InMemory() {
		dir := n.cfg.Persistence.DataDir
		cfg.PersistenceType = config.TypeBadger
		cfg.RaftDir, cfg.SnapshotDir = raftstore.LogDir(dir), raftstore.SnapshotDir(dir)
	}
	cfg.BackupDir = n.cfg.Persistence.BackupDir
	if n.cfg.InMemory() {
		cfg.MoveTo = n.cfg.Persistence.DataDir
	}
	return cfg
}

// wrap says what was being done when err happened, if it did.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
