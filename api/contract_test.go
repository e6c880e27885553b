package api_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/api/apitest"
	"github.com/neogan74/konsul/cluster"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/raftstore"
)

// someCluster answers everything with something.
func someCluster() *apitest.Cluster {
	peer := cluster.Peer{ID: "n1", Address: "a:1", APIAddress: "a:2", Voter: true, Leader: true, Healthy: true}
	return &apitest.Cluster{
		StatusFunc:   func() cluster.Status { return cluster.Status{NodeID: "n1", Peers: []cluster.Peer{peer}} },
		PeersFunc:    func() []cluster.Peer { return []cluster.Peer{peer} },
		LeaderFunc:   func() (cluster.LeaderInfo, error) { return cluster.LeaderInfo{LeaderID: "n1"}, nil },
		TransferFunc: func(to string) (string, error) { return to, nil },
		SnapshotFunc: func() (uint64, error) { return 7, nil },
	}
}

// TestFieldNames walks the endpoints: each answer has exactly these fields.
func TestFieldNames(t *testing.T) {
	s := apitest.Start(t, api.Config{Version: "v1"}, apitest.NewLocal(t), someCluster())
	for _, c := range []struct {
		do     func() *apitest.Answer
		fields string
	}{
		{func() *apitest.Answer { return s.Put("/kv/a", "x") }, "create_index key message modify_index"},
		{func() *apitest.Answer { return s.PutJSON("/kv/b", `{"value":"x"}`) }, "create_index key message modify_index"},
		{func() *apitest.Answer { return s.Get("/kv/a") }, "create_index flags key modify_index value"},
		{func() *apitest.Answer { return s.Put("/kv/bin", "\xff") }, "create_index key message modify_index"},
		{func() *apitest.Answer { return s.Get("/kv/bin") }, "create_index encoding flags key modify_index value"},
		{func() *apitest.Answer { return s.Get("/kv") }, "keys next"},
		{func() *apitest.Answer { return s.Get("/kv?values=true") }, "entries next"},
		{func() *apitest.Answer { return s.Delete("/kv/a") }, "deleted key message"},
		{func() *apitest.Answer { return s.Delete("/kv?prefix=b") }, "deleted"},
		{func() *apitest.Answer { return s.Post("/batch/set", `{"items":{"a":"x"}}`) }, "count message modify_index"},
		{func() *apitest.Answer { return s.Post("/batch/get", `{"keys":["a"]}`) }, "found index not_found"},
		{func() *apitest.Answer { return s.Post("/batch/delete", `{"keys":["a"]}`) }, "count deleted message"},
		{func() *apitest.Answer { return s.Post("/txn", `{"then":[{"op":"get","key":"a"}]}`) }, "index results succeeded"},
		{func() *apitest.Answer { return s.Get("/cluster/status") }, "address api_address applied_index bootstrap_expect cluster_id commit_index " +
			"has_state incarnation leader_addr leader_id node_id peers state term version"},
		{func() *apitest.Answer { return s.Get("/cluster/leader") }, "api_address leader_addr leader_id"},
		{func() *apitest.Answer { return s.Get("/cluster/peers") }, "peers"},
		{func() *apitest.Answer { return s.Get("/cluster/digest") }, "digest index records"},
		{func() *apitest.Answer { return s.Post("/cluster/transfer", `{"to":"n2"}`) }, "leader_id message"},
		{func() *apitest.Answer { return s.Post("/cluster/snapshot", ``) }, "duration_ms index message"},
		{func() *apitest.Answer { return s.Delete("/cluster/leave/n2") }, "message node_id"},
		{func() *apitest.Answer { return s.Get("/health") }, "persistence raft status"},
		{func() *apitest.Answer { return s.Get("/health/live") }, "status"},
		{func() *apitest.Answer { return s.Get("/health/ready") }, "status"},
	} {
		a := c.do().Want(200)
		if got := strings.Join(slices.Sorted(maps.Keys(a.Object())), " "); got != c.fields {
			t.Errorf("fields %q, want %q: %s", got, c.fields, a.Body)
		}
	}
	peer := s.Get("/cluster/peers").Object()["peers"].([]any)[0].(map[string]any)
	if got := strings.Join(slices.Sorted(maps.Keys(peer)), " "); got != "address api_address applied_index healthy id last_contact_ms leader voter" {
		t.Errorf("peer: %s", got)
	}
	for field, want := range map[string]string{
		"persistence": "disk disk_usage_bytes enabled healthy num_keys num_services type",
		"raft":        "applied_index commit_index healthy last_contact_ms leader_id node_id state term",
	} {
		part := s.Get("/health").Object()[field].(map[string]any)
		if got := strings.Join(slices.Sorted(maps.Keys(part)), " "); got != want {
			t.Errorf("%s: %s", field, got)
		}
	}
}

