package cluster

// The JSON shapes of http-api.md "Cluster", and what nodes tell one another.

// Status is GET /cluster/status. Nodes that look for a cluster read the second
// half of it from one another.
type Status struct {
	ClusterID    string `json:"cluster_id"`
	NodeID       string `json:"node_id"`
	State        string `json:"state"` // leader, follower, candidate, shutdown, removed
	LeaderID     string `json:"leader_id"`
	LeaderAddr   string `json:"leader_addr"`
	Term         uint64 `json:"term"`
	CommitIndex  uint64 `json:"commit_index"`
	AppliedIndex uint64 `json:"applied_index"`
	Peers        []Peer `json:"peers"`

	Address         string `json:"address"`     // Raft address of this node
	APIAddress      string `json:"api_address"` // API address of this node
	Incarnation     string `json:"incarnation"` // its data directory
	HasState        bool   `json:"has_state"`   // it holds a term, a log or a snapshot of a cluster
	BootstrapExpect int    `json:"bootstrap_expect"`
	Version         string `json:"version"`
}

// Peer is one member as the node asked sees it.
type Peer struct {
	ID         string `json:"id"`
	Address    string `json:"address"`
	APIAddress string `json:"api_address"`
	Voter      bool   `json:"voter"`
	Leader     bool   `json:"leader"`
	// LastContactMS is how long ago the member heard from the leader, in
	// milliseconds by its own account; 0 for the leader, -1 if the member did
	// not answer within a second or has not heard from a leader yet.
	LastContactMS int64  `json:"last_contact_ms"`
	AppliedIndex  uint64 `json:"applied_index"`
	// Healthy: the member answered, and is the leader or hears from it.
	Healthy bool `json:"healthy"`
}

// LeaderInfo is GET /cluster/leader.
type LeaderInfo struct {
	LeaderID   string `json:"leader_id"`
	LeaderAddr string `json:"leader_addr"` // Raft address
	APIAddress string `json:"api_address"` // "" until the leader's member record is known
}

// JoinRequest is POST /cluster/join: add a node, or tell its new addresses.
type JoinRequest struct {
	NodeID     string `json:"node_id"`
	Address    string `json:"address"`
	APIAddress string `json:"api_address"`
	// ClusterID, if not empty, must be the cluster's.
	ClusterID string `json:"cluster_id,omitempty"`
	// Voter: absent = a voter, or what the member already is.
	Voter *bool `json:"voter,omitempty"`
	// Rejoin: the node has the state of this cluster and announces itself again;
	// if it is no member any more, the answer says Removed and there is no new membership.
	Rejoin bool `json:"rejoin,omitempty"`
	// Incarnation is the node's data directory. A node always says it; without it, a
	// person changes what is known of a member, or announces one that will come.
	Incarnation string `json:"incarnation,omitempty"`
}

// JoinResponse answers a join: the node is in the configuration.
type JoinResponse struct {
	ClusterID string `json:"cluster_id"`
	NodeID    string `json:"node_id"`
	LeaderID  string `json:"leader_id"`
	// Voter: it votes already; a new node becomes a voter once it has caught up.
	Voter bool `json:"voter"`
	// Removed: only with Rejoin; the node is no member any more.
	Removed bool `json:"removed,omitempty"`
}

// BootstrapMember is one node of a cluster to be.
type BootstrapMember struct {
	ID         string `json:"id"`
	Address    string `json:"address"`
	APIAddress string `json:"api_address"`
	// Incarnation is the data directory that promised; the same id in another one has
	// forgotten what it said and may not take this member's place.
	Incarnation string `json:"incarnation,omitempty"`
}

// BootstrapValue is what the nodes agree on: which cluster, of whom.
type BootstrapValue struct {
	ClusterID string            `json:"cluster_id"`
	Members   []BootstrapMember `json:"members"` // sorted by id
}

// Ballot orders the attempts to agree: by round, then by the proposer's id.
type Ballot struct {
	Round uint64 `json:"round"`
	Node  string `json:"node"`
}

// The phases of a BootstrapRequest; see DESIGN.md.
const (
	PhasePrepare = "prepare"
	PhaseAccept  = "accept"
	PhaseDecide  = "decide"
)

// BootstrapRequest is POST /cluster/bootstrap, between nodes only.
type BootstrapRequest struct {
	Phase  string          `json:"phase"`
	From   string          `json:"from"`
	Expect int             `json:"expect"`
	Ballot Ballot          `json:"ballot"`
	Value  *BootstrapValue `json:"value,omitempty"` // accept and decide
}

// BootstrapResponse is its answer. OK false is a refusal, with the reason and
// what the proposer needs to do better.
type BootstrapResponse struct {
	NodeID      string          `json:"node_id"`
	Incarnation string          `json:"incarnation"`
	OK          bool            `json:"ok"`
	Reason      string          `json:"reason,omitempty"`
	HasState    bool            `json:"has_state"`
	Promised    Ballot          `json:"promised"`
	Accepted    Ballot          `json:"accepted"`
	Value       *BootstrapValue `json:"value,omitempty"` // the accepted value
	Decided     bool            `json:"decided"`         // Value is final
}

// nodeInfo is a node's answer over internal/peer.
type nodeInfo struct {
	ID            string `json:"id"`
	Address       string `json:"address"`
	APIAddress    string `json:"api_address"`
	Applied       uint64 `json:"applied"`
	LastContactMS int64  `json:"last_contact_ms"`
	Leader        bool   `json:"leader"`
	Removed       bool   `json:"removed"`
	Incarnation   string `json:"incarnation"`
}
