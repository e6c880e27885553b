package cluster

import (
	"fmt"

	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/raftstore"
)

// A node id says who a member is; an incarnation says which data directory that
// is. A member acknowledged writes and gave votes that only its own directory
// remembers: the same id in another one would be counted for both a second time.
// It has to become a new member, after the old one has left.

// checkIncarnation refuses a join under the id of a member that lives, or lived,
// in another directory. self and have are what is known of the id on this node.
//
// Where the member's directory is not recorded, a node with the state of the
// cluster is that member; one without is not if the member has a vote.
func (m *Manager) checkIncarnation(req JoinRequest, self *raftstore.Server, have *record.Member) error {
	if self == nil || req.Incarnation == "" {
		return nil
	}
	known := m.incarnationOf(req.NodeID, have)
	if known == req.Incarnation || known == "" && (req.Rejoin || !self.Voter) {
		return nil
	}
	return newDirectory(req.NodeID, m.store.ClusterID())
}

// incarnationOf is a member's, "" if it is not known.
func (m *Manager) incarnationOf(id string, have *record.Member) string {
	if have != nil {
		return have.Incarnation
	}
	if f := m.founder(id); f != nil {
		return f.Incarnation
	}
	return ""
}

// founder is one of the cluster's first members. What it says of one that has
// a member record may be outdated.
func (m *Manager) founder(id string) *BootstrapMember {
	v := m.votes.decided()
	if v == nil || v.ClusterID != m.store.ClusterID() {
		return nil
	}
	return v.member(id)
}

// foresee turns a join that found no leader into the refusal it would get by what
// this node knows, so that a person learns the cause while there is no leader.
func (m *Manager) foresee(req JoinRequest, err error) error {
	servers, serr := m.store.Servers()
	records, rerr := m.members()
	if req.Rejoin || serr != nil || rerr != nil {
		return err
	}
	self, _ := find(servers, req.NodeID, "")
	if refused := m.checkIncarnation(req, self, records[req.NodeID]); refused != nil {
		return fmt.Errorf("%w (there is no leader now)", refused)
	}
	return err
}

func newDirectory(id, clusterID string) error {
	return fmt.Errorf("%w: %s is a member of cluster %s, but this data directory is new: run `konsul cluster leave %s` "+
		"on a living node, then start again with --join", ErrMemberExists, id, clusterID, id)
}

// newDirectory refuses to be the member that had this node's id.
func (m *Manager) newDirectory(clusterID string) error {
	err := newDirectory(m.cfg.NodeID, clusterID)
	m.sayNewDirectory(err)
	return err
}
