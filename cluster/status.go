package cluster

import (
	"context"
	"fmt"
	"sync"

	"github.com/neogan74/konsul/raftstore"
)

// Status is what this node knows of itself and its cluster. It answers also
// before the node belongs to one, and within about a second.
func (m *Manager) Status(ctx context.Context) Status {
	s := Status{
		ClusterID: m.store.ClusterID(), NodeID: m.cfg.NodeID, State: m.state(),
		Term: m.store.Term(), CommitIndex: m.store.CommitIndex(), AppliedIndex: m.store.AppliedIndex(),
		Peers:   m.Peers(ctx),
		Address: m.cfg.RaftAddr, APIAddress: m.cfg.APIAddr, Incarnation: m.store.Incarnation(), HasState: m.store.HasState(),
		BootstrapExpect: m.cfg.BootstrapExpect, Version: m.cfg.Version,
	}
	s.LeaderID, s.LeaderAddr, _ = m.store.Leader()
	return s
}

func (m *Manager) state() string {
	if m.store.Removed() {
		return "removed"
	}
	return m.store.State()
}

// LeaderInfo says who leads and where its API is. raftstore.ErrNoLeader if this
// node does not know of a leader.
func (m *Manager) LeaderInfo() (LeaderInfo, error) {
	id, addr, ok := m.store.Leader()
	if !ok || m.store.Removed() {
		return LeaderInfo{}, raftstore.ErrNoLeader
	}
	info := LeaderInfo{LeaderID: id, LeaderAddr: addr}
	if id == m.cfg.NodeID {
		info.APIAddress = m.cfg.APIAddr
		return info, nil
	}
	records, err := m.members()
	if err != nil {
		return LeaderInfo{}, err
	}
	info.APIAddress = records[id].GetApiAddress()
	return info, nil
}

// Peers are the members, by id, this node among them. Each is asked, all at
// once; one that does not answer within a second is not healthy. Empty if this
// node belongs to no cluster.
func (m *Manager) Peers(ctx context.Context) []Peer {
	servers, err := m.store.Servers()
	if err != nil || !m.store.HasState() {
		return []Peer{}
	}
	records, err := m.members()
	if err != nil {
		m.log.Warn("cannot read member records", "error", err)
	}
	leader, _, _ := m.store.Leader()
	infos := m.askServers(ctx, servers)
	peers := make([]Peer, len(servers))
	for i, s := range servers {
		peers[i] = Peer{
			ID: s.ID, Address: s.Address, APIAddress: records[s.ID].GetApiAddress(), Voter: s.Voter,
			Leader: s.ID == leader, LastContactMS: -1,
		}
		if info := infos[i]; info != nil && info.ID == s.ID {
			peers[i].LastContactMS, peers[i].AppliedIndex = info.LastContactMS, info.Applied
			inTouch := info.LastContactMS >= 0 && info.LastContactMS < m.time.healthyness.Milliseconds()
			peers[i].Healthy = !info.Removed && (info.Leader || inTouch)
		}
	}
	return peers
}

// info is this node's answer to the others.
func (m *Manager) info() nodeInfo {
	i := nodeInfo{
		ID: m.cfg.NodeID, Address: m.cfg.RaftAddr, APIAddress: m.cfg.APIAddr,
		Applied: m.store.AppliedIndex(), Leader: m.store.IsLeader(), Removed: m.store.Removed(), LastContactMS: -1,
		Incarnation: m.store.Incarnation(),
	}
	if i.Leader {
		i.LastContactMS = 0
	} else if _, _, ok := m.store.Leader(); ok {
		if d := m.store.LastContact(); d >= 0 {
			i.LastContactMS = d.Milliseconds()
		}
	}
	return i
}

// ask asks one node, at most timing.ask.
func (m *Manager) ask(ctx context.Context, addr string) (nodeInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, m.time.ask)
	defer cancel()
	info, err := call[nodeInfo](ctx, m, addr, methodInfo, none{})
	if err != nil {
		return nodeInfo{}, fmt.Errorf("asking node at %s: %w", addr, err)
	}
	return info, nil
}

// askServers asks all at once; nil where there is no answer. This node answers itself.
func (m *Manager) askServers(ctx context.Context, servers []raftstore.Server) []*nodeInfo {
	out := make([]*nodeInfo, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		if s.ID == m.cfg.NodeID {
			own := m.info()
			out[i] = &own
			continue
		}
		wg.Go(func() {
			if info, err := m.ask(ctx, s.Address); err == nil {
				out[i] = &info
			}
		})
	}
	wg.Wait()
	return out
}
