//go:build cluster

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// A follower is down while so many writes pass that the log it would need is
// gone; it catches up through a snapshot and has the same state.
func TestAFollowerCatchesUpThroughASnapshot(t *testing.T) {
	writes := pick(20_000, 100_000)
	c := three(t, "KONSUL_RAFT_SNAPSHOT_THRESHOLD", "2000", "KONSUL_RAFT_TRAILING_LOGS", "500", "KONSUL_RAFT_SNAPSHOT_INTERVAL", "1s")
	follower := c.Other(c.Leader())
	mustPut(t, follower, "before", "here")
	missed, err := follower.Status(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	follower.Kill9()
	putMany(t, c, follower, writes)
	snapshotNow(t, c.Other(follower))
	if n := snapshots(t, c.Other(follower)); n == 0 {
		t.Fatal("no snapshot was taken")
	}

	began := time.Now()
	follower.Start()
	follower.WaitReady(60 * time.Second)
	d := c.SameDigest()
	t.Logf("%d writes missed from index %d; caught up in %s; %d records at index %d", writes, missed.AppliedIndex, time.Since(began).Round(time.Millisecond), d.Records, d.Index)
	if n := snapshots(t, follower); n == 0 {
		t.Error("the follower has no snapshot: it did not catch up through one")
	}
	if err := wantValue(follower, "many/0000000", value(0), 0); err != nil {
		t.Fatal(err)
	}
	olderIsCompacted(t, follower, missed.AppliedIndex)
	follower.Restart() // what came through the snapshot must be durable here
	follower.WaitReady(30 * time.Second)
	c.SameDigest()
}

// olderIsCompacted checks that a node whose history starts with an installed
// snapshot says so to a read, a wait and a watch of an older index, and where it starts.
func olderIsCompacted(t *testing.T, n *harness.Node, older uint64) {
	t.Helper()
	_, werr := n.Watch(soon(t), fmt.Sprintf("prefix=many/&from=%d", older), 0)
	_, rerr := n.Read(soon(t), "before", fmt.Sprintf("at=%d&consistency=stale", older))
	for what, err := range map[string]error{"a watch": werr, "a read": rerr} {
		e := (*harness.APIError)(nil)
		if !errors.As(err, &e) || e.Status != 410 || e.Code != "compacted" || e.OldestIndex <= older {
			t.Errorf("%s from index %d: %v, want 410 compacted with a newer oldest_index", what, older, err)
			continue
		}
		s, err := n.Watch(soon(t), fmt.Sprintf("prefix=many/&from=%d", e.OldestIndex), 0)
		if err != nil {
			t.Errorf("a watch from the oldest index %d: %v", e.OldestIndex, err)
			continue
		}
		s.Close()
	}
}

// value is large enough that the log does not stay in one segment of 64 MiB:
// what is truncated in the newest segment can still be read from it.
func value(i int) string { return fmt.Sprint("v", i, strings.Repeat(".", 6000)) }

// putMany writes n keys through the nodes that run, each a log entry of its own.
func putMany(t *testing.T, c *harness.Cluster, down *harness.Node, n int) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	const writers = 64
	for w := range writers {
		node := c.Other(down)
		wg.Go(func() {
			for i := w; i < n; i += writers {
				ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
				_, err := node.Put(ctx, fmt.Sprintf("many/%07d", i), []byte(value(i)), "")
				cancel()
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		t.Fatal(err)
	default:
	}
}

// snapshotNow asks for a snapshot on the leader.
func snapshotNow(t *testing.T, n *harness.Node) {
	t.Helper()
	a, err := n.Post(harness.Context(t, 60*time.Second), "/cluster/snapshot", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Want(200); err != nil {
		t.Fatal(err)
	}
}

// snapshots counts the finished Raft snapshots of a node on its disk.
func snapshots(t *testing.T, n *harness.Node) int {
	t.Helper()
	found := 0
	err := filepath.WalkDir(filepath.Join(n.DataDir, "snapshots"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == "meta.json" && filepath.Ext(filepath.Dir(path)) != ".tmp" {
			found++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// With tiny thresholds nodes are behind the log all the time: kills under load
// then always end in an installed snapshot, and nothing is lost by it.
func TestSnapshotsAllTheTimeUnderKills(t *testing.T) {
	c := three(t, "KONSUL_RAFT_SNAPSHOT_THRESHOLD", "50", "KONSUL_RAFT_TRAILING_LOGS", "10", "KONSUL_RAFT_SNAPSHOT_INTERVAL", "200ms")
	load := c.StartWriters("tiny", 8, 100)
	for range pick(4, 15) {
		harness.Hold(t.Context(), 500*time.Millisecond)
		n := c.Other()
		n.Kill9()
		harness.Hold(t.Context(), 500*time.Millisecond)
		n.Start()
		n.WaitReady(60 * time.Second)
	}
	load.Stop()
	load.NoWrongErrors(t)
	c.Verify(t, load.Ledger)
	killAll(t, c)
	c.Verify(t, load.Ledger)
}
