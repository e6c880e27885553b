//go:build cluster

package cluster

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// withIDs makes three nodes with configured ids n1, n2, n3, which are kept
// whatever happens to the data directories.
func withIDs(t *testing.T) *harness.Cluster {
	t.Helper()
	c := harness.New(t, harness.Options{Nodes: 3})
	for i, n := range c.Nodes {
		n.SetEnv("KONSUL_RAFT_NODE_ID", fmt.Sprint("n", i+1))
		n.Start()
	}
	c.WaitReady(60 * time.Second)
	oneCluster(t, c)
	return c
}

// A voter whose disk was lost comes back under its configured id with nothing. It
// must not be counted as the voter it was: neither help the one node that missed
// the writes to a majority, nor be given the cluster's first configuration again.
func TestAVoterWithoutItsDataIsNotCountedAgain(t *testing.T) {
	c := withIDs(t)
	n1, n2, n3 := c.Nodes[0], c.Nodes[1], c.Nodes[2]
	n1.Stop()
	const writes = 50
	for i := range writes {
		harness.Eventually(t, 20*time.Second, "a write without n1", func() error {
			_, err := n3.Put(soon(t), fmt.Sprint("kept/", i), []byte("v"), "")
			return err
		})
	}
	n2.Kill9()
	n3.Kill9()
	if err := os.RemoveAll(n2.DataDir); err != nil {
		t.Fatal(err)
	}
	n2.Start()
	n1.Start()
	outside(t, n2, 15*time.Second, func() error {
		if a, err := n1.Get(soon(t), "/cluster/leader"); err == nil && a.Status == 200 {
			return fmt.Errorf("n1 has a leader: %s", a.Body)
		}
		return nil
	})

	n3.Start()
	n3.WaitReady(60 * time.Second)
	n1.WaitReady(60 * time.Second)
	for i := range writes {
		if err := wantValue(n1, fmt.Sprint("kept/", i), "v", 0); err != nil {
			t.Fatal(err)
		}
	}
	outside(t, n2, 3*time.Second, func() error { return nil })

	// By the procedure of the README.
	a, err := n1.Do(soon(t), "DELETE", "/cluster/leave/n2", nil)
	if err == nil {
		err = a.Want(200)
	}
	if err != nil {
		t.Fatal(err)
	}
	n2.Restart()
	n2.WaitReady(60 * time.Second)
	wantPeers(t, n1, 3)
	if err := wantValue(n2, "kept/0", "v", 0); err != nil {
		t.Fatal(err)
	}
	mustPut(t, n2, "after", "v")
	c.SameDigest()
}

// outside checks for a while that a node takes no part in anything, and also.
func outside(t *testing.T, n *harness.Node, during time.Duration, also func() error) {
	t.Helper()
	n.ID() // its API answers
	for end := time.Now().Add(during); time.Now().Before(end); harness.Hold(t.Context(), 200*time.Millisecond) {
		s, err := n.Status(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		if s.ClusterID != "" || s.Term != 0 || s.AppliedIndex != 0 || s.LeaderID != "" || len(s.Peers) != 0 {
			t.Fatalf("%s takes part: %+v", n.Name, s)
		}
		if a, err := n.Get(soon(t), "/health/ready"); err != nil || a.Status != 503 {
			t.Fatalf("%s: /health/ready %v, %v", n.Name, a, err)
		}
		if err := also(); err != nil {
			t.Fatal(err)
		}
	}
}

// A second process with the id of a live member and an empty directory is refused,
// and the member stays where it is.
func TestASecondNodeWithTheIDOfAMemberIsRefused(t *testing.T) {
	c := withIDs(t)
	impostor := c.AddNode()
	impostor.SetEnv("KONSUL_RAFT_NODE_ID", "n2")
	impostor.Start()
	outside(t, impostor, 4*time.Second, func() error { return nil })
	a, err := impostor.Post(soon(t), "/cluster/join", map[string]any{"join": []string{c.Nodes[0].HTTP}})
	if err != nil {
		t.Fatal(err)
	}
	if e := (*harness.APIError)(nil); a.Status != 409 || !errors.As(a.Err(), &e) || e.Code != "member_exists" {
		t.Errorf("the impostor is told to join: %v, want 409 member_exists", a.Err())
	}
	s, err := c.Nodes[0].Status(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Peers {
		if p.ID == "n2" && (p.Address != c.Nodes[1].Raft || p.APIAddress != c.Nodes[1].HTTP || !p.Healthy) {
			t.Errorf("n2 is %+v", p)
		}
	}
	impostor.Kill9()
	mustPut(t, c.Nodes[1], "a", "1")
	c.SameDigest()
}
