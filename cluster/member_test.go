package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neogan74/konsul/cluster"
	"github.com/neogan74/konsul/cluster/clustertest"
	"github.com/neogan74/konsul/raftstore"
)

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// writers write through the nodes until stop is called, which returns how many
// writes were acknowledged; each must be there afterwards.
func writers(t *testing.T, nodes []*clustertest.Node) (stop func() []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var mu sync.Mutex
	var acked []string
	var seq atomic.Int64
	for i := range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				key := fmt.Sprint("w", seq.Add(1))
				if _, err := nodes[i%len(nodes)].Put(ctx, key, key); err == nil {
					mu.Lock()
					acked = append(acked, key)
					mu.Unlock()
				}
			}
		})
	}
	return func() []string {
		cancel()
		wg.Wait()
		return acked
	}
}

func wantAll(t *testing.T, n *clustertest.Node, keys []string) {
	t.Helper()
	if len(keys) == 0 {
		t.Fatal("nothing was written")
	}
	for _, k := range keys {
		if v, err := n.Value(k); err != nil || v != k {
			t.Fatalf("%s: reading %s: %q, %v", n.ID(), k, v, err)
		}
	}
}

func TestAFourthNodeJoinsUnderWritesAndLeaves(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{})
	old := c.Nodes[:3]
	stop := writers(t, old)
	n := c.Add(0)
	n.Start()
	c.WaitVoters(4, c.Nodes...)
	id := n.ID()
	if err := old[0].Manager.Leave(soon(t), id); err != nil {
		t.Fatal(err)
	}
	c.WaitVoters(3, old...)
	wantRemoved(t, n)
	wantAll(t, old[1], stop())
}

func wantRemoved(t *testing.T, n *clustertest.Node) {
	t.Helper()
	clustertest.Eventually(t, 15*time.Second, "the node to learn that it was removed", func() error {
		if !n.Manager.Removed() || n.Manager.Joined() {
			return errors.New("it does not know")
		}
		return nil
	})
	if _, err := n.Value("x"); !errors.Is(err, raftstore.ErrRemoved) {
		t.Errorf("a removed node reads: %v", err)
	}
	if _, err := n.Put(soon(t), "x", "x"); !errors.Is(err, raftstore.ErrRemoved) {
		t.Errorf("a removed node writes: %v", err)
	}
	if s := n.Manager.Status(soon(t)); s.State != "removed" {
		t.Errorf("a removed node says it is %s", s.State)
	}
}

func TestTheLeaderLeaves(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{})
	leader, rest := c.Leader(), c.Followers()
	rest[0].MustPut("a", "1")
	if err := leader.Manager.Leave(soon(t), leader.ID()); err != nil {
		t.Fatal(err)
	}
	c.WaitVoters(2, rest...)
	wantRemoved(t, leader)
	rest[1].MustPut("b", "2")
	if err := rest[0].Manager.Leave(soon(t), "nobody"); !errors.Is(err, cluster.ErrUnknownMember) {
		t.Errorf("removing a stranger: %v", err)
	}
}

// A removed node stays out, also after a restart with the same flags, until its
// data directory is cleared. It was down when it was removed.
func TestARemovedNodeStaysOutUntilCleared(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{})
	out := c.Followers()[0]
	id := out.ID()
	out.Stop()
	if err := c.Leader().Manager.Leave(soon(t), id); err != nil {
		t.Fatal(err)
	}
	rest := append([]*clustertest.Node{c.Leader()}, c.Followers()...)
	c.WaitVoters(2, rest...)
	out.Start()
	wantRemoved(t, out)
	out.Stop()
	out.Start()
	wantRemoved(t, out)
	c.WaitVoters(2, rest...)
	out.Stop()
	out.Wipe()
	out.Start()
	c.WaitVoters(3, c.Nodes...)
}

func TestLeaveSelf(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{})
	out := c.Leader()
	rest := c.Followers()
	if err := out.Manager.LeaveSelf(soon(t)); err != nil {
		t.Fatal(err)
	}
	out.Stop()
	c.WaitVoters(2, rest...)
	if err := rest[0].Manager.LeaveSelf(soon(t)); err != nil {
		t.Fatal(err)
	}
	rest[0].Stop()
	c.WaitVoters(1, rest[1])
	if err := rest[1].Manager.LeaveSelf(soon(t)); !errors.Is(err, cluster.ErrLastVoter) {
		t.Fatalf("the last voter leaves: %v", err)
	}
	rest[1].MustPut("a", "still here")
}

func TestLeaveThatWouldLoseTheQuorumIsRefused(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{})
	down, up := c.Followers()[0], c.Followers()[1]
	downID := down.ID()
	down.Stop()
	if err := c.Leader().Manager.Leave(soon(t), up.ID()); !errors.Is(err, cluster.ErrWouldLoseQuorum) {
		t.Fatalf("removing one of two live voters: %v", err)
	}
	if err := up.Manager.Leave(soon(t), downID); err != nil {
		t.Fatalf("removing the dead one: %v", err)
	}
	c.WaitVoters(2, c.Leader(), up)
}

func TestTransfer(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{})
	old, to := c.Leader(), c.Followers()[0]
	got, err := c.Followers()[1].Manager.Transfer(soon(t), to.ID())
	if err != nil || got != to.ID() {
		t.Fatalf("transfer to %s: %s, %v", to.ID(), got, err)
	}
	c.WaitVoters(3, c.Nodes...)
	if c.Leader() != to {
		t.Fatalf("%s leads", c.Leader().ID())
	}
	if got, err := to.Manager.Transfer(soon(t), to.ID()); err != nil || got != to.ID() {
		t.Errorf("transfer to the leader: %s, %v", got, err)
	}
	if _, err := old.Manager.Transfer(soon(t), "nobody"); !errors.Is(err, cluster.ErrUnknownMember) {
		t.Errorf("transfer to a stranger: %v", err)
	}
	if got, err := old.Manager.Transfer(soon(t), ""); err != nil || got == to.ID() || got == "" {
		t.Errorf("transfer to anyone: %s, %v", got, err)
	}
	if index, err := to.Manager.TakeSnapshot(soon(t)); err != nil || index == 0 {
		t.Errorf("snapshot: %d, %v", index, err)
	}
}
