package raftstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// What a paused leader sees when it goes on: acknowledgements of heartbeats sent
// before the pause lie in its sockets; meanwhile the others have elected another
// leader and taken a write. Such an acknowledgement must not confirm a read that
// begins now. raft.VerifyLeader takes it for a confirmation: the second test
// shows that this situation is really brought about.
func TestOldAcknowledgementsDoNotConfirmARead(t *testing.T) {
	value, err := readAfterPause(t, false)
	if err == nil {
		t.Fatalf("a deposed leader answered a linearizable read with %q", value)
	}
	if !errors.Is(err, raftstore.ErrNotReady) && !errors.Is(err, raftstore.ErrNotLeader) && !errors.Is(err, raftstore.ErrNoLeader) {
		t.Fatalf("unexpected error: %v", err)
	}
}

func TestVerifyLeaderAloneIsFooled(t *testing.T) {
	value, err := readAfterPause(t, true)
	if err != nil || value != "old" {
		t.Fatalf("the situation was not brought about: value %q, error %v", value, err)
	}
}

// readAfterPause returns what the paused leader reads of a key that was "old"
// before the pause and is "new" at the other nodes.
func readAfterPause(t *testing.T, trustVerifyLeader bool) (string, error) {
	t.Helper()
	c := raftstoretest.New(t, 3, func(i int, cfg *raftstore.Config) {
		if i == 0 { // it does not look at the clock during the "pause"
			cfg.Heartbeat, cfg.Election, cfg.LeaderLease = 20*time.Second, 20*time.Second, 20*time.Second
			cfg.ElectionWait = time.Millisecond
			if trustVerifyLeader {
				cfg.TrustVerifyLeader()
			}
		}
	})
	old := c.Nodes[0]
	c.MoveTo(old)
	old.MustPut("k", "old")

	held, release := make(chan string, 8), make(chan struct{})
	old.Store.HoldHeartbeats(func(peer string) {
		held <- peer
		<-release
	})
	// Both followers have acknowledged a heartbeat, and the leader does not know it yet.
	for seen := map[string]bool{}; len(seen) < 2; {
		select {
		case peer := <-held:
			seen[peer] = true
		case <-time.After(raftstoretest.Patience):
			t.Fatal("no heartbeat")
		}
	}
	old.Isolate()
	c.Leader(old).MustPut("k", "new")
	if !old.Store.IsLeader() {
		t.Fatal("the paused leader has stepped down: the test shows nothing")
	}

	type answer struct {
		value string
		err   error
	}
	got := make(chan answer, 1)
	before := old.Store.RoundsBegun()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	go func() {
		v, err := getWith(ctx, old, "k")
		got <- answer{v, err}
	}()
	// The read has begun once a verification is waiting for a vote; only then the
	// old acknowledgements arrive.
	raftstoretest.Eventually(t, func() error {
		if old.Store.RoundsBegun() == before {
			return errors.New("the read has not begun")
		}
		return nil
	})
	old.Store.WaitMainLoop()
	close(release)
	old.Store.HoldHeartbeats(nil)
	a := <-got
	old.Rejoin()
	raftstoretest.Eventually(t, func() error { // or it would try to hand over what it has lost
		if old.Store.IsLeader() {
			return errors.New("it has not heard of its deposition")
		}
		return nil
	})
	old.Stop() // before the others: it is slow to notice when it is alone
	return a.value, a.err
}

func getWith(ctx context.Context, n *raftstoretest.Node, key string) (string, error) {
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
