package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/api/apitest"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/raftstore"
)

// TestErrorTable walks the table of http-api.md: what the node below says, and what
// the client sees of it, for a write and a read alike.
func TestErrorTable(t *testing.T) {
	node := &apitest.Node{Node: apitest.NewLocal(t)}
	s := apitest.Start(t, api.Config{}, node, nil)
	for _, c := range []struct {
		err    error
		status int
		code   string
		retry  bool
	}{
		{raftstore.ErrNoLeader, 503, "no_leader", true},
		{raftstore.ErrNotLeader, 503, "no_leader", true},
		{raftstore.ErrNotReady, 503, "not_ready", true},
		{raftstore.ErrNotMember, 503, "not_ready", true},
		{raftstore.ErrRemoved, 503, "not_ready", true},
		{raftstore.ErrShuttingDown, 503, "shutting_down", true},
		{persistence.ErrClosed, 503, "shutting_down", true},
		{raftstore.ErrDiskFull, 503, "disk_full", true},
		{raftstore.ErrOverloaded, 429, "overloaded", true},
		{raftstore.ErrOutcomeUnknown, 504, "outcome_unknown", false},
		{fmt.Errorf("%w: %w", raftstore.ErrNoLeader, raftstore.ErrOutcomeUnknown), 504, "outcome_unknown", false},
		{raftstore.ErrWrongCluster, 409, "wrong_cluster", false},
		{&command.LimitError{What: "entry bytes", Limit: 1 << 20, Got: 1<<20 + 1}, 413, "too_large", false},
		{&command.InvalidError{Field: "key", Problem: "is empty"}, 400, "bad_request", false},
		{&persistence.CompactedError{Oldest: 7}, 410, "compacted", false},
		{&persistence.FutureIndexError{Newest: 7}, 400, "bad_request", false},
		{errors.New("a bug with details"), 500, "internal", false},
	} {
		wrapped := fmt.Errorf("doing it: %w", c.err)
		node.ApplyFunc = func(context.Context, proto.Message, string) (*command.Result, error) { return nil, wrapped }
		node.ViewFunc = func(context.Context, raftstore.ReadOptions) (api.View, raftstore.ReadInfo, error) {
			return nil, raftstore.ReadInfo{}, wrapped
		}
		for _, a := range []*apitest.Answer{
			s.Put("/kv/a", "x"), s.Delete("/kv/a"), s.Get("/kv/a"), s.Get("/kv"), s.Delete("/kv?all=true"),
			s.Post("/batch/set", `{"items":{"a":"x"}}`), s.Post("/batch/get", `{"keys":["a"]}`), s.Post("/txn", `{"then":[{"op":"get","key":"a"}]}`),
		} {
			a.Want(c.status, c.code)
			if got := a.Header.Get("Retry-After") != ""; got != c.retry {
				t.Errorf("%v: Retry-After %q", c.err, a.Header.Get("Retry-After"))
			}
			if strings.Contains(string(a.Body), "a bug with details") {
				t.Errorf("details of a bug went out: %s", a.Body)
			}
		}
	}
}

