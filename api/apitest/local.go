// Package apitest is the test kit of the API: a node without a log, doubles made of
// function fields, and a client that shows every answer as it is.
package apitest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/fsm/fsmtest"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/raftstore"
)

// LocalID is the node id of a Local.
const LocalID = "local"

// Local is an api.Node on a real state machine and engine, in memory, with a
// counter in place of the Raft log. It leads a cluster of one, whose time stands still
// but for Advance.
type Local struct {
	*fsmtest.Machine
	mu  sync.Mutex
	now atomic.Int64
}

// NewLocal makes a Local, closed at the end of the test.
func NewLocal(t testing.TB) *Local {
	t.Helper()
	l := &Local{Machine: fsmtest.New(t)}
	l.now.Store(int64(time.Minute)) // the cluster is no newborn
	l.Apply0(&command.ClusterInit{ClusterId: "test"}, command.Type_TYPE_CLUSTER_INIT)
	return l
}

// Apply0 applies a command without an idempotency key.
func (l *Local) Apply0(m proto.Message, t command.Type) *command.Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.do(fsmtest.Command{Type: t, Message: m})
}

// do applies a command stamped with the cluster's time; mu is held.
func (l *Local) do(c fsmtest.Command) *command.Result {
	entry := l.Entry(c)
	entry.Extensions = command.EncodeStamp(l.now.Load())
	return l.FSM.Apply(entry).(*command.Result)
}

// Advance lets time pass and has everything expire that is due then.
func (l *Local) Advance(d time.Duration) {
	l.now.Add(int64(d))
	for l.Apply0(&command.Tick{}, command.Type_TYPE_TICK).More {
	}
}

// Sleep lets time pass of which no entry tells yet.
func (l *Local) Sleep(d time.Duration) { l.now.Add(int64(d)) }

// ClusterTime is api.Engine's.
func (l *Local) ClusterTime() int64 { return l.now.Load() }

// Apply is api.Writer's: it validates as raftstore does.
func (l *Local) Apply(_ context.Context, t command.Type, m proto.Message, key string) (*command.Result, error) {
	if err := command.Validate(t, m); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.do(fsmtest.Command{Type: t, Message: m, Key: key}), nil
}

// View is api.Reader's.
func (l *Local) View(_ context.Context, o raftstore.ReadOptions) (api.View, raftstore.ReadInfo, error) {
	open := l.DB.View
	if o.At != 0 {
		open = func() (*persistence.View, error) { return l.DB.ViewAt(o.At) }
	}
	v, err := open()
	if err != nil {
		return nil, raftstore.ReadInfo{}, err
	}
	return v, raftstore.ReadInfo{Index: v.Index(), Leader: LocalID}, nil
}

// ReadIndex is api.Reader's.
func (l *Local) ReadIndex(context.Context) (uint64, error) { return l.DB.Published(), nil }

// ViewAt is api.Reader's.
func (l *Local) ViewAt(index uint64) (api.View, error) {
	v, err := l.DB.ViewAt(index)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// Subscribe is api.Reader's.
func (l *Local) Subscribe(f fsm.Filter, from uint64) (api.Subscription, error) {
	s, err := l.FSM.Subscribe(f, from)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Published is api.Engine's.
func (l *Local) Published() uint64 { return l.DB.Published() }

// WaitPublished is api.Engine's.
func (l *Local) WaitPublished(ctx context.Context, index uint64) error {
	return l.DB.WaitPublished(ctx, index)
}

// Digest is api.Engine's.
func (l *Local) Digest(ctx context.Context, index uint64) ([32]byte, uint64, error) {
	return l.DB.Digest(ctx, index)
}

// Usage is api.Engine's.
func (l *Local) Usage() (persistence.Usage, error) { return l.DB.Usage() }

// CollectGarbage is api.Engine's.
func (l *Local) CollectGarbage(ctx context.Context) (persistence.Maintained, error) {
	return l.DB.CollectGarbage(ctx)
}

// Compact is api.Engine's.
func (l *Local) Compact(ctx context.Context) (persistence.Maintained, error) {
	return l.DB.Compact(ctx)
}

// Sync is api.Engine's; it writes nothing.
func (l *Local) Sync(_ context.Context, dir string) (raftstore.Synced, error) {
	counts := l.DB.Counts()
	return raftstore.Synced{Dir: dir, Index: l.DB.Published(), Keys: counts.Keys, Services: counts.Services}, nil
}

// Counts is api.Engine's.
func (l *Local) Counts() persistence.Counts { return l.DB.Counts() }

// NodeID is api.Raft's, as is all below: what a healthy leader says.
func (l *Local) NodeID() string { return LocalID }

// Leader is api.Raft's.
func (l *Local) Leader() (id, addr string, ok bool) { return LocalID, "127.0.0.1:7000", true }

// State is api.Raft's.
func (l *Local) State() string { return "leader" }

// Term is api.Raft's.
func (l *Local) Term() uint64 { return 1 }

// CommitIndex is api.Raft's.
func (l *Local) CommitIndex() uint64 { return l.DB.Published() }

// AppliedIndex is api.Raft's.
func (l *Local) AppliedIndex() uint64 { return l.DB.Published() }

// LastContact is api.Raft's.
func (l *Local) LastContact() time.Duration { return 0 }

// Ready is api.Raft's.
func (l *Local) Ready(context.Context) error { return nil }

// Degraded is api.Raft's.
func (l *Local) Degraded() error { return nil }
