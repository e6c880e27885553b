package checks

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/fsm/command"
)

// metrics are this node's runner's.
type metrics struct {
	reg     prometheus.Registerer
	running prometheus.GaugeFunc
	runs    *prometheus.CounterVec
}

// newMetrics registers with reg; nil for none.
func newMetrics(r *Runner, reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		reg: reg,
		running: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "konsul_checks", Help: "HTTP and TCP checks that this node runs.",
		}, func() float64 { return float64(r.Count()) }),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "konsul_check_runs_total", Help: "Runs of checks, by what they found.",
		}, []string{"status"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.running, m.runs} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) unregister() {
	if m.reg != nil {
		m.reg.Unregister(m.running)
		m.reg.Unregister(m.runs)
	}
}

func (m *metrics) ran(status command.Check_Status) {
	label := "critical"
	switch status {
	case command.Check_PASSING:
		label = "passing"
	case command.Check_WARNING:
		label = "warning"
	}
	m.runs.WithLabelValues(label).Inc()
}
