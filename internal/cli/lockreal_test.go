//go:build linux

package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/neogan74/konsul/client"
	"github.com/neogan74/konsul/test/harness"
)

// lockTest is the program against one real node.
type lockTest struct {
	*testing.T
	node   *harness.Node
	client *client.Client
	dir    string
}

// process is a run of the program that the test talks to by signals and files.
type process struct {
	t      *lockTest
	cmd    *exec.Cmd
	stderr bytes.Buffer
	stdout bytes.Buffer
	done   chan struct{}
}

func (t *lockTest) start(args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(harness.Binary(t, harness.Plain), args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "KONSUL_HTTP_ADDR="+t.node.HTTP)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr, p.cmd.WaitDelay = t.dir, &p.stdout, &p.stderr, 5*time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
	})
	return p
}

// exit waits for the end and compares the exit status.
func (p *process) exit(code int, says ...string) {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.t.Fatalf("%v does not end: %s", p.cmd.Args[1:], p.stderr.String())
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("%v: exit %d, want %d: %s", p.cmd.Args[1:], got, code, p.stderr.String())
	}
	for _, text := range says {
		if !strings.Contains(p.stderr.String(), text) {
			p.t.Errorf("%v: %q does not say %q", p.cmd.Args[1:], p.stderr.String(), text)
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// file waits until a file of the test holds the text.
func (t *lockTest) file(name, text string) string {
	t.Helper()
	var got []byte
	harness.Eventually(t, 20*time.Second, name+" to say "+text, func() (err error) {
		if got, err = os.ReadFile(filepath.Join(t.dir, name)); err == nil && !strings.Contains(string(got), text) {
			err = fmt.Errorf("it says %q", got)
		}
		return err
	})
	return string(got)
}

func (t *lockTest) ctx() context.Context { return harness.Context(t, 30*time.Second) }

// holder waits until the key is held and gives its session.
func (t *lockTest) holder(key string) string {
	t.Helper()
	var entry client.Entry
	harness.Eventually(t, 20*time.Second, "a holder of "+key, func() (err error) {
		if entry, err = t.client.Get(t.ctx(), key); err == nil && entry.Session == "" {
			err = errors.New("nobody holds it")
		}
		return err
	})
	return entry.Session
}

func (t *lockTest) free(key string) {
	t.Helper()
	if entry, err := t.client.Get(t.ctx(), key); err != nil || entry.Session != "" {
		t.Errorf("%s: %+v, %v", key, entry, err)
	}
	if sessions, err := t.client.Sessions(t.ctx()); err != nil || len(sessions) != 0 {
		t.Errorf("left behind: %+v, %v", sessions, err)
	}
}

// unignore makes the program get the signals that whoever runs the tests ignores (a
// script's background job, nohup): it would ignore them, too, and is right to.
func unignore(t *testing.T) {
	t.Helper()
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
			t.Cleanup(func() { signal.Ignore(s) })
		}
	}
}

// TestLockCommand is konsul lock on a real node.
func TestLockCommand(t *testing.T) {
	unignore(t)
	cluster := harness.Start(t, harness.Options{})
	c, err := client.New(client.Config{Addresses: []string{cluster.Nodes[0].HTTP}})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]func(*lockTest){
		"the command's own status":   lockPassesOn,
		"two never at once":          lockExcludes,
		"signals":                    lockForwards,
		"a session destroyed":        lockIsLost,
		"a command that will not go": lockKills,
		"somebody else holds it":     lockWaits,
		"killed":                     lockIsKilled,
		"keep-alive":                 registerKeepsAlive,
	} {
		t.Run(name, func(t *testing.T) {
			test(&lockTest{T: t, node: cluster.Nodes[0], client: c, dir: t.TempDir()})
		})
	}
}

