//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/internal/snapshot"
	"github.com/neogan74/konsul/test/harness"
)

// A node is killed at each point of saving a backup. Afterwards the old file is there
// or the new one, whole, and nothing else after the next start.
func TestACrashAtAnyPointOfABackup(t *testing.T) {
	c := harness.Start(t, harness.Options{Nodes: 1, Variant: harness.Failpoints})
	n := c.Nodes[0]
	dir := filepath.Join(n.Dir, "backups")
	for i, point := range []string{"backup.after-create", "backup.after-stream", "backup.after-sync", "backup.after-rename"} {
		t.Run(point, func(t *testing.T) {
			mustPut(t, n, "round", fmt.Sprint(i))
			n.SetEnv("KONSUL_FAILPOINTS", "")
			n.Restart()
			n.WaitReady(30 * time.Second)
			old := saveOnNode(t, n)
			mustPut(t, n, "round", fmt.Sprint(i, " again"))
			n.SetEnv("KONSUL_FAILPOINTS", point+"=kill")
			n.Restart()
			n.WaitReady(30 * time.Second)
			if _, err := n.Post(soon(t), "/backup", map[string]string{"path": "a.snap"}); err == nil {
				t.Fatal("it was not killed")
			}
			n.SetEnv("KONSUL_FAILPOINTS", "")
			n.Restart()
			n.WaitReady(30 * time.Second)
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != 1 {
				t.Fatalf("in the backup directory: %v, %v", entries, err)
			}
			now := headerOf(t, filepath.Join(dir, "a.snap"))
			if renamed := point == "backup.after-rename"; renamed != (now.Index > old.Index) {
				t.Errorf("the backup is of index %d, the one before of %d", now.Index, old.Index)
			}
		})
	}
}

func saveOnNode(t *testing.T, n *harness.Node) snapshot.Header {
	t.Helper()
	a, err := n.Post(soon(t), "/backup", map[string]string{"path": "a.snap"})
	if err == nil {
		err = a.Want(200)
	}
	if err != nil {
		t.Fatal(err)
	}
	return headerOf(t, filepath.Join(n.Dir, "backups", "a.snap"))
}

func headerOf(t *testing.T, path string) snapshot.Header {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, _, err := snapshot.Verify(f)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// The leader carries out a restore and is killed at each point of it. Afterwards all
// nodes have the old state or the new one, complete, and go on; once with a backup of
// the cluster's own past, and once with one that is far ahead, for which the log jumps.
func TestACrashAtAnyPointOfARestore(t *testing.T) {
	points := []string{"restore.after-begin", "restore.after-piece", "restore.after-upload", "restore.before-replace",
		"replace.after-mkdir", "replace.after-fill", "replace.after-sync", "replace.before-switch", "replace.after-switch",
		"replace.after-swap", "restore.after-replace", "restore.after-commit"}
	jumps := []string{"restore.before-jump", "restore.jump-stored", "raftlog.after-cut", "restore.after-jump"}
	if testing.Short() {
		points = []string{"restore.after-piece", "restore.before-replace", "replace.after-switch", "restore.after-commit"}
	}
	for name, ahead := range map[string]uint64{"of its own past": 0, "far ahead": 5_000_000} {
		t.Run(name, func(t *testing.T) {
			c := harness.Start(t, harness.Options{Nodes: 3, Variant: harness.Failpoints})
			for i := range 40 {
				mustPut(t, c.Nodes[i%3], fmt.Sprintf("state/%02d", i), "new")
			}
			file := backupOf(t, c.Nodes[0])
			todo := points
			if ahead > 0 {
				todo = append(append([]string{}, points...), jumps...)
			}
			for round, point := range todo {
				t.Run(point, func(t *testing.T) {
					if ahead > 0 { // each time further than the log is now
						file = moved(t, file, uint64(round+1)*ahead)
					}
					for i := range 50 {
						mustPut(t, c.Nodes[i%3], fmt.Sprintf("state/%02d", i), "old")
					}
					crashInRestore(t, c, file, point)
					oldOrNew(t, c)
				})
			}
		})
	}
}

// crashInRestore has the leader killed at point while it restores file, and brings it
// back when the others have gone on.
func crashInRestore(t *testing.T, c *harness.Cluster, file []byte, point string) {
	t.Helper()
	victim := c.Nodes[0]
	victim.SetEnv("KONSUL_FAILPOINTS", point+"=kill")
	victim.Restart()
	victim.WaitReady(60 * time.Second)
	lead(t, c, victim)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	status, err := putSnapshot(ctx, victim, file)
	if err == nil && point != "restore.after-jump" { // the answer may come first
		t.Fatalf("it was not killed: status %d", status)
	}
	harness.Eventually(t, 20*time.Second, "the crash at "+point, func() error {
		if victim.Running() {
			return errors.New("it still runs")
		}
		return nil
	})
	other := c.Other(victim)
	harness.Eventually(t, 60*time.Second, "the others to go on", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := other.Put(ctx, "after/"+point, []byte("x"), "")
		return err
	})
	victim.SetEnv("KONSUL_FAILPOINTS", "")
	victim.Start()
	c.WaitReady(90 * time.Second)
}

