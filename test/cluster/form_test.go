//go:build cluster

package cluster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// Three nodes with one configuration, started in any order and with any delay,
// are one cluster with one id and three voters.
func TestThreeNodesFormOneClusterInAnyOrder(t *testing.T) {
	for round := range pick(2, 6) {
		order := rand.Perm(3)
		t.Run(fmt.Sprint("order ", order), func(t *testing.T) {
			c := harness.New(t, harness.Options{Nodes: 3})
			for i, n := range order {
				if i > 0 {
					harness.Hold(t.Context(), time.Duration(rand.IntN(800*round+1))*time.Millisecond)
				}
				c.Nodes[n].Start()
			}
			c.WaitReady(60 * time.Second)
			oneCluster(t, c)
		})
	}
}

func oneCluster(t *testing.T, c *harness.Cluster) {
	t.Helper()
	ids := map[string]bool{}
	leader := c.Leader()
	for _, n := range c.Nodes {
		harness.Eventually(t, 20*time.Second, n.Name+" to see three voters and the leader", func() error {
			s, err := n.Status(soon(t))
			if err != nil {
				return err
			}
			voters := 0
			for _, p := range s.Peers {
				if p.Voter {
					voters++
				}
			}
			if len(s.Peers) != 3 || voters != 3 || s.LeaderID != leader.ID() || s.ClusterID == "" {
				return fmt.Errorf("status %+v", s)
			}
			ids[s.ClusterID] = true
			return nil
		})
	}
	if len(ids) != 1 {
		t.Fatalf("cluster ids %v", ids)
	}
}

// A write acknowledged by any node is read at once from every node.
func TestAWriteIsReadableEverywhereAtOnce(t *testing.T) {
	c := three(t)
	for i := range pick(200, 1000) {
		key, value := fmt.Sprintf("once/%d", i%7), fmt.Sprint("v", i)
		index := mustPut(t, c.Nodes[i%3], key, value)
		for _, n := range c.Nodes {
			if err := wantValue(n, key, value, index); err != nil {
				t.Fatalf("write %d through %s: %v", i, c.Nodes[i%3].Name, err)
			}
		}
	}
	c.SameDigest()
}

// Answers name the index, the node and the leader, and the index never goes back.
func TestAnswersCarryTheirIndexNodeAndLeader(t *testing.T) {
	c := three(t)
	leader := c.Leader().ID()
	var last uint64
	for i := range 30 {
		n := c.Nodes[i%3]
		index := mustPut(t, n, "h", "v")
		a, err := n.Get(soon(t), "/kv/h")
		if err != nil {
			t.Fatal(err)
		}
		if a.Index() < index || a.Index() < last {
			t.Fatalf("%s: X-Konsul-Index %d after a write at %d and an answer at %d", n.Name, a.Index(), index, last)
		}
		last = a.Index()
		if got := a.Header.Get("X-Konsul-Node"); got != n.ID() {
			t.Fatalf("X-Konsul-Node %q, want %q", got, n.ID())
		}
		if got := a.Header.Get("X-Konsul-Leader"); got != leader {
			t.Fatalf("X-Konsul-Leader %q, want %q", got, leader)
		}
		a, err = n.Get(soon(t), "/kv/h?consistency=stale")
		if err != nil {
			t.Fatal(err)
		}
		if a.Header.Get("X-Konsul-Staleness-Ms") == "" {
			t.Fatal("a stale read without X-Konsul-Staleness-Ms")
		}
	}
}

// One node alone, killed again and again: everything acknowledged is there.
func TestASingleNodeKeepsEverything(t *testing.T) {
	c := harness.Start(t, harness.Options{Nodes: 1})
	load := c.StartWriters("single", 8, 200)
	n := c.Nodes[0]
	for range pick(3, 8) {
		harness.Hold(t.Context(), time.Second)
		n.Restart()
		n.WaitReady(30 * time.Second)
	}
	load.Stop()
	load.NoWrongErrors(t)
	c.Verify(t, load.Ledger)
}

// Bare `konsul` in an empty directory, as `make run` starts it: durable, with
// nothing configured. It takes the default ports, so the test is for a machine
// where they are free.
func TestBareKonsulIsDurable(t *testing.T) {
	c := harness.New(t, harness.Options{Nodes: 1})
	n := c.Nodes[0]
	for _, name := range []string{"KONSUL_HOST", "KONSUL_PORT", "KONSUL_RAFT_BIND_ADDR", "KONSUL_DATA_DIR"} {
		n.SetEnv(name, "")
	}
	n.Client = harness.NewClient("127.0.0.1:8500")
	if _, err := n.Get(soon(t), "/health/live"); err == nil {
		t.Fatal("something listens on 127.0.0.1:8500 already")
	}
	n.Start()
	n.WaitReady(30 * time.Second)
	index := mustPut(t, n, "a", "1")
	n.Restart()
	n.WaitReady(30 * time.Second)
	if err := wantValue(n, "a", "1", index); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(n.Dir + "/data")
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode of ./data is %o, want 700", info.Mode().Perm())
	}
	n.Stop()
	n.Start()
	n.WaitReady(30 * time.Second)
	if err := wantValue(n, "a", "1", index); err != nil {
		t.Fatal(err)
	}
}
