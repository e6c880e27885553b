package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/internal/loadgen"
)

// benchFlags are the flags of `konsul bench`.
type benchFlags struct {
	connection
	cfg         loadgen.Config
	workload    string
	consistency string
	json        bool
}

func benchCommand() *cobra.Command {
	f := &benchFlags{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a cluster",
		Long: "Put load on a cluster and measure throughput and latency. Each client has a connection\n" +
			"of its own and sends its next request when the last is answered; clients are spread\n" +
			"over the addresses. The keys are bench/0000000000 and on; they stay afterwards\n" +
			"(konsul kv delete bench/ --prefix).",
		Example: "  konsul bench\n  konsul bench --workload get --clients 256 --duration 30s\n" +
			"  konsul bench --workload mixed --http-addr 127.0.0.1:8501,127.0.0.1:8502,127.0.0.1:8503 --json",
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.bench(cmd) },
	}
	f.register(cmd, defaultTimeout)
	flags := cmd.Flags()
	flags.StringVar(&f.workload, "workload", "put", "put, get, or mixed (as many gets as puts)")
	flags.IntVar(&f.cfg.Clients, "clients", 16, "clients at the same time")
	flags.DurationVar(&f.cfg.Duration, "duration", 10*time.Second, "how long to measure")
	flags.Int64Var(&f.cfg.Requests, "requests", 0, "how many requests to measure, instead of --duration")
	flags.DurationVar(&f.cfg.Warmup, "warmup", time.Second, "load before the measurement")
	flags.IntVar(&f.cfg.ValueSize, "value-size", 256, "bytes of each value")
	flags.Uint64Var(&f.cfg.Keys, "keys", 10000, "number of different keys")
	flags.StringVar(&f.consistency, "consistency", "linearizable", "of the gets: linearizable or stale")
	flags.Uint64Var(&f.cfg.Seed, "seed", 1, "start of the sequence of keys")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	completeValues(cmd, "workload", "put", "get", "mixed")
	completeValues(cmd, "consistency", "linearizable", "stale")
	return cmd
}

func (f *benchFlags) bench(cmd *cobra.Command) error {
	target, err := f.target(cmd)
	if err != nil {
		return err
	}
	progress := newProgressLine(cmd.ErrOrStderr())
	if f.cfg.Workload != loadgen.WorkloadPut {
		err := target.Preload(cmd.Context(), &f.cfg, func(done uint64) {
			progress.show("loading %d of %d keys", done, f.cfg.Keys)
		})
		progress.clear()
		if err != nil {
			return explain("bench", err)
		}
	}
	// An interrupt ends the measurement early; what was measured so far is printed.
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	f.cfg.Progress = func(p loadgen.Progress) { progress.bench(p) }
	result, err := loadgen.Run(ctx, f.cfg)
	progress.clear()
	if err != nil {
		return explain("bench", unreachable(target, err))
	}
	if f.json {
		err = printJSON(cmd.OutOrStdout(), result)
	} else {
		err = printResult(cmd.OutOrStdout(), result)
	}
	if err == nil && result.Succeeded == 0 {
		err = explain("bench", f.nothingSucceeded(cmd, result))
	}
	return err
}

// nothingSucceeded says why. Without a leader a node keeps requests waiting for one, so
// that a short measurement may end before the first error.
func (f *benchFlags) nothingSucceeded(cmd *cobra.Command, result *loadgen.Result) error {
	why := result.LastError
	if why == "" {
		why = "none was answered"
		if c, err := f.client(cmd); err == nil {
			if _, err = c.Leader(context.WithoutCancel(cmd.Context())); err != nil {
				why = errorCode(err)
			}
		}
	}
	if strings.HasPrefix(why, "no_leader") {
		why += "; are more than half of the nodes running? See `konsul cluster peers`"
	}
	return fmt.Errorf("no request succeeded: %s", why)
}

// target checks the flags.
func (f *benchFlags) target(cmd *cobra.Command) (*loadgen.HTTPTarget, error) {
	c, err := f.client(cmd) // for the same checks and defaults as everywhere
	if err != nil {
		return nil, err
	}
	f.cfg.Workload = loadgen.Workload(f.workload)
	if f.cfg.Requests > 0 && !cmd.Flags().Changed("duration") {
		f.cfg.Duration = 0
	}
	if f.consistency != "linearizable" && f.consistency != "stale" {
		return nil, usage(cmd, "--consistency %q: linearizable or stale", f.consistency)
	}
	target := &loadgen.HTTPTarget{Addresses: c.Addresses(), Token: f.config().Token,
		Prefix: "bench/", Stale: f.consistency == "stale"}
	if cmd.Flags().Changed("timeout") {
		target.Timeout = f.timeout
	}
	f.cfg.Target = target
	if err := f.cfg.Check(); err != nil {
		return nil, usage(cmd, "%w", err)
	}
	return target, nil
}

// unreachable turns a failed first connection into the error all other commands give.
func unreachable(target *loadgen.HTTPTarget, err error) error {
	return fmt.Errorf("%w; is a node running at %s? Start one with `konsul`, or name another with --http-addr",
		err, strings.Join(target.Addresses, ", "))
}

func printResult(out io.Writer, r *loadgen.Result) error {
	fmt.Fprintf(out, "%s, %d clients, %d keys, values of %d bytes: %d requests in %.1f s, %.0f/s\n",
		r.Workload, r.Clients, r.Keys, r.ValueSize, r.Requests, r.Seconds, r.OpsPerSec)
	rows := [][]string{{"LATENCY", "p50", "p90", "p99", "p99.9", "max"}}
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
	p.show("%.0f s: %.0f/s, %d done, %d errors", b.Elapsed.Seconds(), b.OpsPerSec, b.Done, b.Errors)
}

func (p *progressLine) clear() {
	if p.out != nil && p.width > 0 {
		fmt.Fprintf(p.out, "\r%-*s\r", p.width, "")
	}
}