func lockPassesOn(t *lockTest) {
	p := t.start("lock", "k", "--", "sh", "-c", `echo "$KONSUL_LOCK_KEY $KONSUL_LOCK_INDEX $KONSUL_LOCK_SESSION"; echo oops >&2; exit 7`)
	p.exit(7)
	entry, err := t.client.Get(t.ctx(), "k")
	out := strings.Fields(p.stdout.String())
	if err != nil || len(out) != 3 || out[0] != "k" || out[1] != strconv.FormatUint(entry.LockIndex, 10) || out[2] == "" || p.stderr.String() != "oops\n" {
		t.Errorf("out %q, err %q, entry %+v, %v", out, p.stderr.String(), entry, err)
	}
	if value := strings.Fields(string(entry.Value)); len(value) != 2 || value[1] != strconv.Itoa(p.cmd.Process.Pid) {
		t.Errorf("the key says %q", entry.Value)
	}
	t.free("k")
	t.start("lock", "k", "--value", "", "--json", "--", "true", "--json").exit(0)
	t.start("lock", "k", "--", "sh", "-c", "kill -KILL $$").exit(137)
	t.free("k")
}

// lockExcludes: contenders take turns; a directory tells if two run at once, and the
// tokens grow.
func lockExcludes(t *lockTest) {
	const script = `mkdir inside || echo overlap >> faults; echo $KONSUL_LOCK_INDEX >> tokens; sleep 0.02; rmdir inside`
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 3 {
				t.start("lock", "turns", "--", "sh", "-c", script).exit(0)
			}
		})
	}
	all.Wait()
	if faults, err := os.ReadFile(filepath.Join(t.dir, "faults")); err == nil {
		t.Errorf("two at once: %s", faults)
	}
	var tokens []int
	for line := range strings.Lines(t.file("tokens", "")) {
		n, _ := strconv.Atoi(strings.TrimSpace(line))
		tokens = append(tokens, n)
	}
	if len(tokens) != 12 || !slices.IsSorted(tokens) || len(slices.Compact(slices.Clone(tokens))) != 12 {
		t.Errorf("tokens %v", tokens)
	}
	t.free("turns")
}

func lockForwards(t *lockTest) {
	p := t.start("lock", "sig", "--", "sh", "-c", `for s in HUP INT QUIT USR1 USR2; do trap "echo got $s >> log" $s; done
		trap "exit 5" TERM; echo ready >> log; while :; do sleep 0.02; done`)
	t.file("log", "ready")
	for s, name := range map[os.Signal]string{syscall.SIGHUP: "HUP", syscall.SIGINT: "INT", syscall.SIGQUIT: "QUIT", syscall.SIGUSR1: "USR1", syscall.SIGUSR2: "USR2"} {
		p.signal(s)
		t.file("log", "got "+name)
	}
	p.signal(syscall.SIGTERM)
	p.exit(5)
	t.free("sig")
}

func lockIsLost(t *lockTest) {
	p := t.start("lock", "lost", "--ttl", "1h", "--lock-delay", "0s", "--", "sh", "-c", `trap "echo stopped >> log; exit 0" TERM; echo ready >> log; while :; do sleep 0.02; done`)
	t.file("log", "ready")
	if err := t.client.DestroySession(t.ctx(), t.holder("lost")); err != nil {
		t.Fatal(err)
	}
	p.exit(125, "lock lost", "the command was stopped")
	t.file("log", "stopped")
	t.free("lost")

	p = t.start("lock", "lost", "--ttl", "1h", "--lock-delay", "0s", "--", "sleep", "100")
	t.holder("lost")
	if _, err := t.client.Delete(t.ctx(), "lost"); err != nil {
		t.Fatal(err)
	}
	p.exit(125, "its key was deleted")
}

// lockKills: SIGKILL for a command that does not listen, and for what it started.
func lockKills(t *lockTest) {
	p := t.start("lock", "deaf", "--ttl", "1h", "--lock-delay", "0s", "--kill-after", "200ms", "--", "sh", "-c",
		`trap "" TERM; sh -c 'echo $$ > child; while :; do sleep 0.02; done' & echo ready > log; while :; do sleep 0.02; done`)
	t.file("log", "ready")
	child := strings.TrimSpace(t.file("child", "\n"))
	if err := t.client.DestroySession(t.ctx(), t.holder("deaf")); err != nil {
		t.Fatal(err)
	}
	p.exit(125)
	t.gone(child)
}

