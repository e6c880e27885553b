package raftstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/neogan74/konsul/internal/snapshot"
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

// halting is a source that tells when its first record is wanted, and waits then.
type halting struct {
	snapshot.Source
	once     sync.Once
	came, on chan struct{}
	err      error // instead of the rest, if not nil
}

func (h *halting) Next() (snapshot.Record, error) {
	h.once.Do(func() {
		close(h.came)
		<-h.on
	})
	if h.err != nil {
		return snapshot.Record{}, h.err
	}
	return h.Source.Next()
}

// Two restores into one directory: one of them does it, and the other one says that it
// does not. Nothing is left beside, also of one that fails.
func TestTwoOfflineRestoresIntoOneDirectory(t *testing.T) {
	old := raftstoretest.New(t, 1)
	initCluster(t, old, "old")
	churn(t, old, 1, 100)
	full := save(t, old.Nodes[0], 0)
	want := contents(t, old.Nodes[0])
	source := func() snapshot.Source {
		src, err := chain(t, full).Source(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return src
	}
	cfg := raftstoretest.Config(t, "new")
	cfg.BindAddr = raftstoretest.FreeAddr(t)
	beside := func(n int) {
		t.Helper()
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(cfg.DataDir), "*")); err != nil || len(left) != n {
			t.Fatalf("in the parent directory: %v, %v", left, err)
		}
	}
	for _, broken := range []error{errors.New("broken"), nil} {
		first := &halting{Source: source(), came: make(chan struct{}), on: make(chan struct{}), err: broken}
		ended := make(chan error, 1)
		var id string
		go func() {
			var err error
			id, err = raftstore.RestoreOffline(t.Context(), cfg, first)
			ended <- err
		}()
		<-first.came
		if _, err := raftstore.RestoreOffline(t.Context(), cfg, source()); !errors.Is(err, raftstore.ErrLocked) || !strings.Contains(err.Error(), "another restore") {
			t.Errorf("beside another one: %v", err)
		}
		close(first.on)
		if err := <-ended; !errors.Is(err, broken) {
			t.Fatalf("the first: %v, want %v", err, broken)
		}
		if broken != nil {
			beside(0)
			continue
		}
		beside(1)
		n := raftstoretest.Start(t, cfg)
		(&raftstoretest.Cluster{T: t, Nodes: []*raftstoretest.Node{n}}).Leader()
		if got := n.Store.ClusterID(); got != id {
			t.Errorf("cluster %q, want %q", got, id)
		}
		wantContents(t, n, want)
	}
}

// Whichever of many is first, its data directory is the one that is there.
func TestManyOfflineRestoresIntoOneDirectory(t *testing.T) {
	old := raftstoretest.New(t, 1)
	initCluster(t, old, "old")
	churn(t, old, 1, 50)
	full := save(t, old.Nodes[0], 0)
	for range 5 {
		cfg := raftstoretest.Config(t, "new")
		cfg.BindAddr = raftstoretest.FreeAddr(t)
		var all sync.WaitGroup
		ids := make([]string, 6)
		for i := range ids {
			src, err := chain(t, full).Source(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				id, err := raftstore.RestoreOffline(t.Context(), cfg, src)
				switch {
				case err == nil:
					ids[i] = id
				case !errors.Is(err, raftstore.ErrLocked) && !strings.Contains(err.Error(), "empty directory only"):
					t.Error(err)
				}
			})
		}
		all.Wait()
		id := strings.Join(ids, "")
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(cfg.DataDir), "*")); err != nil || len(left) != 1 {
			t.Fatalf("in the parent directory: %v, %v", left, err)
		}
		n := raftstoretest.Start(t, cfg)
		(&raftstoretest.Cluster{T: t, Nodes: []*raftstoretest.Node{n}}).Leader()
		if got := n.Store.ClusterID(); got != id {
			t.Errorf("cluster %q, restored %q", got, ids)
		}
		n.Stop()
	}
}
