package cluster_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/neogan74/konsul/cluster/clustertest"
)

func TestOneNodeIsAClusterAtOnce(t *testing.T) {
	c := clustertest.New(t, clustertest.Options{Nodes: 1})
	c.Nodes[0].Join = nil
	c.Nodes[0].Start()
	c.WaitVoters(1, c.Nodes...)
	c.Nodes[0].MustPut("a", "1")
	info, err := c.Nodes[0].Manager.LeaderInfo()
	if err != nil || info.LeaderID != c.Nodes[0].ID() || info.APIAddress != c.Nodes[0].API {
		t.Fatalf("leader %+v, %v", info, err)
	}
	clustertest.Eventually(t, 5*time.Second, "the cluster id in the state", func() error {
		if got, want := c.Nodes[0].Store.FSM().ClusterID(), c.Nodes[0].Store.ClusterID(); got != want {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

func TestThreeNodesInAnyOrder(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 0, 1}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			c := clustertest.New(t, clustertest.Options{})
			for _, i := range order {
				c.Nodes[i].Start()
			}
			c.WaitVoters(3, c.Nodes...)
			for i, n := range c.Nodes {
				n.MustPut(fmt.Sprint("from", i), "v")
			}
		})
	}
}

func TestALateNodeIsWaitedFor(t *testing.T) {
	c := clustertest.New(t, clustertest.Options{})
	c.Nodes[2].Start()
	c.Nodes[0].Start()
	clustertest.Never(t, 2*time.Second, func() error {
		for _, i := range []int{0, 2} {
			if c.Nodes[i].Store.HasState() || c.Nodes[i].Manager.Joined() {
				return fmt.Errorf("node %d did not wait for the third", i)
			}
		}
		return nil
	})
	c.Nodes[1].Start()
	c.WaitVoters(3, c.Nodes...)
}

func TestFiveNodesThatExpectThree(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{Nodes: 5, Expect: 3})
	c.Nodes[4].MustPut("a", "1")
	if v, err := c.Nodes[0].Value("a"); v != "1" || err != nil {
		t.Fatalf("read %q, %v", v, err)
	}
}

func TestRestartOfAllWithTheSameConfiguration(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{})
	c.Nodes[1].MustPut("a", "1")
	id := c.Nodes[0].Store.ClusterID()
	for _, n := range c.Nodes {
		n.Stop()
	}
	for _, n := range c.Nodes {
		n.Start()
	}
	c.WaitVoters(3, c.Nodes...)
	if got := c.Nodes[2].Store.ClusterID(); got != id {
		t.Fatalf("cluster id is %s, was %s", got, id)
	}
	if v, err := c.Nodes[2].Value("a"); v != "1" || err != nil {
		t.Fatalf("read %q, %v", v, err)
	}
}

// Two fresh nodes and one with state must not roll the old one back
// (hashicorp/raft#122): they join it.
func TestNoBootstrapWhereANodeHasState(t *testing.T) {
	c := clustertest.New(t, clustertest.Options{})
	old := c.Nodes[0]
	old.Expect, old.Join = 1, nil
	old.Start()
	c.WaitVoters(1, old)
	old.MustPut("a", "old")
	id := old.Store.ClusterID()
	old.Stop()
	old.Expect, old.Join = 3, c.APIs()
	for _, n := range c.Nodes {
		n.Start()
	}
	c.WaitVoters(3, c.Nodes...)
	for _, n := range c.Nodes {
		if n.Store.ClusterID() != id {
			t.Errorf("%s is in %s, want %s", n.ID(), n.Store.ClusterID(), id)
		}
		if v, err := n.Value("a"); v != "old" || err != nil {
			t.Errorf("%s reads %q, %v", n.ID(), v, err)
		}
	}
}

func TestStatusBeforeThereIsACluster(t *testing.T) {
	c := clustertest.New(t, clustertest.Options{})
	n := c.Nodes[0]
	n.Start()
	s := n.Manager.Status(context.Background())
	if s.NodeID != n.ID() || s.HasState || s.Peers == nil || len(s.Peers) != 0 || s.BootstrapExpect != 3 ||
		s.Address != n.Raft || s.APIAddress != n.API || s.LeaderID != "" {
		t.Fatalf("status %+v", s)
	}
	if _, err := n.Manager.LeaderInfo(); err == nil {
		t.Fatal("a leader is known before there is a cluster")
	}
}
