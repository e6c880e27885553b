package raftstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// memory is a node without a disk.
func memory(t *testing.T, free int64) *raftstoretest.Node {
	t.Helper()
	n := raftstoretest.New(t, 1, func(_ int, cfg *raftstore.Config) { cfg.InMemory, cfg.MinFreeSpace = true, free }).Nodes[0]
	init := &command.ClusterInit{ClusterId: n.Store.ClusterID()}
	if _, err := n.Store.Apply(t.Context(), command.Type_TYPE_CLUSTER_INIT, init, ""); err != nil {
		t.Fatal(err)
	}
	n.MustPut("k", "v")
	return n
}

// refused checks that a node on disk does not start with what is in dir.
func refused(t *testing.T, n *raftstoretest.Node, dir string) {
	t.Helper()
	cfg := n.Config
	cfg.InMemory, cfg.DataDir, cfg.MinFreeSpace = false, dir, 0
	s, err := raftstore.Open(cfg)
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, raftstore.ErrDamaged) {
		t.Errorf("a start on %s: %v", dir, err)
	}
}

// A disk without room fails a sync, and not the node.
func TestASyncToAFullDisk(t *testing.T) {
	n := memory(t, 1<<60)
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := n.Store.Sync(t.Context(), dir); !errors.Is(err, raftstore.ErrDiskFull) {
		t.Fatalf("synced: %v", err)
	}
	n.MustPut("after", "v")
	left, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	n.Stop()
	refused(t, n, dir)
}

// A disk that fails after a sync does not end the node, and nothing starts with what is on
// it, even if nothing more can be written there.
func TestAForsakenSyncIsRefused(t *testing.T) {
	for _, full := range []bool{false, true} {
		n := memory(t, 0)
		dir := filepath.Join(t.TempDir(), "data")
		if _, err := n.Store.Sync(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		if full { // as on a disk without room
			if err := os.Mkdir(filepath.Join(dir, "SYNCING.tmp"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		n.Store.Forsake("the disk fails")
		n.MustPut("after", "v")
		if full {
			if _, err := os.Lstat(filepath.Join(dir, "SYNCING")); !errors.Is(err, os.ErrNotExist) {
				t.Fatal("the file could be written: ", err)
			}
			remove(t, filepath.Join(dir, "SYNCING.tmp"))
		}
		n.Stop()
		refused(t, n, dir)
	}
}
