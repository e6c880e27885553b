//go:build cluster

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// crash is something that a node does while it runs, and the points at which it is killed
// in the midst of it. The short form takes the first points only.
type crash struct {
	name   string
	points []string
	short  int
	do     func(t *testing.T, n *harness.Node)
}

// asked sends it without waiting: the node is about to die.
func asked(target string) func(*testing.T, *harness.Node) {
	return func(t *testing.T, n *harness.Node) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		t.Cleanup(cancel)
		go func() { _, _ = n.Post(ctx, target, struct{}{}) }()
	}
}

// A node is killed between every two steps of what changes its files while it runs. What was
// acknowledged is there afterwards, and nothing is left over.
func TestACrashAtAnyPointOfUpkeep(t *testing.T) {
	snapshot, compact := asked("/cluster/snapshot"), asked("/admin/compact")
	r := newCrashRig(t)
	for _, c := range []crash{
		{name: "floor", do: snapshot, short: 1, points: []string{"floor.after-state", "floor.after-raise", "floor.after-discard"}},
		{name: "compaction", short: 1, points: []string{"compact.after-read", "compact.after-flatten", "compact.after-floor", "compact.after-touch"},
			do: func(t *testing.T, n *harness.Node) {
				t.Helper()
				snapshotNow(t, n) // what is below it is garbage
				compact(t, n)
			}},
		{name: "garbage", do: asked("/admin/gc"), points: []string{"gc.before-file", "gc.after-file"}},
		{name: "checkpoint", short: 2, points: []string{
			"durable.after-state", "write.data/checkpoint.json", "checkpoint.before-durable", "durable.after-sync", "durable.after-marks", "write.1/state.json",
			"wrote.1/state.json", "checkpoint.after-durable", "wrote.data/checkpoint.json", "checkpoint.after-write", "write.data/clean", "wrote.data/clean",
		}, do: func(t *testing.T, n *harness.Node) {
			t.Helper()
			// The last one is taken at the end; it may have met one before.
			if err := syscall.Kill(n.PID(), syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
				t.Error(err)
			}
		}},
	} {
		for _, point := range c.points[:pick(c.short, len(c.points))] {
			t.Run(c.name+"/"+strings.ReplaceAll(point, "/", "_"), func(t *testing.T) { r.crash(t, point, c.do) })
			if t.Failed() {
				return
			}
		}
	}
	r.start(t, "")
	if strings.Contains(r.n.Log(64<<20), "the engine is rebuilt") {
		t.Error("a crash was taken for damage")
	}
}

// crashRig is a cluster of one node, that is killed again and again.
type crashRig struct {
	c *harness.Cluster
	n *harness.Node
	// ledgers are what was written up to each crash.
	ledgers []*harness.Ledger
}

func newCrashRig(t *testing.T, env ...string) *crashRig {
	t.Helper()
	env = append(env, "BADGER_MEMTABLE_SIZE", "8MB", "KONSUL_MAINTENANCE_INTERVAL", "0")
	c := harness.New(t, harness.Options{Nodes: 1, Variant: harness.Failpoints, Env: settings(env...)})
	r := &crashRig{c: c, n: c.Nodes[0]}
	r.start(t, "")
	return r
}

// crash looks at what the crash before has left, starts the node so that it ends at point,
// and has it do what leads there, under load. It may end at any time: some of what it does
// on request it also does by itself.
func (r *crashRig) crash(t *testing.T, point string, do func(*testing.T, *harness.Node)) {
	t.Helper()
	r.start(t, "")
	if !r.launch(t, point+"=kill;floor.no-history=on") {
		return
	}
	r.n.MarkDown()
	load := r.c.StartWriters(fmt.Sprintf("crash%d", len(r.ledgers)), 2, 2000)
	defer load.Stop()
	harness.Hold(t.Context(), 200*time.Millisecond)
	do(t, r.n)
	r.dies(t, point)
	load.Stop()
	r.ledgers = append(r.ledgers, load.Ledger)
}

// launch starts the node with failpoints, anew if it runs; false if it has ended.
func (r *crashRig) launch(t *testing.T, failpoints string) bool {
	t.Helper()
	r.stop(t)
	r.n.SetEnv("KONSUL_FAILPOINTS", failpoints)
	r.n.Start()
	if err := r.n.TryReady(40 * time.Second); err != nil {
		if r.n.Running() || failpoints == "" {
			t.Fatal(err)
		}
		return false
	}
	return true
}

// start launches the node and checks all there is; false if it has ended.
func (r *crashRig) start(t *testing.T, failpoints string) bool {
	t.Helper()
	if !r.launch(t, failpoints) {
		return false
	}
	for _, l := range r.ledgers {
		l.NoWrongErrors(t)
		r.c.Verify(t, l)
	}
	nothingLeft(t, r.n)
	return true
}

// stop ends the node, if it runs, as a crash would.
func (r *crashRig) stop(t *testing.T) {
	t.Helper()
	if r.n.Running() {
		r.n.Kill9()
	}
}

