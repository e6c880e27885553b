package main

import (
	"fmt"

	gometrics "github.com/hashicorp/go-metrics"
	gometricsprom "github.com/hashicorp/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// newMetrics makes this node's registry, with what the Go runtime, the operating system and the Raft
// library say about themselves.
func newMetrics() (*prometheus.Registry, error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// hashicorp/raft reports to a global sink of go-metrics (the build tag hashicorpmetrics makes it
	// this module's). Expiration 0: a series that is idle stays, instead of vanishing after a minute.
	// Its names begin with hashicorp_raft_, so that they never meet ours.
	sink, err := gometricsprom.NewPrometheusSinkFrom(gometricsprom.PrometheusOpts{Registerer: reg, Name: "hashicorp_raft"})
	if err != nil {
		return nil, fmt.Errorf("registering Raft's metrics: %w", err)
	}
	opts := gometrics.DefaultConfig("hashicorp")
	opts.EnableHostname, opts.EnableRuntimeMetrics = false, false
	if _, err := gometrics.NewGlobal(opts, sink); err != nil {
		return nil, fmt.Errorf("starting Raft's metrics: %w", err)
	}
	return reg, nil
}
