package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/cluster"
	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/raftstore"
)

// What the handlers need of the node below, in small pieces. *raftstore.Store
// has all of it (through storeNode, which only turns its concrete results into
// these interfaces); tests put apitest.Node in its place.

// Writer proposes changes.
type Writer interface {
	// Apply returns when the command is applied; errors say whether it was not
	// (raftstore.NotApplied) or may have been.
	Apply(ctx context.Context, t command.Type, m proto.Message, idempotencyKey string) (*command.Result, error)
}

// Reader gives versions of the data and waits for newer ones.
type Reader interface {
	View(ctx context.Context, o raftstore.ReadOptions) (View, raftstore.ReadInfo, error)
	// ReadIndex is an index at or beyond every write acknowledged before the call.
	ReadIndex(ctx context.Context) (uint64, error)
	// ViewAt is a past version of this node's data, without asking anyone.
	ViewAt(index uint64) (View, error)
	WaitChange(ctx context.Context, f fsm.Filter, after uint64) error
	Subscribe(f fsm.Filter, from uint64) (Subscription, error)
}

// Engine is what this node has on disk.
type Engine interface {
	Published() uint64
	WaitPublished(ctx context.Context, index uint64) error
	Digest(ctx context.Context, index uint64) (sum [32]byte, records uint64, err error)
	Usage() (persistence.Usage, error)
	CollectGarbage(ctx context.Context) (persistence.Maintained, error)
	Compact(ctx context.Context) (persistence.Maintained, error)
	// Sync writes a node in memory to a data directory, and from then on all it writes.
	Sync(ctx context.Context, dir string) (raftstore.Synced, error)
	Counts() persistence.Counts
	// ClusterTime is about what cluster time is now, in nanoseconds: for showing how
	// long something has to live.
	ClusterTime() int64
}

// Raft is this node's part in the cluster.
type Raft interface {
	NodeID() string
	Leader() (id, addr string, ok bool)
	State() string
	Term() uint64
	CommitIndex() uint64
	AppliedIndex() uint64
	LastContact() time.Duration
	// Degraded says what is wrong with this node's files that it is about to mend.
	Degraded() error
	// Ready is nil if a leader is known and this node is caught up.
	Ready(ctx context.Context) error
}

// Node is everything together.
type Node interface {
	Writer
	Reader
	Engine
	Raft
	Backuper
}

// View is one version of the data. Close it soon: it holds back compaction.
type View interface {
	Index() uint64
	KV(key []byte) (*record.KV, error)
	// Scan and ScanKeys visit stored keys from start on; persistence.ErrStop ends them.
	Scan(prefix, start []byte, fn func(key, value []byte) error) error
	ScanKeys(prefix, start []byte, fn func(key []byte) error) error
	// Instances, ServiceGone and Services are of the registry, as are all up to Time.
	Instances(name string) ([]persistence.Instance, error)
	ServiceGone(name string) (bool, error)
	Services(fn func(persistence.Instance) error) error
	Session(id string) (s *record.Session, deadline int64, err error)
	Sessions(fn func(s *record.Session, deadline int64) error) error
	NodeChecks(node string, fn func(node string, c *record.Check) error) error
	// Time is the newest cluster time that the state knows, in nanoseconds.
	Time() (int64, error)
	// Whole reads what the stored keys with prefix stand on (nil for all there is), and says
	// if scans of them may have missed something.
	Whole(ctx context.Context, prefix []byte) error
	Close()
}

// Subscription is a cursor over the changes a filter lets through.
type Subscription interface {
	// Next returns the events of whole indexes in order, and the index up to which
	// the stream is complete.
	Next(ctx context.Context) ([]fsm.Event, uint64, error)
	// Progress is the index up to which Next has returned everything; it moves on
	// while nothing matches.
	Progress() uint64
	Close()
}

// Cluster is membership; *cluster.Manager is one.
type Cluster interface {
	Status(ctx context.Context) cluster.Status
	Peers(ctx context.Context) []cluster.Peer
	LeaderInfo() (cluster.LeaderInfo, error)
	Join(ctx context.Context, r cluster.JoinRequest) (cluster.JoinResponse, error)
	// SendJoin makes this node join the cluster that answers at an API address.
	SendJoin(ctx context.Context, addr string) (cluster.JoinResponse, error)
	Bootstrap(ctx context.Context, r cluster.BootstrapRequest) (cluster.BootstrapResponse, error)
	Leave(ctx context.Context, id string) error
	Transfer(ctx context.Context, to string) (newLeader string, err error)
	TakeSnapshot(ctx context.Context) (index uint64, err error)
	// Trouble says why this node should get no requests although Raft may be fine.
	Trouble() error
}

// storeNode makes a Node of the real store.
type storeNode struct{ *raftstore.Store }

func (n storeNode) View(ctx context.Context, o raftstore.ReadOptions) (View, raftstore.ReadInfo, error) {
	v, info, err := n.Store.View(ctx, o)
	if err != nil {
		return nil, info, err // a nil *persistence.View in a View would not be nil
	}
	return v, info, nil
}

func (n storeNode) ViewAt(index uint64) (View, error) {
	v, err := n.DB().ViewAt(index)
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (n storeNode) WaitChange(ctx context.Context, f fsm.Filter, after uint64) error {
	return n.FSM().WaitChange(ctx, f, after)
}

func (n storeNode) Subscribe(f fsm.Filter, from uint64) (Subscription, error) {
	s, err := n.FSM().Subscribe(f, from)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (n storeNode) Published() uint64 { return n.DB().Published() }

func (n storeNode) WaitPublished(ctx context.Context, index uint64) error {
	return n.DB().WaitPublished(ctx, index)
}

func (n storeNode) Digest(ctx context.Context, index uint64) ([32]byte, uint64, error) {
	return n.DB().Digest(ctx, index)
}

func (n storeNode) Usage() (persistence.Usage, error) { return n.DB().Usage() }
func (n storeNode) CollectGarbage(ctx context.Context) (persistence.Maintained, error) {
	return n.DB().CollectGarbage(ctx)
}

// Compact takes a snapshot first: the history ends there at the latest, and what is
// older than the history is what a compaction removes. If that takes all the time there
// is, no compaction goes on in the background.
func (n storeNode) Compact(ctx context.Context) (persistence.Maintained, error) {
	err := n.TakeSnapshot(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return persistence.Maintained{}, errNotCompacted
	}
	if err != nil {
		return persistence.Maintained{}, err
	}
	return n.DB().Compact(ctx)
}

func (n storeNode) Counts() persistence.Counts { return n.DB().Counts() }
