package harness

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Status is GET /cluster/status.
type Status struct {
	ClusterID    string `json:"cluster_id"`
	NodeID       string `json:"node_id"`
	State        string `json:"state"`
	LeaderID     string `json:"leader_id"`
	LeaderAddr   string `json:"leader_addr"`
	Term         uint64 `json:"term"`
	CommitIndex  uint64 `json:"commit_index"`
	AppliedIndex uint64 `json:"applied_index"`
	Peers        []Peer `json:"peers"`
}

// Peer is one member as /cluster/status and /cluster/peers show it.
type Peer struct {
	ID         string `json:"id"`
	Address    string `json:"address"`
	APIAddress string `json:"api_address"`
	Voter      bool   `json:"voter"`
	Leader     bool   `json:"leader"`
	Healthy    bool   `json:"healthy"`
}

// Status reads the node's view of the cluster.
func (n *Node) Status(ctx context.Context) (Status, error) {
	var s Status
	err := n.call(ctx, &s, "GET", "/cluster/status", nil)
	return s, err
}

// ID is the node's Raft id.
func (n *Node) ID() string {
	n.t.Helper()
	var id string
	Eventually(n.t, 20*time.Second, n.Name+" to say its id", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		s, err := n.Status(ctx)
		if id = s.NodeID; err == nil && id == "" {
			err = errors.New("empty node_id")
		}
		return err
	})
	return id
}

// Leader waits until some running node calls itself the leader and a majority
// of the running ones agrees, and returns it.
func (c *Cluster) Leader() *Node {
	c.t.Helper()
	var leader *Node
	Eventually(c.t, 30*time.Second, "a leader", func() (err error) {
		leader, err = c.TryLeader()
		return err
	})
	return leader
}

// TryLeader is one look for the leader. Paused nodes do not answer and so do not count.
func (c *Cluster) TryLeader() (*Node, error) {
	votes, self := map[string]int{}, map[string]*Node{}
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		s, err := n.Status(ctx)
		cancel()
		if err != nil {
			continue
		}
		votes[s.LeaderID]++
		if strings.EqualFold(s.State, "leader") {
			self[s.NodeID] = n
		}
	}
	for id, n := range self {
		if 2*votes[id] > len(c.Nodes) {
			return n, nil
		}
	}
	return nil, fmt.Errorf("no leader: votes %v", votes)
}

// Digest is GET /cluster/digest.
type Digest struct {
	Index   uint64 `json:"index"`
	Digest  string `json:"digest"`
	Records uint64 `json:"records"`
}

// Digest asks the node for the digest of its state at an index (0: its newest).
func (n *Node) Digest(ctx context.Context, at uint64) (Digest, error) {
	target := "/cluster/digest"
	if at > 0 {
		target += "?at=" + strconv.FormatUint(at, 10)
	}
	var d Digest
	err := n.call(ctx, &d, "GET", target, nil)
	return d, err
}

// SameDigest fails the test unless all running nodes have the same state at the
// newest index any of them had, and returns that.
func (c *Cluster) SameDigest() Digest {
	c.t.Helper()
	d, err := c.TrySameDigest()
	if err != nil {
		c.t.Fatal(err)
	}
	return d
}

// TrySameDigest is SameDigest for a caller that handles the error.
func (c *Cluster) TrySameDigest() (Digest, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var at uint64
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		s, err := n.Status(ctx)
		if err != nil {
			return Digest{}, fmt.Errorf("%s: %w", n.Name, err)
		}
		at = max(at, s.AppliedIndex)
	}
	var first Digest
	var from string
	for _, n := range c.Nodes {
		if !n.Running() {
			continue
		}
		d, err := n.Digest(ctx, at)
		switch {
		case err != nil:
			return d, fmt.Errorf("%s: %w", n.Name, err)
		case d.Digest == "" || d.Index != at:
			return d, fmt.Errorf("%s: digest at %d: got %+v", n.Name, at, d)
		case first.Digest == "":
			first, from = d, n.Name
		case d != first:
			return d, fmt.Errorf("the states differ at index %d: %s %+v, %s %+v", at, from, first, n.Name, d)
		}
	}
	return first, nil
}
