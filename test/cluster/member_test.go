//go:build cluster

package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// waitAllowed is the longest time without an acknowledged write during a planned change.
const waitAllowed = 3 * time.Second

// A fourth node joins under load, is promoted, becomes the leader, leaves; no
// acknowledged write is lost and writes never stand still for long.
func TestJoinTransferAndLeaveUnderLoad(t *testing.T) {
	c := three(t)
	load := c.StartWriters("member", 8, 200)
	steady(t, load, "start", func() {})

	fourth := c.AddNode()
	steady(t, load, "join", func() {
		fourth.Start()
		fourth.WaitReady(60 * time.Second)
		wantPeers(t, c.Nodes[0], 4)
	})
	steady(t, load, "transfer to the new node", func() { transferTo(t, c.Nodes[0], c, fourth) })
	steady(t, load, "transfer to any", func() { transferTo(t, c.Nodes[1], c, nil) })
	if c.Leader() != fourth {
		transferTo(t, c.Nodes[2], c, fourth)
	}
	steady(t, load, "leave of the leader", func() {
		a, err := c.Nodes[0].Do(soon(t), "DELETE", "/cluster/leave/"+fourth.ID(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Want(200); err != nil {
			t.Fatal(err)
		}
		wantPeers(t, c.Nodes[0], 3)
	})
	removedServesNothing(t, fourth)
	load.Stop()
	fourth.Kill9()
	load.NoWrongErrors(t)
	c.Verify(t, load.Ledger)
}

// steady runs a change under load and fails if writes stood still for too long.
func steady(t *testing.T, load *harness.Load, what string, change func()) {
	t.Helper()
	begin := time.Now()
	change()
	harness.Hold(t.Context(), time.Second)
	if gap := load.LongestGap(begin, time.Now()); gap > waitAllowed {
		t.Errorf("%s: no write was acknowledged for %s", what, gap)
	} else {
		t.Logf("%s: longest time without an acknowledged write %s", what, gap.Round(time.Millisecond))
	}
}

func wantPeers(t *testing.T, n *harness.Node, voters int) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, fmt.Sprint(voters, " voters"), func() error {
		s, err := n.Status(soon(t))
		if err != nil {
			return err
		}
		have := 0
		for _, p := range s.Peers {
			if p.Voter {
				have++
			}
		}
		if len(s.Peers) != voters || have != voters {
			return fmt.Errorf("peers %+v", s.Peers)
		}
		return nil
	})
}

// transferTo asks node to move the leadership to a member (nil: any) and waits until it has it.
func transferTo(t *testing.T, node *harness.Node, c *harness.Cluster, to *harness.Node) {
	t.Helper()
	before := c.Leader()
	body := map[string]string{}
	if to != nil {
		body["to"] = to.ID()
	}
	harness.Eventually(t, 20*time.Second, "the transfer", func() error {
		a, err := node.Post(soon(t), "/cluster/transfer", body)
		if err != nil {
			return err
		}
		return a.Want(200)
	})
	harness.Eventually(t, 10*time.Second, "the new leader", func() error {
		now, err := c.TryLeader()
		if err != nil {
			return err
		}
		if to != nil && now != to || to == nil && now == before {
			return fmt.Errorf("leader is %s", now.Name)
		}
		return nil
	})
}

// removedServesNothing checks that a removed node answers neither linearizable
// reads nor writes any more.
func removedServesNothing(t *testing.T, n *harness.Node) {
	t.Helper()
	harness.Eventually(t, 10*time.Second, "the removed node to refuse", func() error {
		if !n.Running() {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		defer cancel()
		_, rerr := n.Read(ctx, "x", "")
		_, werr := n.Put(ctx, "removed", []byte("x"), "")
		for _, err := range []error{rerr, werr} {
			if e := (*harness.APIError)(nil); err == nil || errors.As(err, &e) && e.Status < 500 {
				return fmt.Errorf("the removed node answered: %s", fmt.Sprint(err))
			}
		}
		return nil
	})
}

// A node of one cluster is refused by another: the ids differ.
func TestANodeOfAnotherClusterIsRefused(t *testing.T) {
	a := three(t)
	b := harness.Start(t, harness.Options{Nodes: 1})
	mustPut(t, b.Nodes[0], "mine", "b")
	mustPut(t, a.Nodes[0], "mine", "a")
	s, err := b.Nodes[0].Status(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	ans, err := a.Nodes[1].Post(soon(t), "/cluster/join", map[string]any{
		"node_id": s.NodeID, "address": b.Nodes[0].Raft, "api_address": b.Nodes[0].HTTP, "cluster_id": s.ClusterID})
	if err != nil {
		t.Fatal(err)
	}
	if e := (*harness.APIError)(nil); ans.Status != 409 || !errors.As(ans.Err(), &e) || e.Code != "wrong_cluster" {
		t.Errorf("joining with another cluster's id: %v, want 409 wrong_cluster", ans.Err())
	}
	if err := wantValue(b.Nodes[0], "mine", "b", 0); err != nil {
		t.Error(err)
	}
	wantPeers(t, a.Nodes[0], 3)
	a.SameDigest()
}

// SIGTERM hands the leadership over before the process ends: the gap is short and the exit status 0.
func TestARollingRestartIsHardlyNoticed(t *testing.T) {
	c := three(t)
	load := c.StartWriters("rolling", 8, 200)
	for range 3 {
		leader := c.Leader()
		steady(t, load, "SIGTERM of the leader", leader.Stop)
		leader.Start()
		leader.WaitReady(30 * time.Second)
	}
	load.Stop()
	load.NoWrongErrors(t)
	c.Verify(t, load.Ledger)
}
