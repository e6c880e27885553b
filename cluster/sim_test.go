package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/raftstore"
)

// simStore is a store without Raft: enough to form and join a cluster. It
// outlives its manager, as a data directory does.
type simStore struct {
	Store // what is not needed here panics
	id    string

	mu          sync.Mutex
	incarnation string
	clusterID   string
	state       bool
	first       []raftstore.Server // the configuration it bootstrapped with
}

func (s *simStore) NodeID() string                       { return s.id }
func (s *simStore) Leader() (string, string, bool)       { return "", "", false }
func (s *simStore) IsLeader() bool                       { return false }
func (s *simStore) LeaderChanges() <-chan struct{}       { return nil }
func (s *simStore) State() string                        { return "follower" }
func (s *simStore) Term() uint64                         { return 0 }
func (s *simStore) CommitIndex() uint64                  { return 0 }
func (s *simStore) AppliedIndex() uint64                 { return 0 }
func (s *simStore) Servers() ([]raftstore.Server, error) { return nil, errors.New("not here") }

func (s *simStore) ClusterID() string { s.mu.Lock(); defer s.mu.Unlock(); return s.clusterID }
func (s *simStore) Removed() bool     { return false }
func (s *simStore) HasState() bool    { s.mu.Lock(); defer s.mu.Unlock(); return s.state }

func (s *simStore) Incarnation() string { s.mu.Lock(); defer s.mu.Unlock(); return s.incarnation }

func (s *simStore) SetClusterID(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clusterID != "" && s.clusterID != id {
		return raftstore.ErrWrongCluster
	}
	s.clusterID = id
	return nil
}

func (s *simStore) Bootstrap(id string, servers []raftstore.Server) error {
	if err := s.SetClusterID(id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.first = true, servers
	return nil
}

// simNode is a node that can crash and start again with its data directory.
type simNode struct {
	store  *simStore
	config Config

	mu   sync.Mutex
	m    *Manager // nil = down
	stop context.CancelFunc
	done chan struct{}

	wiped bool // at least once
}

// simNet carries HTTP between nodes, badly.
type simNet struct {
	loss float64
	mu   sync.Mutex
	// wall says which nodes cannot hear each other: those with different numbers.
	wall  map[string]int
	nodes map[string]*simNode
}

type simWire struct {
	net  *simNet
	from string
}

var errLost = errors.New("lost")

func (w simWire) RoundTrip(r *http.Request) (*http.Response, error) {
	to := r.URL.Hostname()
	w.net.mu.Lock()
	node, cut := w.net.nodes[to], w.net.wall[w.from] != w.net.wall[to]
	w.net.mu.Unlock()
	if node == nil || cut || w.net.lost() {
		return nil, errLost
	}
	if err := pause(r.Context(), rand.N(50*time.Millisecond)); err != nil {
		return nil, err
	}
	node.mu.Lock()
	m := node.m
	node.mu.Unlock()
	if m == nil {
		return nil, errLost
	}
	rec := httptest.NewRecorder()
	w.net.serve(m, node.store, rec, r)
	if w.net.lost() { // carried out, but the answer is lost
		return nil, errLost
	}
	return rec.Result(), nil
}

func (net *simNet) lost() bool {
	net.mu.Lock()
	defer net.mu.Unlock()
	return rand.Float64() < net.loss
}

// leads says whether the cluster of this node can have a leader, who lets others in:
// only if most of its first members, in the directories that were counted, have formed it.
func (net *simNet) leads(m *Manager) bool {
	value := m.votes.decided()
	if value == nil {
		return false
	}
	formed := 0
	for _, f := range value.Members {
		s := net.nodes[f.ID].store
		if s.HasState() && s.Incarnation() == f.Incarnation {
			formed++
		}
	}
	return formed > len(value.Members)/2
}

func (net *simNet) serve(m *Manager, s *simStore, w http.ResponseWriter, r *http.Request) {
	var out any
	var err error
	switch r.URL.Path {
	case "/cluster/status":
		out = m.Status(r.Context())
	case "/cluster/bootstrap":
		var req BootstrapRequest
		b, _ := io.ReadAll(r.Body)
		if err = json.NewDecoder(bytes.NewReader(b)).Decode(&req); err == nil {
			out, err = m.Bootstrap(r.Context(), req)
		}
	case "/cluster/join": // the leader would let it in
		var req JoinRequest
		if err = json.NewDecoder(r.Body).Decode(&req); err != nil {
			break
		}
		if !net.leads(m) {
			err = raftstore.ErrNoLeader
			break
		}
		out = JoinResponse{ClusterID: s.ClusterID()}
		if f := m.founder(req.NodeID); f != nil && f.Incarnation != req.Incarnation {
			err = newDirectory(req.NodeID, s.ClusterID())
		}
	}
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		out = map[string]string{"error": err.Error(), "code": Code(err)}
	}
	_ = json.NewEncoder(w).Encode(out)
}

// start runs the node; a joined one gets its state from the leader, here at once.
func (n *simNode) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	m := newManager(n.config, n.store, nil)
	m.members = func() (map[string]*record.Member, error) { return nil, nil }
	done := make(chan struct{})
	n.mu.Lock()
	n.m, n.stop, n.done = m, cancel, done
	n.mu.Unlock()
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			t.Errorf("node %s: %v", n.store.id, err)
		}
	}()
}

