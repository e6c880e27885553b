package client

import (
	"context"
	"net/http"
	"time"
)

// Peer is a node of the cluster, as the asked node knows it.
type Peer struct {
	ID         string `json:"id"`
	Address    string `json:"address"`     // host:port of its Raft listener
	APIAddress string `json:"api_address"` // host:port of its HTTP API
	Voter      bool   `json:"voter"`
	Leader     bool   `json:"leader"`
	// LastContactMS is how long ago it heard from the leader, in milliseconds: 0 for the
	// leader, -1 if it did not answer.
	LastContactMS int64  `json:"last_contact_ms"`
	AppliedIndex  uint64 `json:"applied_index"`
	Healthy       bool   `json:"healthy"`
}

// Status is the cluster as one node sees it.
type Status struct {
	ClusterID    string `json:"cluster_id"`
	NodeID       string `json:"node_id"`
	State        string `json:"state"` // leader, follower, candidate, ...
	LeaderID     string `json:"leader_id"`
	LeaderAddr   string `json:"leader_addr"`
	Term         uint64 `json:"term"`
	CommitIndex  uint64 `json:"commit_index"`
	AppliedIndex uint64 `json:"applied_index"`
	Peers        []Peer `json:"peers"`
	Address      string `json:"address"`
	APIAddress   string `json:"api_address"`
	// HasState: the node holds the state of a cluster.
	HasState bool `json:"has_state"`
	// BootstrapExpect is how many new nodes are to form the cluster.
	BootstrapExpect int `json:"bootstrap_expect"`
	// Incarnation is random and made with the node's data directory: a node that lost
	// its data has another one.
	Incarnation string `json:"incarnation,omitempty"`
	Version     string `json:"version"`
}

// Leader is who leads.
type Leader struct {
	ID         string `json:"leader_id"`
	Address    string `json:"leader_addr"`
	APIAddress string `json:"api_address"`
}

// Digest is the SHA-256, in hexadecimal, over a node's whole replicated state at an
// index: equal on all nodes, or something is broken.
type Digest struct {
	Index   uint64 `json:"index"`
	Digest  string `json:"digest"`
	Records uint64 `json:"records"`
}

// JoinRequest asks the cluster to take a node in.
type JoinRequest struct {
	NodeID     string `json:"node_id"`
	Address    string `json:"address"`
	APIAddress string `json:"api_address"`
	ClusterID  string `json:"cluster_id,omitempty"`
	Voter      *bool  `json:"voter,omitempty"`
}

// JoinResult is what a join came to.
type JoinResult struct {
	ClusterID string `json:"cluster_id"`
	NodeID    string `json:"node_id"`
	LeaderID  string `json:"leader_id"`
	// Voter: it votes already; a new node becomes a voter once it has caught up.
	Voter bool `json:"voter"`
}

// adminWait is added to the timeout of what moves nodes or data about.
const adminWait = time.Minute

// Status asks a node how it sees the cluster.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	err := c.get(ctx, "/cluster/status", &status)
	return status, err
}

// Peers lists the nodes of the cluster.
func (c *Client) Peers(ctx context.Context) ([]Peer, error) {
	var result struct {
		Peers []Peer `json:"peers"`
	}
	err := c.get(ctx, "/cluster/peers", &result)
	return result.Peers, err
}

// Leader asks who leads; ErrNoLeader if nobody does at the moment.
func (c *Client) Leader(ctx context.Context) (Leader, error) {
	var leader Leader
	err := c.get(ctx, "/cluster/leader", &leader)
	return leader, err
}

// Digest asks a node for the digest of its state at an index, for which it waits;
// 0 = what it has now. Use Node to say which node.
func (c *Client) Digest(ctx context.Context, at uint64) (Digest, error) {
	req := &request{method: http.MethodGet, path: "/cluster/digest", read: true, extra: adminWait}
	if at > 0 {
		req.setUint("at", at)
	}
	var digest Digest
	err := c.call(ctx, req, &digest)
	return digest, err
}

// Join asks the cluster to take the described node in.
func (c *Client) Join(ctx context.Context, join JoinRequest) (JoinResult, error) {
	var result JoinResult
	err := c.post(ctx, "/cluster/join", join, &result)
	return result, err
}

// JoinTo tells the asked node to join the cluster at these API addresses.
func (c *Client) JoinTo(ctx context.Context, addresses ...string) (JoinResult, error) {
	var result JoinResult
	err := c.post(ctx, "/cluster/join", map[string][]string{"join": addresses}, &result)
	return result, err
}

// Leave removes a node from the cluster; it hands over the leadership first.
func (c *Client) Leave(ctx context.Context, nodeID string) error {
	if nodeID == "" {
		return badRequest("which node is to leave?")
	}
	req := &request{method: http.MethodDelete, path: "/cluster/leave/" + escape(nodeID, false), extra: adminWait}
	return c.call(ctx, req, nil)
}

// Transfer moves the leadership to a node, or with "" to the best one, and gives the
// id of the new leader, if the server says it.
func (c *Client) Transfer(ctx context.Context, to string) (string, error) {
	body := map[string]string{}
	if to != "" {
		body["to"] = to
	}
	var leader Leader
	err := c.post(ctx, "/cluster/transfer", body, &leader)
	return leader.ID, err
}

// Snapshot makes the leader take a Raft snapshot and gives its index.
func (c *Client) Snapshot(ctx context.Context) (uint64, error) {
	var result struct {
		Index uint64 `json:"index"`
	}
	err := c.post(ctx, "/cluster/snapshot", map[string]string{}, &result)
	return result.Index, err
}

func (c *Client) get(ctx context.Context, path string, out any) error {
	return c.call(ctx, &request{method: http.MethodGet, path: path, read: true}, out)
}

func (c *Client) post(ctx context.Context, path string, body, out any) error {
	req, err := postJSON(path, body)
	if err != nil {
		return err
	}
	req.extra = adminWait
	return c.call(ctx, req, out)
}
