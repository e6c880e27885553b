package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/raftstore"
)

// enter brings a node without state into a cluster: a new one or an old one. It
// returns when the node has state, or with an error that waiting cannot mend.
func (m *Manager) enter(ctx context.Context) error {
	b := backoff{min: m.time.retryMin, max: m.time.retryMax}
	for !m.store.HasState() && !m.store.Removed() {
		if err := m.attempt(ctx); err != nil {
			return err
		}
		if m.store.HasState() {
			break
		}
		if err := b.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// attempt is one try. Only an error that another try would repeat is returned.
func (m *Manager) attempt(ctx context.Context) error {
	if v := m.votes.decided(); v.has(m.cfg.NodeID, m.store.Incarnation()) {
		return m.finish(ctx, v) // crashed between the agreement and the bootstrap
	}
	if len(m.cfg.Join) == 0 {
		return m.alone()
	}
	v := m.look(ctx, m.cfg.Join)
	var err error
	if old := formed(v); len(old) > 0 {
		m.turnSince = time.Time{}
		err = m.joinAny(ctx, old)
	} else if m.cfg.BootstrapExpect > 0 && m.store.ClusterID() == "" {
		err = m.consider(ctx, v)
	} else {
		m.said.say(hclog.Info, "join", "waiting for a cluster", "join", m.cfg.Join)
	}
	if errors.Is(err, ErrMemberExists) {
		m.sayNewDirectory(err)
	} else if err != nil && ctx.Err() == nil {
		m.said.say(hclog.Warn, "join failed", "could not join yet, trying again", "error", err)
	}
	return nil
}

// alone is a node without join addresses: a cluster of its own, or one that
// waits to be told (SendJoin).
func (m *Manager) alone() error {
	switch {
	case m.cfg.BootstrapExpect > 1:
		m.said.say(hclog.Warn, "bootstrap", "bootstrap_expect is more than 1, but there are no join addresses to find the others",
			"bootstrap_expect", m.cfg.BootstrapExpect)
		return nil
	case m.cfg.BootstrapExpect == 0 || m.store.ClusterID() != "":
		m.said.say(hclog.Info, "bootstrap", "waiting to be told which cluster to join")
		return nil
	}
	return m.form(&BootstrapValue{ClusterID: newClusterID(), Members: []BootstrapMember{m.self()}})
}

// formed are the nodes that belong to a cluster already.
func formed(v view) []seen {
	var out []seen
	for _, s := range v.nodes {
		if s.status.HasState {
			out = append(out, s)
		}
	}
	return out
}

// joinAny asks the nodes one by one to let this node in, until one does. Nodes
// of different clusters among them are an error of the configuration: guessing
// could bring this node into the wrong one.
func (m *Manager) joinAny(ctx context.Context, nodes []seen) error {
	for _, s := range nodes[1:] {
		if s.status.ClusterID != nodes[0].status.ClusterID && s.status.ClusterID != "" && nodes[0].status.ClusterID != "" {
			return fmt.Errorf("the join addresses lead to different clusters: %s is in %s, %s in %s: %w", nodes[0].base,
				nodes[0].status.ClusterID, s.base, s.status.ClusterID, raftstore.ErrWrongCluster)
		}
	}
	var last error
	for _, s := range nodes {
		_, err := m.joinThrough(ctx, s.base)
		if err == nil {
			return nil
		}
		last = fmt.Errorf("joining through %s: %w", s.base, err)
		if ctx.Err() != nil {
			break
		}
	}
	return last
}

// joinThrough sends one join and takes over the cluster's id, after which the
// leader's connections are let in.
func (m *Manager) joinThrough(ctx context.Context, base string) (JoinResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, m.time.joinCall)
	defer cancel()
	var resp JoinResponse
	if err := m.http.post(ctx, base, "/cluster/join", m.announcement(false), &resp); err != nil {
		return resp, err
	}
	if resp.ClusterID == "" {
		return resp, errors.New("the answer names no cluster")
	}
	m.formMu.Lock()
	defer m.formMu.Unlock()
	if err := m.store.SetClusterID(resp.ClusterID); err != nil {
		return resp, fmt.Errorf("taking over cluster id %s: %w", resp.ClusterID, err)
	}
	if !m.store.HasState() {
		m.said.say(hclog.Info, "join", "joined, waiting for the leader to reach this node", "cluster_id", resp.ClusterID,
			"leader", resp.LeaderID, "address", m.cfg.RaftAddr)
	}
	return resp, nil
}

// announcement is this node's own join request.
func (m *Manager) announcement(rejoin bool) JoinRequest {
	return JoinRequest{
		NodeID: m.cfg.NodeID, Address: m.cfg.RaftAddr, APIAddress: m.cfg.APIAddr,
		ClusterID: m.store.ClusterID(), Rejoin: rejoin, Incarnation: m.store.Incarnation(),
	}
}

// SendJoin makes this node join the cluster of the node whose API is at addr,
// and returns when the leader has reached it. Doing it again is fine. A node
// with the state of another cluster: ErrWrongCluster; a node there that has no
// cluster: ErrNotFormed; no node there: ErrUnreachable; a node that was removed: raftstore.ErrRemoved;
// a cleared directory under the id of a member: ErrMemberExists.
func (m *Manager) SendJoin(ctx context.Context, addr string) (JoinResponse, error) {
	var resp JoinResponse
	if m.store.Removed() {
		return resp, m.removedError()
	}
	s, err := m.reach(ctx, addr)
	if err != nil {
		return resp, fmt.Errorf("joining through %s: %w", addr, err)
	}
	if err := m.mayJoin(s); err != nil {
		return resp, err
	}
	b := backoff{min: m.time.retryMin, max: m.time.retryMax}
	for {
		resp, err = m.joinThrough(ctx, s.base)
		if err == nil && m.store.HasState() {
			return resp, nil
		}
		if err != nil && !passing(err) {
			return resp, fmt.Errorf("joining through %s: %w", s.base, err)
		}
		if werr := b.wait(ctx); werr != nil {
			return resp, fmt.Errorf("joining through %s: %w", s.base, errors.Join(err, werr))
		}
	}
}

// reach finds the node at an address a person gave: what is wrong with it is
// ErrUnreachable, unless a node answered with an error of its own.
func (m *Manager) reach(ctx context.Context, addr string) (*seen, error) {
	ctx, cancel := context.WithTimeout(ctx, m.time.probe)
	defer cancel()
	s, err := m.askStatus(ctx, addr)
	if err == nil || Code(err) != "" {
		return s, err
	}
	// The cause is only told: a deadline in it would make the outcome of the join look unknown.
	return nil, fmt.Errorf("%w: %s; check that a node runs there, that this is its API address and port (not the Raft one), and that no firewall is in between",
		ErrUnreachable, err.Error())
}

// mayJoin refuses what cannot work, before anything is sent.
func (m *Manager) mayJoin(s *seen) error {
	switch own, its := m.store.ClusterID(), s.status.ClusterID; {
	case s.status.NodeID == m.cfg.NodeID:
		return &InvalidError{Field: "join", Why: s.base + " is this node itself"}
	case !s.status.HasState:
		return fmt.Errorf("%s: %w", s.base, ErrNotFormed)
	case own != "" && its != "" && own != its:
		return fmt.Errorf("this node belongs to cluster %s, %s to %s; clear this node's data directory to join another: %w",
			own, s.base, its, raftstore.ErrWrongCluster)
	}
	return nil
}

// passing says whether an error may go away by itself.
func passing(err error) bool {
	switch Code(err) {
	case "no_leader", "not_leader", "not_ready", "shutting_down", "overloaded", "outcome_unknown":
		return true
	case "":
		return errors.Is(err, context.DeadlineExceeded)
	}
	return false
}
