// Package raftstoretest runs clusters in one process, on loopback and port 0,
// with short timeouts. Everything is cleaned up with the test.
package raftstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/raftstore"
)

// Patience is how long anything may take before a test gives up.
const Patience = 30 * time.Second

// ClusterID is the id of every cluster made here.
const ClusterID = "test-cluster"

// Cluster is a number of nodes.
type Cluster struct {
	T     testing.TB
	Nodes []*Node
}

// Node is one of them; Store is nil while it is down.
type Node struct {
	ID     string
	Config raftstore.Config
	Store  *raftstore.Store
	Reg    *prometheus.Registry

	t    testing.TB
	wire *wire
}

// Config is a node's configuration with timeouts for tests and a log that is
// shown if the test fails and KONSUL_TEST_LOG is set.
func Config(t testing.TB, id string) raftstore.Config {
	t.Helper()
	out := hclog.NewNullLogger()
	if os.Getenv("KONSUL_TEST_LOG") != "" {
		out = hclog.New(&hclog.LoggerOptions{Name: id, Level: hclog.Debug, Output: testWriter{t}})
	}
	return raftstore.Config{
		NodeID: id, DataDir: filepath.Join(t.TempDir(), id), BindAddr: "127.0.0.1:0", SyncWrites: true,
		Heartbeat: 500 * time.Millisecond, Election: 500 * time.Millisecond, LeaderLease: 500 * time.Millisecond,
		CommitTimeout: 10 * time.Millisecond, SegmentSize: 1 << 20,
		Badger: persistence.BadgerOptions{MemTableSize: 8 << 20},
		Logger: out,
		Fatal:  func(err error) { panic(fmt.Sprintf("node %s: %v", id, err)) },
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(bytes.TrimRight(b, "\n")))
	return len(b), nil
}

// New starts n voters and waits for their leader. change may adjust each
// node's configuration; i counts from 0.
func New(t testing.TB, n int, change ...func(i int, c *raftstore.Config)) *Cluster {
	t.Helper()
	c := &Cluster{T: t}
	var servers []raftstore.Server
	for i := range n {
		cfg := Config(t, fmt.Sprintf("n%d", i+1))
		cfg.BindAddr = FreeAddr(t) // the same after a restart
		for _, fn := range change {
			fn(i, &cfg)
		}
		node := Start(t, cfg)
		c.Nodes = append(c.Nodes, node)
		servers = append(servers, raftstore.Server{ID: node.ID, Address: node.Store.Addr(), Voter: true})
	}
	for _, node := range c.Nodes {
		if err := node.Store.Bootstrap(ClusterID, servers); err != nil {
			t.Fatalf("bootstrapping: %v", err)
		}
	}
	c.Leader()
	return c
}

// FreeAddr finds a port below those that the system gives to outgoing
// connections: one of these could take it while its node is stopped.
func FreeAddr(t testing.TB) string {
	t.Helper()
	var last error
	for range 100 {
		ln, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 12000+rand.N(20000)))
		if err == nil {
			defer ln.Close()
			return ln.Addr().String()
		}
		last = err
	}
	t.Fatal(last)
	return ""
}

// Start starts one node and stops it when the test ends.
func Start(t testing.TB, cfg raftstore.Config) *Node {
	t.Helper()
	n := &Node{ID: cfg.NodeID, Config: cfg, t: t, wire: newWire()}
	n.Config.Wrap = n.wire.wrap
	n.Start()
	t.Cleanup(n.Stop)
	return n
}

// Start opens the node's store.
func (n *Node) Start() {
	n.t.Helper()
	if err := n.TryStart(); err != nil {
		n.t.Fatalf("starting %s: %v", n.ID, err)
	}
}

// TryStart opens the node's store, or says why not.
func (n *Node) TryStart() error {
	n.Reg = prometheus.NewRegistry()
	cfg := n.Config
	cfg.Registerer = n.Reg
	s, err := raftstore.Open(cfg)
	if err != nil {
		return err
	}
	n.Store = s
	return nil
}

// Stop shuts the node down; a second time does nothing.
func (n *Node) Stop() {
	n.t.Helper()
	if n.Store == nil {
		return
	}
	if err := n.Store.Close(); err != nil {
		n.t.Errorf("stopping %s: %v", n.ID, err)
	}
	n.Store = nil
}

