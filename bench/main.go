// Command bench compares three Konsul nodes with three etcd members on this
// machine, in one run and on one disk: `make bench`. README.md beside it says what is
// equal on both sides and what is not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// config is what to measure.
type config struct {
	binary, dir, jsonFile, markdownFile string
	clients                             []int
	workloads                           []string
	duration, warmup                    time.Duration
	repetitions                         int
	keys                                uint64
	valueSize                           int
	etcdConnections                     int
	systems                             []string
}

func parse(args []string) (*config, error) {
	c := &config{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	clients, workloads, systems := "1,64,256", strings.Join(allWorkloads, ","), "konsul,etcd"
	f.StringVar(&c.binary, "konsul", "bin/konsul", "the Konsul binary")
	f.StringVar(&c.dir, "dir", "", "directory for all data, on the disk to measure (default: a temporary one here)")
	f.StringVar(&c.jsonFile, "json", "", "also write every measurement to this file")
	f.StringVar(&c.markdownFile, "markdown", "", "also write the table to this file")
	f.StringVar(&clients, "clients", clients, "numbers of clients")
	f.StringVar(&workloads, "workloads", workloads, "what to run")
	f.StringVar(&systems, "systems", systems, "what to compare")
	f.DurationVar(&c.duration, "duration", 5*time.Second, "of one measurement")
	f.DurationVar(&c.warmup, "warmup", time.Second, "before each measurement")
	f.IntVar(&c.repetitions, "repetitions", 3, "measurements of each kind; the medians are printed")
	f.Uint64Var(&c.keys, "keys", 10_000, "different keys")
	f.IntVar(&c.valueSize, "value-size", 256, "bytes")
	f.IntVar(&c.etcdConnections, "etcd-connections", 0, "share this many connections between etcd's clients (0 = one each, as Konsul's have)")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	for _, s := range strings.Split(clients, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("clients: %q is not a number above 0", s)
		}
		c.clients = append(c.clients, n)
	}
	c.workloads, c.systems = strings.Split(workloads, ","), strings.Split(systems, ",")
	if c.repetitions < 1 || c.keys < 1 {
		return nil, errors.New("repetitions and keys must be above 0")
	}
	return c, nil
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "restart" {
		return runRestart(ctx, args[1:])
	}
	if len(args) > 0 && args[0] == "backup" {
		return runBackup(ctx, args[1:])
	}
	cfg, err := parse(args)
	if err != nil {
		return err
	}
	if cfg.dir == "" {
		if cfg.dir, err = os.MkdirTemp(".", ".bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(cfg.dir)
	}
	systems, err := startAll(ctx, cfg)
	for _, s := range systems {
		defer s.stop()
	}
	if err != nil {
		return err
	}
	all, err := measureAll(ctx, cfg, systems)
	if err != nil {
		return err
	}
	return report(cfg, systems, all)
}