func (n *simNode) kill() {
	n.mu.Lock()
	stop, done := n.stop, n.done
	n.m = nil
	n.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
}

// wipe clears the data directory of a node that is down.
func (n *simNode) wipe(t *testing.T) {
	t.Helper()
	n.wiped, n.config.DataDir = true, t.TempDir()
	n.store.mu.Lock()
	defer n.store.mu.Unlock()
	n.store.incarnation, n.store.clusterID, n.store.state, n.store.first = newClusterID(), "", false, nil
}

func newSim(t *testing.T, nodes, expect int, loss float64) *simNet {
	t.Helper()
	net := &simNet{loss: loss, wall: map[string]int{}, nodes: map[string]*simNode{}}
	var join []string
	for i := range nodes {
		join = append(join, fmt.Sprintf("n%d", i))
	}
	for _, id := range join {
		net.nodes[id] = &simNode{store: &simStore{id: id, incarnation: newClusterID()}, config: Config{
			NodeID: id, RaftAddr: id + ":7000", APIAddr: id, DataDir: t.TempDir(),
			BootstrapExpect: expect, Join: join, HTTP: simWire{net, id},
		}}
	}
	return net
}

// clusters are the ids of the clusters that were bootstrapped, with the number
// of nodes that did; every node of one must have done it with the same members.
func (net *simNet) clusters(t *testing.T) map[string]int {
	t.Helper()
	out, first := map[string]int{}, map[string]string{}
	for _, n := range net.nodes {
		n.store.mu.Lock()
		id, servers := n.store.clusterID, n.store.first
		n.store.mu.Unlock()
		if servers == nil {
			continue
		}
		out[id]++
		text := fmt.Sprint(servers)
		if first[id] != "" && first[id] != text {
			t.Errorf("cluster %s was bootstrapped with %s and with %s", id, first[id], text)
		}
		first[id] = text
	}
	return out
}

func (net *simNet) stop() {
	for _, n := range net.nodes {
		n.kill()
	}
}

// settled says that every node is in a cluster, or knows that it must not be
// because its directory is new.
func (net *simNet) settled() bool {
	for _, n := range net.nodes {
		n.mu.Lock()
		m := n.m
		n.mu.Unlock()
		outside := n.wiped && errors.Is(m.Trouble(), ErrMemberExists)
		if n.store.ClusterID() == "" && !outside {
			return false
		}
	}
	return true
}

func TestOneClusterWhateverHappens(t *testing.T) {
	for _, c := range []struct {
		name          string
		nodes, expect int
	}{
		{"three of three", 3, 3}, {"three of five", 5, 3}, {"three of six", 6, 3},
		{"two of seven", 7, 2}, {"one of three", 3, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 20 {
				synctest.Test(t, func(t *testing.T) { storm(t, c.nodes, c.expect, 0) })
			}
		})
	}
}

// A data directory that is cleared at any moment, with the node id kept, leads to
// no second cluster, and never takes the place of the one that was counted.
func TestOneClusterThoughADirectoryIsCleared(t *testing.T) {
	for _, nodes := range []int{2, 3, 5} {
		t.Run(fmt.Sprint(nodes, " nodes"), func(t *testing.T) {
			for range 20 {
				synctest.Test(t, func(t *testing.T) { storm(t, nodes, nodes, 1) })
			}
		})
	}
}

// storm starts the nodes at random times on a lossy network, with crashes and
// partitions, then lets calm return: there must be one cluster, with everybody.
//
// wipes is how many directories are cleared: never so many that a majority has
// forgotten.
func storm(t *testing.T, nodes, expect, wipes int) {
	t.Helper()
	net := newSim(t, nodes, expect, 0.2)
	defer net.stop()
	var all []*simNode
	for _, n := range net.nodes {
		all = append(all, n)
		if rand.N(2) == 0 {
			n.start(t)
		}
	}
	for i := range 40 {
		if wipes > 0 && rand.N(20) == 0 || i+wipes == 40 {
			n := all[rand.N(len(all))]
			n.kill()
			n.wipe(t)
			n.start(t)
			wipes--
		}
		_ = pause(t.Context(), rand.N(time.Second)) // the bubble's clock
		switch n := all[rand.N(len(all))]; rand.N(3) {
		case 0:
			n.kill()
		case 1:
			n.kill()
			n.start(t)
		case 2:
			net.mu.Lock()
			net.wall[n.store.id] = rand.N(2)
			net.mu.Unlock()
		}
	}
	net.mu.Lock()
	net.wall, net.loss = map[string]int{}, 0
	net.mu.Unlock()
	for _, n := range all {
		n.kill()
		n.start(t)
	}
	for range 600 {
		if net.settled() {
			break
		}
		_ = pause(t.Context(), time.Second)
	}
	ids := map[string]bool{}
	for _, n := range all {
		id := n.store.ClusterID()
		if f := n.m.votes.decided().member(n.store.id); n.store.HasState() && (f == nil || f.Incarnation != n.store.Incarnation()) {
			t.Errorf("%s took the place of %+v", n.store.id, f)
		}
		if id != "" || !n.wiped {
			ids[id] = true
		}
	}
	if got := net.clusters(t); len(got) != 1 || len(ids) != 1 || ids[""] {
		t.Fatalf("bootstrapped %v, nodes are in %v", got, ids)
	}
}
