package cluster_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/neogan74/konsul/cluster"
	"github.com/neogan74/konsul/cluster/clustertest"
	"github.com/neogan74/konsul/raftstore"
)

func yes(b bool) *bool { return &b }

func peerOf(t *testing.T, through *clustertest.Node, id string) cluster.Peer {
	t.Helper()
	for _, p := range through.Manager.Peers(soon(t)) {
		if p.ID == id {
			return p
		}
	}
	return cluster.Peer{}
}

func TestANodeOfAnotherClusterIsRefused(t *testing.T) {
	c := clustertest.New(t, clustertest.Options{Nodes: 2})
	na, nb := c.Nodes[0], c.Nodes[1]
	for _, n := range c.Nodes { // each for itself
		n.Expect, n.Join = 1, nil
		n.Start()
		c.WaitVoters(1, n)
	}
	_, err := na.Manager.Join(soon(t), cluster.JoinRequest{NodeID: nb.ID(), Address: nb.Raft, ClusterID: nb.Store.ClusterID()})
	if !errors.Is(err, raftstore.ErrWrongCluster) {
		t.Errorf("joining with another cluster's id: %v", err)
	}
	if _, err := nb.Manager.SendJoin(soon(t), na.API); !errors.Is(err, raftstore.ErrWrongCluster) {
		t.Errorf("making a node of another cluster join: %v", err)
	}
	if _, err := nb.Manager.SendJoin(soon(t), nb.API); cluster.Code(err) != "bad_request" {
		t.Errorf("joining oneself: %v", err)
	}
}

func TestSendJoin(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{Nodes: 1})
	n := c.Add(0)
	n.Join = nil
	n.Start()
	for range 2 { // again is fine
		resp, err := n.Manager.SendJoin(soon(t), "http://"+c.Nodes[0].API+"/")
		if err != nil || resp.ClusterID != c.Nodes[0].Store.ClusterID() || resp.NodeID != n.ID() {
			t.Fatalf("join: %+v, %v", resp, err)
		}
	}
	c.WaitVoters(2, c.Nodes...)
	stranger := c.Add(3)
	stranger.Join = nil
	stranger.Start()
	if _, err := stranger.Manager.SendJoin(soon(t), stranger.API); cluster.Code(err) != "bad_request" {
		t.Errorf("joining oneself: %v", err)
	}
	if _, err := n.Manager.SendJoin(soon(t), stranger.API); !errors.Is(err, cluster.ErrNotFormed) {
		t.Errorf("joining a node without a cluster: %v", err)
	}
}

func TestANodeThatShallNotVote(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{Nodes: 1})
	first, n := c.Nodes[0], c.Add(0)
	n.Join = nil
	n.Start()
	req := cluster.JoinRequest{NodeID: n.ID(), Address: n.Raft, APIAddress: n.API, Voter: yes(false)}
	if _, err := first.Manager.Join(soon(t), req); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Manager.SendJoin(soon(t), first.API); err != nil {
		t.Fatal(err)
	}
	index := first.MustPut("a", "1")
	clustertest.Eventually(t, 10*time.Second, "the node to follow", func() error {
		if p := peerOf(t, first, n.ID()); !p.Healthy || p.AppliedIndex < index {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	n.Stop()
	n.Start() // announcing itself again gives it no vote
	clustertest.Never(t, time.Second, func() error {
		if p := peerOf(t, first, n.ID()); p.Voter {
			return errors.New("it votes")
		}
		return nil
	})
	if _, err := first.Manager.Transfer(soon(t), n.ID()); !errors.Is(err, cluster.ErrNotVoter) {
		t.Errorf("transfer to a node without a vote: %v", err)
	}
	req.Voter = yes(true)
	if _, err := first.Manager.Join(soon(t), req); err != nil {
		t.Fatal(err)
	}
	c.WaitVoters(2, c.Nodes...)
	req.Voter = yes(false)
	if _, err := first.Manager.Join(soon(t), req); err != nil {
		t.Fatal(err)
	}
	if p := peerOf(t, c.Leader(), n.ID()); p.Voter {
		t.Errorf("still votes: %+v", p)
	}
	own := cluster.JoinRequest{NodeID: first.ID(), Address: first.Raft, APIAddress: first.API, Voter: yes(false)}
	if _, err := first.Manager.Join(soon(t), own); !errors.Is(err, cluster.ErrLastVoter) {
		t.Errorf("taking the last vote: %v", err)
	}
}

func TestBadJoins(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{Nodes: 1})
	for _, r := range []cluster.JoinRequest{
		{Address: "127.0.0.1:1"}, {NodeID: "x"}, {NodeID: "x", Address: "127.0.0.1"}, {NodeID: "x", Address: ":7000"},
		{NodeID: "x", Address: "0.0.0.0:7000"}, {NodeID: "x", Address: "[::]:7000"}, {NodeID: "x", Address: "h:0"},
		{NodeID: "x", Address: "h:1", APIAddress: "h"},
	} {
		if _, err := c.Nodes[0].Manager.Join(soon(t), r); cluster.Code(err) != "bad_request" {
			t.Errorf("%+v: %v", r, err)
		}
	}
	_, err := c.Nodes[0].Manager.Join(soon(t), cluster.JoinRequest{NodeID: "x", Address: c.Nodes[0].Raft})
	if !errors.Is(err, cluster.ErrAddressInUse) {
		t.Errorf("joining at the leader's address: %v", err)
	}
	if len(c.Nodes[0].Manager.Peers(soon(t))) != 1 {
		t.Error("a refused join left something behind")
	}
}

func TestAnAddressOfALiveMemberIsRefused(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{})
	other := c.Followers()[0]
	req := cluster.JoinRequest{NodeID: "x", Address: other.Raft}
	if _, err := other.Manager.Join(soon(t), req); !errors.Is(err, cluster.ErrAddressInUse) {
		t.Errorf("joining at a live member's address: %v", err)
	}
	other.Stop() // silence is no proof that it is gone
	if _, err := c.Leader().Manager.Join(soon(t), req); !errors.Is(err, cluster.ErrAddressInUse) {
		t.Errorf("joining at a silent member's address: %v", err)
	}
}

