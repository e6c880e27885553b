package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// TestRealNode is the commands against a real node, as a person would type them.
func TestRealNode(t *testing.T) {
	cluster := harness.Start(t, harness.Options{})
	t.Setenv("KONSUL_HTTP_ADDR", cluster.Nodes[0].HTTP)
	file := filepath.Join(t.TempDir(), "binary")
	binary := "\x00\xff\n" + strings.Repeat("x", 100_000)
	if err := os.WriteFile(file, []byte(binary), 0o600); err != nil {
		t.Fatal(err)
	}
	has := func(o outcome, code int, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if !strings.Contains(o.stdout+o.stderr, text) {
				t.Errorf("%q does not say %q", o.stdout+o.stderr, text)
			}
		}
		if o.code != code {
			t.Errorf("exit %d: %+v", o.code, o)
		}
	}
	has(run(t, "", "kv", "put", "a//../b c", "hello", "--cas", "0"), 0, "a//../b c is set (index ")
	run(t, "", "kv", "get", "a//../b c").check(t, 0, "hello")
	has(run(t, "", "kv", "put", "a//../b c", "hello", "--cas", "0"), 1, "exists", "read the key again")
	has(run(t, "", "kv", "put", "a/bin", "@"+file, "--flags", "7"), 0)
	run(t, "", "kv", "get", "a/bin").check(t, 0, binary)
	run(t, "", "kv", "get", "a/bin", "--stale", "--raw").check(t, 0, binary)
	has(run(t, "", "kv", "get", "a/bin", "--json"), 0, `"flags":7`, `"encoding":"base64"`)
	run(t, "", "kv", "list", "a").check(t, 0, "a//../b c\na/bin\n")
	has(run(t, "", "kv", "list", "--values"), 0, "a//../b c  hello")
	has(run(t, "", "kv", "get", "none"), 3, "key not found")
	has(run(t, "", "kv", "get", "a/bin", "--at", "999999"), 1, "newer than the newest")
	has(run(t, `{"compare":[{"key":"a/bin","target":"exists","op":"=","value":true}],"then":[{"op":"set","key":"t","value":"1"},{"op":"get","key":"t"}]}`, "txn", "-"),
		0, `"then" ran`, "t is set", "t = 1")
	has(run(t, `{"then":[{"op":"fly","key":"t"}]}`, "txn", "-"), 1, "then[0].op")
	has(run(t, "", "cluster", "status"), 0, "(leader)", cluster.Nodes[0].Raft)
	// A new cluster's members announce where their APIs are a moment after it serves.
	harness.Eventually(t, 20*time.Second, "the node's API address among the peers", func() error {
		if o := run(t, "", "cluster", "peers"); !strings.Contains(o.stdout, cluster.Nodes[0].HTTP) {
			return errors.New(o.stdout + o.stderr)
		}
		return nil
	})
	has(run(t, "", "cluster", "snapshot"), 0, "snapshot taken at index ")
	has(run(t, "", "cluster", "leave", "nobody"), 3, "no such member")
	has(run(t, "", "cluster", "leave"), 1, "last voter")
	has(run(t, "", "service", "register", "web", "--address", "10.0.0.7", "--port", "80", "--ttl", "1h", "--tag", "a", "--meta", "z=1", "--check-ttl", "1h"), 0, "web is registered (index ")
	has(run(t, "", "service", "get", "web"), 0, "10.0.0.7:80  unhealthy (ttl critical)", "z=1")
	has(run(t, "", "service", "check", "web", "ttl", "--output", "fine"), 0, "is passing")
	run(t, "", "service", "list", "--tag", "a", "--meta", "z=1", "--healthy").check(t, 0, "web\n")
	has(run(t, "", "service", "list", "--detail", "--json"), 0, `"output":"fine"`)
	has(run(t, "", "service", "heartbeat", "web"), 0, "web is renewed")
	has(run(t, "", "service", "heartbeat", "web", "--id", "other"), 3, "service not found")
	has(run(t, "", "service", "deregister", "web"), 0)
	has(run(t, "", "service", "get", "web"), 3, "service not found; see `konsul service list --detail`")
	id := strings.TrimSpace(run(t, "", "session", "create", "--ttl", "1h", "--name", "job").stdout)
	has(run(t, "", "kv", "put", "held", "v", "--acquire", id, "--ttl", "1h"), 0, "held is set and held")
	has(run(t, "", "kv", "get", "held", "--detail"), 0, "expires in  ", "held by session  "+id)
	has(run(t, "", "lock", "held", "--wait", "0s", "--", "true"), 1, "held by session "+id, "wait longer (--wait)")
	has(run(t, "", "session", "list"), 0, id+"  job")
	has(run(t, "", "session", "renew", id), 0)
	has(run(t, "", "kv", "put", "held", "w", "--release", id), 0, "released")
	has(run(t, "", "session", "destroy", id), 0, "is destroyed")
	has(run(t, "", "session", "renew", id), 3, "it was destroyed or has expired")
	for _, workload := range []string{"put", "get", "mixed"} {
		has(run(t, "", "bench", "--workload", workload, "--clients", "8", "--requests", "500", "--warmup", "0s", "--keys", "2000"),
			0, workload+", 8 clients", "500 requests", "p99.9")
	}
	has(run(t, "", "bench", "--workload", "batch", "--clients", "2", "--requests", "40", "--warmup", "0s", "--keys", "2000"),
		0, "batch, 2 clients, 2000 keys, values of 256 bytes: 40 requests of 100 keys in ", " keys/s\nLATENCY  p50")
	has(run(t, "", "bench", "--workload", "watch", "--clients", "8", "--writers", "2", "--requests", "100", "--warmup", "0s", "--keys", "2000"),
		0, "watch, 8 watchers, 2 writers, 2000 keys, values of 256 bytes: 100 writes in ", "; 800 events, ", "\nput       ", "\ndelivery  ",
		"events: 0 missing, 0 duplicates, 0 out of order\n")
	run(t, "", "kv", "delete", "bench/", "--prefix").check(t, 0, "2000 keys are deleted\n")
	run(t, "", "kv", "delete", "t").check(t, 0, "t is deleted\n")
	run(t, "", "kv", "delete", "t").check(t, 0, "t was not there\n")
}

