package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/raftstore"
)

// maxBootstrapMembers bounds what a bootstrap request may name.
const maxBootstrapMembers = 101

// newClusterID is 128 random bits as a UUID (version 4).
func newClusterID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// self is this node as a member of a cluster to be.
func (m *Manager) self() BootstrapMember {
	return BootstrapMember{ID: m.cfg.NodeID, Address: m.cfg.RaftAddr, APIAddress: m.cfg.APIAddr, Incarnation: m.store.Incarnation()}
}

// field is who could form a cluster, from one look.
type field struct {
	candidates []seen // stateless nodes that expect the same number, by id; without this one
	majority   int    // of all nodes that might be asked to form one
}

// candidates sorts a look into a field. Every address that does not answer may
// hide a node that votes, so it counts; nodes that only join do not.
func (m *Manager) candidates(v view) field {
	universe := 1 + len(v.silent)
	var f field
	for _, s := range v.nodes {
		switch s.status.BootstrapExpect {
		case m.cfg.BootstrapExpect:
			f.candidates = append(f.candidates, s)
			universe++
		case 0:
		default:
			universe++
			m.said.say(hclog.Warn, "expect "+s.status.NodeID, "node expects another number of nodes and is left out; give all the same bootstrap_expect",
				"node", s.status.NodeID, "its", s.status.BootstrapExpect, "ours", m.cfg.BootstrapExpect)
		}
	}
	slices.SortFunc(f.candidates, func(a, b seen) int { return cmp.Compare(a.status.NodeID, b.status.NodeID) })
	f.majority = universe/2 + 1
	return f
}

// consider proposes a cluster when enough nodes are there and it is this node's
// turn: the smallest id at once, the next ones later each, in case those before
// cannot. Several proposers at once are safe (see votes), only slower.
func (m *Manager) consider(ctx context.Context, v view) error {
	f := m.candidates(v)
	have := 1 + len(f.candidates)
	enough := have >= m.cfg.BootstrapExpect
	// A vote given may already have decided; finding out needs only a majority.
	again := m.votes.current().Value != nil
	if have < f.majority || !enough && !again {
		m.turnSince = time.Time{}
		m.sayWaiting(f)
		return nil
	}
	if m.turnSince.IsZero() {
		m.turnSince = time.Now()
	}
	rank := 0
	for _, c := range f.candidates {
		if c.status.NodeID < m.cfg.NodeID {
			rank++
		}
	}
	if time.Since(m.turnSince) < time.Duration(rank)*m.time.turn {
		m.said.say(hclog.Info, "bootstrap", "enough nodes are there, waiting for "+f.candidates[0].status.NodeID+" to form the cluster")
		return nil
	}
	return m.propose(ctx, f)
}

func (m *Manager) sayWaiting(f field) {
	names := []string{m.cfg.NodeID + " (this node)"}
	for _, c := range f.candidates {
		names = append(names, c.status.NodeID)
	}
	missing := max(m.cfg.BootstrapExpect, f.majority) - len(names)
	m.said.say(hclog.Info, "bootstrap", fmt.Sprintf("waiting for %d more node(s): seen %s", missing, strings.Join(names, ", ")))
}

// propose runs one attempt of the agreement. It returns nil also when the
// attempt came to nothing; the caller looks again.
func (m *Manager) propose(ctx context.Context, f field) error {
	kept := m.votes.current()
	ballot := Ballot{Round: max(kept.Promised.Round, m.highest) + 1, Node: m.cfg.NodeID}
	promised, value, err := m.gather(ctx, f, BootstrapRequest{Phase: PhasePrepare, Ballot: ballot})
	if err != nil || len(promised) < f.majority {
		return err
	}
	if value == nil { // nothing was accepted before: free to choose
		if len(promised) < m.cfg.BootstrapExpect {
			return nil
		}
		value = m.fresh(promised)
	}
	accepted, _, err := m.gather(ctx, f, BootstrapRequest{Phase: PhaseAccept, Ballot: ballot, Value: value})
	if err != nil || len(accepted) < f.majority {
		return err
	}
	m.log.Info("agreed on a cluster", "cluster_id", value.ClusterID, "members", len(value.Members))
	return m.finish(ctx, value)
}

// fresh is a new cluster of the smallest ids among those that promised.
func (m *Manager) fresh(promised []BootstrapMember) *BootstrapValue {
	slices.SortFunc(promised, func(a, b BootstrapMember) int { return cmp.Compare(a.ID, b.ID) })
	return &BootstrapValue{ClusterID: newClusterID(), Members: slices.Clone(promised[:m.cfg.BootstrapExpect])}
}