// A node whose data was lost comes back at the same addresses as a new node; the
// old one makes room.
func TestAWipedNodeRejoinsUnderANewID(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{})
	n := c.Followers()[0]
	id := n.ID()
	n.Stop()
	n.Wipe()
	n.Start()
	if n.ID() == id {
		t.Fatal("the id came back")
	}
	c.WaitVoters(3, c.Nodes...)
	c.Leader().MustPut("a", "1")
	if v, err := n.Value("a"); v != "1" || err != nil {
		t.Fatalf("read %q, %v", v, err)
	}
}

func TestChangedAddressesAreAnnounced(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{})
	n := c.Followers()[0]
	n.Stop()
	n.Move()
	n.Join = nil // the members it knows are enough
	n.Start()
	id := n.ID()
	for _, through := range c.Nodes {
		clustertest.Eventually(t, 20*time.Second, "the new addresses", func() error {
			if p := peerOf(t, through, id); p.Address != n.Raft || p.APIAddress != n.API || !p.Voter || !p.Healthy {
				return fmt.Errorf("%+v", p)
			}
			return nil
		})
	}
	c.WaitVoters(3, c.Nodes...)
}

// A node that gets its state as a snapshot is promoted after that.
func TestAJoinerThatNeedsASnapshot(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{Nodes: 1, Store: func(sc *raftstore.Config) { sc.TrailingLogs = 1 }})
	var keys []string
	for i := range 300 {
		keys = append(keys, fmt.Sprint("k", i))
		c.Nodes[0].MustPut(keys[i], keys[i])
	}
	if _, err := c.Nodes[0].Manager.TakeSnapshot(soon(t)); err != nil {
		t.Fatal(err)
	}
	n := c.Add(0)
	n.Start()
	c.WaitVoters(2, c.Nodes...)
	slices.Reverse(keys)
	wantAll(t, n, keys[:10])
}

func TestASingleNodeMoves(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{Nodes: 1})
	n := c.Nodes[0]
	n.MustPut("a", "1")
	n.Stop()
	n.Move()
	n.Start()
	clustertest.Eventually(t, 10*time.Second, "the new addresses", func() error {
		if p := peerOf(t, n, n.ID()); p.Address != n.Raft || p.APIAddress != n.API {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
	n.MustPut("a", "2")
}

// Machines that exchange their addresses stay members, both of them.
func TestTwoMembersExchangeAddresses(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{})
	f := c.Followers()
	a, b := f[0], f[1]
	ids := []string{a.ID(), b.ID()}
	for _, n := range f {
		n.Stop()
	}
	a.Raft, b.Raft = b.Raft, a.Raft
	for _, n := range f {
		n.Start()
	}
	for i, n := range f {
		clustertest.Eventually(t, 20*time.Second, "the new address", func() error {
			if p := peerOf(t, c.Leader(), ids[i]); p.Address != n.Raft || !p.Voter || !p.Healthy {
				return fmt.Errorf("%+v", p)
			}
			return nil
		})
	}
	c.WaitVoters(3, c.Nodes...)
}
