package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is one run of a program. It dies with the process that started it.
type Process struct {
	pid    int
	exited chan struct{} // closed when the process has been waited for
	state  *os.ProcessState
}

// StartProcess runs argv with its output appended to the file log.
//
// PR_SET_PDEATHSIG is tied to the thread that forked, not to the process, so
// the goroutine that starts the program keeps its thread until the program has
// ended.
func StartProcess(argv, env []string, dir, log string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = env, dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p := &Process{exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("starting %s: %w", argv[0], err)
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		_ = cmd.Wait()
		p.state = cmd.ProcessState
		close(p.exited)
	}()
	return p, <-started
}

// signal sends sig to the process itself.
func (p *Process) signal(sig syscall.Signal) error {
	select {
	case <-p.exited:
		return os.ErrProcessDone
	default:
		return syscall.Kill(p.pid, sig)
	}
}

// Running says whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// PID is the process id.
func (p *Process) PID() int { return p.pid }

// wait waits for the process to end, at most d.
func (p *Process) wait(d time.Duration) error {
	select {
	case <-p.exited:
		return nil
	case <-time.After(d):
		return fmt.Errorf("process %d has not ended after %s", p.pid, d)
	}
}

// Terminate asks the process to end (SIGTERM) and waits, at most d.
func (p *Process) Terminate(d time.Duration) error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.wait(d)
}

// Kill ends the process with SIGKILL (which also ends a stopped one) and waits.
func (p *Process) Kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return p.wait(30 * time.Second)
}

// downtime remembers when a node was killed, stopped or paused on purpose.
type downtime struct {
	mu    sync.Mutex
	spans []span
}

type span struct{ from, to time.Time } // to is zero while it lasts

// begin marks the node as not to be relied on from now on.
func (d *downtime) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.spans); n > 0 && d.spans[n-1].to.IsZero() {
		return
	}
	d.spans = append(d.spans, span{from: time.Now()})
}

// end marks the node as usable again.
func (d *downtime) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.spans); n > 0 && d.spans[n-1].to.IsZero() {
		d.spans[n-1].to = time.Now()
	}
}

// overlaps says whether the node was down at any time between from and to.
func (d *downtime) overlaps(from, to time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.spans {
		if s.from.Before(to) && (s.to.IsZero() || s.to.After(from)) {
			return true
		}
	}
	return false
}