func TestClusterRequests(t *testing.T) {
	cl := someCluster()
	s := apitest.Start(t, api.Config{}, apitest.NewLocal(t), cl)
	var joined cluster.JoinRequest
	cl.JoinFunc = func(r cluster.JoinRequest) (cluster.JoinResponse, error) {
		joined = r
		return cluster.JoinResponse{NodeID: r.NodeID, ClusterID: "c"}, nil
	}
	a := s.Post("/cluster/join", `{"node_id":"n2","address":"h:1","api_address":"h:2","cluster_id":"c","voter":false}`).Want(200)
	if joined.NodeID != "n2" || joined.Address != "h:1" || joined.APIAddress != "h:2" || joined.ClusterID != "c" || joined.Voter == nil || *joined.Voter || a.String("node_id") != "n2" {
		t.Fatalf("%+v %s", joined, a.Body)
	}
	var asked []string
	cl.SendJoinFunc = func(addr string) (cluster.JoinResponse, error) {
		asked = append(asked, addr)
		if addr == "bad" {
			return cluster.JoinResponse{}, raftstore.ErrNoLeader
		}
		return cluster.JoinResponse{ClusterID: "there"}, nil
	}
	if a := s.Post("/cluster/join", `{"join":["bad","good","more"]}`).Want(200); a.String("cluster_id") != "there" || !slices.Equal(asked, []string{"bad", "good"}) {
		t.Fatalf("%q %s", asked, a.Body)
	}
	s.Post("/cluster/join", `{"join":["bad"]}`).Want(503, "no_leader")
	for _, body := range []string{`{"join":["a"],"node_id":"x"}`, `{"nodeid":"x"}`, `{"voter":1}`, `[]`, `{"join":[1]}`, `{"node_id":"a","node_id":"b"}`} {
		s.Post("/cluster/join", body).Want(400, "bad_request")
	}
	var left string
	cl.LeaveFunc = func(id string) error { left = id; return nil }
	if s.Delete("/cluster/leave/a%2Fb").Want(200); left != "a/b" {
		t.Fatalf("left %q", left)
	}
	cl.BootstrapFunc = func(r cluster.BootstrapRequest) (cluster.BootstrapResponse, error) {
		return cluster.BootstrapResponse{NodeID: "n1", OK: r.Phase == cluster.PhasePrepare && r.Ballot.Round == 3 && r.Expect == 3}, nil
	}
	if a := s.Post("/cluster/bootstrap", `{"phase":"prepare","from":"n2","expect":3,"ballot":{"round":3,"node":"n2"}}`).Want(200); a.Object()["ok"] != true {
		t.Fatalf("%s", a.Body)
	}
}

