package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Options say what a cluster is made of. The zero value is one plain node.
type Options struct {
	Nodes   int
	Variant Variant
	Env     map[string]string    // settings of every node
	DataDir func(i int) string   // default: a directory of its own under t.TempDir
	Prefix  func(i int) []string // command before the binary ("ip", "netns", "exec", NAME)
	Host    func(i int) string   // default: a loopback address of its own
}

// Cluster is a set of nodes with one configuration.
type Cluster struct {
	Nodes []*Node
	t     testing.TB
	o     Options
	root  string
	hosts func(i int) string
}

// New makes the nodes without starting them. Each has the ports 8500 and 7000
// on a host of its own, so that no other process can take its port while it is
// down; all have the same join list, their own address included.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Nodes == 0 {
		o.Nodes = 1
	}
	c := &Cluster{t: t, o: o, root: t.TempDir(), hosts: o.Host}
	if c.hosts == nil {
		c.hosts = loopback(t)
	}
	for i := range o.Nodes {
		c.add(i)
	}
	if o.Nodes > 1 {
		for _, n := range c.Nodes {
			n.env["KONSUL_JOIN"] = c.Addresses()
			n.env["KONSUL_BOOTSTRAP_EXPECT"] = strconv.Itoa(o.Nodes)
		}
	}
	return c
}

// Start makes a cluster, starts it and waits until every node is ready.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := New(t, o)
	for _, n := range c.Nodes {
		n.Start()
	}
	c.WaitReady(60 * time.Second)
	return c
}

// AddNode makes one more node, which joins the others when it is started.
func (c *Cluster) AddNode() *Node {
	join := c.Addresses()
	n := c.add(len(c.Nodes))
	n.env["KONSUL_JOIN"] = join
	return n
}

// add makes node i.
func (c *Cluster) add(i int) *Node {
	c.t.Helper()
	host := c.hosts(i)
	n := &Node{
		Name: fmt.Sprintf("node%d", i+1), HTTP: net.JoinHostPort(host, "8500"), Raft: net.JoinHostPort(host, "7000"),
		t: c.t, binary: Binary(c.t, c.o.Variant), env: map[string]string{},
	}
	n.Client = NewClient(n.HTTP)
	n.Dir = filepath.Join(c.root, n.Name)
	if err := os.Mkdir(n.Dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	n.DataDir, n.LogFile = filepath.Join(n.Dir, "data"), filepath.Join(n.Dir, "log")
	if c.o.DataDir != nil {
		n.DataDir = c.o.DataDir(i)
	}
	if c.o.Prefix != nil {
		n.prefix = c.o.Prefix(i)
	}
	for k, v := range c.o.Env {
		n.env[k] = v
	}
	n.env["KONSUL_HOST"], n.env["KONSUL_PORT"] = host, "8500"
	n.env["KONSUL_RAFT_BIND_ADDR"] = n.Raft
	n.env["KONSUL_DATA_DIR"] = n.DataDir
	c.Nodes = append(c.Nodes, n)
	c.t.Cleanup(n.cleanup)
	return n
}

// Addresses is the join list: every node's API address.
func (c *Cluster) Addresses() string {
	var list []string
	for _, n := range c.Nodes {
		list = append(list, n.HTTP)
	}
	return strings.Join(list, ",")
}

// WaitReady waits until every running node is ready.
func (c *Cluster) WaitReady(d time.Duration) {
	c.t.Helper()
	deadline := time.Now().Add(d)
	for _, n := range c.Nodes {
		if n.Running() {
			n.WaitReady(time.Until(deadline))
		}
	}
}

// Other returns a running node that is none of those given.
func (c *Cluster) Other(not ...*Node) *Node {
	c.t.Helper()
next:
	for _, i := range rand.Perm(len(c.Nodes)) {
		for _, n := range not {
			if c.Nodes[i] == n {
				continue next
			}
		}
		if c.Nodes[i].Running() {
			return c.Nodes[i]
		}
	}
	c.t.Fatal("no other node is running")
	return nil
}

// loopback chooses addresses 127.x.y.1, .2, ... that nothing listens on.
func loopback(t testing.TB) func(i int) string {
	t.Helper()
	for range 100 {
		base := fmt.Sprintf("127.%d.%d.", 16+rand.IntN(200), rand.IntN(256))
		l, err := net.Listen("tcp", base+"1:8500")
		if err != nil {
			continue
		}
		_ = l.Close()
		return func(i int) string { return base + strconv.Itoa(i+1) }
	}
	t.Fatal("no free loopback addresses")
	return nil
}

// Context is one that ends with the test, or after d.
func Context(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
