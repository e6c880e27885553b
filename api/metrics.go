package api

import (
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/neogan74/konsul/internal/persistence"
)

// metrics is what this package counts. The sizes and operations of the engine are
// counted where they happen, in internal/persistence.
type metrics struct {
	seconds *prometheus.HistogramVec
	expose  http.Handler
}

func newMetrics(cfg Config, s *Server) *metrics {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "konsul_http_request_duration_seconds",
			Help:    "Time to answer a request, without what blocking reads and watches waited.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 2.5, 14), // 50 us to 7.5 s
		}, []string{"method", "route", "status"}),
		expose: promhttp.HandlerFor(cfg.Gatherer, promhttp.HandlerOpts{
			ErrorLog:            cfg.Logger.StandardLogger(nil),
			ErrorHandling:       promhttp.ContinueOnError,
			MaxRequestsInFlight: 4,
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "konsul_build_info", Help: "1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": cfg.Version, "goversion": runtime.Version()},
	})
	build.Set(1)
	cfg.Registerer.MustRegister(m.seconds, build,
		gauge("konsul_http_requests_in_flight", "Requests being worked on.", func() float64 { return float64(s.inFlight.Load()) }),
		gauge("konsul_http_waiting", "Watches and blocking reads that wait.", func() float64 { return float64(s.waiting.Load()) }),
		gauge("konsul_watchers", "Watches that are open.", func() float64 { return float64(s.watchers.Load()) }),
	)
	for kind, dir := range map[string]string{"raft": cfg.RaftDir, "snapshots": cfg.SnapshotDir, "backups": cfg.BackupDir} {
		if dir == "" {
			continue
		}
		cfg.Registerer.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "konsul_persistence_database_size_bytes", Help: persistence.DatabaseSizeHelp,
			ConstLabels: prometheus.Labels{"type": kind},
		}, func() float64 { return float64(persistence.DirUsage(dir)) }))
	}
	return m
}

// routeMetrics finds the histogram of a route by status without building labels.
type routeMetrics struct {
	seconds  prometheus.ObserverVec // curried with method and route
	mu       sync.RWMutex
	byStatus map[int]prometheus.Observer
}

func (m *metrics) forRoute(method, pattern string) *routeMetrics {
	return &routeMetrics{
		seconds:  m.seconds.MustCurryWith(prometheus.Labels{"method": method, "route": pattern}),
		byStatus: map[int]prometheus.Observer{},
	}
}

func (r *routeMetrics) observe(status int, d time.Duration) {
	r.mu.RLock()
	o := r.byStatus[status]
	r.mu.RUnlock()
	if o == nil {
		o = r.add(status)
	}
	o.Observe(d.Seconds())
}

func (r *routeMetrics) add(status int) prometheus.Observer {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.seconds.WithLabelValues(strconv.Itoa(status))
	r.byStatus[status] = o
	return o
}

// prometheus is GET /metrics.
func (c *call) prometheus() error {
	c.status = http.StatusOK
	c.s.metrics.expose.ServeHTTP(c.w, c.r)
	return nil
}
