package raftstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// Without writes that follow, raft itself would tell a follower what is committed
// after CommitTimeout, which is longer here than any read waits.
func TestAFollowerReadsAWriteThatNothingFollows(t *testing.T) {
	c := raftstoretest.New(t, 3, func(_ int, cfg *raftstore.Config) { cfg.CommitTimeout = 5 * time.Minute })
	leader := c.Leader()
	for i := range 20 {
		want := fmt.Sprint("value-", i)
		leader.MustPut("key", want)
		for _, n := range c.Followers() {
			if got := n.MustGet("key"); got != want {
				t.Fatalf("%s reads %q after %q was acknowledged", n.ID, got, want)
			}
		}
	}
	c.CheckEqual()
}
