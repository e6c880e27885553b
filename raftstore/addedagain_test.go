package raftstore_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// A removed node that is added again and hears of it by a snapshot is a member again.
func TestAddedAgainBySnapshot(t *testing.T) {
	c := raftstoretest.New(t, 3, func(_ int, cfg *raftstore.Config) { cfg.TrailingLogs, cfg.QueueDepth = 2, 1 })
	lead := c.Leader()
	out := c.Followers()[0]
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	addr := out.Store.Addr()
	if err := lead.Store.RemoveServer(ctx, out.ID); err != nil {
		t.Fatal(err)
	}
	if err := out.Store.MarkRemoved(); err != nil { // as the leader tells it
		t.Fatal(err)
	}
	out.Isolate()
	if err := lead.Store.AddNonvoter(ctx, out.ID, addr); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		lead.MustPut("k", strings.Repeat("v", 200_000))
	}
	if err := lead.Store.TakeSnapshot(ctx); err != nil {
		t.Fatal(err)
	}
	index := lead.MustPut("k", "w")
	t.Log("the leader's log begins at", lead.Store.FirstLogIndex(), "the node's ends at", out.Store.Raft().LastIndex())
	out.Rejoin()
	for out.Store.AppliedIndex() < index && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	t.Log("applied", out.Store.AppliedIndex(), "of", index)
	time.Sleep(3 * time.Second)
	if out.Store.Removed() {
		t.Error("it has everything, is in the configuration, and says that it was removed")
	}
}