// gather sends one phase to all candidates and this node itself. It returns who
// said yes and, of what they had accepted, the value with the highest ballot.
// Nobody, if one of them has state or knows the final value: the former is joined
// at the next look, the latter is taken over at once.
func (m *Manager) gather(ctx context.Context, f field, req BootstrapRequest) ([]BootstrapMember, *BootstrapValue, error) {
	req.From, req.Expect = m.cfg.NodeID, m.cfg.BootstrapExpect
	own, err := m.Bootstrap(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	members, answers := []BootstrapMember{m.self()}, []*BootstrapResponse{&own}
	for _, c := range f.candidates {
		members = append(members, BootstrapMember{ID: c.status.NodeID, Address: c.status.Address, APIAddress: c.status.APIAddress})
	}
	answers = append(answers, m.askAll(ctx, f, req)...)
	var yes []BootstrapMember
	var best *BootstrapResponse
	for i, a := range answers {
		switch {
		case a == nil:
			continue
		case a.HasState:
			return nil, nil, nil
		case a.Decided && a.Value != nil:
			return nil, nil, m.finish(ctx, a.Value)
		case a.NodeID != members[i].ID: // another node has its address now
			continue
		case !a.OK:
			m.highest = max(m.highest, a.Promised.Round)
			m.said.say(hclog.Info, "refusal "+members[i].ID, "node does not agree yet", "node", members[i].ID, "reason", a.Reason)
			continue
		}
		members[i].Incarnation = a.Incarnation
		yes = append(yes, members[i])
		if a.Value != nil && (best == nil || best.Accepted.less(a.Accepted)) {
			best = a
		}
	}
	if best == nil {
		return yes, nil, nil
	}
	return yes, best.Value, nil
}

// askAll sends req to every candidate at once; nil where there is no answer.
func (m *Manager) askAll(ctx context.Context, f field, req BootstrapRequest) []*BootstrapResponse {
	ctx, cancel := context.WithTimeout(ctx, m.time.probe)
	defer cancel()
	out := make([]*BootstrapResponse, len(f.candidates))
	var wg sync.WaitGroup
	for i, c := range f.candidates {
		wg.Go(func() {
			var r BootstrapResponse
			if err := m.http.post(ctx, c.base, "/cluster/bootstrap", req, &r); err != nil {
				m.said.say(hclog.Debug, "bootstrap "+c.base, "node does not answer", "address", c.base, "error", err)
				return
			}
			out[i] = &r
		})
	}
	wg.Wait()
	return out
}

// finish keeps the final value, forms the cluster here if this node is in it,
// and tells the other members.
func (m *Manager) finish(ctx context.Context, value *BootstrapValue) error {
	err := m.form(value)
	if err != nil && !errors.Is(err, ErrMemberExists) {
		return err
	}
	m.tellMembers(ctx, value)
	return err
}

// form makes this node one of the value's first members. Every member writes
// the same first configuration, so it does not matter who does it first, or again.
//
// ErrMemberExists if the member with this node's id was in another data directory:
// it may have voted and acknowledged, and this directory knows nothing of that.
func (m *Manager) form(value *BootstrapValue) error {
	m.formMu.Lock()
	defer m.formMu.Unlock()
	self := value.member(m.cfg.NodeID)
	if self != nil && self.Incarnation != m.store.Incarnation() && !m.store.HasState() {
		return m.newDirectory(value.ClusterID)
	}
	if err := m.votes.decide(value); err != nil {
		return err
	}
	if self == nil || m.store.HasState() {
		return nil
	}
	servers := make([]raftstore.Server, len(value.Members))
	for i, v := range value.Members {
		servers[i] = raftstore.Server{ID: v.ID, Address: v.Address, Voter: true}
	}
	if err := m.store.Bootstrap(value.ClusterID, servers); err != nil {
		return fmt.Errorf("bootstrapping cluster %s: %w", value.ClusterID, err)
	}
	m.log.Info("bootstrapped", "cluster_id", value.ClusterID, "members", len(servers))
	return nil
}

// tellMembers sends the final value to the other members that have not formed the
// cluster yet, but never to a directory that is not the one that was counted. Those
// that do not hear it are told again while there is no leader (see watchOwn).
func (m *Manager) tellMembers(ctx context.Context, value *BootstrapValue) {
	var addrs []string
	for _, v := range value.Members {
		if _, err := baseURL(v.APIAddress); err == nil && v.ID != m.cfg.NodeID {
			addrs = append(addrs, v.APIAddress)
		}
	}
	var f field
	for _, s := range m.look(ctx, addrs).nodes {
		if !s.status.HasState && value.has(s.status.NodeID, s.status.Incarnation) {
			f.candidates = append(f.candidates, s)
		}
	}
	m.askAll(ctx, f, BootstrapRequest{Phase: PhaseDecide, From: m.cfg.NodeID, Expect: m.cfg.BootstrapExpect, Value: value})
}
