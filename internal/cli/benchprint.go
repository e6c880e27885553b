package cli

import (
	"fmt"
	"io"
	"slices"

	"github.com/neogan74/konsul/internal/loadgen"
)

func printResult(out io.Writer, r *loadgen.Result) error {
	if r.Watch != nil {
		return printWatch(out, r)
	}
	of, keys := "", ""
	if r.Workload == loadgen.WorkloadBatch {
		of, keys = fmt.Sprintf(" of %d keys", r.BatchSize), fmt.Sprintf(", %.0f keys/s", r.KeysPerSec)
	}
	fmt.Fprintf(out, "%s, %d clients, %d keys, values of %d bytes: %d requests%s in %.1f s, %.0f/s%s\n",
		r.Workload, r.Clients, r.Keys, r.ValueSize, r.Requests, of, r.Seconds, r.OpsPerSec, keys)
	rows := [][]string{latencyHead}
	kinds := make([]string, 0, len(r.ByKind))
	for kind := range r.ByKind {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		rows = append(rows, latencyRow(kind, r.ByKind[kind]))
	}
	rows = append(rows, latencyRow("all", r.Latency))
	if err := table(out, rows); err != nil {
		return err
	}
	return printErrors(out, r)
}

// printWatch prints what the writers and the watchers measured, and of what may go
// wrong on the way what did.
func printWatch(out io.Writer, r *loadgen.Result) error {
	w := r.Watch
	fmt.Fprintf(out, "%s, %d watchers, %d writers, %d keys, values of %d bytes: %d writes in %.1f s, %.0f/s; %d events, %.0f/s\n",
		r.Workload, w.Watchers, w.Writers, r.Keys, r.ValueSize, r.Requests, r.Seconds, r.OpsPerSec, w.Events, w.EventsPerSec)
	if err := table(out, [][]string{latencyHead, latencyRow("put", r.Latency), latencyRow("delivery", w.Delivery)}); err != nil {
		return err
	}
	fmt.Fprintf(out, "events: %d missing, %d duplicates, %d out of order\n", w.Missing, w.Duplicates, w.OutOfOrder)
	for _, line := range []struct {
		n    int64
		what string
	}{
		{w.Resets + w.Compactions, fmt.Sprintf("watches begun anew, which skipped %d events: %d because the data was replaced, %d because the history was too short", w.Skipped, w.Resets, w.Compactions)},
		{w.Disconnects, "connections of watchers lost, or not resumed at once"},
		{w.Foreign, "events of other clients' changes, not counted"},
	} {
		if line.n > 0 {
			fmt.Fprintf(out, "%d %s\n", line.n, line.what)
		}
	}
	if w.Interrupted {
		fmt.Fprintln(out, "interrupted: the last events were not waited for")
	}
	return printErrors(out, r)
}

var latencyHead = []string{"LATENCY", "p50", "p90", "p99", "p99.9", "max"}

func latencyRow(name string, l loadgen.Latency) []string {
	row := []string{name}
	for _, us := range []int64{l.P50, l.P90, l.P99, l.P999, l.Max} {
		row = append(row, fmt.Sprintf("%.2f ms", float64(us)/1000))
	}
	return row
}

func printErrors(out io.Writer, r *loadgen.Result) error {
	if r.Failed == 0 {
		return nil
	}
	codes := make([]string, 0, len(r.Errors))
	for code := range r.Errors {
		codes = append(codes, code)
	}
	slices.Sort(codes)
	rows := [][]string{{"ERROR", "COUNT"}}
	for _, code := range codes {
		rows = append(rows, []string{code, fmt.Sprint(r.Errors[code])})
	}
	return table(out, rows)
}

// progressLine is one line that is written over and over, on a terminal only.
type progressLine struct {
	out   io.Writer
	width int
}

func newProgressLine(out io.Writer) *progressLine {
	if !isTerminal(out) {
		return &progressLine{}
	}
	return &progressLine{out: out}
}

func (p *progressLine) show(format string, values ...any) {
	if p.out == nil {
		return
	}
	text := fmt.Sprintf(format, values...)
	fmt.Fprintf(p.out, "\r%-*s", p.width, text)
	p.width = max(p.width, len(text))
}

func (p *progressLine) bench(b loadgen.Progress) {
	if b.Elapsed < 0 {
		p.show("warming up: %.0f/s", b.OpsPerSec)
		return
	}
	events := ""
	if b.Events > 0 {
		events = fmt.Sprintf(", %d events", b.Events)
	}
	p.show("%.0f s: %.0f/s, %d done%s, %d errors", b.Elapsed.Seconds(), b.OpsPerSec, b.Done, events, b.Errors)
}

func (p *progressLine) clear() {
	if p.out != nil && p.width > 0 {
		fmt.Fprintf(p.out, "\r%-*s\r", p.width, "")
	}
}
