package raftstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// A person tries twice to hand over to a node that is down. Writes go on.
func TestTwoTransfersToANodeThatIsDown(t *testing.T) {
	c := raftstoretest.New(t, 3)
	lead := c.Leader()
	down := c.Followers()[0]
	lead.MustPut("k", "v")
	down.Stop()
	lead.MustPut("k", "w")
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	for range 3 {
		one, stop := context.WithTimeout(ctx, 3*time.Second)
		t.Log(lead.Store.Transfer(one, down.ID))
		stop()
	}
	t.Log(lead.Store.State(), lead.Store.Term(), c.Leader().ID == lead.ID)
	if !lead.Store.IsLeader() {
		t.Skip("it leads no more")
	}
	begin := time.Now()
	one, stop := context.WithTimeout(ctx, 8*time.Second)
	defer stop()
	defer func() { t.Log(time.Since(begin), lead.Store.State(), lead.Store.Term(), c.Leader().ID == lead.ID) }()
	if _, err := lead.Store.Apply(one, command.Type_TYPE_TXN, raftstoretest.Set("k", "x"), ""); err != nil {
		t.Errorf("after %s: %v; still leader: %v", time.Since(begin), err, lead.Store.IsLeader())
	}
}
