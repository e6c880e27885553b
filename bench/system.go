package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/neogan74/konsul/internal/loadgen"
	"github.com/neogan74/konsul/test/harness"
)

// system is a running cluster of three that load can be put on.
type system interface {
	name() string
	version() string
	// target sends to all members in turn, or to the leader alone (one).
	target(one, stale bool) loadgen.Target
	// turn has clients spread over the members from the leader's n-th follower on.
	turn(n int)
	pids() []int
	stop()
}

const members = 3

// processes are the members of one system.
type processes struct {
	list []*harness.Process
	logs []string
}

func (p *processes) pids() (pids []int) {
	for _, m := range p.list {
		pids = append(pids, m.PID())
	}
	return pids
}

func (p *processes) stop() {
	for _, m := range p.list {
		_ = m.Kill() // the run is over; nothing of it is kept
	}
}

// add starts one member with its output in dir/log.
func (p *processes) add(dir string, env []string, argv ...string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	log := filepath.Join(dir, "log")
	m, err := harness.StartProcess(argv, append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...), dir, log)
	if err != nil {
		return err
	}
	p.list, p.logs = append(p.list, m), append(p.logs, log)
	return nil
}

// ready polls until check succeeds or a member has ended. An etcd of a gigabyte takes minutes
// to start on two processors.
func (p *processes) ready(ctx context.Context, check func() error) error {
	return harness.Poll(5*time.Minute, func() error {
		for i, m := range p.list {
			if !m.Running() {
				return harness.Stop(fmt.Errorf("member %d has ended; its log is %s", i+1, p.logs[i]))
			}
		}
		if ctx.Err() != nil {
			return harness.Stop(ctx.Err())
		}
		return check()
	})
}

// startAll starts what is to be compared. Without etcd on the machine Konsul is measured alone.
func startAll(ctx context.Context, cfg *config) (all []system, err error) {
	dir, err := filepath.Abs(cfg.dir)
	if err != nil {
		return nil, err
	}
	for _, name := range cfg.systems {
		var s system
		switch name {
		case "konsul":
			s, err = startKonsul(ctx, cfg, filepath.Join(dir, name))
		case "etcd":
			if _, missing := exec.LookPath("etcd"); missing != nil {
				fmt.Fprintln(os.Stderr, "etcd is not installed (Debian: etcd-server): measuring Konsul alone, there is no comparison")
				continue
			}
			s, err = startEtcd(ctx, cfg, filepath.Join(dir, name))
		default:
			err = fmt.Errorf("system %q: konsul or etcd", name)
		}
		if err != nil {
			return all, err
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, errors.New("nothing to measure")
	}
	return all, nil
}
