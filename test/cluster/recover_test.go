//go:build cluster

package cluster

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// offline runs an offline command of the program under test.
func offline(n *harness.Node, args ...string) (string, error) {
	out, err := exec.Command(n.Binary(), args...).CombinedOutput()
	return string(out), err
}

// Two nodes of three are lost for good. The third, recovered, has every write that was
// acknowledged, and new nodes join it.
func TestRecoverAfterTheMajorityIsLost(t *testing.T) {
	c := withIDs(t)
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	load := c.StartWriters("before/", 4, 200)
	harness.Eventually(t, 30*time.Second, "some writes", func() error {
		s, err := n1.Status(soon(t))
		if err == nil && s.AppliedIndex < 500 {
			err = fmt.Errorf("applied %d", s.AppliedIndex)
		}
		return err
	})
	load.Stop()
	mustPut(t, n2, "last", "acknowledged")
	if err := wantValue(n1, "last", "acknowledged", 0); err != nil {
		t.Fatal(err)
	}
	peers := filepath.Join(t.TempDir(), "peers.json")
	if err := os.WriteFile(peers, fmt.Appendf(nil, `[{"id":"n1","address":%q}]`, n1.Raft), 0o600); err != nil {
		t.Fatal(err)
	}
	recoverNode := []string{"cluster", "recover", "--data-dir", n1.DataDir, "--peers", peers, "--yes"}
	if out, err := offline(n1, recoverNode...); err == nil || !strings.Contains(out, "running") {
		t.Fatalf("recovering a running node: %v\n%s", err, out)
	}
	n2.Kill9()
	n3.Kill9()
	n1.Kill9()
	for _, n := range []*harness.Node{n2, n3} {
		if err := os.RemoveAll(n.DataDir); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := offline(n1, recoverNode[:len(recoverNode)-1]...); err == nil || !strings.Contains(out, "--yes") {
		t.Fatalf("recovering without asking anybody: %v\n%s", err, out)
	}
	out, err := offline(n1, recoverNode...)
	if err != nil || !strings.Contains(out, "before-recovery-") {
		t.Fatalf("recovering: %v\n%s", err, out)
	}
	n1.Start()
	n1.WaitReady(60 * time.Second)
	if err := wantValue(n1, "last", "acknowledged", 0); err != nil {
		t.Fatal(err)
	}
	n2.Start()
	n3.Start()
	c.WaitReady(60 * time.Second)
	wantPeers(t, n1, 3)
	mustPut(t, n3, "after", "v")
	c.Verify(t, load.Ledger)
	c.SameDigest()
	for _, n := range c.Nodes {
		n.Restart()
		n.WaitReady(60 * time.Second)
	}
	c.SameDigest()
}

// A bit flips in one of the files of a stopped node, or one of the engine's goes. It starts and has everything, or it
// ends, says why, and comes back: by itself at the next start, or with the command that
// it names.
func TestADamagedNodeComesBack(t *testing.T) {
	c := harness.New(t, harness.Options{Nodes: 3, Env: settings("KONSUL_RAFT_TRAILING_LOGS", "300", "KONSUL_RAFT_SNAPSHOT_THRESHOLD", "1000", "KONSUL_RAFT_SNAPSHOT_INTERVAL", "300ms")})
	for i, n := range c.Nodes {
		n.SetEnv("KONSUL_RAFT_NODE_ID", fmt.Sprint("n", i+1))
		n.Start()
	}
	c.WaitReady(60 * time.Second)
	victim := c.Nodes[2]
	putMany(t, c, victim, pick(3000, 13_000))
	putMany(t, c, victim, 200)
	r := rand.New(rand.NewPCG(3, 3))
	for _, pattern := range []string{
		"engine/*/*.sst", "engine/*/*.mem", "engine/*/*.vlog", "engine/*/MANIFEST", "engine/*/state.json", "engine/CURRENT",
		"raft/*.wal", "raft/state.json", "snapshots/*/state.bin", "snapshots/*/meta.json", "snapshots/*/konsul.json",
		"checkpoint.json", "cluster.json", "cluster-state.json", "node-id", "incarnation",
	} {
		for range pick(1, 4) {
			t.Run(pattern, func(t *testing.T) { damageOne(t, c, victim, pattern, r) })
			if t.Failed() {
				return
			}
		}
	}
	for _, pattern := range []string{"engine/*/MANIFEST", "engine/*/*.mem"} {
		t.Run("removed "+pattern, func(t *testing.T) { damageOne(t, c, victim, pattern, nil) })
	}
}

// damageOne flips a bit that r chooses in a file of a stopped node; a nil r kills the node
// and removes the file.
func damageOne(t *testing.T, c *harness.Cluster, victim *harness.Node, pattern string, r *rand.Rand) {
	t.Helper()
	if strings.HasPrefix(pattern, "snapshots") {
		// A node that was reset has none yet.
		putMany(t, c, victim, 1200)
		harness.Eventually(t, 20*time.Second, "a snapshot", func() error {
			if found, err := filepath.Glob(filepath.Join(victim.DataDir, pattern)); err != nil || len(found) == 0 {
				return fmt.Errorf("there is none: %w", err)
			}
			return nil
		})
	}
	if r == nil || r.IntN(2) == 0 {
		victim.Kill9()
	} else {
		victim.Stop()
	}
	found, err := filepath.Glob(filepath.Join(victim.DataDir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		victim.Start() // a clean stop leaves no memtable's log
		victim.WaitReady(60 * time.Second)
		return
	}
	path, at := found[0], -1
	if r == nil {
		err = os.Remove(path)
	} else {
		path = found[r.IntN(len(found))]
		at, err = flipBit(path, r)
	}
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, c.Nodes[0], "meanwhile", fmt.Sprint(at))
	reset, starts, before := false, 0, 0
	said := func() string { // by the last start
		all := victim.Log(64 << 20)
		return all[min(before, len(all)):]
	}
	harness.Eventually(t, 90*time.Second, "the damaged node is back", func() error {
		if victim.Running() {
			if err := victim.TryReady(10 * time.Second); err != nil {
				return err
			}
			_, err := c.TrySameDigest()
			return err
		}
		if starts > 0 {
			switch text := said(); {
			case strings.Contains(text, "konsul cluster reset") && !reset:
				reset = true
				out, err := offline(victim, "cluster", "reset", "--data-dir", victim.DataDir, "--http-addr", c.Nodes[0].HTTP, "--yes")
				if err != nil {
					return harness.Stop(fmt.Errorf("reset: %w\n%s", err, out))
				}
			case strings.Contains(text, "start the node again"):
			default:
				return harness.Stop(fmt.Errorf("byte %d of %s: it ended and does not say how to go on:\n%s", at, path, text))
			}
		}
		before = len(victim.Log(64 << 20))
		if starts++; starts > 4 {
			return harness.Stop(fmt.Errorf("byte %d of %s: it does not come back:\n%s", at, path, said()))
		}
		return fmt.Errorf("start %d: %w", starts, victim.TryStart())
	})
	t.Logf("byte %d of %s: %d starts, reset %v", at, filepath.Base(path), starts, reset)
}

// flipBit flips a bit of the file's part that is in use.
func flipBit(path string, r *rand.Rand) (at int, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	at = r.IntN(max(1, len(bytes.TrimRight(b, "\x00"))))
	if len(b) > 0 {
		b[at] ^= 1 << r.IntN(8)
	}
	return at, os.WriteFile(path, b, 0o600)
}
