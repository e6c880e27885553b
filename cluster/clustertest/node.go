package clustertest

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/cluster"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// Node is one node. Its exported settings may be changed while it is stopped.
type Node struct {
	Dir       string
	API, Raft string // addresses, kept over restarts
	Expect    int
	Join      []string

	// Store and Manager are nil while the node is stopped.
	Store   *raftstore.Store
	Manager *cluster.Manager

	t    testing.TB
	opts Options
	http *http.Server
	stop context.CancelFunc
	done chan error
}

// Start starts the node and returns when its API answers.
func (n *Node) Start() {
	n.t.Helper()
	log := hclog.New(&hclog.LoggerOptions{Name: n.API, Level: n.opts.Log})
	sc := raftstore.Config{
		DataDir: n.Dir, BindAddr: n.Raft, Badger: persistence.DefaultBadgerOptions(), SegmentSize: 1 << 20,
		Heartbeat: 300 * time.Millisecond, Election: 300 * time.Millisecond, LeaderLease: 300 * time.Millisecond,
		CommitTimeout: 10 * time.Millisecond, Logger: log, Registerer: prometheus.NewRegistry(),
		Fatal: func(err error) { panic(err) },
	}
	sc.Badger.MemTableSize = 8 << 20
	if n.opts.Store != nil {
		n.opts.Store(&sc)
	}
	store, err := raftstore.Open(sc)
	if err != nil {
		n.t.Fatalf("opening node: %v", err)
	}
	cc := cluster.Config{
		NodeID: store.NodeID(), RaftAddr: n.Raft, APIAddr: n.API, DataDir: n.Dir,
		BootstrapExpect: n.Expect, Join: n.Join, Logger: log,
	}
	if n.opts.Cluster != nil {
		n.opts.Cluster(&cc)
	}
	n.Store, n.Manager = store, cluster.New(cc, store)
	ctx, cancel := context.WithCancel(context.Background())
	n.stop, n.done = cancel, make(chan error, 1)
	go func(m *cluster.Manager, done chan<- error) { done <- m.Run(ctx) }(n.Manager, n.done)
	n.serve()
}

func (n *Node) serve() {
	n.t.Helper()
	n.http = &http.Server{Handler: Mux(n.Manager), ReadHeaderTimeout: 5 * time.Second}
	ln, err := net.Listen("tcp", n.API)
	if err != nil {
		n.t.Fatal(err) // Stop, a cleanup, closes the store
	}
	go func(s *http.Server) { _ = s.Serve(ln) }(n.http)
}

// Stop stops the node as a terminated process would. Twice is fine.
func (n *Node) Stop() {
	if n.Store == nil {
		return
	}
	n.stop()
	if err := <-n.done; err != nil {
		n.t.Errorf("running node %s: %v", n.API, err)
	}
	if err := n.http.Close(); err != nil {
		n.t.Errorf("closing API of node %s: %v", n.API, err)
	}
	if err := n.Store.Close(); err != nil {
		n.t.Errorf("closing node %s: %v", n.API, err)
	}
	n.Store, n.Manager = nil, nil
}

// Wipe clears the data directory of a stopped node.
func (n *Node) Wipe() { n.t.Helper(); clear(n.t, n.Dir) }

// Move gives a stopped node another Raft address and another API address.
func (n *Node) Move() {
	n.t.Helper()
	n.Raft, n.API = raftstoretest.FreeAddr(n.t), raftstoretest.FreeAddr(n.t)
}

// ID is the running node's id.
func (n *Node) ID() string { return n.Store.NodeID() }

// Put writes a key through this node and returns the index.
func (n *Node) Put(ctx context.Context, key, value string) (uint64, error) {
	txn := &command.Txn{Then: []*command.Op{{Kind: command.Op_SET, Key: []byte(key), Value: []byte(value)}}}
	r, err := n.Store.Apply(ctx, command.Type_TYPE_TXN, txn, "")
	if err != nil {
		return 0, err
	}
	return r.Index, nil
}

// MustPut is Put for a cluster that must take it.
func (n *Node) MustPut(key, value string) uint64 {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	i, err := n.Put(ctx, key, value)
	if err != nil {
		n.t.Fatalf("putting %s: %v", key, err)
	}
	return i
}

// Value reads a key from this node, linearizably.
func (n *Node) Value(key string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, _, err := n.Store.View(ctx, raftstore.ReadOptions{})
	if err != nil {
		return "", err
	}
	defer v.Close()
	kv, err := v.KV([]byte(key))
	if err != nil {
		return "", err
	}
	return string(kv.Value), nil
}

// Mux is the part of the HTTP API that nodes use of one another.
func Mux(m *cluster.Manager) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /cluster/status", func(w http.ResponseWriter, r *http.Request) { answer(w, m.Status(r.Context()), nil) })
	mux.HandleFunc("POST /cluster/join", func(w http.ResponseWriter, r *http.Request) {
		var req cluster.JoinRequest
		if decode(w, r, &req) {
			resp, err := m.Join(r.Context(), req)
			answer(w, resp, err)
		}
	})
	mux.HandleFunc("POST /cluster/bootstrap", func(w http.ResponseWriter, r *http.Request) {
		var req cluster.BootstrapRequest
		if decode(w, r, &req) {
			resp, err := m.Bootstrap(r.Context(), req)
			answer(w, resp, err)
		}
	})
	return mux
}

func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		answer(w, nil, &cluster.InvalidError{Field: "body", Why: err.Error()})
		return false
	}
	return true
}

// answer writes v, or an error as package api does, but for the status, which
// only has to be one.
func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		v = map[string]string{"error": err.Error(), "code": code(err)}
	}
	_ = json.NewEncoder(w).Encode(v)
}

// code: api folds two errors into one.
func code(err error) string {
	if errors.Is(err, raftstore.ErrNotLeader) {
		return "no_leader"
	}
	return cluster.Code(err)
}