func TestClusterErrors(t *testing.T) {
	cl := someCluster()
	s := apitest.Start(t, api.Config{}, apitest.NewLocal(t), cl)
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{cluster.ErrUnknownMember, 404, "member_not_found"}, {cluster.ErrLastVoter, 409, "last_voter"},
		{cluster.ErrWouldLoseQuorum, 409, "would_lose_quorum"}, {cluster.ErrNotVoter, 409, "not_voter"},
		{cluster.ErrAddressInUse, 409, "address_in_use"}, {cluster.ErrMemberExists, 409, "member_exists"}, {cluster.ErrUnreachable, 400, "bad_request"},
		{cluster.ErrTransferFailed, 503, "transfer_failed"}, {cluster.ErrNotFormed, 503, "not_formed"},
		{raftstore.ErrWrongCluster, 409, "wrong_cluster"}, {raftstore.ErrNoLeader, 503, "no_leader"},
		{raftstore.ErrOutcomeUnknown, 504, "outcome_unknown"}, {&cluster.InvalidError{Field: "address", Why: "is bad"}, 400, "bad_request"},
	} {
		err := fmt.Errorf("doing it: %w", c.err)
		cl.JoinFunc = func(cluster.JoinRequest) (cluster.JoinResponse, error) { return cluster.JoinResponse{}, err }
		cl.LeaveFunc = func(string) error { return err }
		cl.TransferFunc = func(string) (string, error) { return "", err }
		cl.SnapshotFunc = func() (uint64, error) { return 0, err }
		for _, a := range []*apitest.Answer{
			s.Post("/cluster/join", `{"node_id":"a"}`), s.Delete("/cluster/leave/a"), s.Post("/cluster/transfer", `{}`), s.Post("/cluster/snapshot", `{}`),
		} {
			a.Want(c.status, c.code)
			if c.status == 503 && a.Header.Get("Retry-After") == "" {
				t.Errorf("%v: no Retry-After", c.err)
			}
		}
	}
	if a := s.Post("/cluster/join", `{"node_id":"a"}`); a.String("field") != "address" {
		t.Errorf("%s", a.Body)
	}
	cl.JoinFunc = func(cluster.JoinRequest) (cluster.JoinResponse, error) {
		return cluster.JoinResponse{}, raftstore.ErrRemoved
	}
	s.Post("/cluster/join", `{"node_id":"a"}`).Want(409, "removed")
}

func TestDigest(t *testing.T) {
	s, l := apitest.StartLocal(t)
	first := s.Put("/kv/a", "1").Want(200).Index()
	d := s.Get("/cluster/digest").Want(200)
	s.Put("/kv/a", "2").Want(200)
	again := s.Get(fmt.Sprintf("/cluster/digest?at=%d", first)).Want(200)
	if string(d.Body) != string(again.Body) || d.Uint("index") != first || len(d.String("digest")) != 64 {
		t.Fatalf("%s %s", d.Body, again.Body)
	}
	s.Get("/cluster/digest?at=x").Want(400, "bad_request")
	short := apitest.Start(t, api.Config{AdminTimeout: time.Millisecond}, l, nil)
	short.Get("/cluster/digest?at=1000000").Want(503, "not_ready")
}

func TestHealth(t *testing.T) {
	node := &apitest.Node{Node: apitest.NewLocal(t)}
	cl := someCluster()
	s := apitest.Start(t, api.Config{PersistenceType: "memory"}, node, cl)
	s.Put("/kv/a", "x").Want(200)
	h := s.Get("/health").Want(200).Object()
	p := h["persistence"].(map[string]any)
	if h["status"] != "healthy" || p["type"] != "memory" || p["enabled"] != false || fmt.Sprint(p["num_keys"]) != "1" {
		t.Fatalf("%v", h)
	}
	cl.TroubleFunc = func() error { return fmt.Errorf("a member: %w", cluster.ErrMemberExists) }
	if h := s.Get("/health").Want(200); h.String("status") != "degraded" || !strings.Contains(h.String("reason"), "a member") {
		t.Fatalf("%s", h.Body)
	}
	s.Get("/health/ready").Want(503, "not_ready")
	cl.TroubleFunc = nil
	node.ReadyFunc = func(context.Context) error { return fmt.Errorf("waiting: %w", raftstore.ErrNoLeader) }
	if h := s.Get("/health").Want(200); h.String("status") != "degraded" || !strings.Contains(h.String("reason"), "no leader") {
		t.Fatalf("%s", h.Body)
	}
	s.Get("/health/ready").Want(503, "no_leader")
	node.ReadyFunc = func(context.Context) error { return errors.New("behind") }
	s.Get("/health/ready").Want(503, "not_ready")
	s.Get("/health/live").Want(200)
	node.StateFunc = func() string { return "shutdown" }
	if h := s.Get("/health"); h.Status != 503 || h.String("status") != "unhealthy" {
		t.Fatalf("%s", h.Body)
	}
	node.StateFunc = nil
	node.UsageFunc = func() (persistence.Usage, error) { return persistence.Usage{}, persistence.ErrClosed }
	if h := s.Get("/health"); h.Status != 503 || h.Object()["persistence"].(map[string]any)["healthy"] != false {
		t.Fatalf("%s", h.Body)
	}
	s.Get("/health/live").Want(200)
}

