package raftstore_test

import (
	"fmt"
	"testing"

	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// A leader sends entries while it writes them, but commits none that it has not
// written, however many others have.
func TestNothingIsCommittedBeforeTheLeaderHasIt(t *testing.T) {
	c := raftstoretest.New(t, 3)
	leader := c.Leader()
	leader.MustPut("key", "before")
	open := make(chan struct{})
	leader.Store.GateSync(func() { <-open })
	last := leader.Store.Raft().LastIndex()
	done := make(chan error, 1)
	go func() {
		_, err := leader.Put("key", "after")
		done <- err
	}()
	for _, n := range c.Followers() {
		raftstoretest.Eventually(t, func() error {
			if got := n.Store.Raft().LastIndex(); got <= last {
				return fmt.Errorf("%s has entries up to %d only", n.ID, got)
			}
			return nil
		})
	}
	// Both followers have acknowledged it by the time that another message after it
	// was answered, which a read needs.
	if got := leader.MustGet("key"); got != "before" {
		t.Errorf("it reads %q, which it has not written", got)
	}
	if got := leader.Store.CommitIndex(); got > last {
		t.Errorf("it committed %d, and has written up to %d", got, last)
	}
	select {
	case err := <-done:
		t.Errorf("the write was acknowledged (%v)", err)
	default:
	}
	close(open)
	if err := <-done; err != nil {
		t.Errorf("then it was written: %v", err)
	}
	for _, n := range c.Nodes {
		if got := n.MustGet("key"); got != "after" {
			t.Errorf("%s reads %q", n.ID, got)
		}
	}
	c.CheckEqual()
}
