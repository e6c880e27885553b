package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/neogan74/konsul/internal/loadgen"
	"github.com/neogan74/konsul/test/harness"
)

// The workloads: puts and the mix go to all members in turn, reads to the leader alone.
var allWorkloads = []string{"put", "get", "get-stale", "mixed"}

type workload struct {
	kind       loadgen.Workload
	one, stale bool
}

var workloads = map[string]workload{
	"put":       {kind: loadgen.WorkloadPut},
	"get":       {kind: loadgen.WorkloadGet, one: true},
	"get-stale": {kind: loadgen.WorkloadGet, one: true, stale: true},
	"mixed":     {kind: loadgen.WorkloadMixed},
}

// measurement is one system under one load for one duration.
type measurement struct {
	System     string `json:"system"`
	Workload   string `json:"workload"`
	Clients    int    `json:"clients"`
	Repetition int    `json:"repetition"`

	OpsPerSec   float64          `json:"ops_per_s"`
	ServerCPU   float64          `json:"server_cpu_us_per_op"` // of all members, user and system
	GenCPU      float64          `json:"client_cpu_us_per_op"`
	P50         int64            `json:"p50_us"`
	P99         int64            `json:"p99_us"`
	P999        int64            `json:"p99.9_us"`
	Failed      int64            `json:"failed"`
	Errors      map[string]int64 `json:"errors,omitempty"`
	IdleServers float64          `json:"other_servers_cpu_percent"` // what the system not under load took of one processor
}

// measureAll runs everything; the systems take turns within each repetition, and
// who goes first changes, so that a drift of the machine meets both.
func measureAll(ctx context.Context, cfg *config, systems []system) (all []measurement, err error) {
	for _, s := range systems {
		if err := preload(ctx, cfg, s); err != nil {
			return nil, fmt.Errorf("filling %s: %w", s.name(), err)
		}
	}
	for _, name := range cfg.workloads {
		if _, ok := workloads[name]; !ok {
			return nil, fmt.Errorf("workload %q: one of %v", name, allWorkloads)
		}
		for _, clients := range cfg.clients {
			for rep := range cfg.repetitions {
				for i := range systems {
					s := systems[(i+rep)%len(systems)]
					s.turn(rep)
					m, err := measure(ctx, cfg, s, systems, name, clients)
					if err != nil {
						return nil, fmt.Errorf("%s, %s, %d clients: %w", s.name(), name, clients, err)
					}
					m.Repetition = rep + 1
					all = append(all, m)
					fmt.Fprintf(os.Stderr, "%-7s %-9s %4d clients  #%d  %8.0f ops/s  %6.1f us of servers' CPU per op  p99 %d us  %d failed\n",
						m.System, m.Workload, m.Clients, m.Repetition, m.OpsPerSec, m.ServerCPU, m.P99, m.Failed)
				}
			}
		}
	}
	return all, nil
}

// turned is the members with the leader first, turned by n. The order of the others
// stays, so that with repetitions a single client meets all of them, and in a pair of
// measurements both systems' clients meet the same: a write through a follower takes a
// step more.
func turned(addresses []string, leader string, n int) []string {
	sorted := slices.Sorted(slices.Values(addresses))
	n += max(slices.Index(sorted, leader), 0)
	n %= len(sorted)
	return slices.Concat(sorted[n:], sorted[:n])
}

func measure(ctx context.Context, cfg *config, s system, systems []system, name string, clients int) (measurement, error) {
	w := workloads[name]
	load := loadgen.Config{Target: s.target(w.one, w.stale), Workload: w.kind, Clients: clients, Duration: cfg.warmup,
		Keys: cfg.keys, ValueSize: cfg.valueSize, Seed: uint64(time.Now().UnixNano())}
	if cfg.warmup > 0 {
		if _, err := loadgen.Run(ctx, load); err != nil {
			return measurement{}, err
		}
	}
	load.Duration, load.Seed = cfg.duration, load.Seed+1
	servers, others, own := cpuOf(s), cpuOfOthers(s, systems), ownCPU()
	begin := time.Now()
	r, err := loadgen.Run(ctx, load)
	if err != nil {
		return measurement{}, err
	}
	if ctx.Err() != nil {
		return measurement{}, ctx.Err()
	}
	wall := time.Since(begin)
	servers, others, own = cpuOf(s)-servers, cpuOfOthers(s, systems)-others, ownCPU()-own
	ops := float64(max(r.Succeeded, 1))
	return measurement{System: s.name(), Workload: name, Clients: clients, OpsPerSec: r.OpsPerSec,
		ServerCPU: micros(servers) / ops, GenCPU: micros(own) / ops, IdleServers: 100 * others.Seconds() / wall.Seconds(),
		P50: r.Latency.P50, P99: r.Latency.P99, P999: r.Latency.P999, Failed: r.Failed, Errors: r.Errors}, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// cpuOf is the processor time of a system's members so far.
func cpuOf(s system) (sum time.Duration) {
	for _, pid := range s.pids() {
		d, err := harness.ProcessCPU(pid)
		if err == nil { // a member that ended shows as failed operations
			sum += d
		}
	}
	return sum
}

func cpuOfOthers(not system, systems []system) (sum time.Duration) {
	for _, s := range systems {
		if s != not {
			sum += cpuOf(s)
		}
	}
	return sum
}

// ownCPU is the processor time of this process: the load generator.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// preload writes every key once, through 64 workers, the same way for every system.
func preload(ctx context.Context, cfg *config, s system) error {
	const writers = 64
	target := s.target(false, false)
	value := make([]byte, cfg.valueSize)
	for i := range value {
		value[i] = 'a' + byte(i%26)
	}
	errs := make(chan error, writers)
	for id := range writers {
		go func() {
			w, err := target.NewWorker(ctx, id)
			if err != nil {
				errs <- err
				return
			}
			defer w.Close()
			for key := uint64(id); key < cfg.keys && err == nil; key += writers {
				err = w.Do(ctx, &loadgen.Op{Kind: loadgen.Put, Key: key, Value: value})
			}
			errs <- err
		}()
	}
	var first error
	for range writers {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}