func (r *crashRig) dies(t *testing.T, point string) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, "the crash at "+point, func() error {
		if r.n.Running() {
			return errors.New("it still runs")
		}
		return nil
	})
	if log := r.n.Log(4000); strings.Contains(log, "panic:") {
		t.Fatalf("%s: it was not killed:\n%s", point, log)
	}
}

// nothingLeft waits until there is nothing in a node's data directory that is only there while
// something is being made, and one engine.
func nothingLeft(t *testing.T, n *harness.Node) {
	t.Helper()
	harness.Eventually(t, 10*time.Second, "no leftovers", func() error {
		var left []string
		err := filepath.WalkDir(n.DataDir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			switch filepath.Ext(path) {
			case ".tmp", ".making", ".moving", ".restoring":
				left = append(left, path)
			}
			return err
		})
		engines, gerr := filepath.Glob(filepath.Join(n.DataDir, "engine", "[0-9]*"))
		if len(engines) != 1 {
			left = append(left, engines...)
		}
		if _, err := os.Stat(filepath.Join(n.DataDir, "recovering.json")); err == nil {
			left = append(left, "recovering.json")
		}
		if err = errors.Join(err, gerr); err == nil && len(left) > 0 {
			err = fmt.Errorf("left behind: %v", left)
		}
		return err
	})
}

// The engine is made anew after damage, from the log and then from a snapshot; the node is
// killed between every two steps of that.
func TestACrashAtAnyPointOfMakingTheEngineAnew(t *testing.T) {
	r := newCrashRig(t)
	load := r.c.StartWriters("before", 4, 2000)
	harness.Hold(t.Context(), 300*time.Millisecond)
	load.Stop()
	r.ledgers = append(r.ledgers, load.Ledger)
	points := []string{
		"wrote.engine/CURRENT", "engine.after-open", "engine.before-reset", "engine.after-mkdir", "write.engine/CURRENT", "engine.after-reset",
	}
	restored := []string{"replace.after-switch", "replace.after-fill"}
	for i, point := range append(points[:pick(1, len(points))], restored[:pick(1, len(restored))]...) {
		t.Run(strings.ReplaceAll(point, "/", "_"), func(t *testing.T) {
			if strings.HasPrefix(point, "replace.") {
				snapshotNow(t, r.n)
			}
			r.n.Kill9()
			for _, path := range globbed(t, r.n, pick("engine/*/MANIFEST", []string{"engine/*/MANIFEST", "engine/*/*.mem"}[i%2])) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			if r.start(t, point+"=kill") {
				t.Fatal("it was not killed")
			}
			r.dies(t, point)
			r.start(t, "")
		})
		if t.Failed() {
			return
		}
	}
}

func globbed(t *testing.T, n *harness.Node, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(n.DataDir, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	return found
}

// The master key is replaced; a node that is killed meanwhile starts with both keys, and
// then with the new one alone.
func TestACrashAtAnyPointOfReplacingTheKey(t *testing.T) {
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "0.key")
	r := newCrashRig(t, "KONSUL_ENCRYPTION_KEY_FILE", writeKey(t, keyFile))
	mustPut(t, r.n, "secret", "kept")
	points := []string{"write.data/encryption.json", "wrote.data/encryption.json", "keys.after-replace"}
	for i, point := range points[:pick(1, len(points))] {
		t.Run(strings.ReplaceAll(point, "/", "_"), func(t *testing.T) {
			next, both := filepath.Join(dir, fmt.Sprint(i+1, ".key")), filepath.Join(dir, fmt.Sprint(i+1, "both.key"))
			writeKey(t, next)
			if err := os.WriteFile(both, append(read(t, next), read(t, keyFile)...), 0o600); err != nil {
				t.Fatal(err)
			}
			r.n.Kill9()
			r.n.SetEnv("KONSUL_ENCRYPTION_KEY_FILE", both)
			if r.start(t, point+"=kill") {
				t.Fatal("it was not killed")
			}
			r.dies(t, point)
			r.start(t, "")
			r.n.Kill9()
			r.n.SetEnv("KONSUL_ENCRYPTION_KEY_FILE", next)
			r.start(t, "")
			if err := wantValue(r.n, "secret", "kept", 0); err != nil {
				t.Fatal(err)
			}
			keyFile = next
		})
	}
}

// writeKey makes a key file.
func writeKey(t *testing.T, path string) string {
	t.Helper()
	if out, err := exec.Command(harness.Binary(t, harness.Failpoints), "keygen", path).CombinedOutput(); err != nil {
		t.Fatalf("keygen: %v\n%s", err, out)
	}
	return path
}

// killedAt runs an offline command that is killed at point.
func killedAt(t *testing.T, n *harness.Node, point string, args ...string) {
	t.Helper()
	cmd := exec.Command(n.Binary(), args...)
	cmd.Env = append(os.Environ(), "KONSUL_FAILPOINTS="+point+"=kill")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("%s: the command was not killed: %v\n%s", point, err, out)
	}
}