// oldOrNew checks that all nodes have one of the two states, whole, and nothing is
// left of what was killed.
func oldOrNew(t *testing.T, c *harness.Cluster) {
	t.Helper()
	mustPut(t, c.Nodes[1], "goes/on", "x")
	c.SameDigest()
	for _, n := range c.Nodes {
		list, err := n.List(soon(t), "state/", "")
		if err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for _, e := range list {
			count[e.Value]++
		}
		before, after := count["old"] == 50 && count["new"] == 0, count["new"] == 40 && count["old"] == 0
		if !before && !after {
			t.Fatalf("%s has %v", n.Name, count)
		}
		if len(list) == 0 {
			t.Fatalf("%s has nothing", n.Name)
		}
	}
	for _, pattern := range []string{"spool/*", "snapshots/*.tmp", "engine/*/CURRENT.tmp"} {
		if left, err := filepath.Glob(filepath.Join(c.Nodes[0].DataDir, pattern)); err != nil || len(left) > 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
	}
	harness.Eventually(t, 20*time.Second, "the old engine to go", func() error {
		engines, err := filepath.Glob(filepath.Join(c.Nodes[0].DataDir, "engine", "[0-9]*"))
		if err == nil && len(engines) != 1 {
			err = fmt.Errorf("there are %v", engines)
		}
		return err
	})
}

// lead makes a node the leader.
func lead(t *testing.T, c *harness.Cluster, n *harness.Node) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, n.Name+" to lead", func() error {
		s, err := n.Status(soon(t))
		if err != nil {
			return err
		}
		if s.LeaderID == s.NodeID && s.State == "leader" {
			return nil
		}
		_, err = n.Post(soon(t), "/cluster/transfer", map[string]string{"to": s.NodeID})
		return errors.Join(fmt.Errorf("%s leads", s.LeaderID), err)
	})
}

func backupOf(t *testing.T, n *harness.Node) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(soon(t), http.MethodGet, "http://"+n.HTTP+"/snapshot", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	return b
}

// moved is a backup at a later index, as of a cluster that went on without changes.
func moved(t *testing.T, file []byte, index uint64) []byte {
	t.Helper()
	r, err := snapshot.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := snapshot.Copy(&out, later{r, index}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type later struct {
	*snapshot.Reader
	index uint64
}

func (l later) Header() snapshot.Header {
	h := l.Reader.Header()
	h.Index = l.index
	return h
}

func putSnapshot(ctx context.Context, n *harness.Node, file []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+n.HTTP+"/snapshot", bytes.NewReader(file))
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, b)
	}
	return resp.StatusCode, err
}

// A node is killed at each point of making a data directory of a backup.
func TestACrashAtAnyPointOfAnOfflineRestore(t *testing.T) {
	c := harness.Start(t, harness.Options{Nodes: 1})
	mustPut(t, c.Nodes[0], "a", "saved")
	dir := t.TempDir()
	file := filepath.Join(dir, "a.snap")
	if err := os.WriteFile(file, backupOf(t, c.Nodes[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := harness.Binary(t, harness.Failpoints)
	for _, point := range []string{"offline.after-identity", "offline.after-log", "offline.before-close", "offline.before-rename", "offline.after-rename", ""} {
		data := filepath.Join(dir, "data")
		cmd := exec.CommandContext(t.Context(), binary, "backup", "restore", file, "--data-dir", data, "--node-id", "restored-1")
		cmd.Env = append(os.Environ(), "KONSUL_FAILPOINTS="+point+"=kill")
		b, err := cmd.CombinedOutput()
		out := string(b)
		switch {
		case point == "" && (err != nil || !strings.Contains(out, "as the new cluster")):
			t.Fatalf("%v: %s", err, out)
		case point != "" && err == nil:
			t.Fatalf("%s: it was not killed: %s", point, out)
		case point == "offline.after-rename":
			if err := os.RemoveAll(data); err != nil {
				t.Fatal(err)
			}
		case point != "":
			if _, err := os.Stat(data); err == nil {
				t.Fatalf("%s: a data directory is there", point)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("left over: %v, %v", entries, err)
	}
	fresh := harness.New(t, harness.Options{Nodes: 1, DataDir: func(int) string { return filepath.Join(dir, "data") }})
	fresh.Nodes[0].SetEnv("KONSUL_RAFT_NODE_ID", "restored-1") // another one would be refused
	fresh.Nodes[0].Start()
	fresh.WaitReady(30 * time.Second)
	if err := wantValue(fresh.Nodes[0], "a", "saved", 0); err != nil {
		t.Fatal(err)
	}
}
