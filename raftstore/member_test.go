package raftstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func joiner(t *testing.T, id, clusterID string) *raftstoretest.Node {
	t.Helper()
	cfg := raftstoretest.Config(t, id)
	n := raftstoretest.Start(t, cfg)
	if err := n.Store.SetClusterID(clusterID); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestJoinPromoteRemove(t *testing.T) {
	c := raftstoretest.New(t, 3)
	c.Leader().MustPut("a", "1")
	n := joiner(t, "n4", raftstoretest.ClusterID)
	ctx := within(t, raftstoretest.Patience)
	leader := c.Leader()
	if err := leader.Store.AddNonvoter(ctx, n.ID, n.Store.Addr()); err != nil {
		t.Fatal(err)
	}
	raftstoretest.Eventually(t, func() error { return n.Store.Ready(ctx) })
	if err := leader.Store.Promote(ctx, n.ID); err != nil {
		t.Fatal(err)
	}
	n.MustPut("b", "2")
	if got := n.MustGet("a"); got != "1" {
		t.Fatalf("the new node read %q", got)
	}
	if n.Store.Removed() {
		t.Fatal("a node that has joined takes itself for removed")
	}
	if err := leader.Store.RemoveServer(ctx, n.ID); err != nil {
		t.Fatal(err)
	}
	wantRemoved(t, n)
	if got, err := n.Get("b", raftstore.ReadOptions{Consistency: raftstore.Stale}); err != nil || got != "2" {
		t.Errorf("a stale read of a removed node: %q, %v", got, err)
	}
	n.Stop()
	n.Start()
	wantRemoved(t, n)
}

func wantRemoved(t *testing.T, n *raftstoretest.Node) {
	t.Helper()
	raftstoretest.Eventually(t, func() error {
		_, err := n.Store.ReadIndex(within(t, time.Second))
		if !errors.Is(err, raftstore.ErrRemoved) {
			return errors.Join(errors.New("a removed node does not say so"), err)
		}
		return nil
	})
	if _, err := n.Put("x", "y"); !errors.Is(err, raftstore.ErrRemoved) {
		t.Errorf("a write on a removed node: %v", err)
	}
}

// A node that is away while it is removed hears nothing of it: the others do
// not talk to it any more. It has to ask.
func TestRemovedWhileAway(t *testing.T) {
	c := raftstoretest.New(t, 3)
	away := c.Followers()[0]
	away.Isolate()
	if err := c.Leader(away).Store.RemoveServer(within(t, raftstoretest.Patience), away.ID); err != nil {
		t.Fatal(err)
	}
	away.Rejoin()
	wantRemoved(t, away)
}

func TestLeaderRemovesItself(t *testing.T) {
	c := raftstoretest.New(t, 3)
	old := c.Leader()
	if err := old.Store.RemoveServer(within(t, raftstoretest.Patience), old.ID); err != nil {
		t.Fatal(err)
	}
	wantRemoved(t, old)
	c.Leader(old).MustPut("a", "1")
}

func TestForeignNodeIsKeptOut(t *testing.T) {
	c := raftstoretest.New(t, 1)
	n := joiner(t, "stranger", "another-cluster")
	leader := c.Leader()
	if err := leader.Store.AddNonvoter(within(t, raftstoretest.Patience), n.ID, n.Store.Addr()); err != nil {
		t.Fatal(err)
	}
	leader.MustPut("a", "1")
	if got := n.Store.Term(); got != 0 {
		t.Fatalf("a node of another cluster took term %d", got)
	}
}

func TestFullDisk(t *testing.T) {
	c := raftstoretest.New(t, 3)
	c.Leader().MustPut("a", "1")

	t.Run("on a follower", func(t *testing.T) {
		n := c.Followers()[0]
		n.Store.SetDiskFull(true)
		if _, err := n.Put("a", "2"); !errors.Is(err, raftstore.ErrDiskFull) || !raftstore.NotApplied(err) {
			t.Errorf("a write on it: %v", err)
		}
		c.Leader().MustPut("a", "3")
		if got := c.Leader().MustGet("a"); got != "3" {
			t.Errorf("the leader read %q", got)
		}
		if _, err := n.Get("a", raftstore.ReadOptions{}); !errors.Is(err, raftstore.ErrDiskFull) {
			t.Errorf("a linearizable read on it: %v", err)
		}
		n.Store.SetDiskFull(false)
		if got := n.MustGet("a"); got != "3" {
			t.Errorf("afterwards it read %q", got)
		}
	})
	t.Run("on the leader", func(t *testing.T) {
		old := c.Leader()
		old.Store.SetDiskFull(true)
		c.Leader(old).MustPut("a", "4")
		if old.Store.IsLeader() {
			t.Error("it leads still")
		}
		old.Store.SetDiskFull(false)
		if got := old.MustGet("a"); got != "4" {
			t.Errorf("afterwards it read %q", got)
		}
	})
	c.CheckEqual()
}

func TestHangingDiskCostsTheLeadership(t *testing.T) {
	c := raftstoretest.New(t, 3, func(_ int, cfg *raftstore.Config) { cfg.StallTimeout = 100 * time.Millisecond })
	old := c.Leader()
	release, ended := make(chan struct{}), make(chan struct{})
	old.Store.GateSync(func() { <-release })
	go func() {
		defer close(ended)
		_, _ = old.Put("hangs", "1") // nobody can know what becomes of it
	}()
	c.Leader(old).MustPut("a", "1")
	if len(old.Store.Health()) == 0 {
		t.Error("it says it is well")
	}
	close(release)
	<-ended
	if got := old.MustGet("a"); got != "1" {
		t.Errorf("afterwards it read %q", got)
	}
}

func TestStaleness(t *testing.T) {
	c := raftstoretest.New(t, 3)
	c.Leader().MustPut("a", "1")
	c.CheckEqual()
	stale := raftstore.ReadOptions{Consistency: raftstore.Stale}
	for _, n := range c.Nodes {
		raftstoretest.Eventually(t, func() error {
			v, info, err := n.Store.View(within(t, time.Second), stale)
			if err != nil {
				return err
			}
			v.Close()
			if info.Staleness < 0 || info.Staleness > time.Second {
				return fmt.Errorf("%s says it is %s stale", n.ID, info.Staleness)
			}
			return nil
		})
	}
	away := c.Followers()[0]
	away.Isolate()
	raftstoretest.Eventually(t, func() error {
		v, info, err := away.Store.View(within(t, time.Second), stale)
		if err != nil {
			return err
		}
		v.Close()
		if info.Staleness < 300*time.Millisecond {
			return fmt.Errorf("only %s stale", info.Staleness)
		}
		return nil
	})
	stale.MaxStale = 200 * time.Millisecond
	if _, _, err := away.Store.View(within(t, 300*time.Millisecond), stale); err == nil {
		t.Error("it read beyond its bound")
	}
}

// A follower that is thousands of entries behind hears of the newest all the same.
func TestWhatWasNotReceivedIsNotFresh(t *testing.T) {
	n := raftstoretest.Start(t, raftstoretest.Config(t, "alone"))
	n.Store.Heard(100)
	if got := n.Store.Staleness(); got >= 0 {
		t.Errorf("without any entry it says it is %s stale", got)
	}
}

// A paused follower wakes up to old messages that look new. What bounds a read is
// what it asked for itself.
func TestABoundedReadProvesItsBound(t *testing.T) {
	c := raftstoretest.New(t, 3)
	c.Leader().MustPut("a", "1")
	n := c.Followers()[0]
	bounded := raftstore.ReadOptions{Consistency: raftstore.Stale, MaxStale: time.Hour}
	raftstoretest.Eventually(t, func() error { // the round proves the reads that follow
		_, err := n.Get("a", bounded)
		return err
	})
	n.Isolate()
	if got, err := n.Get("a", bounded); err != nil || got != "1" {
		t.Errorf("within an hour of the proof it read %q, %v", got, err)
	}
	bounded.MaxStale = time.Nanosecond
	n.Store.Heard(n.Store.CommitIndex())
	if v, _, err := n.Store.View(within(t, 300*time.Millisecond), bounded); err == nil {
		v.Close()
		t.Error("it took the leader's word for its own proof")
	}
}

func TestMetrics(t *testing.T) {
	c := raftstoretest.New(t, 3)
	c.Leader().MustPut("a", "1")
	c.Leader().MustGet("a")
	families, err := c.Leader().Reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range families {
		have[f.GetName()] = true
	}
	for _, name := range []string{
		"konsul_raft_state", "konsul_raft_term", "konsul_raft_commit_index", "konsul_raft_applied_index",
		"konsul_raft_log_append_seconds", "konsul_raft_proposals_total", "konsul_raft_read_rounds_total",
		"konsul_raft_last_contact_seconds", "konsul_raft_peer_contact_seconds", "konsul_raft_leader_changes_total",
	} {
		if !have[name] {
			t.Errorf("no metric %s", name)
		}
	}
}
