package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
)

// medians is the middle of each number over the repetitions of one kind.
func medians(all []measurement, system, workload string, clients int) (m measurement, ok bool) {
	var list []measurement
	for _, x := range all {
		if x.System == system && x.Workload == workload && x.Clients == clients {
			list = append(list, x)
			m.Failed += x.Failed
		}
	}
	if len(list) == 0 {
		return m, false
	}
	m.OpsPerSec = median(list, func(x measurement) float64 { return x.OpsPerSec })
	m.ServerCPU = median(list, func(x measurement) float64 { return x.ServerCPU })
	m.GenCPU = median(list, func(x measurement) float64 { return x.GenCPU })
	m.IdleServers = median(list, func(x measurement) float64 { return x.IdleServers })
	m.P50 = median(list, func(x measurement) int64 { return x.P50 })
	m.P99 = median(list, func(x measurement) int64 { return x.P99 })
	m.P999 = median(list, func(x measurement) int64 { return x.P999 })
	return m, true
}

func median[T cmp.Ordered](list []measurement, of func(measurement) T) T {
	var values []T
	for _, m := range list {
		values = append(values, of(m))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// report prints the table and writes the files asked for.
func report(cfg *config, systems []system, all []measurement) error {
	var b bytes.Buffer
	table(&b, cfg, systems, all)
	if _, err := os.Stdout.Write(b.Bytes()); err != nil {
		return err
	}
	if cfg.markdownFile != "" {
		if err := os.WriteFile(cfg.markdownFile, b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	if cfg.jsonFile == "" {
		return nil
	}
	versions := map[string]string{}
	for _, s := range systems {
		versions[s.name()] = s.version()
	}
	js, err := json.MarshalIndent(map[string]any{"versions": versions, "cpus": runtime.NumCPU(), "value_size": cfg.valueSize, "keys": cfg.keys,
		"seconds": cfg.duration.Seconds(), "measurements": all}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(cfg.jsonFile, js, 0o644)
}

func table(w io.Writer, cfg *config, systems []system, all []measurement) {
	for _, s := range systems {
		fmt.Fprintf(w, "%s: %s, %d members\n", s.name(), s.version(), members)
	}
	fmt.Fprintf(w, "\n%d processors for the servers and the load; values of %d bytes, %d keys; medians of %d x %s.\n\n", runtime.NumCPU(), cfg.valueSize, cfg.keys, cfg.repetitions, cfg.duration)
	fmt.Fprintln(w, "| workload | clients | system | ops/s | ratio | servers' CPU, us/op | load's CPU, us/op | p50 ms | p99 ms | p99.9 ms | failed |")
	fmt.Fprintln(w, "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, name := range cfg.workloads {
		for _, clients := range cfg.clients {
			base, haveBase := medians(all, "etcd", name, clients)
			for _, s := range systems {
				m, ok := medians(all, s.name(), name, clients)
				if !ok {
					continue
				}
				ratio := ""
				if haveBase && s.name() != "etcd" {
					ratio = fmt.Sprintf("**%.2f**", m.OpsPerSec/base.OpsPerSec)
				}
				fmt.Fprintln(w, "| "+strings.Join([]string{name, fmt.Sprint(clients), s.name(), fmt.Sprintf("%.0f", m.OpsPerSec), ratio,
					fmt.Sprintf("%.1f", m.ServerCPU), fmt.Sprintf("%.1f", m.GenCPU), ms(m.P50), ms(m.P99), ms(m.P999), fmt.Sprint(m.Failed)}, " | ")+" |")
			}
		}
	}
}

func ms(us int64) string { return fmt.Sprintf("%.2f", float64(us)/1000) }