// `cluster reset` and `cluster recover` are killed between every two steps. Repeated they do
// what they should; a node that is started before has its old state, the new one, or refuses.
func TestACrashAtAnyPointOfResetAndRecover(t *testing.T) {
	c := harness.New(t, harness.Options{Nodes: 3, Variant: harness.Failpoints})
	for i, n := range c.Nodes {
		n.SetEnv("KONSUL_RAFT_NODE_ID", fmt.Sprint("n", i+1))
		n.Start()
	}
	c.WaitReady(60 * time.Second)
	load := c.StartWriters("before", 4, 2000)
	harness.Hold(t.Context(), 300*time.Millisecond)
	load.Stop()
	for _, point := range pick(
		[]string{"reset.moved.node-id"},
		[]string{"reset.moved.node-id", "reset.after-leave", "reset.after-mkdir", "reset.moved.cluster.json", "reset.moved.engine", "reset.before-rename", "reset.after-rename"}) {
		t.Run(point, func(t *testing.T) { crashReset(t, c, point, load.Ledger) })
		if t.Failed() {
			return
		}
	}
	for _, n := range c.Nodes {
		n.Kill9()
	}
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(c.Nodes[0].DataDir)); err != nil {
		t.Fatal(err)
	}
	for _, point := range pick(
		[]string{"recover.kept.snapshots", "recover.after-snapshot"},
		[]string{
			"recover.kept.raft", "recover.kept.snapshots", "recover.before-rename", "recover.after-backup", "recover.after-begin", "recover.after-apply",
			"write.data/recovering.json", "recover.after-record", "recover.after-stream", "recover.after-snapshot",
			"recover.after-checkpoint", "recover.before-end",
		}) {
		t.Run(strings.ReplaceAll(point, "/", "_"), func(t *testing.T) { crashRecover(t, c, old, point, load.Ledger) })
	}
}

func crashReset(t *testing.T, c *harness.Cluster, point string, l *harness.Ledger) {
	t.Helper()
	victim := c.Nodes[2]
	victim.Kill9()
	reset := []string{"cluster", "reset", "--data-dir", victim.DataDir, "--http-addr", c.Nodes[0].HTTP, "--yes"}
	killedAt(t, victim, point, reset...)
	if moving, err := filepath.Glob(filepath.Join(victim.DataDir, "damaged-*.moving")); err != nil {
		t.Fatal(err)
	} else if len(moving) > 0 {
		victim.Start()
		stopsWith(t, victim, "konsul cluster reset")
	}
	if out, err := offline(victim, reset...); err != nil {
		t.Fatalf("once more: %v\n%s", err, out)
	}
	aside, err := filepath.Glob(filepath.Join(victim.DataDir, "damaged-*"))
	if err != nil || len(aside) != 1 {
		t.Fatal(aside, err)
	}
	for _, name := range []string{"node-id", "cluster.json", "engine/CURRENT", "raft/state.json"} {
		if _, err := os.Stat(filepath.Join(aside[0], name)); err != nil {
			t.Error(err)
		}
	}
	if err := os.RemoveAll(aside[0]); err != nil {
		t.Fatal(err)
	}
	victim.Start()
	victim.WaitReady(60 * time.Second)
	nothingLeft(t, victim)
	wantPeers(t, c.Nodes[0], 3)
	c.Verify(t, l)
}

func crashRecover(t *testing.T, c *harness.Cluster, old, point string, l *harness.Ledger) {
	t.Helper()
	n := c.Nodes[0]
	n.Kill9()
	if err := os.RemoveAll(n.DataDir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(n.DataDir, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	peers := filepath.Join(t.TempDir(), "peers.json")
	if err := os.WriteFile(peers, fmt.Appendf(nil, `[{"id":"n1","address":%q}]`, n.Raft), 0o600); err != nil {
		t.Fatal(err)
	}
	recoverNode := []string{"cluster", "recover", "--data-dir", n.DataDir, "--peers", peers, "--yes"}
	killedAt(t, n, point, recoverNode...)
	// Once its snapshot is there the recovery is done, whether or not it is repeated.
	done := false
	if records, err := filepath.Glob(filepath.Join(n.DataDir, "recovering.json")); err != nil {
		t.Fatal(err)
	} else if len(records) > 0 {
		finished, err := filepath.Glob(filepath.Join(n.DataDir, "snapshots", "*[0-9]"))
		if err != nil {
			t.Fatal(err)
		}
		before, err := filepath.Glob(filepath.Join(old, "snapshots", "*[0-9]"))
		if err != nil {
			t.Fatal(err)
		}
		done = len(finished) > len(before)
	}
	if !done {
		if out, err := offline(n, recoverNode...); err != nil {
			t.Fatalf("once more: %v\n%s", err, out)
		}
	}
	n.Start()
	n.WaitReady(60 * time.Second)
	wantPeers(t, n, 1)
	nothingLeft(t, n)
	c.Verify(t, l)
	kept, err := filepath.Glob(filepath.Join(n.DataDir, "before-recovery-*"))
	if err != nil || len(kept) == 0 {
		t.Fatal(kept, err)
	}
	for _, dir := range kept {
		for _, name := range []string{"raft/state.json", "cluster.json", "snapshots"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
	}
}
