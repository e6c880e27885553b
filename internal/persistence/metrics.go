package persistence

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The operations that are counted and timed.
const (
	opGet         = "get"
	opScan        = "scan"
	opCommit      = "commit"
	opSet         = "set"
	opDelete      = "delete"
	opChanges     = "changes"
	opSnapshot    = "snapshot"
	opReplace     = "replace"
	opDigest      = "digest"
	opMakeDurable = "make_durable"
	opCompact     = "compact"
	opGC          = "gc"
)

type metrics struct {
	reg        prometheus.Registerer
	registered []prometheus.Collector
	done       map[string]prometheus.Counter
	failed     map[string]prometheus.Counter
	seconds    map[string]prometheus.Observer
}

// newMetrics registers the engine's metrics; without a registerer they go nowhere.
func newMetrics(db *DB) (*metrics, error) {
	m := &metrics{
		reg: db.opts.Registerer, done: map[string]prometheus.Counter{},
		failed: map[string]prometheus.Counter{}, seconds: map[string]prometheus.Observer{},
	}
	operations := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "konsul_persistence_operations_total", Help: "Operations on the engine.",
	}, []string{"operation", "status"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "konsul_persistence_operation_duration_seconds", Help: "How long operations on the engine took; set and delete: the commits with any in them.",
		Buckets: prometheus.ExponentialBuckets(2e-6, 4, 13), // 2 us to 33 s
	}, []string{"operation"})
	for _, op := range []string{opGet, opScan, opCommit, opSet, opDelete, opChanges, opSnapshot, opReplace, opDigest, opMakeDurable, opCompact, opGC} {
		m.seconds[op] = seconds.WithLabelValues(op)
	}
	for _, op := range []string{opGet, opScan, opCommit, opSet, opDelete, opChanges, opSnapshot, opReplace, opDigest, opMakeDurable, opCompact, opGC} {
		m.done[op] = operations.WithLabelValues(op, "success")
		m.failed[op] = operations.WithLabelValues(op, "error")
	}
	if m.reg == nil {
		return m, nil
	}
	for _, c := range append([]prometheus.Collector{operations, seconds}, gauges(db)...) {
		if err := m.reg.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

// DatabaseSizeHelp is the help text of konsul_persistence_database_size_bytes, to
// which others add sizes of their own type.
const DatabaseSizeHelp = "Bytes on disk, by type of file."

func gauges(db *DB) []prometheus.Collector {
	gauge := func(name, help string, labels prometheus.Labels, fn func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, fn)
	}
	size := func(kind string, of func(Usage) int64) prometheus.Collector {
		return gauge("konsul_persistence_database_size_bytes", DatabaseSizeHelp, prometheus.Labels{"type": kind}, func() float64 {
			u, err := db.Usage()
			if err != nil {
				return 0
			}
			return float64(of(u))
		})
	}
	return []prometheus.Collector{
		size("sst", func(u Usage) int64 { return u.SST }),
		size("vlog", func(u Usage) int64 { return u.VLog }),
		size("mem", func(u Usage) int64 { return u.Mem }),
		gauge("konsul_persistence_published_index", "Newest index that readers see.", nil, func() float64 { return float64(db.Published()) }),
		gauge("konsul_persistence_durable_index", "Everything up to this index survives a power cut without the log.", nil, func() float64 { return float64(db.DurableIndex()) }),
		gauge("konsul_persistence_floor_index", "Oldest index that can be read.", nil, func() float64 { return float64(db.Floor()) }),
		gauge("konsul_persistence_unverified_bytes", "Bytes of tables that were not read since the start.", nil, func() float64 { return float64(db.Unverified()) }),
		gauge("konsul_persistence_keys", "User keys.", nil, func() float64 { return float64(db.Counts().Keys) }),
		gauge("konsul_persistence_services", "Services.", nil, func() float64 { return float64(db.Counts().Services) }),
	}
}

func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.reg.Unregister(c)
	}
}

// time starts a clock for op: `defer m.time(op)(&err)`.
func (m *metrics) time(op string) func(*error) {
	begin := time.Now()
	return func(err *error) { m.observe(op, begin, *err) }
}

func (m *metrics) observe(op string, begin time.Time, err error) {
	m.seconds[op].Observe(time.Since(begin).Seconds())
	if err != nil {
		m.failed[op].Inc()
		return
	}
	m.done[op].Inc()
}

// committed counts a commit and what was in it. A set takes as long as the commit that it shares
// with others, which is timed once, however many there are.
func (m *metrics) committed(begin time.Time, changes []Change) {
	deletes := 0
	for _, c := range changes {
		if c.Deleted {
			deletes++
		}
	}
	m.observe(opCommit, begin, nil)
	took := time.Since(begin).Seconds()
	m.shared(opSet, len(changes)-deletes, took)
	m.shared(opDelete, deletes, took)
}

func (m *metrics) shared(op string, n int, seconds float64) {
	if n > 0 {
		m.done[op].Add(float64(n))
		m.seconds[op].Observe(seconds)
	}
}
