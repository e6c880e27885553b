package raftstore_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

func TestRestoreOffline(t *testing.T) {
	old := raftstoretest.New(t, 1)
	initCluster(t, old, "old")
	churn(t, old, 1, 200)
	full := save(t, old.Nodes[0], 0)
	churn(t, old, 2, 30)
	inc := save(t, old.Nodes[0], full.header.Index)
	want := contents(t, old.Nodes[0])

	cfg := raftstoretest.Config(t, "new")
	cfg.BindAddr = raftstoretest.FreeAddr(t)
	src, err := chain(t, full, inc).Source(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// What a crash left beside is no hindrance, and goes.
	if err := os.MkdirAll(cfg.DataDir+".restoring/raft", 0o700); err != nil {
		t.Fatal(err)
	}
	id, err := raftstore.RestoreOffline(t.Context(), cfg, src)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(cfg.DataDir), "*")); err != nil || len(left) != 1 {
		t.Fatalf("in the parent directory: %v, %v", left, err)
	}
	n := raftstoretest.Start(t, cfg)
	c := &raftstoretest.Cluster{T: t, Nodes: []*raftstoretest.Node{n}}
	c.Leader()
	if got := n.Store.ClusterID(); got != id || n.Store.FSM().ClusterID() != id {
		t.Errorf("cluster %q and %q, want %q", got, n.Store.FSM().ClusterID(), id)
	}
	wantContents(t, n, want)
	if index := n.MustPut("after", "y"); index <= inc.header.Index {
		t.Errorf("a write has index %d, the backup %d", index, inc.header.Index)
	}
	n.Stop()
	n.Start()
	c.Leader()
	if got := n.MustGet("after"); got != "y" {
		t.Errorf("after a restart: %q", got)
	}
	_, err = raftstore.RestoreOffline(t.Context(), cfg, src)
	if err == nil || !strings.Contains(err.Error(), "empty directory only") {
		t.Errorf("into a directory with a node in it: %v", err)
	}
}
