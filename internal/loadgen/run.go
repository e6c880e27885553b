package loadgen

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Run puts the load on the target and gives the result. It ends early, with what was
// measured so far, when the context ends; an error means that nothing was measured.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Workload == WorkloadMixed && cfg.ReadPercent == 0 {
		cfg.ReadPercent = 50
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{cfg: &cfg, values: newValues(cfg.ValueSize, cfg.Seed)}
	if err := r.connect(ctx); err != nil {
		r.close()
		return nil, err
	}
	if cfg.Workload == WorkloadWatch {
		if err := r.audience.start(ctx); err != nil {
			r.close()
			return nil, err
		}
	}
	r.tickets.Store(cfg.Requests)
	r.base = time.Now()
	var workers, reporter sync.WaitGroup
	for _, c := range r.clients {
		workers.Go(func() { c.loop(ctx) })
	}
	done := make(chan struct{})
	if cfg.Progress != nil {
		reporter.Go(func() { r.report(done) })
	}
	workers.Wait()
	if r.audience != nil {
		r.audience.finish(ctx)
	}
	close(done)
	reporter.Wait()
	return r.result(), r.close()
}

// run is the state that the clients of one run share.
type run struct {
	cfg     *Config
	values  *values
	clients []*clientLoop
	base    time.Time    // all times are since then, on the monotonic clock
	tickets atomic.Int64 // requests left to start, if they are counted
	// audience is the watchers of the watch workload, else nil.
	audience *audience
}

func (r *run) connect(ctx context.Context) error {
	if r.cfg.Workload == WorkloadWatch {
		r.audience = newAudience(r.cfg)
	}
	for id := range r.cfg.loops() {
		worker, err := r.cfg.Target.NewWorker(ctx, id)
		if err != nil {
			return fmt.Errorf("connecting client %d: %w", id, err)
		}
		if r.audience != nil {
			worker = r.audience.writer(id, worker)
		}
		r.clients = append(r.clients, newClientLoop(r, worker, id))
	}
	return nil
}

func (r *run) close() error {
	var errs []error
	for _, c := range r.clients {
		errs = append(errs, c.worker.Close())
	}
	return errors.Join(errs...)
}

// admit decides about an operation that would start now: whether it starts, and whether
// it counts.
func (r *run) admit(now time.Duration) (start, counts bool) {
	if now < r.cfg.Warmup {
		return true, false
	}
	if r.cfg.Requests > 0 {
		return r.tickets.Add(-1) >= 0, true
	}
	return now < r.cfg.Warmup+r.cfg.Duration, true
}

func (r *run) report(done <-chan struct{}) {
	every := r.cfg.ProgressEvery
	if every <= 0 {
		every = time.Second
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last, lastAt := int64(0), time.Duration(0)
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
		}
		p := Progress{}
		for _, c := range r.clients {
			p.Done += c.done.Load()
			p.Errors += c.failed.Load()
		}
		if r.audience != nil {
			p.Events = r.audience.events.Load()
		}
		now := time.Since(r.base)
		p.Elapsed = now - r.cfg.Warmup
		p.OpsPerSec = float64(p.Done-last) / (now - lastAt).Seconds()
		last, lastAt = p.Done, now
		r.cfg.Progress(p)
	}
}

// clientLoop is one client: only its own goroutine touches it, apart from the atomics.
type clientLoop struct {
	run    *run
	worker Worker
	ops    opSource
	done   atomic.Int64
	failed atomic.Int64

	latency  [kinds]*hdrhistogram.Histogram
	errors   map[string]int64
	lastErr  error
	finished time.Duration // when its last counted operation ended
	overflow time.Duration // the longest latency beyond the histogram's range
}

func newClientLoop(r *run, worker Worker, id int) *clientLoop {
	c := &clientLoop{run: r, worker: worker, ops: newOpSource(r.cfg, r.values, id), errors: map[string]int64{}}
	for _, kind := range r.cfg.kinds() {
		c.latency[kind] = newHistogram()
	}
	return c
}

func (c *clientLoop) loop(ctx context.Context) {
	var op Op
	pause := time.Duration(0)
	now := time.Since(c.run.base)
	for ctx.Err() == nil {
		start, counts := c.run.admit(now)
		if !start {
			return
		}
		c.ops.next(&op)
		op.counted = counts
		err := c.worker.Do(ctx, &op)
		end := time.Since(c.run.base)
		if err != nil && ctx.Err() != nil {
			return // cut off by the end of the run, not a failure of the target
		}
		c.done.Add(1)
		if counts {
			c.record(op.Kind, end-now, end, err)
		}
		if err == nil {
			now, pause = end, 0
			continue
		}
		c.failed.Add(1)
		pause = min(max(2*pause, time.Millisecond), 100*time.Millisecond)
		wait(ctx, pause)
		now = time.Since(c.run.base)
	}
}

func (c *clientLoop) record(kind Kind, latency, end time.Duration, err error) {
	c.finished = end
	if err != nil {
		c.errors[codeOf(err)]++
		c.lastErr = err
		return
	}
	c.observe(kind, latency)
}

// wait is the pause after a failure: without it a target that refuses at once would be
// asked millions of times.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
