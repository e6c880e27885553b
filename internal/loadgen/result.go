package loadgen

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// maxLatency is the end of the histograms' range; what is longer counts as this much,
// but the maximum stays exact.
const maxLatency = 100 * time.Second

// newHistogram counts microseconds.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, maxLatency.Microseconds(), 3)
}

func (c *clientLoop) observe(kind Kind, latency time.Duration) {
	c.overflow = max(c.overflow, observe(c.latency[kind], latency))
}

// observe counts a latency, and returns it if it is beyond the histogram's range.
func observe(h *hdrhistogram.Histogram, latency time.Duration) (overflow time.Duration) {
	us := max(latency.Microseconds(), 1)
	if us > maxLatency.Microseconds() {
		overflow, us = latency, maxLatency.Microseconds()
	}
	// The value is in the range, which is the only way this fails.
	_ = h.RecordValue(us)
	return overflow
}

// Result is what a run measured.
type Result struct {
	Workload  Workload `json:"workload"`
	Clients   int      `json:"clients"`
	Keys      uint64   `json:"keys"`
	ValueSize int      `json:"value_size"`
	Seed      uint64   `json:"seed"`
	// Seconds is from the end of the warm-up to the end of the last operation.
	Seconds float64 `json:"seconds"`
	// Requests = successes + failures.
	Requests  int64            `json:"requests"`
	Succeeded int64            `json:"succeeded"`
	Failed    int64            `json:"failed"`
	Errors    map[string]int64 `json:"errors"`
	// LastError is one of the failures, for people.
	LastError string `json:"last_error,omitempty"`
	// OpsPerSec counts successes only. Of the batch workload these are requests, and
	// KeysPerSec is what they wrote.
	OpsPerSec  float64 `json:"ops_per_s"`
	BatchSize  int     `json:"batch_size,omitempty"`
	KeysPerSec float64 `json:"keys_per_s,omitempty"`
	// Latency of all successes, and of each kind if there were several.
	Latency Latency            `json:"latency_us"`
	ByKind  map[string]Latency `json:"latency_us_by_kind,omitempty"`
	// Watch is what the watchers saw; everything above is about the writes.
	Watch *WatchResult `json:"watch,omitempty"`
}

// Latency is a distribution, in microseconds.
type Latency struct {
	Mean float64 `json:"mean"`
	P50  int64   `json:"p50"`
	P90  int64   `json:"p90"`
	P99  int64   `json:"p99"`
	P999 int64   `json:"p99.9"`
	Max  int64   `json:"max"`
}

func (r *run) result() *Result {
	out := &Result{Workload: r.cfg.Workload, Clients: r.cfg.Clients, Keys: r.cfg.Keys,
		ValueSize: r.cfg.ValueSize, Seed: r.cfg.Seed, Errors: map[string]int64{}}
	all, finished, overflow := newHistogram(), r.cfg.Warmup, time.Duration(0)
	byKind := map[string]Latency{}
	for _, kind := range r.cfg.kinds() {
		sum := newHistogram()
		for _, c := range r.clients {
			sum.Merge(c.latency[kind])
		}
		if sum.TotalCount() > 0 {
			byKind[kind.String()] = latencyOf(sum)
		}
		all.Merge(sum)
	}
	for _, c := range r.clients {
		finished, overflow = max(finished, c.finished), max(overflow, c.overflow)
		for code, n := range c.errors {
			out.Errors[code] += n
			out.Failed += n
		}
		if c.lastErr != nil {
			out.LastError = c.lastErr.Error()
		}
	}
	if r.cfg.Duration > 0 {
		finished = max(finished, min(r.cfg.Warmup+r.cfg.Duration, time.Since(r.base)))
	}
	out.Seconds = (finished - r.cfg.Warmup).Seconds()
	out.Succeeded = all.TotalCount()
	out.Requests = out.Succeeded + out.Failed
	out.OpsPerSec = perSecond(out.Succeeded, out.Seconds)
	if r.cfg.Workload == WorkloadBatch {
		out.BatchSize = r.cfg.batchSize()
		out.KeysPerSec = perSecond(out.Succeeded*int64(out.BatchSize), out.Seconds)
	}
	if r.audience != nil {
		out.Watch = r.audience.result(r)
		if out.LastError == "" {
			out.LastError = out.Watch.lastError
		}
	}
	out.Latency = latencyOf(all)
	if overflow > 0 {
		out.Latency.Max = overflow.Microseconds()
	}
	if len(byKind) > 1 {
		out.ByKind = byKind
	}
	return out
}

func perSecond(n int64, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return math.Round(float64(n)/seconds*10) / 10
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	return Latency{
		Mean: math.Round(h.Mean()*10) / 10,
		P50:  h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), Max: h.Max(),
	}
}
