//go:build cluster

package cluster

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

const toBadger = `{"persistence": {"enabled": true, "type": "badger"}}`

// inMemory starts a node without persistence.
func inMemory(t *testing.T, variant harness.Variant) (*harness.Cluster, *harness.Node) {
	t.Helper()
	c := harness.Start(t, harness.Options{Nodes: 1, Variant: variant, Env: settings("KONSUL_PERSISTENCE_ENABLED", "false")})
	return c, c.Nodes[0]
}

func post(t *testing.T, n *harness.Node, target, body string) *harness.Answer {
	t.Helper()
	a, err := n.Do(soon(t), http.MethodPost, target, []byte(body), "Content-Type", "application/json")
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	return a
}

func mustPost(t *testing.T, n *harness.Node, target, body string) *harness.Answer {
	t.Helper()
	a := post(t, n, target, body)
	if a.Status != http.StatusOK {
		t.Fatalf("%s: %d %s", target, a.Status, a.Body)
	}
	return a
}

// onDisk restarts a node with persistence.
func onDisk(n *harness.Node) {
	n.SetEnv("KONSUL_PERSISTENCE_ENABLED", "true")
	n.SetEnv("KONSUL_PERSISTENCE_TYPE", "badger")
	n.Start()
}

// A node in memory moves to disk while it is written to, and has everything after the
// restart, also what was written after the sync, also if it was killed; indexes go on.
func TestMoveFromMemoryToDisk(t *testing.T) {
	for _, end := range []string{"stopped", "killed", "killed after a second sync"} {
		t.Run(end, func(t *testing.T) {
			c, n := inMemory(t, harness.Plain)
			if a := post(t, n, "/admin/sync", ""); a.Status != http.StatusConflict {
				t.Errorf("a sync that nobody wished: %d %s", a.Status, a.Body)
			}
			load := c.StartWriters("move/", 8, 400)
			first := mustPut(t, n, "first", "1")
			if a := mustPost(t, n, "/admin/config", toBadger); !strings.Contains(string(a.Body), n.DataDir) {
				t.Errorf("%s", a.Body)
			}
			mustPost(t, n, "/admin/sync", "")
			after := mustPut(t, n, "after", "2")
			if end == "killed after a second sync" {
				mustPost(t, n, "/admin/sync", "")
				mustPut(t, n, "after2", "3")
			}
			load.Stop()
			load.NoWrongErrors(t)
			if end == "stopped" {
				n.Stop()
			} else {
				n.Kill9()
			}
			onDisk(n)
			c.WaitReady(30 * time.Second)
			for key, want := range map[string]uint64{"first": first, "after": after} {
				if err := wantValue(n, key, map[string]string{"first": "1", "after": "2"}[key], want); err != nil {
					t.Error(err)
				}
			}
			c.Verify(t, load.Ledger)
			if next := mustPut(t, n, "next", "4"); next <= after {
				t.Errorf("index %d after %d", next, after)
			}
			n.Kill9()
			n.Start() // as any node on disk
			c.WaitReady(30 * time.Second)
			if err := wantValue(n, "next", "4", 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// Killed at any point of a sync, the directory is the whole state or is refused, and a
// second attempt succeeds.
func TestACrashAtAnyPointOfASync(t *testing.T) {
	for _, point := range []string{"sync.after-marker", "sync.after-log", "sync.after-attach", "sync.after-snapshot", "sync.after-identity", "sync.after-done"} {
		t.Run(point, func(t *testing.T) {
			c, n := inMemory(t, harness.Failpoints)
			n.Kill9()
			n.SetEnv("KONSUL_FAILPOINTS", point+"=kill")
			n.Start()
			c.WaitReady(30 * time.Second)
			for i := range 200 {
				mustPut(t, n, fmt.Sprint("k", i), "v")
			}
			mustPost(t, n, "/admin/config", toBadger)
			if a, err := n.Do(soon(t), http.MethodPost, "/admin/sync", nil); err == nil {
				t.Fatalf("it was not killed: %s", a.Body)
			}
			n.Kill9() // waits for its end
			n.SetEnv("KONSUL_FAILPOINTS", "")
			onDisk(n)
			if point == "sync.after-done" {
				c.WaitReady(30 * time.Second)
				if err := wantValue(n, "k199", "v", 0); err != nil {
					t.Fatal(err)
				}
				return
			}
			harness.Eventually(t, 20*time.Second, "the node to refuse half a sync", func() error {
				log, err := os.ReadFile(n.LogFile)
				if err == nil && !strings.Contains(string(log), "holds a sync that did not finish") {
					err = errors.New("it does not say so")
				}
				return err
			})
			if _, err := os.Stat(filepath.Join(n.DataDir, "engine")); err == nil {
				t.Error("an engine was made beside half a sync")
			}
			n.Kill9()
			n.SetEnv("KONSUL_PERSISTENCE_ENABLED", "false")
			n.Start()
			c.WaitReady(30 * time.Second)
			mustPut(t, n, "second", "attempt")
			mustPost(t, n, "/admin/config", toBadger)
			mustPost(t, n, "/admin/sync", "")
			n.Kill9()
			onDisk(n)
			c.WaitReady(30 * time.Second)
			if err := wantValue(n, "second", "attempt", 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// Somebody else's files, and another node's data, are not written over.
func TestASyncNeedsADirectoryOfItsOwn(t *testing.T) {
	_, n := inMemory(t, harness.Plain)
	if err := os.MkdirAll(n.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(n.DataDir, "precious")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustPost(t, n, "/admin/config", toBadger)
	if a := post(t, n, "/admin/sync", ""); a.Status != http.StatusConflict || !strings.Contains(string(a.Body), "precious") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	mustPut(t, n, "still", "there")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	mustPost(t, n, "/admin/sync", "")
}
