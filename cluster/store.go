package cluster

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/raftstore"
)

// What the package needs of *raftstore.Store, by purpose.
type (
	// identity is who this node is and whether it belongs anywhere.
	identity interface {
		NodeID() string
		Incarnation() string
		ClusterID() string
		SetClusterID(id string) error
		HasState() bool
		Bootstrap(clusterID string, servers []raftstore.Server) error
		// Removed is durable and changes by itself: the store sees its removal, or a
		// new membership, in the log.
		Removed() bool
		MarkRemoved() error
	}
	// raftView is what this node knows of the cluster right now.
	raftView interface {
		Leader() (id, raftAddr string, ok bool)
		IsLeader() bool
		State() string
		Term() uint64
		CommitIndex() uint64
		AppliedIndex() uint64
		LeaderChanges() <-chan struct{}
		LastContact() time.Duration
		Servers() ([]raftstore.Server, error)
		ReadIndex(ctx context.Context) (uint64, error)
	}
	// membership is what only the leader can do.
	membership interface {
		AddNonvoter(ctx context.Context, id, addr string) error
		Promote(ctx context.Context, id string) error
		Demote(ctx context.Context, id string) error
		RemoveServer(ctx context.Context, id string) error
		Transfer(ctx context.Context, id string) error
	}
	// state is the replicated state.
	state interface {
		Apply(ctx context.Context, t command.Type, m proto.Message, idempotencyKey string) (*command.Result, error)
		FSM() *fsm.FSM
		DB() *persistence.DB
		TakeSnapshot(ctx context.Context) error
	}
	// Store is all of it; *raftstore.Store.
	Store interface {
		identity
		raftView
		membership
		state
	}
)

// memberRecords are the member records as this node has applied them, by id.
func memberRecords(store state) (map[string]*record.Member, error) {
	view, err := store.DB().View()
	if err != nil {
		return nil, fmt.Errorf("reading members: %w", err)
	}
	defer view.Close()
	list, err := store.FSM().Members(view)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*record.Member, len(list))
	for _, r := range list {
		out[r.Id] = r
	}
	return out, nil
}

// setMember writes a member record unless it is so already. Leader only.
func (m *Manager) setMember(ctx context.Context, have *record.Member, want *command.MemberSet) error {
	if have != nil && have.RaftAddress == want.RaftAddress && have.ApiAddress == want.ApiAddress && have.WantVoter == want.WantVoter &&
		have.Incarnation == want.Incarnation {
		return nil
	}
	if _, err := m.store.Apply(ctx, command.Type_TYPE_MEMBER_SET, want, ""); err != nil {
		return fmt.Errorf("recording member %s: %w", want.Id, err)
	}
	return nil
}

// dropMember removes a member record. Leader only.
func (m *Manager) dropMember(ctx context.Context, id string) error {
	if _, err := m.store.Apply(ctx, command.Type_TYPE_MEMBER_REMOVE, &command.MemberRemove{Id: id}, ""); err != nil {
		return fmt.Errorf("removing record of member %s: %w", id, err)
	}
	return nil
}

// find is the server with that id, and the other one with that address.
func find(servers []raftstore.Server, id, addr string) (self, other *raftstore.Server) {
	for i := range servers {
		switch {
		case servers[i].ID == id:
			self = &servers[i]
		case servers[i].Address == addr:
			other = &servers[i]
		}
	}
	return self, other
}