// Isolate cuts the node off the others; Rejoin puts it back.
func (n *Node) Isolate() { n.wire.setCut(true) }

// Rejoin undoes Isolate.
func (n *Node) Rejoin() { n.wire.setCut(false) }

// Vanish makes the network swallow everything from and to the node; nobody is
// told. Appear puts it back.
func (n *Node) Vanish() { n.wire.setSwallow(true) }

// Appear undoes Vanish.
func (n *Node) Appear() { n.wire.setSwallow(false) }

// Up are the nodes that run.
func (c *Cluster) Up() []*Node {
	var out []*Node
	for _, n := range c.Nodes {
		if n.Store != nil {
			out = append(out, n)
		}
	}
	return out
}

// Leader waits for a leader that is ready.
func (c *Cluster) Leader(except ...*Node) *Node {
	c.T.Helper()
	var leader *Node
	Eventually(c.T, func() error {
	nodes:
		for _, n := range c.Up() {
			for _, e := range except {
				if n == e {
					continue nodes
				}
			}
			if n.Store.IsLeader() {
				leader = n
				return nil
			}
		}
		return errors.New("no leader")
	})
	return leader
}

// Followers are the nodes that run and do not lead.
func (c *Cluster) Followers() []*Node {
	c.T.Helper()
	leader := c.Leader()
	var out []*Node
	for _, n := range c.Up() {
		if n != leader {
			out = append(out, n)
		}
	}
	return out
}

// MoveTo makes n the leader.
func (c *Cluster) MoveTo(n *Node) {
	c.T.Helper()
	Eventually(c.T, func() error {
		if n.Store.IsLeader() {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := c.Leader().Store.Transfer(ctx, n.ID); err != nil {
			return err
		}
		return errors.New("transfer has not ended")
	})
}

// Put writes a key through the node and returns the entry's index.
func (n *Node) Put(key, value string) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	res, err := n.Store.Apply(ctx, command.Type_TYPE_TXN, Set(key, value), "")
	if err != nil {
		return 0, err
	}
	return res.Index, nil
}

// MustPut is Put that cannot fail.
func (n *Node) MustPut(key, value string) uint64 {
	n.t.Helper()
	index, err := n.Put(key, value)
	if err != nil {
		n.t.Fatalf("put on %s: %v", n.ID, err)
	}
	return index
}

// Set is the command that sets one key.
func Set(key, value string) *command.Txn {
	return &command.Txn{Then: []*command.Op{{Kind: command.Op_SET, Key: []byte(key), Value: []byte(value)}}}
}

// Get reads a key through the node; "" means absent.
func (n *Node) Get(key string, o raftstore.ReadOptions) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	v, _, err := n.Store.View(ctx, o)
	if err != nil {
		return "", err
	}
	defer v.Close()
	kv, err := v.KV([]byte(key))
	if errors.Is(err, persistence.ErrKeyNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(kv.Value), nil
}

// MustGet is a linearizable Get that cannot fail.
func (n *Node) MustGet(key string) string {
	n.t.Helper()
	v, err := n.Get(key, raftstore.ReadOptions{})
	if err != nil {
		n.t.Fatalf("get on %s: %v", n.ID, err)
	}
	return v
}

// CheckEqual waits until all running nodes have what the leader has committed,
// and fails if their states differ.
func (c *Cluster) CheckEqual() {
	c.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	index, err := c.Leader().Store.ReadIndex(ctx)
	if err != nil {
		c.T.Fatalf("read index: %v", err)
	}
	var want [32]byte
	for i, n := range c.Up() {
		if err := n.Store.DB().WaitPublished(ctx, index); err != nil {
			c.T.Fatalf("%s did not get to index %d: %v", n.ID, index, err)
		}
		sum, records, err := n.Store.DB().Digest(ctx, index)
		if err != nil {
			c.T.Fatalf("digest of %s: %v", n.ID, err)
		}
		if i == 0 {
			want = sum
		} else if sum != want {
			c.T.Errorf("%s differs from %s at index %d (%d records)", n.ID, c.Up()[0].ID, index, records)
		}
	}
}

// Eventually tries fn until it returns nil.
func Eventually(t testing.TB, fn func() error) {
	t.Helper()
	deadline := time.Now().Add(Patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := fn()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("gave up after %s: %v", Patience, err)
		}
		<-tick.C
	}
}
