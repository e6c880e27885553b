package apitest

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/cluster"
	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/raftstore"
)

// Node is an api.Node of which tests replace what they want to see fail; a nil
// field is the node inside.
type Node struct {
	api.Node
	ApplyFunc     func(ctx context.Context, m proto.Message, key string) (*command.Result, error)
	ViewFunc      func(ctx context.Context, o raftstore.ReadOptions) (api.View, raftstore.ReadInfo, error)
	ReadIndexFunc func(ctx context.Context) (uint64, error)
	SubscribeFunc func(f fsm.Filter, from uint64) (api.Subscription, error)
	DigestFunc    func(ctx context.Context, index uint64) ([32]byte, uint64, error)
	UsageFunc     func() (persistence.Usage, error)
	StateFunc     func() string
	ReadyFunc     func(ctx context.Context) error
}

// Apply is api.Writer's.
func (n *Node) Apply(ctx context.Context, t command.Type, m proto.Message, key string) (*command.Result, error) {
	if n.ApplyFunc != nil {
		return n.ApplyFunc(ctx, m, key)
	}
	return n.Node.Apply(ctx, t, m, key)
}

// View is api.Reader's.
func (n *Node) View(ctx context.Context, o raftstore.ReadOptions) (api.View, raftstore.ReadInfo, error) {
	if n.ViewFunc != nil {
		return n.ViewFunc(ctx, o)
	}
	return n.Node.View(ctx, o)
}

// ReadIndex is api.Reader's.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	if n.ReadIndexFunc != nil {
		return n.ReadIndexFunc(ctx)
	}
	return n.Node.ReadIndex(ctx)
}

// Subscribe is api.Reader's.
func (n *Node) Subscribe(f fsm.Filter, from uint64) (api.Subscription, error) {
	if n.SubscribeFunc != nil {
		return n.SubscribeFunc(f, from)
	}
	return n.Node.Subscribe(f, from)
}

// Digest is api.Engine's.
func (n *Node) Digest(ctx context.Context, index uint64) ([32]byte, uint64, error) {
	if n.DigestFunc != nil {
		return n.DigestFunc(ctx, index)
	}
	return n.Node.Digest(ctx, index)
}

// Usage is api.Engine's.
func (n *Node) Usage() (persistence.Usage, error) {
	if n.UsageFunc != nil {
		return n.UsageFunc()
	}
	return n.Node.Usage()
}

// State is api.Raft's.
func (n *Node) State() string {
	if n.StateFunc != nil {
		return n.StateFunc()
	}
	return n.Node.State()
}

// Ready is api.Raft's.
func (n *Node) Ready(ctx context.Context) error {
	if n.ReadyFunc != nil {
		return n.ReadyFunc(ctx)
	}
	return n.Node.Ready(ctx)
}

// Cluster is an api.Cluster made of function fields; a nil one answers with zero
// values.
type Cluster struct {
	StatusFunc    func() cluster.Status
	PeersFunc     func() []cluster.Peer
	LeaderFunc    func() (cluster.LeaderInfo, error)
	JoinFunc      func(cluster.JoinRequest) (cluster.JoinResponse, error)
	SendJoinFunc  func(addr string) (cluster.JoinResponse, error)
	BootstrapFunc func(cluster.BootstrapRequest) (cluster.BootstrapResponse, error)
	LeaveFunc     func(id string) error
	TransferFunc  func(to string) (string, error)
	SnapshotFunc  func() (uint64, error)
	TroubleFunc   func() error
}

// Trouble is api.Cluster's.
func (c *Cluster) Trouble() error {
	if c.TroubleFunc != nil {
		return c.TroubleFunc()
	}
	return nil
}

// Status is api.Cluster's.
func (c *Cluster) Status(context.Context) (s cluster.Status) {
	if c.StatusFunc != nil {
		s = c.StatusFunc()
	}
	return s
}

// Peers is api.Cluster's.
func (c *Cluster) Peers(context.Context) (p []cluster.Peer) {
	if c.PeersFunc != nil {
		p = c.PeersFunc()
	}
	return p
}

// LeaderInfo is api.Cluster's.
func (c *Cluster) LeaderInfo() (i cluster.LeaderInfo, err error) {
	if c.LeaderFunc != nil {
		i, err = c.LeaderFunc()
	}
	return i, err
}

// Join is api.Cluster's.
func (c *Cluster) Join(_ context.Context, r cluster.JoinRequest) (res cluster.JoinResponse, err error) {
	if c.JoinFunc != nil {
		res, err = c.JoinFunc(r)
	}
	return res, err
}

// SendJoin is api.Cluster's.
func (c *Cluster) SendJoin(_ context.Context, addr string) (res cluster.JoinResponse, err error) {
	if c.SendJoinFunc != nil {
		res, err = c.SendJoinFunc(addr)
	}
	return res, err
}

// Bootstrap is api.Cluster's.
func (c *Cluster) Bootstrap(_ context.Context, r cluster.BootstrapRequest) (res cluster.BootstrapResponse, err error) {
	if c.BootstrapFunc != nil {
		res, err = c.BootstrapFunc(r)
	}
	return res, err
}

// Leave is api.Cluster's.
func (c *Cluster) Leave(_ context.Context, id string) (err error) {
	if c.LeaveFunc != nil {
		err = c.LeaveFunc(id)
	}
	return err
}

// Transfer is api.Cluster's.
func (c *Cluster) Transfer(_ context.Context, to string) (leader string, err error) {
	if c.TransferFunc != nil {
		leader, err = c.TransferFunc(to)
	}
	return leader, err
}

// TakeSnapshot is api.Cluster's.
func (c *Cluster) TakeSnapshot(context.Context) (index uint64, err error) {
	if c.SnapshotFunc != nil {
		index, err = c.SnapshotFunc()
	}
	return index, err
}
