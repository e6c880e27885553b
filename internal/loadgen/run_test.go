package loadgen

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeTarget is a store made of functions.
type fakeTarget struct {
	do     func(ctx context.Context, worker int, op *Op) error
	refuse bool
	closed atomic.Int64
}

type fakeWorker struct {
	target *fakeTarget
	id     int
}

func (t *fakeTarget) NewWorker(_ context.Context, id int) (Worker, error) {
	if t.refuse {
		return nil, errors.New("nobody there")
	}
	return &fakeWorker{t, id}, nil
}

func (w *fakeWorker) Do(ctx context.Context, op *Op) error { return w.target.do(ctx, w.id, op) }
func (w *fakeWorker) Close() error                         { w.target.closed.Add(1); return nil }

func config(target Target) Config {
	return Config{Target: target, Workload: WorkloadMixed, Clients: 3, Requests: 300, Keys: 10, ValueSize: 8, Seed: 1}
}

func TestRunCountsRequests(t *testing.T) {
	target := &fakeTarget{do: func(context.Context, int, *Op) error { return nil }}
	r, err := Run(context.Background(), config(target))
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 300 || r.Succeeded != 300 || r.Failed != 0 || r.OpsPerSec <= 0 || len(r.ByKind) != 2 {
		t.Errorf("result %+v", r)
	}
	if target.closed.Load() != 3 {
		t.Errorf("%d workers closed", target.closed.Load())
	}
}

type codedError string

func (e codedError) Error() string     { return "it is " + string(e) }
func (e codedError) ErrorCode() string { return string(e) }

func TestRunCountsFailuresByCode(t *testing.T) {
	var n atomic.Int64
	r, err := Run(context.Background(), config(&fakeTarget{do: func(context.Context, int, *Op) error {
		switch n.Add(1) % 100 {
		case 1:
			return codedError("no_leader")
		case 2:
			return errors.New("plain")
		case 3:
			return context.DeadlineExceeded
		}
		return nil
	}}))
	if err != nil {
		t.Fatal(err)
	}
	if r.Failed != 9 || r.Succeeded != 291 || r.Errors["no_leader"] != 3 || r.Errors["error"] != 3 || r.Errors["timeout"] != 3 || r.LastError == "" {
		t.Errorf("result %+v", r)
	}
}

// TestRunIsTheSameForTheSameSeed compares what every client sent.
func TestRunIsTheSameForTheSameSeed(t *testing.T) {
	record := func(seed uint64) [3]string {
		var mu sync.Mutex
		var sent [3]strings.Builder
		cfg := config(&fakeTarget{do: func(_ context.Context, id int, op *Op) error {
			mu.Lock()
			defer mu.Unlock()
			sent[id].WriteString(op.Kind.String() + string(rune('0'+op.Key)) + string(op.Value) + " ")
			return nil
		}})
		cfg.Seed = seed
		if _, err := Run(context.Background(), cfg); err != nil {
			t.Fatal(err)
		}
		return [3]string{sent[0].String(), sent[1].String(), sent[2].String()}
	}
	a, b, c := record(7), record(7), record(8)
	for id := range a {
		n := min(len(a[id]), len(b[id])) // who sends how many is up to the scheduler
		if a[id][:n] != b[id][:n] {
			t.Errorf("client %d sent something else the second time", id)
		}
		if m := min(len(a[id]), len(c[id])); m > 100 && a[id][:m] == c[id][:m] {
			t.Errorf("client %d does not care about the seed", id)
		}
	}
}

func TestWorkloads(t *testing.T) {
	for workload, want := range map[Workload][2]bool{ // gets, puts
		WorkloadGet: {true, false}, WorkloadPut: {false, true}, WorkloadMixed: {true, true},
	} {
		var gets, puts, badKeys atomic.Int64
		cfg := config(&fakeTarget{do: func(_ context.Context, _ int, op *Op) error {
			if op.Kind == Get {
				gets.Add(1)
			} else {
				puts.Add(1)
			}
			if op.Key >= 10 || op.Kind == Put && len(op.Value) != 8 {
				badKeys.Add(1)
			}
			return nil
		}})
		cfg.Workload = workload
		if _, err := Run(context.Background(), cfg); err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{gets.Load() > 0, puts.Load() > 0}; got != want || badKeys.Load() > 0 {
			t.Errorf("%s: %d gets, %d puts, %d wrong", workload, gets.Load(), puts.Load(), badKeys.Load())
		}
	}
}

