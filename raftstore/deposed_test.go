package raftstore_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// walls refuses connections between nodes, by who dials whom.
type walls struct {
	mu    sync.Mutex
	up    map[[2]string]bool // from node, to address
	conns map[[2]string][]net.Conn
}

func (w *walls) wrap(from string) func(net.Conn, string) (net.Conn, error) {
	return func(c net.Conn, to string) (net.Conn, error) {
		if to == "" {
			return c, nil
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		k := [2]string{from, to}
		if w.up[k] {
			return nil, errors.New("wall")
		}
		w.conns[k] = append(w.conns[k], c)
		return c, nil
	}
}

func (w *walls) set(up bool, from, to string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := [2]string{from, to}
	w.up[k] = up
	for _, c := range w.conns[k] {
		if up {
			_ = c.Close()
		}
	}
}

// A leader that was deposed while a follower's question waited asks the new leader, and
// answers with its own log's term of that index and its own old term. The follower, which
// has the same entry of the deposed leader, takes it for committed.
func TestADeposedLeaderDoesNotVouchForItsLog(t *testing.T) {
	w := &walls{up: map[[2]string]bool{}, conns: map[[2]string][]net.Conn{}}
	var nodes []*raftstore.Store
	var servers []raftstore.Server
	for i, id := range []string{"n1", "n2", "n3", "n4"} {
		cfg := raftstoretest.Config(t, id)
		cfg.Wrap = w.wrap(id)
		cfg.BindAddr = raftstoretest.FreeAddr(t)
		switch i {
		case 0: // it does not look at the clock while it is "paused"
			cfg.Heartbeat, cfg.Election, cfg.LeaderLease = 4*time.Second, 4*time.Second, 4*time.Second
		case 3: // it is patient
			cfg.Heartbeat, cfg.Election, cfg.LeaderLease = 20*time.Second, 20*time.Second, 20*time.Second
		}
		cfg.Registerer = prometheus.NewRegistry()
		s, err := raftstore.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, s)
		servers = append(servers, raftstore.Server{ID: id, Address: s.Addr(), Voter: i != 3}) // n4 has no vote
	}
	n1, n2, n3, n4 := nodes[0], nodes[1], nodes[2], nodes[3]
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	if err := n4.SetClusterID(raftstoretest.ClusterID); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes[:3] {
		if err := n.Bootstrap(raftstoretest.ClusterID, servers); err != nil {
			t.Fatal(err)
		}
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		raftstoretest.Eventually(t, func() error {
			if !ok() {
				return errors.New(what)
			}
			return nil
		})
	}
	put := func(n *raftstore.Store, v string) uint64 {
		t.Helper()
		res, err := n.Apply(ctx, command.Type_TYPE_TXN, raftstoretest.Set("k", v), "")
		if err != nil {
			t.Fatal(err)
		}
		return res.Index
	}
	until("a leader", func() bool { return n2.IsLeader() || n3.IsLeader() })
	for _, n := range []*raftstore.Store{n2, n3} {
		if n.IsLeader() {
			_ = n.Transfer(ctx, "n1")
		}
	}
	until("n1 leads", n1.IsLeader)
	base := put(n1, "old")
	until("all have it", func() bool {
		for _, n := range nodes {
			if n.AppliedIndex() < base {
				return false
			}
		}
		return true
	})
	oldTerm := n1.Term()

	// {n1, n4} | {n2, n3}
	wall := func(up bool, a, b *raftstore.Store) {
		w.set(up, a.NodeID(), b.Addr())
		w.set(up, b.NodeID(), a.Addr())
	}
	for _, a := range []*raftstore.Store{n1, n4} {
		for _, b := range []*raftstore.Store{n2, n3} {
			wall(true, a, b)
		}
	}
	// A batch of n1's that only n4 gets.
	data, err := command.Encode(nil, command.Type_TYPE_TXN, raftstoretest.Set("k", "never committed"))
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		n1.Raft().Apply(data, 0)
	}
	until("n4 has n1's entries", func() bool { return n4.TermOf(base+8) == oldTerm })
	until("a new leader", func() bool { return n2.IsLeader() || n3.IsLeader() })
	next := n2
	if n3.IsLeader() {
		next = n3
	}
	index := put(next, "new")
	if index > base+8 {
		t.Skipf("the new leader is at %d, n1's entries end at %d", index, base+8)
	}
	if !n1.IsLeader() {
		t.Fatal("n1 has stepped down: shows nothing")
	}

	// A round is under way at n1; n4's question waits for the next.
	go n1.ReadIndex(ctx)
	time.Sleep(300 * time.Millisecond)
	got := make(chan uint64, 1)
	go func() {
		i, err := n4.ReadIndex(ctx)
		t.Log("n4's read index:", i, err)
		got <- i
	}()
	time.Sleep(300 * time.Millisecond)
	// n1 cannot cut its log off for the moment, and hears of the new leader.
	n1.SetDiskLow(true)
	wall(false, n1, n2)
	wall(false, n1, n3)
	select {
	case <-got:
	case <-ctx.Done():
		t.Fatal("no answer")
	}
	time.Sleep(500 * time.Millisecond)
	t.Logf("committed at %d (term %d); n4: term %d, its entry there is of term %d, applied %d", index, next.Term(), n4.Term(), n4.TermOf(index), n4.AppliedIndex())
	v, err := n4.DB().View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	kv, err := v.KV([]byte("k"))
	if err != nil {
		t.Fatal(err)
	}
	if string(kv.Value) == "never committed" {
		t.Errorf("n4 applied an entry that was never committed: %q at index %d", kv.Value, v.Index())
	}
}
