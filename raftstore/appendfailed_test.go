package raftstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// Appends failed on all nodes at once for a moment (a quota, shared storage). The disks work
// again, but nobody may stand for election, and without a leader nobody appends.
func TestALeaderIsElectedAfterAppendsFailedEverywhere(t *testing.T) {
	c := raftstoretest.New(t, 3)
	for _, n := range c.Nodes { // a leader whose append fails steps down
		n.Store.SetFailing()
	}
	c.Leader().Isolate()
	time.Sleep(3 * time.Second)
	for _, n := range c.Nodes {
		n.Rejoin()
	}
	end := time.Now().Add(12 * time.Second)
	for time.Now().Before(end) {
		for _, n := range c.Nodes {
			if n.Store.IsLeader() {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error(errors.New("no leader in 12 s"))
}
