package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/internal/persistence/record"
)

// watchOwn keeps this node's own record true, and finds the cluster again after
// addresses changed, until ctx ends. A removed node only says so.
func (m *Manager) watchOwn(ctx context.Context) {
	heard, led := time.Now(), false
	for {
		elected := m.store.LeaderChanges()
		wait, wasLed := m.time.announce, led
		if _, _, led = m.store.Leader(); led || wasLed {
			heard = time.Now()
		}
		switch {
		case m.store.Removed():
			m.sayRemoved()
			wait = m.time.calm
		case led:
			if m.announce(ctx) {
				wait = m.time.calm
			}
		default:
			if v := m.votes.decided(); v.has(m.cfg.NodeID, m.store.Incarnation()) && v.ClusterID == m.store.ClusterID() {
				m.tellMembers(ctx, v) // some may not have heard yet; harmless if they have
			}
			if time.Since(heard) > m.time.lost {
				m.callHome(ctx)
			}
		}
		if pauseOr(ctx, wait, elected, nil) != nil {
			return
		}
	}
}

// announce tells the leader this node's addresses if its record differs. It
// says whether the record was true already.
func (m *Manager) announce(ctx context.Context) (settled bool) {
	records, err := m.members()
	if err != nil {
		m.said.say(hclog.Warn, "announce", "cannot read own member record", "error", err)
		return false
	}
	if len(records) > 0 { // none: nothing is known yet after a start
		m.remember(records)
	}
	rec := records[m.cfg.NodeID]
	if rec != nil && rec.RaftAddress == m.cfg.RaftAddr && rec.ApiAddress == m.cfg.APIAddr && rec.Incarnation == m.store.Incarnation() {
		return true
	}
	resp, err := m.Join(ctx, m.announcement(true))
	if err == nil && !resp.Removed {
		m.log.Info("announced own addresses", "address", m.cfg.RaftAddr, "api_address", m.cfg.APIAddr)
	}
	m.heed(ctx, resp, err)
	return false
}

// callHome goes round by the HTTP API while no leader reaches this node: after
// its Raft address changed the leader cannot find it, and after it was removed
// nobody tries. Where others have a leader, that one hears of this node.
func (m *Manager) callHome(ctx context.Context) {
	for _, s := range m.look(ctx, m.homes()).nodes {
		if !s.status.HasState || s.status.LeaderID == "" {
			continue
		}
		if s.status.ClusterID != m.store.ClusterID() {
			m.sayForeign(s)
			continue
		}
		jctx, cancel := context.WithTimeout(ctx, m.time.joinCall)
		var resp JoinResponse
		err := m.http.post(jctx, s.base, "/cluster/join", m.announcement(true), &resp)
		cancel()
		m.heed(ctx, resp, err)
		if err == nil || m.store.Removed() {
			return
		}
	}
}

// homes are the API addresses where others may be: those given, those of the
// members this node last knew, and those of the first members.
func (m *Manager) homes() []string {
	kept := m.votes.current()
	more := slices.Clone(kept.Others)
	if kept.Decided {
		for _, v := range kept.Value.Members {
			more = append(more, v.APIAddress)
		}
	}
	out := slices.Clone(m.cfg.Join)
	for _, a := range more {
		if a != "" && a != m.cfg.APIAddr && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// remember keeps the others' API addresses for a start at another address.
func (m *Manager) remember(records map[string]*record.Member) {
	var others []string
	for id, r := range records {
		if id != m.cfg.NodeID && r.ApiAddress != "" {
			others = append(others, r.ApiAddress)
		}
	}
	slices.Sort(others)
	if err := m.votes.remember(others); err != nil {
		m.said.say(hclog.Warn, "remember", "cannot keep the addresses of the other members", "error", err)
	}
}

// heed takes the answer to an announcement.
func (m *Manager) heed(ctx context.Context, resp JoinResponse, err error) {
	if err == nil && resp.Removed {
		err = m.markRemoved()
	}
	if err != nil && ctx.Err() == nil {
		m.said.say(hclog.Warn, "announce", "cannot announce own addresses yet", "error", err)
	}
}