func TestMetrics(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	s.Put("/kv/a", "x").Want(200)
	s.Get("/nowhere").Want(404)
	m := string(s.Get("/metrics").Want(200).Body)
	for _, line := range []string{
		`konsul_build_info{goversion="go`, `konsul_http_request_duration_seconds_count{method="PUT",route="/kv/{key}",status="200"} 1`,
		`konsul_http_request_duration_seconds_count{method="any",route="not found",status="404"} 1`, "konsul_watchers 0", "konsul_http_waiting 0",
		"konsul_http_requests_in_flight 0",
	} {
		if !strings.Contains(m, line) {
			t.Errorf("no %s in\n%s", line, m)
		}
	}
}

// A condition in the body of a deletion must not be left out: it is a parameter.
func TestDeletionsTakeNoBody(t *testing.T) {
	cl := someCluster()
	var left []string
	cl.LeaveFunc = func(id string) error { left = append(left, id); return nil }
	s := apitest.Start(t, api.Config{}, apitest.NewLocal(t), cl)
	s.Put("/kv/k", "x").Want(200)
	s.PutJSON("/services/web", `{"address":"a","port":1}`).Want(200)
	s.PutJSON("/checks/c", `{"ttl":"30s"}`).Want(200)
	session := s.Post("/sessions", `{}`).Want(201).String("id")
	targets := []string{"/kv/k", "/kv?prefix=k", "/services/web", "/checks/c", "/sessions/" + session, "/cluster/leave/n2"}
	index := s.Get("/kv/k").Want(200).Index()
	for _, target := range targets {
		for _, body := range []string{`{"cas":5}`, `[]`, `null`, "x", "{}{}"} {
			s.Do("DELETE", target, body).Want(400, "bad_request")
		}
	}
	if now := s.Get("/kv/k").Want(200).Index(); now != index || len(left) > 0 {
		t.Fatalf("index %d, was %d; left: %q", now, index, left)
	}
	for _, target := range targets {
		s.Do("DELETE", target, "{}").Want(200)
	}
}

// Names are compared exactly in administrative requests, too, in objects within objects as well, and only an
// object is a request.
func TestAdministrativeFieldsAreExact(t *testing.T) {
	cl := someCluster()
	cl.JoinFunc = func(cluster.JoinRequest) (cluster.JoinResponse, error) { return cluster.JoinResponse{}, nil }
	cl.BootstrapFunc = func(cluster.BootstrapRequest) (cluster.BootstrapResponse, error) {
		return cluster.BootstrapResponse{}, nil
	}
	s := apitest.Start(t, api.Config{}, apitest.NewLocal(t), cl)
	for target, bodies := range map[string][]string{
		"/restore":           {`{"path":"a","PATH":"b"}`, `{"Path":"a"}`},
		"/backup":            {`{"Path":"a"}`, `{"stale":true,"STALE":false}`},
		"/cluster/join":      {`{"Node_ID":"x"}`, `{"JOIN":["a"]}`, `{"JoinRequest":{}}`, `{"NodeID":"x"}`},
		"/cluster/transfer":  {`{"TO":"n2"}`},
		"/cluster/snapshot":  {`{"to":1}`},
		"/cluster/bootstrap": {`{"Phase":"prepare"}`, `{"ballot":{"ROUND":1}}`, `{"value":{"members":[{"id":"a","ID":"b"}]}}`},
		"/admin/config":      {`{"persistence":{"Enabled":true}}`, `{"PERSISTENCE":{"enabled":true}}`},
	} {
		for _, body := range append(bodies, `null`, `[]`, `"x"`, `1`, ` `) {
			s.Do("POST", target, body).Want(400, "bad_request")
		}
	}
	for target, body := range map[string]string{
		"/cluster/join":      `{"node_id":"x","voter":null}`,
		"/cluster/transfer":  `{"to":"n2"}`,
		"/cluster/snapshot":  `{}`,
		"/cluster/bootstrap": `{"phase":"accept","ballot":{"round":1,"node":"n"},"value":{"cluster_id":"c","members":[{"id":"a"}]}}`,
		"/admin/config":      `{"persistence":{"enabled":true}}`,
	} {
		s.Do("POST", target, body).Want(200)
	}
}