// TestWriteTimeout: whatever ends a write that may have been proposed, it is unknown.
func TestWriteTimeout(t *testing.T) {
	node := &apitest.Node{Node: apitest.NewLocal(t)}
	s := apitest.Start(t, api.Config{WriteTimeout: 1, ReadTimeout: 1}, node, nil)
	node.ApplyFunc = func(ctx context.Context, _ proto.Message, _ string) (*command.Result, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.Put("/kv/a", "x").Want(504, "outcome_unknown")
	node.ViewFunc = func(ctx context.Context, _ raftstore.ReadOptions) (api.View, raftstore.ReadInfo, error) {
		<-ctx.Done()
		return nil, raftstore.ReadInfo{}, ctx.Err()
	}
	s.Get("/kv/a").Want(503, "not_ready")
}

func TestPanicsAreAnswered(t *testing.T) {
	node := &apitest.Node{Node: apitest.NewLocal(t)}
	s := apitest.Start(t, api.Config{}, node, nil)
	node.ApplyFunc = func(context.Context, proto.Message, string) (*command.Result, error) { panic("a bug") }
	s.Put("/kv/a", "x").Want(500, "internal")
	if m := string(s.Get("/metrics").Want(200).Body); !strings.Contains(m, `konsul_http_request_duration_seconds_count{method="PUT",route="/kv/{key}",status="500"} 1`) {
		t.Fatal("the panic is not counted")
	}
	s.Get("/kv/a").Want(404)
}

func TestRoutes(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for _, target := range []string{
		"/", "/kv2", "/service", "/session", "/backup2", "/exports",
		"/health/", "/cluster", "/cluster/leave/", "/batch", "/txn/", "/cluster%2Fstatus",
	} {
		s.Get(target).Want(404, "not_found")
	}
	for target, allow := range map[string]string{
		"/kv": "GET, HEAD, DELETE", "/batch/set": "POST", "/txn": "POST", "/watch": "GET", "/health": "GET, HEAD", "/cluster/leave/x": "DELETE",
		"/kv/a": "GET, HEAD, PUT, POST, DELETE",
	} {
		for _, method := range []string{http.MethodPatch, http.MethodOptions, "BREW"} {
			if a := s.Do(method, target, "").Want(405, "method_not_allowed"); a.Header.Get("Allow") != allow {
				t.Errorf("%s %s: Allow %q", method, target, a.Header.Get("Allow"))
			}
		}
	}
	s.Put("/kv", "x").Want(405)
	s.Get("/txn").Want(405)
}

// A page that a browser shows must not write to a node that the browser can reach.
func TestCrossOriginWritesAreRefused(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodDelete} {
		s.Do(method, "/kv/a", "x", "Sec-Fetch-Site", "cross-site").Want(403, "forbidden")
		s.Do(method, "/kv/a", "x", "Origin", "https://elsewhere.example").Want(403, "forbidden")
	}
	s.Get("/kv/a").Want(404)
	s.Put("/kv/a", "x", "Sec-Fetch-Site", "same-origin").Want(200)
	s.Get("/kv/a", "Origin", "https://elsewhere.example").Want(200)
}

func TestContentTypes(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for target, body := range map[string]string{
		"/txn": `{"then":[{"op":"get","key":"a"}]}`, "/batch/set": `{"items":{"a":"x"}}`, "/batch/get": `{"keys":["a"]}`, "/batch/delete": `{"keys":["a"]}`,
		"/cluster/transfer": `{}`, "/cluster/join": `{}`,
	} {
		for _, ct := range []string{"text/plain", "application/json2", ";"} {
			s.Do(http.MethodPost, target, body, "Content-Type", ct).Want(415, "unsupported_media_type")
		}
		for _, ct := range []string{"Application/JSON; charset=utf-8", "application/x-www-form-urlencoded"} {
			s.Do(http.MethodPost, target, body, "Content-Type", ct).Want(200)
		}
	}
	s.Put("/kv/a", "x", "Content-Encoding", "gzip").Want(415, "unsupported_media_type")
	s.Do(http.MethodPut, "/kv/form", "a=b", "Content-Type", "application/x-www-form-urlencoded").Want(200)
	if a := s.Get("/kv/form?raw"); string(a.Body) != "a=b" {
		t.Fatalf("%q", a.Body)
	}
}

func TestParametersNobodyKnows(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for _, target := range []string{"/kv/a?tll=10s", "/kv/a?tag=a&tag=b", "/kv/a?csa=0", "/kv/a?cas=0&cas=0", "/kv/a?cas=", "/kv/a?flags=x", "/kv/a?%zz=1"} {
		s.Put(target, "x").Want(400, "bad_request")
	}
	s.Delete("/kv/a?raw=true").Want(400, "bad_request")
	s.Get("/kv/a?raw=maybe").Want(400, "bad_request")
	s.Get("/kv/a").Want(404)
}

