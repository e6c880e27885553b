package raftstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neogan74/konsul/internal/statefile"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// A start after a clean stop goes on from what is durable in the engine: it applies
// nothing again, though there is no snapshot.
func TestStartGoesOnFromACheckpoint(t *testing.T) {
	n := filled(t, false)
	before := n.Store.AppliedIndex()
	if err := restart(t, n, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if from := n.Store.StartedFrom(); from < before {
		t.Errorf("started from %d, %d was applied", from, before)
	}
	check(t, n)
	// And it is no snapshot: without the engine the log tells everything.
	if err := restart(t, n, func(dir string) { remove(t, filepath.Join(dir, "engine")) }); err != nil {
		t.Fatal(err)
	}
	if from := n.Store.StartedFrom(); from != 0 {
		t.Errorf("started from %d without an engine", from)
	}
	check(t, n)
	// A damaged one is no loss.
	if err := restart(t, n, func(dir string) { write(t, filepath.Join(dir, "checkpoint.json"), `{"index":99}`) }); err != nil {
		t.Fatal(err)
	}
	check(t, n)
}

// TestFlippedBits flips a bit anywhere in a stopped node's files but the engine's, whose own
// tests do. The node serves all it had, or does not start and says how to go on.
func TestFlippedBits(t *testing.T) {
	n := filled(t, true)
	for i := range 30 {
		n.MustPut(fmt.Sprintf("more%d", i), strings.Repeat("v", 100*i))
	}
	n.Stop()
	dir := n.Config.DataDir
	whole := filepath.Join(t.TempDir(), "whole")
	if err := os.CopyFS(whole, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"raft/*.wal", "raft/state.json", "snapshots/*/*", "checkpoint.json", "cluster.json", "node-id", "incarnation", "clean"} {
		found := glob(t, whole, pattern)
		if len(found) == 0 {
			t.Errorf("no %s", pattern)
		}
		files = append(files, found...)
	}
	r := rand.New(rand.NewPCG(1, 8))
	refused, served := 0, 0
	for _, file := range files {
		name, err := filepath.Rel(whole, file)
		if err != nil {
			t.Fatal(err)
		}
		rounds := 3
		if filepath.Ext(name) == ".wal" {
			rounds = 20
		}
		for range rounds {
			remove(t, dir)
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			what := flip(t, filepath.Join(dir, name), r)
			if err := n.TryStart(); err != nil {
				refused++
				if !errors.Is(err, raftstore.ErrDamaged) && !errors.Is(err, raftstore.ErrBadConfig) || !strings.Contains(err.Error(), dir) {
					t.Errorf("%s: not a clear refusal: %v", what, err)
				}
				continue
			}
			served++
			if got := n.Store.NodeID(); got != n.ID {
				t.Errorf("%s: it calls itself %s", what, got)
			}
			check(t, n)
			for i := range 30 {
				if got := n.MustGet(fmt.Sprintf("more%d", i)); got != strings.Repeat("v", 100*i) {
					t.Errorf("%s: wrong value of more%d", what, i)
				}
			}
			n.MustPut("after", "1")
			n.Stop()
		}
	}
	t.Logf("%d refused, %d served", refused, served)
	remove(t, dir)
	if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
		t.Fatal(err)
	}
	n.Start()
}

// A file of the engine is gone from a node that was killed: Badger would open without it,
// and without what was in it. The engine is made anew.
func TestRemovedFiles(t *testing.T) {
	for _, pattern := range []string{"engine/*/MANIFEST", "engine/*/*.mem", "engine/*/state.json"} {
		t.Run(filepath.Base(pattern), func(t *testing.T) {
			n := filled(t, true)
			killed := filepath.Join(t.TempDir(), "killed")
			if err := os.CopyFS(killed, os.DirFS(n.Config.DataDir)); err != nil {
				t.Fatal(err)
			}
			err := restart(t, n, func(dir string) {
				remove(t, dir)
				if err := os.CopyFS(dir, os.DirFS(killed)); err != nil {
					t.Fatal(err)
				}
				found := glob(t, dir, pattern)
				if len(found) == 0 {
					t.Fatal("none there")
				}
				for _, path := range found {
					remove(t, path)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			check(t, n)
			if left := glob(t, n.Config.DataDir, "engine/1"); len(left) > 0 {
				t.Error("the damaged engine was kept")
			}
		})
	}
}

// The log's file is cut off: whatever is found to be missing, the start says that the log
// is damaged and what can be done.
func TestCutOffLog(t *testing.T) {
	n := filled(t, true)
	for i := range 30 {
		n.MustPut(fmt.Sprintf("more%d", i), strings.Repeat("v", 1000))
	}
	n.Stop()
	path := glob(t, n.Config.DataDir, "raft/*.wal")[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(whole, "\x00"))
	for size := 0; size < used; size += 997 {
		write(t, path, string(whole[:size]))
		err := n.TryStart()
		if !errors.Is(err, raftstore.ErrDamaged) || !strings.Contains(err.Error(), "cluster reset") || !strings.Contains(err.Error(), n.Config.DataDir) {
			t.Errorf("%d of %d bytes: not a clear refusal: %v", size, used, err)
		}
		if err == nil {
			n.Stop()
		}
	}
	write(t, path, string(whole))
	n.Start()
	check(t, n)
}

func flip(t *testing.T, path string, r *rand.Rand) (what string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(b, "\x00"))
	at := r.IntN(max(used, 1))
	b[at] ^= 1 << r.IntN(8)
	write(t, path, string(b))
	return fmt.Sprintf("%s: byte %d of %d", filepath.Base(path), at, used)
}

// An entry that is damaged behind what is applied is no loss: a follower that needs it
// gets a snapshot.
func TestSnapshotStandsInForADamagedEntry(t *testing.T) {
	c := raftstoretest.New(t, 3)
	leader := c.Leader()
	away := c.Followers()[0]
	away.MustPut("before", "1")
	away.Stop()
	for i := range 20 {
		leader.MustPut(fmt.Sprintf("k%d", i), "marked-"+fmt.Sprint(i))
	}
	path := glob(t, leader.Config.DataDir, "raft/*.wal")[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("marked-7"))
	if at < 0 {
		t.Fatal("no such entry")
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("M"), int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	leader.Store.ForgetLogCache()
	away.Start()
	if got := away.MustGet("k7"); got != "marked-7" {
		t.Fatalf("got %q", got)
	}
	c.CheckEqual()
}

// A file that a newer version wrote is refused by its name, and nothing is changed.
func TestNewerFormatsAreRefused(t *testing.T) {
	for _, pattern := range []string{"engine/*/state.json", "raft/state.json", "cluster.json", "checkpoint.json", "snapshots/*/konsul.json"} {
		t.Run(pattern, func(t *testing.T) {
			n := filled(t, true)
			var path, was string
			err := restart(t, n, func(dir string) {
				path = glob(t, dir, pattern)[0]
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				was = string(b)
				if err := statefile.Write(path, 99, map[string]string{"what": "is to come"}); err != nil {
					t.Fatal(err)
				}
			})
			if !errors.Is(err, statefile.ErrTooNew) || !strings.Contains(err.Error(), filepath.Base(path)) && !strings.Contains(err.Error(), "snapshot") {
				t.Fatalf("starting on a newer %s: %v", path, err)
			}
			write(t, path, was)
			if err := n.TryStart(); err != nil {
				t.Fatal(err)
			}
			check(t, n)
		})
	}
}
