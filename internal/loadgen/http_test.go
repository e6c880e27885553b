package loadgen

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// store is a node with a map behind it.
type store struct {
	mu     sync.Mutex
	values map[string]string
	uris   []string
	header http.Header
	fail   func(w http.ResponseWriter, n int) bool
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uris, s.header = append(s.uris, r.Method+" "+r.RequestURI), r.Header.Clone()
	if s.fail != nil && s.fail(w, len(s.uris)) {
		return
	}
	key := strings.TrimPrefix(r.URL.Path, "/kv/")
	switch {
	case r.URL.Path == "/batch/set":
		var batch struct{ Items map[string]string }
		json.Unmarshal(body, &batch)
		for key, value := range batch.Items {
			s.values[key] = value
		}
		io.WriteString(w, `{"modify_index":1}`)
	case r.Method == http.MethodPut:
		s.values[key] = string(body)
		io.WriteString(w, `{"message":"key set"}`)
	default:
		value, ok := s.values[key]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"error":"key not found","code":"key_not_found"}`)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(value)))
		io.WriteString(w, value)
	}
}

// failing makes it answer with fail from now on.
func (s *store) failing(fail func(w http.ResponseWriter, n int) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

// value is what a key has.
func (s *store) value(key string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.values[key]
	return value, ok
}

func newStore(t testing.TB) (*store, *httptest.Server) {
	t.Helper()
	s := &store{values: map[string]string{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server
}

func worker(t testing.TB, target *HTTPTarget) Worker {
	t.Helper()
	w, err := target.NewWorker(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestHTTPWorkerPutsAndGets(t *testing.T) {
	s, server := newStore(t)
	w := worker(t, &HTTPTarget{Addresses: []string{server.URL}, Prefix: "b/", Token: "secret", Stale: true})
	for _, value := range []string{"one", "a longer value", "", strings.Repeat("x", 100_000)} {
		if err := w.Do(t.Context(), &Op{Kind: Put, Key: 1234567890, Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
		if got, _ := s.value("b/1234567890"); got != value {
			t.Errorf("stored %d bytes, want %d", len(got), len(value))
		}
		if err := w.Do(t.Context(), &Op{Kind: Get, Key: 1234567890}); err != nil {
			t.Fatal(err)
		}
	}
	if s.uris[0] != "PUT /kv/b/1234567890" || s.uris[1] != "GET /kv/b/1234567890?raw=true&consistency=stale" {
		t.Errorf("asked %v", s.uris[:2])
	}
	if s.header.Get("Authorization") != "Bearer secret" {
		t.Errorf("headers %v", s.header)
	}
}

func TestHTTPWorkerNamesFailures(t *testing.T) {
	s, server := newStore(t)
	w := worker(t, &HTTPTarget{Addresses: []string{server.URL}})
	err := w.Do(t.Context(), &Op{Kind: Get, Key: 5})
	var failed *HTTPError
	if !errors.As(err, &failed) || failed.Code != "key_not_found" || failed.Status != 404 || codeOf(err) != "key_not_found" {
		t.Errorf("error %v", err)
	}
	s.failing(func(w http.ResponseWriter, n int) bool { w.WriteHeader(http.StatusBadGateway); return true })
	if err := w.Do(t.Context(), &Op{Kind: Get, Key: 5}); codeOf(err) != "http_502" {
		t.Errorf("error %v", err)
	}
	s.failing(func(w http.ResponseWriter, _ int) bool { panic(http.ErrAbortHandler) })
	if err := w.Do(t.Context(), &Op{Kind: Get, Key: 5}); codeOf(err) != "connection_lost" {
		t.Errorf("error %v", err)
	}
	s.failing(func(w http.ResponseWriter, _ int) bool { w.Header().Set("Connection", "close"); return false })
	for range 2 { // each on a connection of its own
		if err := w.Do(t.Context(), &Op{Kind: Put, Key: 5}); err != nil {
			t.Errorf("error %v", err)
		}
	}
	server.Close()
	if err := w.Do(t.Context(), &Op{Kind: Get, Key: 5}); codeOf(err) != "unreachable" {
		t.Errorf("error %v", err)
	}
}

func TestHTTPWorkerGoesToTheNextAddress(t *testing.T) {
	_, gone := newStore(t)
	gone.Close()
	s, server := newStore(t)
	target := &HTTPTarget{Addresses: []string{gone.URL, server.URL}}
	w := worker(t, target)
	if err := w.Do(t.Context(), &Op{Kind: Put, Key: 1}); err != nil {
		t.Fatal(err)
	}
	server.CloseClientConnections()
	for range 10 { // the dead connection, the dead address, then the good one again
		if err := w.Do(t.Context(), &Op{Kind: Put, Key: 2}); err == nil {
			break
		}
	}
	if _, ok := s.value("0000000002"); !ok {
		t.Error("it did not come back")
	}
	if _, err := (&HTTPTarget{Addresses: []string{gone.URL}}).NewWorker(t.Context(), 0); err == nil {
		t.Error("connected to nobody")
	}
}

func TestHTTPWorkerGivesUpInTime(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	w := worker(t, &HTTPTarget{Addresses: []string{server.URL}, Timeout: 50 * time.Millisecond})
	if err := w.Do(t.Context(), &Op{Kind: Get}); codeOf(err) != "timeout" {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended, err := (&HTTPTarget{Addresses: []string{server.URL}, Timeout: time.Hour}).NewWorker(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ended.Close()
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := ended.Do(ctx, &Op{Kind: Get}); err == nil {
		t.Error("the end of the run did not end it")
	}
}

// TestBatchesHaveEachKeyOnce: the batches of the workload for some numbers of keys, of
// which none may lose a key to a repeated one.
func TestBatchesHaveEachKeyOnce(t *testing.T) {
	for _, keys := range []uint64{7, 8, 13, 1000} {
		s, server := newStore(t)
		target := &HTTPTarget{Addresses: []string{server.URL}, Prefix: "b/"}
		cfg := Config{Target: target, Workload: WorkloadBatch, BatchSize: 7, Keys: keys, ValueSize: 20, Seed: 1}
		w, ops, touched := worker(t, target), newOpSource(&cfg, newValues(20, 1), 0), map[string]bool{}
		for range 200 {
			var op Op
			ops.next(&op)
			clear(s.values)
			if err := w.Do(t.Context(), &op); err != nil {
				t.Fatal(err)
			}
			if op.Kind != Batch || len(s.values) != 7 {
				t.Fatalf("a %s of %d keys: %v", op.Kind, len(s.values), s.values)
			}
			for _, item := range op.Items {
				key := target.KeyName(item.Key)
				if value, ok := s.value(key); !ok || value != string(item.Value) || item.Key >= keys {
					t.Fatalf("%s has %q, not %q", key, value, item.Value)
				}
				touched[key] = true
			}
		}
		if s.uris[0] != "POST /batch/set" || uint64(len(touched)) < min(keys, 500) {
			t.Errorf("%s, and only %d of %d keys", s.uris[0], len(touched), keys)
		}
	}
}

func TestPreloadWritesEveryKey(t *testing.T) {
	s, server := newStore(t)
	target := &HTTPTarget{Addresses: []string{server.URL}, Prefix: "bench/"}
	var done uint64
	cfg := &Config{Keys: 2500, ValueSize: 100, Seed: 3}
	if err := target.Preload(t.Context(), cfg, func(n uint64) { done = n }); err != nil {
		t.Fatal(err)
	}
	if len(s.values) != 2500 || done != 2500 || len(s.uris) != 3 {
		t.Errorf("%d keys, %d reported, %d requests", len(s.values), done, len(s.uris))
	}
	for key, value := range s.values {
		if len(value) != 100 || !strings.HasPrefix(key, "bench/") {
			t.Fatalf("%s has %d bytes", key, len(value))
		}
	}
}

// BenchmarkHTTP is the generator against a server that does nothing: the most it can
// measure. Both share the machine's CPUs.
func BenchmarkHTTP(b *testing.B) {
	for _, workload := range []Workload{WorkloadGet, WorkloadPut} {
		b.Run(string(workload), func(b *testing.B) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPut {
					io.Copy(io.Discard, r.Body)
				}
				w.Write([]byte("ok"))
			}))
			defer server.Close()
			r, err := Run(b.Context(), Config{Target: &HTTPTarget{Addresses: []string{server.URL}, Prefix: "bench/"},
				Workload: workload, Clients: 64, Requests: int64(b.N), Keys: 10000, ValueSize: 256})
			if err != nil || r.Failed > 0 {
				b.Fatalf("%v, %+v", err, r)
			}
			b.ReportMetric(r.OpsPerSec, "ops/s")
			b.ReportMetric(float64(r.Latency.P99), "p99-us")
		})
	}
}
