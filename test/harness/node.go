package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Node is one Konsul process and everything that outlives it: its addresses,
// its data directory and its log.
type Node struct {
	*Client
	Name    string
	HTTP    string // API address, host:port
	Raft    string // Raft address, host:port
	Dir     string // working directory of the process
	DataDir string
	LogFile string

	t      testing.TB
	binary string
	prefix []string // put before the binary: "ip netns exec NAME"
	env    map[string]string
	proc   *Process
	down   downtime
}

// Start starts the process; it returns before the node is ready.
func (n *Node) Start() {
	n.t.Helper()
	if err := n.TryStart(); err != nil {
		n.t.Fatalf("%s: %v", n.Name, err)
	}
}

// TryStart is Start for a caller that handles the error, on any goroutine.
func (n *Node) TryStart() error {
	if n.proc != nil && n.proc.Running() {
		return fmt.Errorf("already running with pid %d", n.proc.pid)
	}
	p, err := StartProcess(append(append([]string{}, n.prefix...), n.binary), n.environ(), n.Dir, n.LogFile)
	if err != nil {
		return err
	}
	n.proc = p
	return nil
}

// environ is the test's environment without any setting of Konsul, plus the node's own.
func (n *Node) environ() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "KONSUL_") && !strings.HasPrefix(kv, "BADGER_") {
			env = append(env, kv)
		}
	}
	for k, v := range n.env {
		env = append(env, k+"="+v)
	}
	return env
}

// SetEnv changes a setting for the next start; an empty value removes it.
func (n *Node) SetEnv(key, value string) {
	if value == "" {
		delete(n.env, key)
		return
	}
	n.env[key] = value
}

// Kill9 ends the process as a crash would.
func (n *Node) Kill9() {
	n.t.Helper()
	if err := n.TryKill9(); err != nil {
		n.t.Fatalf("%s: %v", n.Name, err)
	}
}

// TryKill9 is Kill9 for a caller on another goroutine.
func (n *Node) TryKill9() error {
	n.down.begin()
	if n.proc == nil {
		return nil
	}
	return n.proc.Kill()
}

// Stop asks the process to end (SIGTERM) and fails the test if it has not
// within 30 seconds or did not exit with status 0.
func (n *Node) Stop() {
	n.t.Helper()
	n.down.begin()
	if err := n.proc.signal(syscall.SIGTERM); err != nil {
		n.t.Fatalf("%s: stopping: %v", n.Name, err)
	}
	if err := n.proc.wait(30 * time.Second); err != nil {
		n.t.Fatalf("%s: stopping: %v", n.Name, err)
	}
	if code := n.proc.state.ExitCode(); code != 0 {
		n.t.Errorf("%s: SIGTERM: exit status %d, want 0", n.Name, code)
	}
}

// Pause freezes the process with SIGSTOP.
func (n *Node) Pause() {
	n.down.begin()
	_ = n.proc.signal(syscall.SIGSTOP)
}

// Freeze is Pause for a caller on another goroutine, and waits until no thread of the
// process can go on: each is stopped, or in a call that the kernel does not break off,
// as a sync is, and stops when that returns.
func (n *Node) Freeze() error {
	n.down.begin()
	if err := n.proc.signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("%s: freezing: %w", n.Name, err)
	}
	return Poll(30*time.Second, func() error {
		states, err := n.threadStates()
		if err != nil {
			return err
		}
		if strings.Trim(states, "TtDZX") != "" {
			return fmt.Errorf("%s: freezing: its threads are in states %s", n.Name, states)
		}
		return nil
	})
}

// Resume lets a frozen process go on. It counts as down until WaitReady.
func (n *Node) Resume() { _ = n.proc.signal(syscall.SIGCONT) }

// Running says whether the process is there (a paused one is).
func (n *Node) Running() bool { return n.proc != nil && n.proc.Running() }

// Binary is the program that the node runs.
func (n *Node) Binary() string { return n.binary }

// PID is the process id of the present or the last run.
func (n *Node) PID() int { return n.proc.pid }

// Restart is Kill9 and Start.
func (n *Node) Restart() {
	n.t.Helper()
	n.Kill9()
	n.Start()
}

// WaitReady waits until /health/ready says 200.
func (n *Node) WaitReady(d time.Duration) {
	n.t.Helper()
	if err := n.TryReady(d); err != nil {
		n.t.Fatal(err)
	}
}

// TryReady is WaitReady for a caller that handles the error, on any goroutine.
func (n *Node) TryReady(d time.Duration) error {
	err := Poll(d, func() error {
		if !n.Running() {
			return Stop(fmt.Errorf("%s: the process has ended", n.Name))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		a, err := n.Get(ctx, "/health/ready")
		if err != nil {
			return err
		}
		return a.Want(200)
	})
	if err != nil {
		return fmt.Errorf("%s is not ready: %w", n.Name, err)
	}
	n.down.end()
	return nil
}

// Log returns the end of the node's log, at most max bytes.
func (n *Node) Log(max int) string {
	b, _ := os.ReadFile(n.LogFile)
	if len(b) > max {
		b = b[len(b)-max:]
	}
	return string(b)
}

// cleanup ends the process and, if the test failed, prints and keeps its log.
func (n *Node) cleanup() {
	if n.proc != nil {
		if err := n.proc.Kill(); err != nil {
			n.t.Errorf("%s: cleaning up: %v", n.Name, err)
		}
	}
	n.CloseIdle()
	if !n.t.Failed() {
		return
	}
	n.t.Logf("---- %s (%s), end of its log ----\n%s", n.Name, n.HTTP, n.Log(6000))
	if keep := os.Getenv("KONSUL_TEST_KEEP"); keep != "" {
		name := strings.ReplaceAll(n.t.Name(), "/", "_") + "-" + n.Name + ".log"
		_ = os.MkdirAll(keep, 0o700)
		_ = os.WriteFile(filepath.Join(keep, name), []byte(n.Log(64<<20)), 0o600)
	}
}

// MarkDown says that the node is about to be broken in a way this package does
// not know: its clients may see broken connections until WaitReady.
func (n *Node) MarkDown() { n.down.begin() }
