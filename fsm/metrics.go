package fsm

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one state machine, on the registerer it was given.
type metrics struct {
	applies          prometheus.Counter
	batchSize        prometheus.Histogram
	applyDuration    prometheus.Histogram
	events           prometheus.Counter
	snapshotDuration prometheus.Histogram
	snapshotSize     prometheus.Gauge
	restoreDuration  prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, f *FSM) (*metrics, error) {
	m := &metrics{
		applies: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "konsul_fsm_applied_total", Help: "Log entries applied to the state machine."}),
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "konsul_fsm_apply_batch_size", Help: "Log entries applied in one write to the engine.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
		applyDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "konsul_fsm_apply_duration_seconds", Help: "Time to apply one batch of log entries.",
			Buckets: prometheus.ExponentialBuckets(10e-6, 2.5, 14)}),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "konsul_fsm_events_total", Help: "Changes made known to watchers."}),
		snapshotDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "konsul_fsm_snapshot_duration_seconds", Help: "Time to write a snapshot and make it durable.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 12)}),
		snapshotSize: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "konsul_fsm_snapshot_size_bytes", Help: "Size of the newest snapshot this node has written."}),
		restoreDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "konsul_fsm_restore_duration_seconds", Help: "Time to replace the state by a snapshot.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 12)}),
	}
	collectors := []prometheus.Collector{
		m.applies, m.batchSize, m.applyDuration, m.events, m.snapshotDuration, m.snapshotSize, m.restoreDuration,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "konsul_fsm_watchers", Help: "Subscriptions and blocking reads that are open."},
			func() float64 { return float64(f.hub.watchers()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "konsul_fsm_published_index", Help: "Newest index that readers of this node see."},
			func() float64 { return float64(f.db.Published()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "konsul_fsm_last_snapshot_index", Help: "Index of the newest durable snapshot; 0 if none is known."},
			func() float64 { return float64(f.SnapshotIndex()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "konsul_fsm_last_snapshot_age_seconds", Help: "Age of the newest durable snapshot; -1 if not known."},
			f.snapshotAge),
	}
	for _, c := range collectors {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// snapshotAge is for people; a wall clock is good enough.
func (f *FSM) snapshotAge() float64 {
	at := f.snapshotTime.Load()
	if at == 0 {
		return -1
	}
	return time.Since(time.Unix(0, at)).Seconds()
}

func (m *metrics) applied(commands, events int, d time.Duration) {
	if commands == 0 {
		return // a configuration alone
	}
	m.applies.Add(float64(commands))
	m.events.Add(float64(events))
	m.batchSize.Observe(float64(commands))
	m.applyDuration.Observe(d.Seconds())
}

func (m *metrics) snapshotted(size int64, d time.Duration) {
	m.snapshotSize.Set(float64(size))
	m.snapshotDuration.Observe(d.Seconds())
}

func (m *metrics) restored(d time.Duration) { m.restoreDuration.Observe(d.Seconds()) }
