package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/raftstore"
)

// Join adds a node to the cluster, or takes note of its new addresses; any
// node, passed on to the leader. A new node starts without a vote and gets it
// when it has caught up, unless voter is false. Doing it again changes nothing.
//
// Errors: raftstore.ErrWrongCluster; ErrNotFormed; ErrMemberExists; ErrAddressInUse; ErrLastVoter
// (voter false for the only voter); *InvalidError; and those of raftstore.Store.Apply.
func (m *Manager) Join(ctx context.Context, req JoinRequest) (JoinResponse, error) {
	if err := checkJoin(req); err != nil {
		return JoinResponse{}, err
	}
	if own := m.store.ClusterID(); own == "" || !m.store.HasState() {
		return JoinResponse{}, fmt.Errorf("this node is %w", ErrNotFormed)
	} else if req.ClusterID != "" && req.ClusterID != own {
		return JoinResponse{}, wrongCluster(req.ClusterID, own)
	}
	resp, err := onLeader(ctx, m, methodJoin, req, true, m.joinHere)
	if errors.Is(err, raftstore.ErrNoLeader) {
		return resp, m.foresee(req, err)
	}
	return resp, err
}

func wrongCluster(its, own string) error {
	return fmt.Errorf("the node belongs to cluster %s, this is %s: %w", its, own, raftstore.ErrWrongCluster)
}

// checkJoin refuses addresses that no node could dial.
func checkJoin(req JoinRequest) error {
	if !nodeID.MatchString(req.NodeID) {
		return &InvalidError{Field: "node_id", Why: "must be 1 to 128 of A-Z a-z 0-9 . _ -"}
	}
	if err := checkAddress("address", req.Address); err != nil {
		return err
	}
	if req.APIAddress == "" {
		return nil
	}
	return checkAddress("api_address", req.APIAddress)
}

var (
	nodeID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)
	// hostName is a name or an IP address, an IPv6 one with or without a zone.
	hostName = regexp.MustCompile(`^[A-Za-z0-9._:%-]{1,255}$`)
)

func checkAddress(name, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return &InvalidError{Field: name, Why: err.Error()}
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if ip := net.ParseIP(host); err != nil || number == 0 || !hostName.MatchString(host) || ip != nil && ip.IsUnspecified() {
		return &InvalidError{Field: name, Why: fmt.Sprintf("%q is not an address that other nodes can reach", addr)}
	}
	return nil
}

// joinHere is Join on the leader.
func (m *Manager) joinHere(ctx context.Context, req JoinRequest) (JoinResponse, error) {
	if err := checkJoin(req); err != nil {
		return JoinResponse{}, err
	}
	if own := m.store.ClusterID(); req.ClusterID != "" && req.ClusterID != own {
		return JoinResponse{}, wrongCluster(req.ClusterID, own)
	}
	defer m.change()()
	servers, err := m.store.Servers()
	if err != nil {
		return JoinResponse{}, fmt.Errorf("reading configuration: %w", err)
	}
	self, other := find(servers, req.NodeID, req.Address)
	records, err := m.members()
	if err != nil {
		return JoinResponse{}, err
	}
	refused := m.checkIncarnation(req, self, records[req.NodeID])
	switch {
	case req.Rejoin && (self == nil || refused != nil): // its place was given to another directory, or to nobody
		return m.confirmRemoved(ctx, req.NodeID)
	case refused != nil:
		return JoinResponse{}, refused
	}
	if other != nil {
		if err := m.makeRoom(ctx, *other, servers, self != nil); err != nil {
			return JoinResponse{}, err
		}
	}
	if err := m.admit(ctx, req, self, servers, records[req.NodeID]); err != nil {
		return JoinResponse{}, err
	}
	voter := self != nil && self.Voter && (req.Voter == nil || *req.Voter)
	return JoinResponse{ClusterID: m.store.ClusterID(), NodeID: req.NodeID, LeaderID: m.cfg.NodeID, Voter: voter}, nil
}

// confirmRemoved tells a node that it is out only if this node still leads: a
// deposed leader may simply not know that it is in.
func (m *Manager) confirmRemoved(ctx context.Context, id string) (JoinResponse, error) {
	if _, err := m.store.ReadIndex(ctx); err != nil {
		return JoinResponse{}, fmt.Errorf("confirming leadership: %w", err)
	}
	return JoinResponse{ClusterID: m.store.ClusterID(), NodeID: id, LeaderID: m.cfg.NodeID, Removed: true}, nil
}

// admit brings record and configuration to what req asks. The record goes
// first: it alone knows whether the node shall vote.
func (m *Manager) admit(ctx context.Context, req JoinRequest, self *raftstore.Server, servers []raftstore.Server, have *record.Member) error {
	want := wantVoter(req, have)
	demote := self != nil && self.Voter && !want
	if demote && voters(servers) == 1 {
		return ErrLastVoter
	}
	rec := &command.MemberSet{Id: req.NodeID, RaftAddress: req.Address, ApiAddress: req.APIAddress, WantVoter: want, Incarnation: req.Incarnation}
	if rec.Incarnation == "" {
		rec.Incarnation = m.incarnationOf(req.NodeID, have)
	}
	if err := m.setMember(ctx, have, rec); err != nil {
		return err
	}
	if self == nil || self.Address != req.Address {
		// For a member this changes the address only; a voter stays one.
		if err := m.store.AddNonvoter(ctx, req.NodeID, req.Address); err != nil {
			return fmt.Errorf("adding node %s: %w", req.NodeID, err)
		}
		m.log.Info("node admitted", "node", req.NodeID, "address", req.Address, "new", self == nil, "voter", want)
	}
	if demote {
		if err := m.store.Demote(ctx, req.NodeID); err != nil {
			return fmt.Errorf("taking the vote of node %s: %w", req.NodeID, err)
		}
	}
	return nil
}

// wantVoter: what is asked, else what it was, else a voter.
func wantVoter(req JoinRequest, have *record.Member) bool {
	switch {
	case req.Voter != nil:
		return *req.Voter
	case have != nil:
		return have.WantVoter
	}
	return true
}

func voters(servers []raftstore.Server) int {
	n := 0
	for _, s := range servers {
		if s.Voter {
			n++
		}
	}
	return n
}
