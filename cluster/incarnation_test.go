package cluster_test

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/neogan74/konsul/cluster"
	"github.com/neogan74/konsul/cluster/clustertest"
	"github.com/neogan74/konsul/raftstore"
)

// named gives each node an id that it keeps when its directory is cleared, as a
// configured node id is.
func named(also map[string]string) func(*raftstore.Config) {
	return func(sc *raftstore.Config) {
		_, port, _ := net.SplitHostPort(sc.BindAddr)
		if sc.NodeID = "n" + port; also[sc.BindAddr] != "" {
			sc.NodeID = also[sc.BindAddr]
		}
	}
}

// staysOut waits until the node knows that it must not be the member with its id.
func staysOut(t *testing.T, n *clustertest.Node) {
	t.Helper()
	clustertest.Eventually(t, 20*time.Second, "the node to know that its directory is new", func() error {
		if n.Store.HasState() || n.Store.ClusterID() != "" {
			t.Fatalf("%s took part: cluster id %q", n.ID(), n.Store.ClusterID())
		}
		if err := n.Manager.Trouble(); !errors.Is(err, cluster.ErrMemberExists) {
			return fmt.Errorf("trouble %w", err)
		}
		return nil
	})
}

// What n2 and n3 acknowledged while n1 was down must not be forgotten because n2
// comes back with nothing and helps n1 to a majority.
func TestAWipedVoterIsNotCountedAgain(t *testing.T) {
	c := clustertest.Started(t, clustertest.Options{Store: named(nil)})
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	id := n2.ID()
	n1.Stop()
	c.WaitLeader(n2, n3)
	var keys []string
	for i := range 20 {
		keys = append(keys, fmt.Sprint("k", i))
		n3.MustPut(keys[i], keys[i])
	}
	n2.Stop()
	n3.Stop()
	n2.Wipe()
	n2.Start()
	n1.Start()
	staysOut(t, n2)
	if _, _, led := n1.Store.Leader(); led {
		t.Fatal("one of three voters has a leader")
	}
	n3.Start()
	c.WaitLeader(n1, n3)
	wantAll(t, n1, keys)
	staysOut(t, n2)
	if _, err := n2.Manager.SendJoin(soon(t), n1.API); !errors.Is(err, cluster.ErrMemberExists) {
		t.Errorf("told to join: %v", err)
	}
	if err := n1.Manager.Leave(soon(t), id); err != nil {
		t.Fatal(err)
	}
	c.WaitVoters(3, c.Nodes...)
	wantAll(t, n2, keys)
	if err := n2.Manager.Trouble(); err != nil {
		t.Errorf("still in trouble: %v", err)
	}
	// The first configuration of the cluster names the directory that is gone.
	for _, n := range c.Nodes {
		n.Stop()
	}
	for _, n := range c.Nodes {
		n.Start()
	}
	c.WaitVoters(3, c.Nodes...)
}

func TestAnImpostorChangesNothing(t *testing.T) {
	also := map[string]string{}
	c := clustertest.Started(t, clustertest.Options{Store: named(also)})
	real := c.Followers()[0]
	impostor := c.Add(0)
	also[impostor.Raft] = real.ID()
	impostor.Start()
	staysOut(t, impostor)
	clustertest.Never(t, time.Second, func() error {
		for _, n := range c.Nodes[:3] {
			if p := peerOf(t, n, real.ID()); p.Address != real.Raft || p.APIAddress != real.API || !p.Voter {
				return fmt.Errorf("%s sees %+v", n.ID(), p)
			}
		}
		return nil
	})
	impostor.Stop()
	c.WaitVoters(3, c.Nodes[:3]...)
}

// The old directory of an id comes back when a new one has its place.
func TestADirectoryWhosePlaceIsTakenIsRemoved(t *testing.T) {
	also := map[string]string{}
	c := clustertest.Started(t, clustertest.Options{Store: named(also)})
	old := c.Followers()[0]
	id := old.ID()
	old.Stop()
	if err := c.Leader().Manager.Leave(soon(t), id); err != nil {
		t.Fatal(err)
	}
	next := c.Add(0)
	also[next.Raft] = id
	next.Start()
	rest := append([]*clustertest.Node{c.Leader()}, c.Followers()...)
	c.WaitVoters(3, rest...)
	old.Start()
	clustertest.Eventually(t, 20*time.Second, "the old directory to be told", func() error {
		if !old.Manager.Removed() {
			return errors.New("it does not know")
		}
		return nil
	})
	c.WaitVoters(3, rest...)
	if p := peerOf(t, c.Leader(), id); p.Address != next.Raft {
		t.Errorf("%+v", p)
	}
}

func TestANodeWithStateAtTheAddressesOfAnotherCluster(t *testing.T) {
	c := clustertest.New(t, clustertest.Options{Nodes: 2})
	other, n := c.Nodes[0], c.Nodes[1]
	for _, n := range c.Nodes { // each for itself
		n.Expect, n.Join = 1, nil
		n.Start()
		c.WaitVoters(1, n)
	}
	n.MustPut("a", "1")
	n.Stop()
	n.Join = []string{other.API}
	n.Start()
	clustertest.Eventually(t, 10*time.Second, "the node to notice", func() error {
		if err := n.Manager.Trouble(); !errors.Is(err, raftstore.ErrWrongCluster) {
			return fmt.Errorf("trouble %w", err)
		}
		return nil
	})
	if v, err := n.Value("a"); v != "1" || err != nil {
		t.Errorf("read %q, %v", v, err)
	}
	n.Stop()
	n.Join = []string{n.API}
	n.Start()
	c.WaitVoters(1, n)
	if err := n.Manager.Trouble(); err != nil {
		t.Errorf("trouble %v", err)
	}
}
