package raftstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

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
	if err := statefile.Write(record, 1, map[string]string{"snapshot": made}); err != nil {
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
	n.Stop()
	// One that never came to its snapshot is forgotten, and changes nothing.
	if err := statefile.Write(record, 1, map[string]string{"snapshot": "9-999999-1"}); err != nil {
		t.Fatal(err)
	}
	n.Start()
	check(t, n)
	if _, err := os.Stat(record); !errors.Is(err, os.ErrNotExist) {
		t.Error("the record is still there: ", err)
	}
}
