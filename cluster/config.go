package cluster

import (
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Config says who this node is and how it finds its cluster.
type Config struct {
	NodeID string
	// RaftAddr and APIAddr are what other nodes dial (advertised), host:port;
	// host names are kept as they are.
	RaftAddr string
	APIAddr  string
	// DataDir keeps cluster-state.json, the votes of the bootstrap. Empty = not
	// kept; only for a single node in memory.
	DataDir string
	// BootstrapExpect is how many nodes form a new cluster; 0 = only join.
	BootstrapExpect int
	// Join are API addresses of nodes; without a scheme http:// is meant. This
	// node's own address may be among them.
	Join []string
	// LeaveOnTerminate is for cmd, which calls LeaveSelf when it is set.
	LeaveOnTerminate bool
	Version          string
	// HTTP carries discovery and joins; nil = plain HTTP with keep-alive off.
	HTTP   http.RoundTripper
	Logger hclog.Logger
}

// timing is every wait of the package, in one place.
type timing struct {
	probe       time.Duration // one HTTP request of discovery
	joinCall    time.Duration // one HTTP join: the leader may need an election first
	ask         time.Duration // one question to a member over internal/peer
	retryMin    time.Duration // first pause between attempts to find a cluster
	retryMax    time.Duration // longest pause
	turn        time.Duration // how much later the next node in line proposes
	duty        time.Duration // pause between rounds of the leader's duties while there are any
	announce    time.Duration // pause between looks at this node's own record until it is true
	calm        time.Duration // pause between looks when nothing is left to do
	lost        time.Duration // without a leader for so long, other ways are tried
	forward     time.Duration // how long a forwarded operation waits for a leader
	repeat      time.Duration // the same log line at most this often
	alarm       time.Duration // the same for what a person has to mend
	silent      time.Duration // the same for an address where nobody answers; the first not before a fifth of it
	rightPlace  time.Duration // pause between looks whether the join addresses lead to this node's own cluster
	healthyness time.Duration // contact with the leader older than this is unhealthy
}

func defaultTiming() timing {
	return timing{
		probe: 2 * time.Second, joinCall: 12 * time.Second, ask: time.Second,
		retryMin: 100 * time.Millisecond, retryMax: 2 * time.Second,
		turn: 2 * time.Second, duty: 100 * time.Millisecond,
		announce: 250 * time.Millisecond, calm: time.Second, lost: 3 * time.Second, forward: 10 * time.Second,
		repeat: time.Minute, alarm: 30 * time.Second, silent: 10 * time.Second, rightPlace: 5 * time.Second,
		healthyness: 3 * time.Second,
	}
}
