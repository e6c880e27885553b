package raftstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neogan74/konsul/raftstore"
)

// A kill between any two steps of moving the data aside: no node starts on what is left, the
// node's name is known, and the next call ends it. failpoint tests in test/cluster kill.
func TestMoveAsideGoesOn(t *testing.T) {
	n := filled(t, true)
	cluster := n.Store.ClusterID()
	n.Stop()
	dir := n.Config.DataDir
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	moving := filepath.Join(dir, "damaged-20260102-030405.moving")
	if err := os.Mkdir(moving, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := n.TryStart(); !errors.Is(err, raftstore.ErrDamaged) || !strings.Contains(err.Error(), "konsul cluster reset") {
			t.Fatalf("before %s was moved: %v", e.Name(), err)
		}
		if id, err := raftstore.NodeIDOf(dir); err != nil || id != n.ID {
			t.Fatal(id, err)
		}
		if id := raftstore.ClusterIDOf(dir); id != cluster {
			t.Fatalf("before %s was moved: of cluster %q", e.Name(), id)
		}
		if to, moved := raftstore.MovedAside(dir); moved {
			t.Fatal("all is said to be in ", to)
		}
		if e.Name() == "LOCK" || e.Name() == "snapshots" {
			continue
		}
		if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(moving, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	to, err := raftstore.MoveAside(dir)
	if err != nil || to != strings.TrimSuffix(moving, ".moving") {
		t.Fatal(to, err)
	}
	for _, e := range entries {
		if e.Name() == "LOCK" {
			continue
		}
		if _, err := os.Stat(filepath.Join(to, e.Name())); err != nil {
			t.Error(err)
		}
	}
	if got, moved := raftstore.MovedAside(dir); !moved || got != to {
		t.Error(got, moved)
	}
	if id := raftstore.ClusterIDOf(dir); id != "" {
		t.Errorf("a new node, of cluster %q", id)
	}
	if again, err := raftstore.MoveAside(dir); err != nil || again == to {
		t.Error(again, err)
	}
	n.Start() // as a new node
}

// What a kill has left of files that were being written, and of copies, goes.
func TestUnfinishedFilesGo(t *testing.T) {
	n := filled(t, true)
	dir := n.Config.DataDir
	left := []string{
		"checkpoint.json.tmp", "cluster-state.json.tmp", "clean.tmp", "raft/state.json.tmp", "engine/CURRENT.tmp", "engine/1/state.json.tmp",
		"before-recovery-20260102-030405.making/cluster.json",
	}
	err := restart(t, n, func(dir string) {
		for _, name := range left {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, name), "half")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	check(t, n)
	for _, name := range left {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if found := glob(t, dir, "before-*"); len(found) > 0 {
		t.Error("left behind: ", found)
	}
}
