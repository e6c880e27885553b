// Package raftstore is a node of the cluster: the Raft log and what turns it
// into reads, writes and membership. DESIGN.md explains how and why.
package raftstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/peer"
	"github.com/neogan74/konsul/internal/persistence"
)

// Store is one node. All methods may be called from anywhere at any time
// between Open and Shutdown, and after it: then they say ErrShuttingDown.
type Store struct {
	cfg  Config
	log  hclog.Logger
	id   *identity
	addr string // advertised

	lock  *dirLock
	keys  *encryption.Directory // nil without encryption at rest
	logs  *logStore
	snaps *snapshotStore
	db    *persistence.DB
	fsm   *fsm.FSM
	raft  *raft.Raft
	disk  *diskWatch
	acks  *acks
	// trans, streams are nil in memory.
	trans   *transport
	streams *streams
	server  *peer.Server
	client  *peer.Client

	leader  *leadership
	members *membershipWatch
	reads   *rounds
	fresh   *freshness // by what was heard of the leader
	proved  *freshness // by what was asked of it
	gate    *gate
	commits *commitTeller
	clock   *clusterClock
	// ticker is nil until the node is open: raft applies entries before.
	ticker atomic.Pointer[ticker]
	points *checkpoints
	// startedFrom is the index behind which raft began to apply entries; for tests.
	startedFrom uint64
	check       *snapshotCheck
	// epoch counts the states that took the place of another; ending is held while a snapshot
	// becomes raft's newest. See replacing.
	epoch   atomic.Uint64
	ending  sync.Mutex
	mending atomic.Bool // a snapshot is under way in place of a damaged log entry
	metrics *metrics
	pace    pace
	syncMu  sync.Mutex // one Sync at a time

	// up is closed when the node is open.
	up chan struct{}
	// closing is closed when no new work is taken; stop when the goroutines of
	// this package shall end.
	closing   chan struct{}
	closeOnce sync.Once
	stop      chan struct{}
	wg        sync.WaitGroup
	shutErr   error
	shutDone  chan struct{}
	stalled   atomic.Bool
	// restoring is the restore that this node is carrying out.
	restoring atomic.Pointer[string]
}

// NodeID is this node's name in the cluster.
func (s *Store) NodeID() string { return s.id.NodeID() }

// Incarnation is the name of this node's data directory: random, and another one
// when the directory was cleared. In memory, of this Store.
func (s *Store) Incarnation() string { return s.id.incarnation }

// ClusterID is the cluster this node belongs to, "" before it joined one.
func (s *Store) ClusterID() string { return s.id.ClusterID() }

// SetClusterID makes this node a member-to-be of a cluster: from now on it talks
// to nodes of that cluster only. Durable on return. ErrWrongCluster if it is in another.
func (s *Store) SetClusterID(id string) error { return s.id.setCluster(id) }

// Addr is the address under which the other nodes reach this one.
func (s *Store) Addr() string { return s.addr }

// FSM is the state machine, for watches and members.
func (s *Store) FSM() *fsm.FSM { return s.fsm }

// DB is the engine, for versions without asking anyone.
func (s *Store) DB() *persistence.DB { return s.db }

// PeerServer takes the methods that other packages offer to the other nodes
// (ids from 100 on).
func (s *Store) PeerServer() *peer.Server { return s.server }

// PeerClient calls methods of other nodes by their Raft address.
func (s *Store) PeerClient() *peer.Client { return s.client }

// Leader is the leader's id and Raft address as far as this node knows.
func (s *Store) Leader() (id, raftAddr string, ok bool) {
	addr, lid := s.raft.LeaderWithID()
	return string(lid), string(addr), lid != ""
}

// IsLeader reports whether this node leads and has applied everything that
// earlier leaders committed.
func (s *Store) IsLeader() bool {
	return s.raft.State() == raft.Leader && s.leader.ready() == s.raft.CurrentTerm()
}

// leads reports whether this node leads in term.
func (s *Store) leads(term uint64) bool {
	return s.raft.State() == raft.Leader && s.raft.CurrentTerm() == term
}

// LeaderChanges returns a channel that is closed when the leader, or whether
// this node is one and ready, changes for the next time. To be called before
// looking at the state, again for each wait.
func (s *Store) LeaderChanges() <-chan struct{} { return s.leader.changes() }

// State is "leader", "follower", "candidate" or "shutdown".
func (s *Store) State() string {
	switch s.raft.State() {
	case raft.Leader:
		return "leader"
	case raft.Candidate:
		return "candidate"
	case raft.Shutdown:
		return "shutdown"
	}
	return "follower"
}

// Term is the current term.
func (s *Store) Term() uint64 { return s.raft.CurrentTerm() }

// CommitIndex is the newest index this node knows to be committed.
func (s *Store) CommitIndex() uint64 { return s.raft.CommitIndex() }

// AppliedIndex is the newest index that readers on this node can see.
func (s *Store) AppliedIndex() uint64 { return s.db.Published() }

// LastContact is how long ago this node heard from a leader; 0 on the leader
// itself, -1 if it never has.
func (s *Store) LastContact() time.Duration {
	if s.raft.State() == raft.Leader {
		return 0
	}
	at := s.raft.LastContact()
	if at.IsZero() {
		return -1
	}
	return time.Since(at)
}

// PeerContact is, on the leader, how long ago the newest message was sent that
// a peer has acknowledged.
func (s *Store) PeerContact(id string) (time.Duration, bool) {
	at, ok := s.acks.last(raft.ServerID(id))
	if !ok {
		return 0, false
	}
	return time.Since(at), true
}

// HasState reports whether this node has a log, a term or a snapshot: it must
// not be bootstrapped any more.
func (s *Store) HasState() bool {
	return s.raft.LastIndex() > 0 || s.raft.CurrentTerm() > 0
}

// Removed reports whether this node knows that it was taken out of the cluster.
func (s *Store) Removed() bool { return s.id.removed() }

// MarkRemoved records that this node was taken out of the cluster, as the
// leader told it. It serves no linearizable reads and no writes from now on.
func (s *Store) MarkRemoved() error { return s.id.setRemoved(true) }

// Ready is nil if a leader is known and this node has everything that was
// committed when it was asked. It waits as long as ctx allows.
func (s *Store) Ready(ctx context.Context) error {
	if s.disk.full() {
		return ErrDiskFull
	}
	index, err := s.ReadIndex(ctx)
	if err != nil {
		return err
	}
	if err := s.waitApplied(ctx, index); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return nil
}

// usable says why this node takes no requests, if it does not.
func (s *Store) usable() error {
	select {
	case <-s.closing:
		return ErrShuttingDown
	default:
	}
	if s.id.removed() {
		return ErrRemoved
	}
	return nil
}

// withDeadline gives a context without a deadline the default one.
func (s *Store) withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.cfg.RequestTimeout)
}
