package api_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/api/apitest"
	"github.com/neogan74/konsul/cluster/clustertest"
	"github.com/neogan74/konsul/raftstore"
)

// startCluster serves the API of every node of a real cluster.
func startCluster(t *testing.T, n int) (*clustertest.Cluster, []*apitest.Server) {
	t.Helper()
	var registries []*prometheus.Registry
	c := clustertest.Started(t, clustertest.Options{Nodes: n, Store: func(c *raftstore.Config) {
		reg := prometheus.NewRegistry()
		registries = append(registries, reg)
		c.Registerer = reg
	}})
	var servers []*apitest.Server
	for i, node := range c.Nodes {
		cfg := api.Config{Version: "test", RaftDir: filepath.Join(node.Dir, "raft"), Registerer: registries[i], Gatherer: registries[i]}
		servers = append(servers, apitest.Serve(t, api.New(cfg, node.Store, node.Manager)))
	}
	return c, servers
}

// TestRealCluster: what one node was told, every node says.
func TestRealCluster(t *testing.T) {
	c, servers := startCluster(t, 3)
	watch := servers[2].Watch("/watch?prefix=")
	var last uint64
	for i, s := range servers {
		for j, key := range oddKeys {
			value := fmt.Sprintf("%d/%d\xff", i, j)
			last = s.Put("/kv/"+escapeAll(key), value).Want(200).Uint("modify_index")
			for _, other := range servers {
				a := other.Get("/kv/" + escapeAll(key) + "?raw=true").Want(200)
				if string(a.Body) != value || a.Index() < last {
					t.Fatalf("%q is %q at %d, want %q at %d", key, a.Body, a.Index(), value, last)
				}
			}
			if f := watch.Next(); f.ID != fmt.Sprint(last) || f.Event != "put" {
				t.Fatalf("%+v, want index %d", f, last)
			}
		}
	}
	leader := servers[0].Get("/cluster/leader").Want(200)
	if leader.String("leader_id") != c.Leader().Store.NodeID() {
		t.Fatalf("%s", leader.Body)
	}
	var digests []string
	for _, s := range servers {
		digests = append(digests, string(s.Get(fmt.Sprintf("/cluster/digest?at=%d", last)).Want(200).Body))
		if a := s.Get("/kv/plain?consistency=stale&max_stale=5s").Want(200); a.Header.Get("X-Konsul-Staleness-Ms") == "" {
			t.Fatalf("%v", a.Header)
		}
		if st := s.Get("/cluster/status").Want(200); len(st.Object()["peers"].([]any)) != 3 || st.String("version") == "" {
			t.Fatalf("%s", st.Body)
		}
		if h := s.Get("/health").Want(200); h.String("status") != "healthy" {
			t.Fatalf("%s", h.Body)
		}
		s.Get("/health/ready").Want(200)
		metrics := string(s.Get("/metrics").Want(200).Body)
		for _, name := range []string{"konsul_raft_term", "konsul_persistence_operations_total", "konsul_fsm_watchers", `database_size_bytes{type="vlog"}`, `database_size_bytes{type="raft"} `} {
			if !strings.Contains(metrics, name) {
				t.Errorf("no %s in /metrics", name)
			}
		}
	}
	if digests[0] != digests[1] || digests[1] != digests[2] {
		t.Fatalf("digests differ: %q", digests)
	}
}

// TestRealClusterWrites: conditions, batches, transactions and what is refused, asked
// of a follower.
func TestRealClusterWrites(t *testing.T) {
	c, servers := startCluster(t, 3)
	s := servers[0]
	if c.Leader() == c.Nodes[0] {
		s = servers[1]
	}
	now := s.Put("/kv/a?cas=0", "1", "Idempotency-Key", "k").Want(200).Uint("modify_index")
	if again := s.Put("/kv/a?cas=0", "1", "Idempotency-Key", "k").Want(200).Uint("modify_index"); again != now {
		t.Fatalf("applied twice: %d, %d", now, again)
	}
	s.Put("/kv/a", "2", "Idempotency-Key", "k").Want(400, "bad_request")
	s.Put("/kv/a?cas=0", "x").Want(409, "exists")
	s.Post("/txn", fmt.Sprintf(`{"then":[{"op":"set","key":"a","value":"2","cas":%d},{"op":"get","key":"a"}]}`, now)).Want(200)
	s.Post("/batch/set", `{"items":{"b/1":"x","b/2":"y"}}`).Want(200)
	s.Put("/kv/big", strings.Repeat("x", 524288)).Want(200)
	s.Put("/kv/big", strings.Repeat("x", 524289)).Want(413, "too_large")
	if n := s.Delete("/kv?prefix=b/").Want(200).Uint("deleted"); n != 2 {
		t.Fatalf("deleted %d", n)
	}
	if a := s.Get(fmt.Sprintf("/kv/a?at=%d", now)).Want(200); a.String("value") != "1" {
		t.Fatalf("%s", a.Body)
	}
	s.Get("/kv/a?at=1000000").Want(400, "bad_request")
	if a := s.Post("/cluster/snapshot", "").Want(200); a.Uint("index") == 0 {
		t.Fatalf("%s", a.Body)
	}
	s.Delete("/cluster/leave/nobody").Want(404, "member_not_found")
	s.Post("/cluster/transfer", `{"to":"nobody"}`).Want(404, "member_not_found")
	s.Post("/cluster/join", `{"node_id":"x","address":"","api_address":"h:1"}`).Want(400, "bad_request")
	s.Post("/cluster/join", `{"node_id":"x","address":"h:1","api_address":"h:2","cluster_id":"other"}`).Want(409, "wrong_cluster")
	old := c.Leader().Store.NodeID()
	if to := s.Post("/cluster/transfer", `{}`).Want(200).String("leader_id"); to == old || to == "" {
		t.Fatalf("leader %q after a transfer from %q", to, old)
	}
	s.Put("/kv/after", "x").Want(200)
}

// TestRealClusterWithoutQuorum: what the last node standing says.
func TestRealClusterWithoutQuorum(t *testing.T) {
	c, servers := startCluster(t, 3)
	servers[0].Put("/kv/a", "x").Want(200)
	servers[2].Get("/kv/a").Want(200)
	c.Nodes[0].Stop()
	c.Nodes[1].Stop()
	s := servers[2]
	put := s.Put("/kv/a", "y")
	if put.Status != 503 && put.Status != 504 {
		t.Fatalf("%d %s", put.Status, put.Body)
	}
	get := s.Get("/kv/a")
	if get.Status != 503 || get.Header.Get("Retry-After") == "" {
		t.Fatalf("%d %s", get.Status, get.Body)
	}
	if a := s.Get("/kv/a?consistency=stale").Want(200); a.String("value") != "x" {
		t.Fatalf("%s", a.Body)
	}
	if h := s.Get("/health").Want(200); h.String("status") != "degraded" {
		t.Fatalf("%s", h.Body)
	}
	s.Get("/health/ready").Want(503)
	s.Get("/health/live").Want(200)
	s.Get("/cluster/status").Want(200)
}
