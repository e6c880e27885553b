package raftstore_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/statefile"
	"github.com/neogan74/konsul/raftstore"
)

// A recovery that was killed after its snapshot: the checkpoint and the log are still those
// of the old members. A start ends it: the new members are there, and nothing of the old.
func TestAStartEndsARecovery(t *testing.T) {
	n := filled(t, true)
	self := raftstore.Server{ID: n.ID, Address: n.Store.Addr(), Voter: true}
	other := raftstore.Server{ID: "other", Address: "127.0.0.1:1"}
	n.Stop() // takes a checkpoint
	dir := n.Config.DataDir
	r, err := raftstore.Recover(t.Context(), n.Config, []raftstore.Server{self, other}, func(raftstore.Recovery) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	kept := glob(t, r.Backup, "snapshots/*[0-9]")
	var made string
	for _, path := range glob(t, dir, "snapshots/*[0-9]") {
		if len(kept) == 0 || filepath.Base(path) != filepath.Base(kept[0]) {
			made = filepath.Base(path)
		}
	}
	if made == "" {
		t.Fatal("no snapshot was made")
	}
	for _, name := range []string{"raft", "checkpoint.json"} {
		remove(t, filepath.Join(dir, name))
		if err := os.Rename(filepath.Join(r.Backup, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	record := filepath.Join(dir, "recovering.json")
	if err := statefile.Write(record, 2, map[string]string{"snapshot": made}); err != nil {
		t.Fatal(err)
	}
	n.Start()
	check(t, n)
	if members, err := n.Store.Servers(); err != nil || len(members) != 2 {
		t.Errorf("members %v, %v", members, err)
	}
	if first := n.Store.FirstLogIndex(); first <= r.Index {
		t.Errorf("the log still begins at %d, the recovery ended at %d", first, r.Index)
	}
	if _, err := os.Stat(record); !errors.Is(err, os.ErrNotExist) {
		t.Error("the record is still there: ", err)
	}
}

// A recovery that ended before its snapshot may have applied what no majority ever had: the
// node does not go on with its old members, and a repeated recovery ends.
func TestAHalfRecoveryIsRepeated(t *testing.T) {
	n := filled(t, true)
	self := []raftstore.Server{{ID: n.ID, Address: n.Store.Addr(), Voter: true}}
	n.Stop()
	record := filepath.Join(n.Config.DataDir, "recovering.json")
	for _, snapshot := range []string{"", "9-999999-1"} {
		if err := statefile.Write(record, 2, map[string]string{"snapshot": snapshot}); err != nil {
			t.Fatal(err)
		}
		if err := n.TryStart(); !errors.Is(err, raftstore.ErrDamaged) || !strings.Contains(err.Error(), "konsul cluster recover") {
			t.Fatalf("started: %v", err)
		}
	}
	if _, err := raftstore.Recover(t.Context(), n.Config, self, func(raftstore.Recovery) error { return nil }); err != nil {
		t.Fatal(err)
	}
	n.Start()
	check(t, n)
	if _, err := os.Stat(record); !errors.Is(err, os.ErrNotExist) {
		t.Error("the record is still there: ", err)
	}
}

// What the lost nodes gave out after this node's last entry does not come back: not as an
// index of another write, and not as what an increment goes on from.
func TestIndexesDoNotComeBackAfterARecovery(t *testing.T) {
	n := filled(t, true)
	self := []raftstore.Server{{ID: n.ID, Address: n.Store.Addr(), Voter: true}}
	n.Stop()
	r, err := raftstore.Recover(t.Context(), n.Config, self, func(raftstore.Recovery) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	check(t, n)
	lost := r.Index + 1000
	for _, since := range []uint64{r.Index - 1, r.Index, lost} {
		var compacted *persistence.CompactedError
		if _, _, err := n.Store.Backup(t.Context(), io.Discard, raftstore.BackupOptions{Since: since}); !errors.As(err, &compacted) {
			t.Errorf("an increment since %d: %v", since, err)
		}
		if _, err := n.Store.FSM().Subscribe(fsm.Filter{}, since); !errors.As(err, &compacted) {
			t.Errorf("a watch from %d: %v", since, err)
		}
	}
	for range 2 {
		n.MustPut("after", "v")
		h, _, err := n.Store.Backup(t.Context(), io.Discard, raftstore.BackupOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if h.Index <= lost {
			t.Errorf("index %d was given out again; the last one here was %d", h.Index, r.Index)
		}
		n.Stop()
		n.Start()
		check(t, n)
	}
}
