package loadgen_test

import (
	"context"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neogan74/konsul/client"
	"github.com/neogan74/konsul/internal/loadgen"
	"github.com/neogan74/konsul/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// load is a run against addresses.
func load(t *testing.T, workload loadgen.Workload, addresses ...string) loadgen.Config {
	t.Helper()
	return loadgen.Config{Target: &loadgen.HTTPTarget{Addresses: addresses, Prefix: "bench/"}, Workload: workload,
		Clients: 5, Requests: 300, Keys: 1000, ValueSize: 64, Seed: 1}
}

func mustRun(t *testing.T, cfg loadgen.Config) *loadgen.Result {
	t.Helper()
	r, err := loadgen.Run(harness.Context(t, 60*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Failed > 0 {
		t.Fatalf("%d failed: %v, %s", r.Failed, r.Errors, r.LastError)
	}
	return r
}

// noneLeft checks that a run has ended all it began.
func noneLeft(t *testing.T, before int) {
	t.Helper()
	harness.Eventually(t, 10*time.Second, "the end of the run's goroutines", func() error {
		if now := runtime.NumGoroutine(); now > before {
			stacks := make([]byte, 1<<16)
			return &leak{now - before, string(stacks[:runtime.Stack(stacks, true)])}
		}
		return nil
	})
}

type leak struct {
	n      int
	stacks string
}

func (l *leak) Error() string { return "more goroutines than before:\n" + l.stacks }

// node starts a node and gives the address of its API.
func node(t *testing.T) string {
	t.Helper()
	return "http://" + harness.Start(t, harness.Options{}).Nodes[0].HTTP
}

// TestBatchesOnANode watches what a run writes: as many writes as it says, each of as
// many keys.
func TestBatchesOnANode(t *testing.T) {
	address := node(t)
	c, err := client.New(client.Config{Addresses: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	page, err := c.ListKeys(t.Context(), client.ListOptions{Prefix: "bench/"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := load(t, loadgen.WorkloadBatch, address)
	cfg.BatchSize, cfg.Requests = 30, 200
	r := mustRun(t, cfg)
	if r.Requests != 200 || r.BatchSize != 30 || r.OpsPerSec <= 0 || r.KeysPerSec < 29.9*r.OpsPerSec || r.KeysPerSec > 30.1*r.OpsPerSec || r.Latency.P50 == 0 || r.Watch != nil {
		t.Errorf("result %+v", r)
	}
	if _, err := c.Put(t.Context(), "bench/end", nil); err != nil {
		t.Fatal(err)
	}
	keys, indexes := 0, map[uint64]int{}
	for event, err := range c.Watch(harness.Context(t, 30*time.Second), client.WatchOptions{Prefix: "bench/", From: page.Meta.Index}) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Key == "bench/end" {
			break
		}
		keys++
		if indexes[event.Index]++; len(event.Entry.Value) != 64 {
			t.Fatalf("%s has %d bytes", event.Key, len(event.Entry.Value))
		}
	}
	if keys != 200*30 || len(indexes) != 200 {
		t.Errorf("%d keys in %d writes", keys, len(indexes))
	}
}

func TestEachWatcherSeesEachWrite(t *testing.T) {
	address := node(t)
	before := runtime.NumGoroutine()
	cfg := load(t, loadgen.WorkloadWatch, address)
	cfg.Writers, cfg.Warmup = 3, 50*time.Millisecond
	var progress atomic.Int64
	cfg.ProgressEvery, cfg.Progress = 5*time.Millisecond, func(p loadgen.Progress) { progress.Store(p.Events) }
	r := mustRun(t, cfg)
	w := *r.Watch
	if r.Requests != 300 || w.Events != 5*300 || w.EventsPerSec <= 0 || w.Watchers != 5 || w.Writers != 3 || w.Delivery.P50 == 0 || w.Delivery.P50 > w.Delivery.Max || progress.Load() == 0 {
		t.Errorf("result %+v, watch %+v, progress %d", r, w, progress.Load())
	}
	if w.Err() != nil || w.Missing+w.Duplicates+w.OutOfOrder+w.Ended+w.Resets+w.Compactions+w.Skipped+w.Disconnects+w.Foreign != 0 || w.Interrupted {
		t.Errorf("watch %+v", w)
	}
	cfg.Requests, cfg.Duration = 0, 200*time.Millisecond
	r = mustRun(t, cfg)
	if w := r.Watch; r.Requests == 0 || w.Events != 5*r.Requests || w.Err() != nil || r.Seconds < 0.199 || r.Seconds > 20 {
		t.Errorf("%d requests in %f s, watch %+v", r.Requests, r.Seconds, w)
	}
	noneLeft(t, before)
}

func TestWatchingIsInterrupted(t *testing.T) {
	address := node(t)
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := load(t, loadgen.WorkloadWatch, address)
	cfg.Requests, cfg.Duration = 0, time.Hour
	cfg.ProgressEvery, cfg.Progress = 5*time.Millisecond, func(p loadgen.Progress) {
		if p.Events > 100 {
			cancel()
		}
	}
	r, err := loadgen.Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if w := r.Watch; r.Failed != 0 || r.Seconds > 60 || !w.Interrupted || w.Events < 100 || w.Err() != nil {
		t.Errorf("result %+v, watch %+v", r, w)
	}
	noneLeft(t, before)
	if _, err := loadgen.Run(ctx, cfg); err == nil {
		t.Error("a run that was ended before it began has a result")
	}
	noneLeft(t, before)
}

// TestTwoRunsAtTheSameTime: neither takes the other's writes for its own.
func TestTwoRunsAtTheSameTime(t *testing.T) {
	address := node(t)
	other := load(t, loadgen.WorkloadWatch, address)
	other.Requests, other.Duration = 0, time.Hour
	busy := make(chan struct{}, 1)
	other.ProgressEvery, other.Progress = time.Millisecond, func(p loadgen.Progress) {
		if p.Events > 0 {
			select {
			case busy <- struct{}{}:
			default:
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := loadgen.Run(ctx, other)
		ended <- err
	}()
	<-busy
	r := mustRun(t, load(t, loadgen.WorkloadWatch, address))
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if w := r.Watch; w.Events != 5*300 || w.Err() != nil || w.Foreign == 0 {
		t.Errorf("watch %+v", w)
	}
}

// TestWrongEvents: between the node and the only watcher something happens to the
// event of one write in the middle, and to the next.
func TestWrongEvents(t *testing.T) {
	address := node(t)
	const middle = 100
	for name, tc := range map[string]struct {
		change func(frame, next string) (string, bool) // next is the one after it
		check  func(w *loadgen.WatchResult) bool
		broken bool
	}{
		"lost": {change: func(_, next string) (string, bool) { return next, true }, broken: true,
			check: func(w *loadgen.WatchResult) bool { return w.Missing == 1 && w.Events == 299 }},
		// With a higher key, or the client would not hand it on.
		"twice": {change: func(frame, next string) (string, bool) { return frame + higher(frame) + next, true }, broken: true,
			check: func(w *loadgen.WatchResult) bool { return w.Duplicates == 1 && w.Events == 300 }},
		"twice, as it was": {change: func(frame, next string) (string, bool) { return frame + frame + next, true },
			check: func(w *loadgen.WatchResult) bool { return w.Events == 300 }},
		"swapped with the next": {change: func(frame, next string) (string, bool) { return id(frame) + data(next) + id(next) + data(frame), true }, broken: true,
			check: func(w *loadgen.WatchResult) bool { return w.OutOfOrder == 1 && w.Missing == 0 && w.Events == 300 }},
		"cut off": {change: func(frame, next string) (string, bool) { return frame[:len(frame)/2], false },
			check: func(w *loadgen.WatchResult) bool { return w.Events == 300 && w.Disconnects > 0 }},
		"a reset": {change: func(string, string) (string, bool) { return refusal("reset"), false },
			check: func(w *loadgen.WatchResult) bool { return w.Resets == 1 && w.Skipped > 0 && w.Events+w.Skipped == 300 }},
		"the history is too short": {change: func(string, string) (string, bool) { return refusal("compacted"), false },
			check: func(w *loadgen.WatchResult) bool {
				return w.Compactions == 1 && w.Skipped > 0 && w.Events+w.Skipped == 300
			}},
		"forbidden": {change: func(string, string) (string, bool) { return refusal("forbidden"), false }, broken: true,
			check: func(w *loadgen.WatchResult) bool {
				return w.Ended == 1 && w.Missing == 300-w.Events && strings.Contains(w.Err().Error(), "forbidden")
			}},
	} {
		t.Run(name, func(t *testing.T) {
			n, held := 0, "" // one watcher has one stream at a time
			proxy := harness.EventProxy(t, strings.TrimPrefix(address, "http://"), func(frame string) (string, bool) {
				if !strings.Contains(frame, "event: put") {
					return frame, true
				}
				switch n++; n {
				case middle:
					held = frame
					return ": held back\n\n", true
				case middle + 1:
					return tc.change(held, frame)
				}
				return frame, true
			})
			cfg := load(t, loadgen.WorkloadWatch, proxy)
			cfg.Clients, cfg.Writers = 1, 1
			cfg.Target.(*loadgen.HTTPTarget).Timeout = 5 * time.Second
			w := mustRun(t, cfg).Watch
			if !tc.check(w) || (w.Err() != nil) != tc.broken {
				t.Errorf("watch %+v: %v", w, w.Err())
			}
		})
	}
}

func id(frame string) string   { line, _, _ := strings.Cut(frame, "data: "); return line }
func data(frame string) string { return frame[len(id(frame)):] }

// higher is a frame with a key that comes after its own.
func higher(frame string) string { return strings.Replace(frame, `","value"`, `~","value"`, 1) }

func refusal(code string) string {
	return "event: error\ndata: {\"error\":\"it is " + code + "\",\"code\":\"" + code + "\"}\n\n"
}

// TestWatchAcrossAKill: watchers and writers of a node that dies go on with another
// one, and nobody misses an acknowledged write.
func TestWatchAcrossAKill(t *testing.T) {
	cluster := harness.Start(t, harness.Options{Nodes: 3})
	var addresses []string
	for _, n := range cluster.Nodes {
		addresses = append(addresses, "http://"+n.HTTP)
	}
	cfg := load(t, loadgen.WorkloadWatch, addresses...)
	cfg.Clients, cfg.Writers, cfg.Requests = 6, 3, 2000
	killed := false
	cfg.ProgressEvery, cfg.Progress = 5*time.Millisecond, func(p loadgen.Progress) {
		if !killed && p.Done > 200 {
			killed = true
			if err := cluster.Nodes[0].TryKill9(); err != nil {
				t.Error(err)
			}
		}
	}
	r, err := loadgen.Run(harness.Context(t, 120*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w := r.Watch
	if !killed || w.Err() != nil || w.Disconnects == 0 || w.Events < 6*r.Succeeded || w.Events > 6*r.Requests || w.Interrupted {
		t.Errorf("killed: %v, result %+v, watch %+v", killed, r, w)
	}
}
