package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/neogan74/konsul/raftstore"
)

// Leave removes a member; any node, passed on to the leader. A leader that
// shall leave hands over first. The removed node is told and stops serving; it
// stays out until its data directory is cleared.
//
// Errors: ErrUnknownMember; ErrLastVoter; ErrWouldLoseQuorum; ErrTransferFailed;
// and those of raftstore.Store.Apply.
func (m *Manager) Leave(ctx context.Context, id string) error {
	if id == "" {
		return &InvalidError{Field: "id", Why: "is empty"}
	}
	// An attempt whose outcome is not known may have worked; then the next one
	// does not find the member.
	_, err := onLeader(ctx, m, methodLeave, idRequest{ID: id}, false, m.leaveHere)
	for tries := 0; tries < 3 && errors.Is(err, raftstore.ErrOutcomeUnknown); tries++ {
		_, err = onLeader(ctx, m, methodLeave, idRequest{ID: id}, false, m.leaveHere)
		if errors.Is(err, ErrUnknownMember) {
			return nil
		}
	}
	return err
}

// LeaveSelf removes this node, for a process that ends and shall not come back.
// ErrLastVoter for a single node: it keeps its data and simply stops.
func (m *Manager) LeaveSelf(ctx context.Context) error {
	if m.store.Removed() || !m.store.HasState() {
		return nil
	}
	err := m.Leave(ctx, m.cfg.NodeID)
	if err != nil && !errors.Is(err, ErrUnknownMember) && !errors.Is(err, raftstore.ErrRemoved) {
		return err
	}
	return m.markRemoved()
}

// leaveHere is Leave on the leader.
func (m *Manager) leaveHere(ctx context.Context, req idRequest) (none, error) {
	defer m.change()()
	servers, err := m.store.Servers()
	if err != nil {
		return none{}, fmt.Errorf("reading configuration: %w", err)
	}
	server, _ := find(servers, req.ID, "")
	if server == nil {
		return none{}, fmt.Errorf("%s: %w", req.ID, ErrUnknownMember)
	}
	if server.Voter {
		if err := m.checkQuorum(ctx, *server, servers); err != nil {
			return none{}, err
		}
	}
	if server.ID == m.cfg.NodeID {
		if _, err := m.handOver(ctx, "", servers); err != nil {
			return none{}, err
		}
		return none{}, fmt.Errorf("leadership was handed over: %w", raftstore.ErrNotLeader) // the new leader removes this node
	}
	if err := m.remove(ctx, *server); err != nil {
		return none{}, err
	}
	m.log.Info("node removed", "node", server.ID, "address", server.Address)
	m.tellRemoved(ctx, *server)
	return none{}, nil
}

// remove takes a member out of the configuration and forgets its record. A
// record that stays behind is removed by the leader's duties.
func (m *Manager) remove(ctx context.Context, s raftstore.Server) error {
	if err := m.store.RemoveServer(ctx, s.ID); err != nil {
		return fmt.Errorf("removing node %s: %w", s.ID, err)
	}
	return m.dropMember(ctx, s.ID)
}

// tellRemoved lets the node know. One that does not hear it learns it from the
// answer to its next announcement.
func (m *Manager) tellRemoved(ctx context.Context, s raftstore.Server) {
	ctx, cancel := context.WithTimeout(ctx, m.time.ask)
	defer cancel()
	if _, err := call[none](ctx, m, s.Address, methodRemoved, idRequest{ID: s.ID}); err != nil {
		m.log.Debug("removed node does not answer", "node", s.ID, "error", err)
	}
}

// checkQuorum refuses to remove a voter if those that remain are none, or too
// few of them answer to decide anything.
func (m *Manager) checkQuorum(ctx context.Context, leaving raftstore.Server, servers []raftstore.Server) error {
	var rest []raftstore.Server
	for _, s := range servers {
		if s.Voter && s.ID != leaving.ID {
			rest = append(rest, s)
		}
	}
	if !leaving.Voter {
		return nil
	}
	if len(rest) == 0 {
		return ErrLastVoter
	}
	alive := 0
	for i, info := range m.askServers(ctx, rest) {
		if rest[i].ID == m.cfg.NodeID || info != nil && info.ID == rest[i].ID && !info.Removed {
			alive++
		}
	}
	if alive < len(rest)/2+1 {
		return fmt.Errorf("without node %s, %d of %d voters would be left: %w", leaving.ID, alive, len(rest), ErrWouldLoseQuorum)
	}
	return nil
}
