//go:build cluster

package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// A node is killed at each point of taking a snapshot of its own, under load; it
// comes back and nothing is lost. The program is built with failpoints for this.
func TestACrashAtAnyPointOfTakingASnapshot(t *testing.T) {
	c := harness.Start(t, harness.Options{Nodes: 3, Variant: harness.Failpoints,
		Env: settings("KONSUL_RAFT_SNAPSHOT_THRESHOLD", "50", "KONSUL_RAFT_TRAILING_LOGS", "10", "KONSUL_RAFT_SNAPSHOT_INTERVAL", "200ms")})
	for _, point := range []string{"snapshot.before-persist", "snapshot.after-stream", "snapshot.after-durable", "snapshot.after-close", "durable.after-sync"} {
		t.Run(point, func(t *testing.T) {
			load := c.StartWriters("crash/"+point, 6, 100)
			victim := c.Other()
			victim.Kill9()
			crashAt(t, victim, point)
			load.Stop()
			load.NoWrongErrors(t)
			c.Verify(t, load.Ledger)
		})
	}
}

// A node that was away is behind the log, so it installs a snapshot when it comes
// back: it is killed at each point of that, from the same old state each time.
func TestACrashAtAnyPointOfInstallingASnapshot(t *testing.T) {
	c := harness.Start(t, harness.Options{Nodes: 3, Variant: harness.Failpoints,
		Env: settings("KONSUL_RAFT_SNAPSHOT_THRESHOLD", "2000", "KONSUL_RAFT_TRAILING_LOGS", "10", "KONSUL_RAFT_SNAPSHOT_INTERVAL", "500ms")})
	victim := c.Other(c.Leader())
	mustPut(t, victim, "before", "here")
	victim.Kill9()
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(victim.DataDir)); err != nil {
		t.Fatal(err)
	}
	putMany(t, c, victim, pick(6_000, 13_000)) // 36 or 78 MB: see value
	snapshotNow(t, c.Other(victim))
	for _, point := range pick(
		[]string{"replace.after-fill", "replace.before-switch", "replace.after-switch"},
		[]string{"replace.after-mkdir", "replace.after-fill", "replace.after-sync", "replace.before-switch", "replace.after-switch", "replace.after-swap"}) {
		t.Run(point, func(t *testing.T) {
			if err := os.RemoveAll(victim.DataDir); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(victim.DataDir, os.DirFS(old)); err != nil {
				t.Fatal(err)
			}
			crashAt(t, victim, point)
			c.SameDigest()
			if err := wantValue(victim, "many/0000000", value(0), 0); err != nil {
				t.Fatal(err)
			}
			victim.Kill9()
		})
	}
}

// crashAt starts a node that will be killed at point, waits for that, and starts
// it again as it should be.
func crashAt(t *testing.T, victim *harness.Node, point string) {
	t.Helper()
	victim.SetEnv("KONSUL_FAILPOINTS", point+"=kill")
	victim.Start()
	harness.Eventually(t, 40*time.Second, "the crash at "+point, func() error {
		if victim.Running() {
			return errors.New("it still runs")
		}
		return nil
	})
	victim.SetEnv("KONSUL_FAILPOINTS", "")
	victim.Start()
	victim.WaitReady(60 * time.Second)
}

// A stop does not wait for the snapshot that is being written: of much data it takes
// longer than anybody waits for a service to end.
func TestAStopEndsTheSnapshotBeingWritten(t *testing.T) {
	c := harness.Start(t, harness.Options{Nodes: 1, Variant: harness.Failpoints,
		Env: settings("KONSUL_FAILPOINTS", "snapshot.before-persist=sleep(2s)", "KONSUL_RAFT_SNAPSHOT_THRESHOLD", "1", "KONSUL_RAFT_SNAPSHOT_INTERVAL", "200ms")})
	n := c.Nodes[0]
	mustPut(t, n, "k", "v")
	harness.Eventually(t, 10*time.Second, "a snapshot begins", func() error {
		begun, err := filepath.Glob(filepath.Join(n.DataDir, "snapshots", "*.tmp"))
		if err == nil && len(begun) == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	n.Stop()
	left, err := os.ReadDir(filepath.Join(n.DataDir, "snapshots"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	n.SetEnv("KONSUL_FAILPOINTS", "")
	n.Start()
	n.WaitReady(30 * time.Second)
	if err := wantValue(n, "k", "v", 0); err != nil {
		t.Error(err)
	}
}
