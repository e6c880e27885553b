package cluster

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/raftstore"
)

// duties is what the leader keeps in order, as long as it leads: the cluster's
// id in the replicated state, one member record for each server of the Raft
// configuration and none besides, and a vote for those that have caught up.
func (m *Manager) duties(ctx context.Context) {
	p := promoter{}
	for {
		elected := m.store.LeaderChanges()
		busy := false
		if m.store.IsLeader() && !m.store.Removed() {
			var err error
			if busy, err = m.dutyRound(ctx, &p); err != nil && ctx.Err() == nil {
				m.said.say(hclog.Warn, "duties", "cannot keep the members in order yet", "error", err)
			}
		}
		var err error
		if busy {
			err = pause(ctx, m.time.duty)
		} else { // until something changes; now and then is for what nobody thought of
			p = promoter{}
			err = pauseOr(ctx, m.time.calm, elected, m.changed)
		}
		if err != nil {
			return
		}
	}
}

// change begins a change of membership, one at a time; the function it returns
// ends it and has the duties look at what it left.
func (m *Manager) change() (done func()) {
	m.opMu.Lock()
	return func() {
		m.opMu.Unlock()
		select {
		case m.changed <- struct{}{}:
		default:
		}
	}
}

// dutyRound says whether another one is due soon.
func (m *Manager) dutyRound(ctx context.Context, p *promoter) (busy bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.time.forward)
	defer cancel()
	if m.store.FSM().ClusterID() == "" {
		init := &command.ClusterInit{ClusterId: m.store.ClusterID()}
		if _, err := m.store.Apply(ctx, command.Type_TYPE_CLUSTER_INIT, init, ""); err != nil {
			return true, fmt.Errorf("recording cluster id: %w", err)
		}
	}
	servers, records, err := m.configuration()
	if err != nil || inOrder(servers, records) {
		return err != nil, err
	}
	return true, m.tidy(ctx, p, servers, records)
}

// inOrder says that every server has a true record and the vote it wants, and
// that there are no other records.
func inOrder(servers []raftstore.Server, records map[string]*record.Member) bool {
	for _, s := range servers {
		rec := records[s.ID]
		if rec == nil || rec.RaftAddress != s.Address || rec.WantVoter && !s.Voter {
			return false
		}
	}
	return len(records) == len(servers)
}

func (m *Manager) tidy(ctx context.Context, p *promoter, servers []raftstore.Server, records map[string]*record.Member) error {
	// Asking takes up to a second; nobody waits for opMu meanwhile.
	infos := m.askSome(ctx, servers, func(s raftstore.Server) bool {
		rec := records[s.ID]
		return rec == nil || !s.Voter && rec.WantVoter
	})
	m.opMu.Lock()
	defer m.opMu.Unlock()
	// What was read before may be outdated by a join or a leave.
	servers, records, err := m.configuration()
	if err != nil {
		return err
	}
	if err := m.fixRecords(ctx, servers, records, infos); err != nil {
		return err
	}
	return m.promote(ctx, p, servers, records, infos)
}

func (m *Manager) configuration() ([]raftstore.Server, map[string]*record.Member, error) {
	servers, err := m.store.Servers()
	if err != nil {
		return nil, nil, fmt.Errorf("reading configuration: %w", err)
	}
	records, err := m.members()
	return servers, records, err
}

// askSome asks the servers that which picks.
func (m *Manager) askSome(ctx context.Context, servers []raftstore.Server, which func(raftstore.Server) bool) map[string]nodeInfo {
	var picked []raftstore.Server
	for _, s := range servers {
		if which(s) {
			picked = append(picked, s)
		}
	}
	out := map[string]nodeInfo{}
	for i, info := range m.askServers(ctx, picked) {
		if info != nil && info.ID == picked[i].ID {
			out[info.ID] = *info
		}
	}
	return out
}

// fixRecords makes the records follow the configuration, which is the truth
// about who is a member and at which Raft address.
func (m *Manager) fixRecords(ctx context.Context, servers []raftstore.Server, records map[string]*record.Member, infos map[string]nodeInfo) error {
	in := map[string]bool{}
	for _, s := range servers {
		in[s.ID] = true
		want := &command.MemberSet{Id: s.ID, RaftAddress: s.Address}
		if rec := records[s.ID]; rec != nil {
			want.ApiAddress, want.WantVoter, want.Incarnation = rec.ApiAddress, rec.WantVoter, rec.Incarnation
		} else if founder := m.founder(s.ID); founder != nil && s.Voter {
			want.ApiAddress, want.WantVoter, want.Incarnation = founder.APIAddress, true, founder.Incarnation
		} else if info, ok := infos[s.ID]; ok && s.Voter {
			want.ApiAddress, want.WantVoter, want.Incarnation = info.APIAddress, true, info.Incarnation
		} else {
			continue // it announces itself when it can be reached
		}
		if err := m.setMember(ctx, records[s.ID], want); err != nil {
			return err
		}
	}
	for id := range records {
		if in[id] {
			continue
		}
		if err := m.dropMember(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// Catching up.
const (
	// steadyRounds is how many rounds in a row a node must keep up.
	steadyRounds = 3
	// nearby is how far behind, in entries, it may fall in the rounds after the first.
	nearby = 1024
)

// promoter remembers, while this node leads, how the joiners come along.
type promoter struct {
	target uint64         // what this node had applied one round ago
	steady map[string]int // rounds in a row that a joiner kept up
}

// promote gives a vote to the joiners that have caught up: one round had them
// at everything this node had applied a round before, and the next ones not far
// from it. A node that installs a snapshot, however long, does not get there and
// is left alone.
func (m *Manager) promote(ctx context.Context, p *promoter, servers []raftstore.Server, records map[string]*record.Member, infos map[string]nodeInfo) error {
	target, steady := p.target, map[string]int{}
	p.target = m.store.AppliedIndex()
	defer func() { p.steady = steady }()
	if target == 0 {
		return nil
	}
	for _, s := range servers {
		info, answered := infos[s.ID]
		if s.Voter || !answered || info.Removed || !records[s.ID].GetWantVoter() {
			continue
		}
		slack := uint64(0)
		if p.steady[s.ID] > 0 {
			slack = nearby
		}
		if info.Applied == 0 || info.Applied+slack < target {
			m.said.say(hclog.Info, "catching up "+s.ID, "node is catching up before it gets a vote", "node", s.ID)
			continue
		}
		steady[s.ID] = p.steady[s.ID] + 1
		if steady[s.ID] < steadyRounds {
			continue
		}
		if err := m.store.Promote(ctx, s.ID); err != nil {
			return fmt.Errorf("giving node %s a vote: %w", s.ID, err)
		}
		m.log.Info("node has caught up and votes now", "node", s.ID, "applied", info.Applied)
	}
	return nil
}
