package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/internal/config"
)

const (
	// politeTime is what clients, the transfer of leadership and leaving the cluster get together
	// when the node stops; then it stops without them.
	politeTime = 15 * time.Second
	// handOverTime of it is for the transfer of leadership, which takes milliseconds if it works.
	handOverTime = 2 * time.Second
	// stopTime is when a stop that hangs (a dead disk) is given up. The systemd unit and
	// docker-compose.yml wait 30 s before they kill.
	stopTime = 25 * time.Second
	// sameSignal: a signal that comes so soon after the first is the same wish. timeout(1) and shells
	// send it to the process and again to its group.
	sameSignal = time.Second
)

// agent runs a node and deals with what comes from outside: signals, and the end of the node itself.
type agent struct {
	cfg    *config.Result
	reload func() (*config.Result, error)
	p      program
	log    hclog.Logger
	// fatal takes the reason why the replica cannot go on. One place: the first reason counts.
	fatal chan error
	// sameSignal is the constant, but for tests.
	sameSignal time.Duration
}

func newAgent(cfg *config.Result, reload func() (*config.Result, error), p program) *agent {
	return &agent{cfg: cfg, reload: reload, p: p, log: newLogger(cfg.Log, p.stderr), fatal: make(chan error, 1),
		sameSignal: sameSignal}
}

// run returns when the node has stopped. The node starts and stops on a goroutine of its own, so that
// a second signal and a fatal error are heard even while it does. The end of ctx asks it to stop.
func (a *agent) run(ctx context.Context) error {
	// asked is closed when the node shall stop. Not a context that ends with this function: after a
	// fatal error the node must not begin to close what is wrong.
	asked := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- a.serve(asked) }()
	defer boundGarbage()()
	askedToStop := false
	var firstSignal time.Time
	var overdue <-chan time.Time
	stop := func() {
		if !askedToStop {
			askedToStop, overdue = true, time.After(stopTime)
			close(asked)
		}
	}
	done := ctx.Done()
	for {
		select {
		case err := <-ended:
			return err
		case err := <-a.fatal:
			return fmt.Errorf("fatal: this node cannot go on: %w", err)
		case <-overdue:
			return fmt.Errorf("the node did not stop within %v and was ended", stopTime)
		case <-done:
			done = nil
			stop()
		case sig := <-a.p.signals:
			switch {
			case sig == syscall.SIGHUP:
				a.reconfigure()
			case askedToStop && time.Since(firstSignal) < a.sameSignal:
			case askedToStop:
				return fmt.Errorf("%v again: ended at once", sig)
			default:
				firstSignal = time.Now()
				a.log.Info("stopping", "signal", sig.String())
				stop()
			}
		}
	}
}

// serve is the life of the node: up, until asked to stop or something gives up, and down.
func (a *agent) serve(asked <-chan struct{}) error {
	n, err := startNode(a.cfg, a.log, a.die)
	if err == nil {
		if a.p.started != nil {
			a.p.started(n.apiAddr())
		}
		err = n.wait(asked)
	}
	polite, cancel := context.WithTimeout(context.Background(), politeTime)
	defer cancel()
	err = errors.Join(err, n.stop(polite))
	if err == nil {
		a.log.Info("stopped")
	}
	return err
}

// die ends the process because the replica cannot go on. It does not return: its caller is in the
// middle of applying an entry, and must neither go on nor pretend that it has.
func (a *agent) die(err error) {
	select {
	case a.fatal <- err:
	default:
	}
	select {}
}

// reconfigure takes over what can change while the node runs, and says what cannot.
func (a *agent) reconfigure() {
	next, err := a.reload()
	if err != nil {
		a.log.Error("configuration was not read again, the old one stays", "error", err)
		return
	}
	a.log.SetLevel(hclog.LevelFromString(next.Log.Level))
	a.log.Info("configuration read again", "log_level", next.Log.Level)
	for _, o := range config.Options() {
		if o.Key != "log.level" && !reflect.DeepEqual(o.Get(&a.cfg.Config), o.Get(&next.Config)) {
			a.log.Warn("a changed option takes effect at the next start only", "option", o.Key, "source", next.Source(o.Key))
		}
	}
}

// newLogger writes to out, which is standard error.
func newLogger(cfg config.Log, out io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name:       "konsul",
		Level:      hclog.LevelFromString(cfg.Level),
		Output:     out,
		JSONFormat: cfg.Format == "json",
	})
}