// TestTooManyRequests: what is over the bound is refused at once, and the node still
// says how it is.
func TestTooManyRequests(t *testing.T) {
	node := &apitest.Node{Node: apitest.NewLocal(t)}
	s := apitest.Start(t, api.Config{MaxInFlight: 1}, node, nil)
	entered, leave := make(chan struct{}), make(chan struct{})
	node.ApplyFunc = func(context.Context, proto.Message, string) (*command.Result, error) {
		close(entered)
		<-leave
		return nil, raftstore.ErrNoLeader
	}
	done := make(chan *apitest.Answer)
	go func() { done <- s.Put("/kv/a", "x") }()
	<-entered
	if a := s.Get("/kv/a").Want(429, "overloaded"); a.Header.Get("Retry-After") == "" {
		t.Fatal("no Retry-After")
	}
	s.Get("/health").Want(200)
	s.Get("/metrics").Want(200)
	close(leave)
	(<-done).Want(503)
	s.Get("/kv/a").Want(404)
}

// TestBodiesCutShort: a client that promises more than it sends gets nothing stored.
func TestBodiesCutShort(t *testing.T) {
	s, l := apitest.StartLocal(t)
	before := l.DB.Published()
	req := s.Request(http.MethodPut, "/kv/a", strings.NewReader("short"))
	req.ContentLength = 100
	if resp, err := s.HTTP.Client().Do(req); err == nil {
		resp.Body.Close()
		t.Fatalf("answered %d", resp.StatusCode)
	}
	s.Get("/kv/a").Want(404)
	if l.DB.Published() != before {
		t.Fatal("something was applied")
	}
}

// Who gets a refusal learns which of the fields, as they were named, it is about.
func TestBadServicesNameTheField(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for field, says := range map[string]string{
		`"ttl":30`:                               `ttl must be a duration such as "30s", and not negative`,
		`"ttl":"-1s"`:                            `ttl must be a duration such as "30s", and not negative`,
		`"port":"80"`:                            "port must be a whole number from 0 to 65535",
		`"port":-1`:                              "port must be a whole number from 0 to 65535",
		`"port":65536`:                           "port must be a whole number from 0 to 65535",
		`"id":5`:                                 "malformed JSON: id: a string was expected (at byte 20)",
		`"tags":"a"`:                             `malformed JSON: tags: found '"' where '[' was expected at the start of an array (at byte 22)`,
		`"tags":["a",1]`:                         "malformed JSON: tags[1]: a string was expected (at byte 27)",
		`"tags":["a",""]`:                        "tags[1] is empty",
		`"meta":{"a":{}}`:                        "malformed JSON: meta.a: a string was expected (at byte 27)",
		`"prot":80`:                              "malformed JSON: prot: unknown field (at byte 22)",
		`"checks":[{"x":1}]`:                     "malformed JSON: checks[0].x: unknown field (at byte 30)",
		`"checks":[{"http":5}]`:                  "malformed JSON: checks[0].http: a string was expected (at byte 33)",
		`"checks":[{"http":"h"}]`:                "checks[0].http must be a URL that begins with http:// or https:// and has a host",
		`"checks":[{"tcp":"h"}]`:                 "checks[0].tcp must be host:port, the port from 1 to 65535",
		`"checks":[{"tcp":""}]`:                  "checks[0].tcp is empty",
		`"checks":[{"tcp":"h:1","interval":10}]`: `checks[0].interval must be a duration such as "30s", and not negative`,
	} {
		body := `{"address":"h",` + field + `,"port":1}`
		if strings.HasPrefix(field, `"port"`) {
			body = `{"address":"h",` + field + `}`
		}
		if got := s.PutJSON("/services/web", body).Want(400, "bad_request").String("error"); got != says {
			t.Errorf("%s: %s", field, got)
		}
	}
	if got := s.Get("/watch?service=a&key=a").Want(400, "bad_request").String("error"); got != "exactly one of the parameters key, prefix, service and services is required" {
		t.Error(got)
	}
}
