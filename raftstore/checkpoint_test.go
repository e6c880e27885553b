package raftstore_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// While the engine shows entries that raft has yet to apply again no checkpoint is taken: it
// would have the engine's index, and the configuration of where raft is. The next start would
// believe it, and not look for the changes in between: here a voter would forget the other.
func TestACheckpointHasTheConfigurationOfItsIndex(t *testing.T) {
	c := raftstoretest.New(t, 1)
	n := c.Nodes[0]
	dir := n.Config.DataDir
	n.MustPut("a", "v")
	n.Stop() // takes a checkpoint: the only member is n1
	old, err := os.ReadFile(filepath.Join(dir, "checkpoint.json"))
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	c.Leader()
	other := joiner(t, "n2", raftstoretest.ClusterID)
	ctx := within(t, raftstoretest.Patience)
	if err := n.Store.AddNonvoter(ctx, other.ID, other.Store.Addr()); err != nil {
		t.Fatal(err)
	}
	raftstoretest.Eventually(t, func() error { return other.Store.Ready(ctx) })
	if err := n.Store.Promote(ctx, other.ID); err != nil {
		t.Fatal(err)
	}
	n.MustPut("b", "v")
	n.Stop()
	other.Stop()
	// A crash between MakeDurable (of a snapshot or a checkpoint) and what was to follow it.
	write(t, filepath.Join(dir, "checkpoint.json"), string(old))

	n.Start() // alone: there is no leader, nothing is applied again
	if members, err := n.Store.Servers(); err != nil || len(members) != 2 {
		t.Fatalf("members %v, %v", members, err)
	}
	n.Store.AgeCheckpoint() // a minute without the other node
	time.Sleep(2500 * time.Millisecond)
	n.Stop()

	n.Start()
	members, err := n.Store.Servers()
	if err != nil || len(members) != 2 {
		t.Errorf("members %v, %v", members, err)
	}
	time.Sleep(2 * time.Second)
	if n.Store.IsLeader() {
		index, err := n.Put("c", "by a minority")
		t.Errorf("one of two nodes leads alone, and acknowledges entry %d (%v)", index, err)
	}
}
