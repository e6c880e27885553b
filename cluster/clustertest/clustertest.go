// Package clustertest runs clusters in one process: real stores on real ports
// and disks, their managers, and as much of the HTTP API as nodes need of one
// another to form a cluster.
package clustertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/cluster"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// Options of a cluster; zero fields mean what stands with them.
type Options struct {
	// Nodes with the same configuration (3), none started.
	Nodes int
	// Expect is their bootstrap_expect (Nodes).
	Expect int
	// Store and Cluster change a node's configuration before each start.
	Store   func(*raftstore.Config)
	Cluster func(*cluster.Config)
	// Log shows what the nodes log, from this level on (off).
	Log hclog.Level
}

// Cluster is some nodes that know each other's API addresses.
type Cluster struct {
	T     testing.TB
	Nodes []*Node
	opts  Options
}

// New makes the nodes. At the end of the test they are stopped and no goroutine
// of theirs may be left.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Expect == 0 {
		o.Expect = o.Nodes
	}
	if o.Log == hclog.NoLevel {
		o.Log = hclog.Off
	}
	t.Cleanup(func() { NoGoroutines(t) })
	c := &Cluster{T: t, opts: o}
	for range o.Nodes {
		c.Add(o.Expect)
	}
	for _, n := range c.Nodes {
		n.Join = c.APIs()
	}
	return c
}

// Started is New with every node started and in the cluster.
func Started(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := New(t, o)
	for _, n := range c.Nodes {
		n.Start()
	}
	c.WaitVoters(len(c.Nodes), c.Nodes...)
	return c
}

// Add makes one more node, which joins through the others and is not started.
func (c *Cluster) Add(expect int) *Node {
	c.T.Helper()
	n := &Node{t: c.T, opts: c.opts, Dir: filepath.Join(c.T.TempDir(), "data"), API: raftstoretest.FreeAddr(c.T), Raft: raftstoretest.FreeAddr(c.T), Expect: expect, Join: c.APIs()}
	c.Nodes = append(c.Nodes, n)
	c.T.Cleanup(n.Stop)
	return n
}

// APIs are the API addresses of all nodes.
func (c *Cluster) APIs() []string {
	var out []string
	for _, n := range c.Nodes {
		out = append(out, n.API)
	}
	return out
}

// WaitVoters waits until every one of the nodes sees exactly so many members,
// all voters, and the same leader, and until each has the same cluster id.
func (c *Cluster) WaitVoters(voters int, nodes ...*Node) {
	c.T.Helper()
	Eventually(c.T, 30*time.Second, fmt.Sprintf("%d voters", voters), func() error {
		first := nodes[0].Manager.Status(context.Background())
		for _, n := range nodes {
			s := n.Manager.Status(context.Background())
			have := 0
			for _, p := range s.Peers {
				if p.Voter && p.Healthy && p.APIAddress != "" {
					have++
				}
			}
			switch {
			case have != voters || len(s.Peers) != voters:
				return fmt.Errorf("%s sees %+v", s.NodeID, s.Peers)
			case s.LeaderID == "" || s.LeaderID != first.LeaderID:
				return fmt.Errorf("%s takes %q for the leader, %s takes %q", s.NodeID, s.LeaderID, first.NodeID, first.LeaderID)
			case s.ClusterID == "" || s.ClusterID != first.ClusterID:
				return fmt.Errorf("%s is in %q, %s in %q", s.NodeID, s.ClusterID, first.NodeID, first.ClusterID)
			}
		}
		return nil
	})
}

// WaitLeader waits until the nodes take the same one for the leader, and it is one of them.
func (c *Cluster) WaitLeader(nodes ...*Node) {
	c.T.Helper()
	Eventually(c.T, 20*time.Second, "the same leader", func() error {
		lead := false
		first, _, _ := nodes[0].Store.Leader()
		for _, n := range nodes {
			id, _, ok := n.Store.Leader()
			if !ok || id != first {
				return fmt.Errorf("%s takes %q for the leader", n.ID(), id)
			}
			lead = lead || n.Store.IsLeader()
		}
		if !lead {
			return errors.New("none of them leads")
		}
		return nil
	})
}

// Leader waits for a running node that leads.
func (c *Cluster) Leader() *Node {
	c.T.Helper()
	var leader *Node
	Eventually(c.T, 20*time.Second, "a leader", func() error {
		for _, n := range c.Nodes {
			if n.Store != nil && n.Store.IsLeader() && !n.Store.Removed() {
				leader = n
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return leader
}

// Followers are the running nodes that do not lead.
func (c *Cluster) Followers() []*Node {
	c.T.Helper()
	leader := c.Leader()
	var out []*Node
	for _, n := range c.Nodes {
		if n != leader && n.Store != nil {
			out = append(out, n)
		}
	}
	return out
}

// Eventually polls until check returns nil, and fails the test with its last
// error if it does not in time.
func Eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s: %v", within, what, err)
		}
		<-tick.C
	}
}

// NoGoroutines fails the test if goroutines of the program outlive it. It does
// not stop the test: a panic on its way out of the test would be lost.
func NoGoroutines(t testing.TB) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var left []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		if left = goroutines(); len(left) == 0 {
			return
		}
	}
	t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
}

// goroutines are those of the program, without the tests' own.
func goroutines() []string {
	buf := make([]byte, 4<<20)
	var out []string
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "neogan74/konsul/") && !strings.Contains(g, "testing.") {
			out = append(out, g)
		}
	}
	return out
}

// clear removes a data directory.
func clear(t testing.TB, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

// Never polls for a while and fails the test as soon as check returns an error.
func Never(t testing.TB, during time.Duration, check func() error) {
	t.Helper()
	end := time.Now().Add(during)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(end) {
		if err := check(); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
}
