package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/neogan74/konsul/raftstore"
)

// Transfer gives the leadership to node to, or, if to is empty, to the voter
// that is best prepared; any node, passed on to the leader. It returns who leads
// now. If to leads already, that is a success.
//
// Errors: ErrUnknownMember; ErrNotVoter; ErrLastVoter (nobody else can lead);
// ErrTransferFailed (this leader still leads); and those of raftstore.Store.Apply.
func (m *Manager) Transfer(ctx context.Context, to string) (string, error) {
	resp, err := onLeader(ctx, m, methodTransfer, idRequest{ID: to}, false, m.transferHere)
	return resp.ID, err
}

// transferHere is Transfer on the leader.
func (m *Manager) transferHere(ctx context.Context, req idRequest) (idRequest, error) {
	m.opMu.Lock()
	defer m.opMu.Unlock()
	servers, err := m.store.Servers()
	if err != nil {
		return idRequest{}, fmt.Errorf("reading configuration: %w", err)
	}
	if req.ID != "" {
		server, _ := find(servers, req.ID, "")
		switch {
		case server == nil:
			return idRequest{}, fmt.Errorf("%s: %w", req.ID, ErrUnknownMember)
		case req.ID == m.cfg.NodeID:
			return req, nil
		case !server.Voter:
			return idRequest{}, fmt.Errorf("%s: %w", req.ID, ErrNotVoter)
		}
	}
	if voters(servers) == 1 {
		return idRequest{}, fmt.Errorf("nobody else can lead: %w", ErrLastVoter)
	}
	id, err := m.handOver(ctx, req.ID, servers)
	return idRequest{ID: id}, err
}

// handOver transfers to one voter, or to the first that takes over of those
// that answer, best first.
func (m *Manager) handOver(ctx context.Context, to string, servers []raftstore.Server) (string, error) {
	if to != "" {
		return m.handTo(ctx, to)
	}
	err := fmt.Errorf("%w: no other voter answers", ErrTransferFailed)
	for _, id := range m.successors(ctx, servers) {
		var next string
		if next, err = m.handTo(ctx, id); err == nil || !errors.Is(err, ErrTransferFailed) {
			return next, err
		}
		m.log.Warn("node did not take over the leadership", "node", id, "error", err)
	}
	return "", err
}

// successors are the other voters that answer, the one with the newest state first.
func (m *Manager) successors(ctx context.Context, servers []raftstore.Server) []string {
	others := slices.DeleteFunc(slices.Clone(servers), func(s raftstore.Server) bool { return !s.Voter || s.ID == m.cfg.NodeID })
	var alive []nodeInfo
	for i, info := range m.askServers(ctx, others) {
		if info != nil && info.ID == others[i].ID && !info.Removed {
			alive = append(alive, *info)
		}
	}
	slices.SortStableFunc(alive, func(a, b nodeInfo) int { return cmp.Compare(b.Applied, a.Applied) })
	ids := make([]string, len(alive))
	for i, info := range alive {
		ids[i] = info.ID
	}
	return ids
}

// handTo transfers to a voter and waits until this node knows who leads next.
func (m *Manager) handTo(ctx context.Context, to string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, m.time.forward)
	defer cancel()
	if err := m.store.Transfer(ctx, to); err != nil {
		return "", fmt.Errorf("%w: %w", ErrTransferFailed, err)
	}
	for {
		changed := m.store.LeaderChanges()
		if id, _, ok := m.store.Leader(); ok && id != m.cfg.NodeID {
			m.log.Info("leadership handed over", "to", id)
			return id, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for the next leader: %w", raftstore.ErrNoLeader)
		}
	}
}

// TakeSnapshot makes the leader take a Raft snapshot now; any node. It returns
// the index the snapshot reaches at least.
func (m *Manager) TakeSnapshot(ctx context.Context) (uint64, error) {
	resp, err := onLeader(ctx, m, methodSnapshot, none{}, true, m.snapshotHere)
	return resp.Index, err
}

func (m *Manager) snapshotHere(ctx context.Context, _ none) (indexResponse, error) {
	index := m.store.AppliedIndex()
	if err := m.store.TakeSnapshot(ctx); err != nil {
		return indexResponse{}, fmt.Errorf("taking snapshot: %w", err)
	}
	return indexResponse{Index: index}, nil
}
