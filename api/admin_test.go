package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/api/apitest"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/raftstore"

	"github.com/neogan74/konsul/cluster/clustertest"
)

// maintaining is a node whose engine answers as the test says.
type maintaining struct {
	api.Node
	m   persistence.Maintained
	err error
}

func (n *maintaining) Compact(context.Context) (persistence.Maintained, error) { return n.m, n.err }
func (n *maintaining) CollectGarbage(context.Context) (persistence.Maintained, error) {
	return n.m, n.err
}

func TestMaintenanceAnswers(t *testing.T) {
	node := &maintaining{Node: apitest.NewLocal(t), m: persistence.Maintained{
		Before: persistence.Usage{SST: 100, VLog: 20, Mem: 3}, After: persistence.Usage{SST: 40, VLog: 10, Mem: 3}, Took: 7_000_000}}
	s := apitest.Start(t, api.Config{}, node, nil)
	for target, message := range map[string]string{"/admin/gc": "garbage collected", "/admin/compact": "compacted"} {
		node.err = nil
		a := s.Post(target, "").Want(200)
		after, _ := a.Object()["after"].(map[string]any)
		if a.String("message") != message || a.Uint("reclaimed_bytes") != 70 || a.Uint("duration_ms") != 7 || after["sst"] != json.Number("40") {
			t.Errorf("%s: %s", target, a.Body)
		}
		node.err = persistence.ErrMaintaining
		s.Post(target, "{}").Want(409, "already_running")
		node.err = fmt.Errorf("compacting: %w: 1 byte left", persistence.ErrNoSpace)
		s.Post(target, "").Want(503, "disk_full")
		node.err = context.DeadlineExceeded
		if a := s.Post(target, "").Want(202); a.Object()["after"] != nil {
			t.Errorf("%s: %s", target, a.Body)
		}
		node.err = nil
		s.Post(target+"?all=true", "").Want(400, "bad_request")
		s.Post(target, `{"ratio":1}`).Want(400, "bad_request")
		s.Get(target).Want(405, "method_not_allowed")
	}
}

// What a real node has on disk is named part by part, and a compaction frees what was
// overwritten.
func TestDiskUseByPart(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{Nodes: 1, Store: func(c *raftstore.Config) {
		c.History = persistence.History{MinAge: 1, MinIndexes: 1, MaxIndexes: 1}
	}})
	node := c.Nodes[0]
	s := apitest.Serve(t, api.New(api.Config{RaftDir: raftstore.LogDir(node.Dir), SnapshotDir: raftstore.SnapshotDir(node.Dir), BackupDir: t.TempDir()}, node.Store, node.Manager))
	for i := range 40 {
		for k := range 4 {
			s.Put(fmt.Sprintf("/kv/k%d", k), strings.Repeat(fmt.Sprintf("%07d ", i*1000+k), 64<<10)).Want(200)
		}
	}
	a := s.Post("/admin/compact", "").Want(200)
	var got struct{ Before, After map[string]int64 }
	parse(t, a.Body, &got)
	if got.After["snapshots"] == 0 || got.After["raft"] == 0 || got.After["sst"] == 0 {
		t.Errorf("%s", a.Body)
	}
	var health struct {
		Persistence struct {
			Disk  map[string]int64
			Total int64 `json:"disk_usage_bytes"`
		}
	}
	parse(t, s.Get("/health").Want(200).Body, &health)
	var sum int64
	for part, n := range health.Persistence.Disk {
		if part != "backups" {
			sum += n
		}
	}
	if sum != health.Persistence.Total || sum == 0 {
		t.Errorf("%+v", health)
	}
	metrics := string(s.Get("/metrics").Want(200).Body)
	for _, part := range []string{"raft", "snapshots", "backups"} {
		if !strings.Contains(metrics, `konsul_persistence_database_size_bytes{type="`+part+`"}`) {
			t.Errorf("no %s in /metrics", part)
		}
	}
	for k := range 4 {
		if got := s.Get(fmt.Sprintf("/kv/k%d?raw=true", k)).Want(200); !strings.HasPrefix(string(got.Body), fmt.Sprintf("%07d ", 39*1000+k)) {
			t.Errorf("k%d begins with %.8s", k, got.Body)
		}
	}
}

// The snapshot that comes first took all the time: nothing goes on in the background.
func TestACompactionThatDidNotBegin(t *testing.T) {
	node := clustertest.Started(t, clustertest.Options{Nodes: 1}).Nodes[0]
	s := apitest.Serve(t, api.New(api.Config{}, node.Store, node.Manager))
	s.Put("/kv/a", "1").Want(200)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodPost, "/admin/compact", nil))
	if answer.Code != 503 || !strings.Contains(answer.Body.String(), "nothing was compacted") || answer.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}

func TestMoveToDiskAnswers(t *testing.T) {
	s := apitest.Start(t, api.Config{PersistenceType: "memory", MoveTo: "/somewhere"}, apitest.NewLocal(t), nil)
	s.Put("/kv/a", "1").Want(200)
	s.Post("/admin/sync", "").Want(409, "wrong_state")
	for _, bad := range []string{``, `{}`, `{"persistence":{}}`, `{"persistence":{"enabled":false}}`, `{"persistence":{"type":"memory"}}`, `{"persistence":{"type":"badger","data_dir":"/etc"}}`, `{"log":{}}`} {
		s.Post("/admin/config", bad).Want(400, "bad_request")
	}
	s.Post("/admin/sync", "").Want(409, "wrong_state")
	a := s.Post("/admin/config", `{"persistence":{"enabled":true,"type":"badger"}}`).Want(200)
	if p, _ := a.Object()["persistence"].(map[string]any); p["data_dir"] != "/somewhere" || p["enabled"] != true {
		t.Errorf("%s", a.Body)
	}
	if a := s.Post("/admin/sync", "").Want(200); a.Uint("num_keys") != 1 || a.String("data_dir") != "/somewhere" || a.Uint("index") == 0 {
		t.Errorf("%s", a.Body)
	}
	disk, _ := apitest.StartLocal(t)
	disk.Post("/admin/config", `{"persistence":{"enabled":true}}`).Want(200)
	disk.Post("/admin/sync", "").Want(200)
}
