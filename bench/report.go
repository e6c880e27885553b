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

// repetitions are the measurements of one kind.
func repetitions(all []measurement, system, workload string, clients int) (list []measurement) {
	for _, x := range all {
		if x.System == system && x.Workload == workload && x.Clients == clients {
			list = append(list, x)
		}
	}
	return list
}

// medians is the middle of each number over the repetitions of one kind.
func medians(all []measurement, system, workload string, clients int) (m measurement, ok bool) {
	list := repetitions(all, system, workload, clients)
	if len(list) == 0 {
		return m, false
	}
	for _, x := range list {
		m.Failed += x.Failed
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

// ratios is how many operations the system did for one of etcd's, repetition by
// repetition: the two of a pair ran one after the other, so that a machine whose speed
// drifts does not decide. In order.
func ratios(all []measurement, system, workload string, clients int) (list []float64) {
	etcd := map[int]float64{}
	for _, x := range repetitions(all, "etcd", workload, clients) {
		etcd[x.Repetition] = x.OpsPerSec
	}
	for _, x := range repetitions(all, system, workload, clients) {
		if base := etcd[x.Repetition]; base > 0 {
			list = append(list, x.OpsPerSec/base)
		}
	}
	slices.Sort(list)
	return list
}

func median[T cmp.Ordered](list []measurement, of func(measurement) T) T {
	var values []T
	for _, m := range list {
		values = append(values, of(m))
	}
	return middle(values)
}

func middle[T cmp.Ordered](values []T) T {
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
	fmt.Fprintf(w, "\n%d processors for the servers and the load; values of %d bytes, %d keys; medians of %d x %s; the ratio is the median of the pairs, with their middle half.\n\n", runtime.NumCPU(), cfg.valueSize, cfg.keys, cfg.repetitions, cfg.duration)
	fmt.Fprintln(w, "| workload | clients | system | ops/s | ratio | servers' CPU, us/op | load's CPU, us/op | p50 ms | p99 ms | p99.9 ms | failed |")
	fmt.Fprintln(w, "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, name := range cfg.workloads {
		for _, clients := range cfg.clients {
			for _, s := range systems {
				m, ok := medians(all, s.name(), name, clients)
				if !ok {
					continue
				}
				ratio := ""
				if r := ratios(all, s.name(), name, clients); len(r) > 0 && s.name() != "etcd" {
					ratio = fmt.Sprintf("**%.2f** (%.2f to %.2f)", r[len(r)/2], r[len(r)/4], r[len(r)-1-len(r)/4])
				}
				fmt.Fprintln(w, "| "+strings.Join([]string{name, fmt.Sprint(clients), s.name(), fmt.Sprintf("%.0f", m.OpsPerSec), ratio,
					fmt.Sprintf("%.1f", m.ServerCPU), fmt.Sprintf("%.1f", m.GenCPU), ms(m.P50), ms(m.P99), ms(m.P999), fmt.Sprint(m.Failed)}, " | ")+" |")
			}
		}
	}
}

func ms(us int64) string { return fmt.Sprintf("%.2f", float64(us)/1000) }
