package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/raftstore"
)

// trouble is what only a person can mend.
type trouble struct {
	mu sync.Mutex
	// lost: this directory is new, but its node id is a member's.
	lost error
	// elsewhere: the join addresses lead to another cluster than this node's own.
	elsewhere error
}

// Trouble says why this node should get no requests although Raft may be fine:
// it is not where its configuration says. nil if nothing is wrong.
func (m *Manager) Trouble() error {
	m.trouble.mu.Lock()
	defer m.trouble.mu.Unlock()
	if m.trouble.lost != nil && !m.store.HasState() {
		return m.trouble.lost
	}
	return m.trouble.elsewhere
}

func (m *Manager) sayNewDirectory(err error) {
	m.trouble.mu.Lock()
	m.trouble.lost = err
	m.trouble.mu.Unlock()
	m.said.sayEvery(m.time.alarm, hclog.Error, "new directory", "this node stays out of the cluster", "error", err)
}

// saySilent tells of an address where no node answers. Nodes that start together
// need not hear of one another at once.
func (m *Manager) saySilent(addr string, err error) {
	if time.Since(m.made) < m.time.silent/5 {
		return
	}
	m.said.sayEvery(m.time.silent, hclog.Warn, "probe "+addr, "no konsul node answers at this address; it must be a node's API address, not its Raft address",
		"address", addr, "error", err)
}

func (m *Manager) sayForeign(s seen) {
	m.said.sayEvery(m.time.alarm, hclog.Error, "wrong cluster "+s.base, m.foreign(s).Error(), "address", s.base)
}

func (m *Manager) foreign(s seen) error {
	own := m.store.ClusterID()
	return fmt.Errorf("this node has the state of cluster %s, but the join address %s leads to cluster %s: correct the join addresses, "+
		"or, to give up the data of this node and join %s, stop it, clear its data directory and start it: %w",
		own, s.base, s.status.ClusterID, s.status.ClusterID, raftstore.ErrWrongCluster)
}

// watchPlace compares the cluster that the join addresses lead to with this
// node's own, until it has met a member there. A node that has both kinds among
// its addresses is where it belongs, and serves.
func (m *Manager) watchPlace(ctx context.Context) {
	for len(m.cfg.Join) > 0 && !m.store.Removed() {
		v := m.lookQuietly(ctx, m.cfg.Join)
		var wrong error
		for _, s := range v.nodes {
			if id := s.status.ClusterID; id != "" && id != m.store.ClusterID() {
				m.sayForeign(s)
				wrong = m.foreign(s)
			}
		}
		home := slices.ContainsFunc(v.nodes, func(s seen) bool { return s.status.ClusterID == m.store.ClusterID() })
		if home {
			wrong = nil
		}
		if wrong != nil || len(v.silent) == 0 || home { // silence mends nothing
			m.trouble.mu.Lock()
			m.trouble.elsewhere = wrong
			m.trouble.mu.Unlock()
		}
		if home || len(v.nodes) == 0 && len(v.silent) == 0 || pause(ctx, m.time.rightPlace) != nil {
			return
		}
	}
}
