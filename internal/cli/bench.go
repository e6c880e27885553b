package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/client"
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
			"(konsul kv delete bench/ --prefix).\n\n" +
			"  put    one key per request\n" +
			"  get    one key per request; all keys are written first\n" +
			"  mixed  as many gets as puts\n" +
			"  batch  --batch-size keys per request, all or none; requests and keys are counted\n" +
			"  watch  --clients watchers of bench/, connected before the first write, and\n" +
			"         --writers clients that put. Delivery is the time from just before a write\n" +
			"         is sent to its event at each watcher. A write that was acknowledged and a\n" +
			"         watcher did not see, or not once and in order, is an error (exit 1).",
		Example: "  konsul bench\n  konsul bench --workload get --clients 256 --duration 30s\n" +
			"  konsul bench --workload batch --batch-size 500\n  konsul bench --workload watch --clients 100 --writers 2\n" +
			"  konsul bench --workload mixed --http-addr 127.0.0.1:8501,127.0.0.1:8502,127.0.0.1:8503 --json",
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.bench(cmd) },
	}
	f.register(cmd, defaultTimeout)
	flags := cmd.Flags()
	flags.StringVar(&f.workload, "workload", "put", "put, get, mixed, batch or watch")
	flags.IntVar(&f.cfg.Clients, "clients", 16, "clients at the same time; of watch: watchers")
	flags.DurationVar(&f.cfg.Duration, "duration", 10*time.Second, "how long to measure")
	flags.Int64Var(&f.cfg.Requests, "requests", 0, "how many requests to measure, instead of --duration")
	flags.DurationVar(&f.cfg.Warmup, "warmup", time.Second, "load before the measurement")
	flags.IntVar(&f.cfg.BatchSize, "batch-size", loadgen.DefaultBatchSize, "of batch: keys per request")
	flags.IntVar(&f.cfg.Writers, "writers", loadgen.DefaultWriters, "of watch: clients that put")
	flags.IntVar(&f.cfg.ValueSize, "value-size", 256, "bytes of each value")
	flags.Uint64Var(&f.cfg.Keys, "keys", 10000, "number of different keys")
	flags.StringVar(&f.consistency, "consistency", "linearizable", "of the gets: linearizable or stale")
	flags.Uint64Var(&f.cfg.Seed, "seed", 1, "start of the sequence of keys")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	completeValues(cmd, "workload", loadgen.Workloads...)
	completeValues(cmd, "consistency", "linearizable", "stale")
	return cmd
}

func (f *benchFlags) bench(cmd *cobra.Command) error {
	target, err := f.target(cmd)
	if err != nil {
		return err
	}
	progress := newProgressLine(cmd.ErrOrStderr())
	if f.cfg.Workload == loadgen.WorkloadGet || f.cfg.Workload == loadgen.WorkloadMixed {
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
		var answered *client.Error
		if !errors.As(err, &answered) && ctx.Err() == nil {
			err = unreachable(target, err)
		}
		return explain("bench", err)
	}
	if f.json {
		err = printJSON(cmd.OutOrStdout(), result)
	} else {
		err = printResult(cmd.OutOrStdout(), result)
	}
	if err == nil && result.Succeeded == 0 {
		err = explain("bench", f.nothingSucceeded(cmd, result))
	}
	if err == nil && result.Watch != nil {
		err = explain("bench", result.Watch.Err())
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
	for flag, of := range map[string]loadgen.Workload{"batch-size": loadgen.WorkloadBatch, "writers": loadgen.WorkloadWatch} {
		switch set := cmd.Flags().Lookup(flag); {
		case set.Changed && f.cfg.Workload != of:
			return nil, usage(cmd, "--%s is for --workload %s", flag, of)
		case set.Value.String() == "0": // in the configuration it is the default
			return nil, usage(cmd, "--%s 0: at least 1", flag)
		}
	}
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