func TestWarmupDoesNotCount(t *testing.T) {
	var all atomic.Int64
	cfg := config(&fakeTarget{do: func(context.Context, int, *Op) error { all.Add(1); return nil }})
	cfg.Warmup = 50 * time.Millisecond
	r, err := Run(context.Background(), cfg)
	if err != nil || r.Requests != 300 || all.Load() <= 300 {
		t.Errorf("%d of %d counted, %v", r.Requests, all.Load(), err)
	}
}

func TestRunByDuration(t *testing.T) {
	cfg := config(&fakeTarget{do: func(context.Context, int, *Op) error { return nil }})
	cfg.Requests, cfg.Duration, cfg.ProgressEvery = 0, 100*time.Millisecond, 10*time.Millisecond
	var reports int
	cfg.Progress = func(Progress) { reports++ }
	r, err := Run(context.Background(), cfg)
	if err != nil || r.Seconds < 0.099 || r.Seconds > 5 || r.Requests == 0 || reports == 0 {
		t.Errorf("%+v, %d reports, %v", r, reports, err)
	}
}

func TestTheContextEndsARun(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var n atomic.Int64
	cfg := config(&fakeTarget{do: func(ctx context.Context, _ int, _ *Op) error {
		if n.Add(1) == 50 {
			cancel()
		}
		if n.Load() >= 50 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}})
	cfg.Requests, cfg.Duration = 0, time.Hour
	r, err := Run(ctx, cfg)
	if err != nil || r.Failed != 0 || r.Requests == 0 || r.Seconds > 60 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRunNeedsATarget(t *testing.T) {
	if _, err := Run(context.Background(), config(&fakeTarget{refuse: true})); err == nil {
		t.Error("no connection, no error")
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no target":          func(c *Config) { c.Target = nil },
		"no such workload":   func(c *Config) { c.Workload = "delete" },
		"no clients":         func(c *Config) { c.Clients = 0 },
		"no end":             func(c *Config) { c.Requests = 0 },
		"two ends":           func(c *Config) { c.Duration = time.Second },
		"a negative end":     func(c *Config) { c.Requests = -1 },
		"a negative warm-up": func(c *Config) { c.Warmup = -1 },
		"no keys":            func(c *Config) { c.Keys = 0 },
		"too many keys":      func(c *Config) { c.Keys = MaxKeys + 1 },
		"a negative size":    func(c *Config) { c.ValueSize = -1 },
		"a share over 100":   func(c *Config) { c.ReadPercent = 101 },
		"batches elsewhere":  func(c *Config) { c.Workload, c.BatchSize = WorkloadBatch, 5 },
		"watches elsewhere":  func(c *Config) { c.Workload, c.ValueSize = WorkloadWatch, 100 },
	} {
		cfg := config(&fakeTarget{})
		change(&cfg)
		if _, err := Run(context.Background(), cfg); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestLatencies(t *testing.T) {
	c := newClientLoop(&run{cfg: &Config{}, values: newValues(0, 0)}, nil, 0)
	for i := 1; i <= 1000; i++ {
		c.observe(Get, time.Duration(i)*time.Millisecond)
	}
	c.observe(Get, 0)
	l := latencyOf(c.latency[Get])
	for name, pair := range map[string][2]int64{"p50": {l.P50, 500_000}, "p90": {l.P90, 900_000}, "p99": {l.P99, 990_000}, "max": {l.Max, 1_000_000}} {
		if off := float64(pair[0]-pair[1]) / float64(pair[1]); off < -0.002 || off > 0.002 {
			t.Errorf("%s is %d us", name, pair[0])
		}
	}
	c.observe(Get, time.Hour)
	if c.overflow != time.Hour {
		t.Errorf("the longest is %v", c.overflow)
	}
}