// gone waits until a process has ended.
func (t *lockTest) gone(pid string) {
	t.Helper()
	harness.Eventually(t, 10*time.Second, "the end of the command", func() error {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			return fmt.Errorf("it runs: %s", stat)
		}
		return nil
	})
}

func lockWaits(t *lockTest) {
	p := t.start("lock", "busy", "--", "sleep", "100")
	t.holder("busy")
	t.start("lock", "busy", "--wait", "0s", "--", "true").exit(1, "lock busy: the key is held by session", "or see who it is with `konsul kv get busy`")
	t.start("lock", "busy", "--wait", "2s", "--json", "--", "true").exit(1, `"code":"lock_held"`)
	waiting := t.start("lock", "busy", "--", "touch", "never")
	harness.Eventually(t, 20*time.Second, "the session of the one that waits", func() error {
		if sessions, err := t.client.Sessions(t.ctx()); err != nil || len(sessions) != 2 {
			return fmt.Errorf("%+v, %w", sessions, err)
		}
		return nil
	})
	waiting.signal(syscall.SIGUSR1) // not one that ends it
	waiting.signal(syscall.SIGINT)
	waiting.exit(130, "lock busy: interrupt while waiting")
	if _, err := os.Stat(filepath.Join(t.dir, "never")); err == nil {
		t.Error("the command was run")
	}
	p.signal(syscall.SIGTERM)
	p.exit(143)
	t.free("busy")
}

// lockIsKilled: with kill -9 nothing can be released; the command ends all the same, and
// the next one gets the lock after the TTL, not before.
func lockIsKilled(t *lockTest) {
	const ttl = 1500 * time.Millisecond
	p := t.start("lock", "dead", "--ttl", ttl.String(), "--lock-delay", "0s", "--", "sh", "-c", `echo $$ > pid; exec sleep 100`)
	pid := strings.TrimSpace(t.file("pid", "\n"))
	t.holder("dead")
	p.signal(syscall.SIGKILL)
	killed := time.Now()
	p.exit(-1)
	t.gone(pid)
	t.start("lock", "dead", "--wait", "20s", "--", "true").exit(0)
	if took := time.Since(killed); took < ttl/2 {
		t.Errorf("free after %v, with a TTL of %v and renewals each third of it", took, ttl)
	}
	t.free("dead")
}

func registerKeepsAlive(t *lockTest) {
	p := t.start("service", "register", "web", "--id", "web-1", "--address", "10.0.0.7", "--port", "80", "--ttl", "3s", "--keep-alive")
	there := func() error {
		_, err := t.client.Service(t.ctx(), "web")
		return err
	}
	harness.Eventually(t, 20*time.Second, "the service", there)
	least := time.Duration(1<<63 - 1)
	harness.Eventually(t, 20*time.Second, "a heartbeat", func() error {
		now, err := t.client.Service(t.ctx(), "web")
		if err != nil {
			return err
		}
		if left := now[0].ExpiresIn; left <= least {
			least = left
			return fmt.Errorf("it lives for %v more", left)
		}
		return nil
	})
	if err := t.client.Deregister(t.ctx(), "web", "web-1"); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 20*time.Second, "the service again", there)
	p.signal(syscall.SIGTERM)
	p.exit(0, "web/web-1 was gone and is registered again")
	if !strings.HasSuffix(p.stdout.String(), "web/web-1 is deregistered\n") {
		t.Errorf("out %q", p.stdout.String())
	}
	if _, err := t.client.Service(t.ctx(), "web"); !errors.Is(err, client.ErrServiceNotFound) {
		t.Errorf("afterwards: %v", err)
	}
}