// TestBenchOfBatchesAndWatches is their JSON, an interrupted run, and the exit code when
// an event is lost on its way.
func TestBenchOfBatchesAndWatches(t *testing.T) {
	address := harness.Start(t, harness.Options{}).Nodes[0].HTTP
	t.Setenv("KONSUL_HTTP_ADDR", address)
	type result struct {
		Requests   int64   `json:"requests"`
		OpsPerSec  float64 `json:"ops_per_s"`
		BatchSize  int     `json:"batch_size"`
		KeysPerSec float64 `json:"keys_per_s"`
		Watch      *struct {
			Watchers     int                `json:"watchers"`
			Events       int64              `json:"events"`
			EventsPerSec float64            `json:"events_per_s"`
			Delivery     map[string]float64 `json:"delivery_us"`
			Missing      *int64             `json:"missing"`
			Duplicates   *int64             `json:"duplicates"`
			OutOfOrder   *int64             `json:"out_of_order"`
			Interrupted  bool               `json:"interrupted"`
		} `json:"watch"`
	}
	bench := func(ctx context.Context, args ...string) (r result, o outcome) {
		t.Helper()
		o = runContext(ctx, "", append([]string{"bench", "--json", "--warmup", "0s"}, args...)...)
		if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
			t.Fatalf("%v: %+v", err, o)
		}
		return r, o
	}
	r, o := bench(t.Context(), "--workload", "batch", "--batch-size", "20", "--requests", "50")
	if o.code != 0 || r.Requests != 50 || r.BatchSize != 20 || r.KeysPerSec < 19.9*r.OpsPerSec || r.Watch != nil {
		t.Errorf("%+v", o)
	}
	watch := []string{"--workload", "watch", "--clients", "4", "--writers", "1"}
	r, o = bench(t.Context(), append(watch, "--requests", "100")...)
	if w := r.Watch; o.code != 0 || w.Watchers != 4 || w.Events != 400 || w.EventsPerSec <= 0 || w.Delivery["p99"] == 0 ||
		w.Missing == nil || w.Duplicates == nil || w.OutOfOrder == nil || w.Interrupted {
		t.Errorf("%+v", o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if r, o = bench(ctx, append(watch, "--duration", "1h")...); o.code != 0 || !r.Watch.Interrupted || r.Watch.Events == 0 {
		t.Errorf("%+v", o)
	}
	var events atomic.Int64
	lossy := harness.EventProxy(t, address, func(frame string) (string, bool) {
		if strings.Contains(frame, "event: put") && events.Add(1) == 50 {
			frame = ": nothing\n\n"
		}
		return frame, true
	})
	r, o = bench(t.Context(), append(watch, "--requests", "100", "--http-addr", lossy)...)
	if o.code != 1 || r.Watch.Events != 399 || *r.Watch.Missing != 1 || !strings.Contains(o.stderr, "bench: events: 1 missing, 0 duplicates, 0 out of order") {
		t.Errorf("%+v", o)
	}
}
