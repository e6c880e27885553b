//go:build cluster

package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// use is what must not grow.
type use struct {
	goroutines, fds int
	disk            int64
}

func measure(t *testing.T, c *harness.Cluster) []use {
	t.Helper()
	var all []use
	for _, n := range c.Nodes {
		all = append(all, use{int(n.MustMetric("go_goroutines")), n.FDs(), harness.DiskUse(t, n.DataDir)})
	}
	return all
}

// 1,000 watches that come and go, 50 changes of the leader and 20 snapshots
// leave no goroutine, no descriptor and no file behind.
func TestNothingGrows(t *testing.T) {
	c := three(t, "KONSUL_RAFT_SNAPSHOT_THRESHOLD", "1000000", "KONSUL_RAFT_SNAPSHOT_INTERVAL", "1h")
	warmUp := func() {
		watches(t, c, 30)
		transfers(t, c, 4)
		snapshotsWithWrites(t, c, 4)
	}
	warmUp()
	before := measure(t, c)
	watches(t, c, pick(300, 1000))
	transfers(t, c, pick(10, 50))
	snapshotsWithWrites(t, c, pick(6, 20))
	harness.Eventually(t, 60*time.Second, "goroutines and descriptors to go back to where they were", func() error {
		for i, now := range measure(t, c) {
			was := before[i]
			if now.goroutines > was.goroutines+10 || now.fds > was.fds+10 || now.disk > was.disk+64<<20 {
				return fmt.Errorf("%s: before %+v, now %+v", c.Nodes[i].Name, was, now)
			}
		}
		return nil
	})
	t.Logf("before %+v", before)
	t.Logf("after  %+v", measure(t, c))
}

// watches opens n watches, waits for an event on each and drops it.
func watches(t *testing.T, c *harness.Cluster, n int) {
	t.Helper()
	for i := range n {
		node := c.Nodes[i%3]
		ctx, cancel := context.WithCancel(context.Background())
		s, err := node.Watch(ctx, "prefix=grow/", 0)
		if err != nil {
			cancel()
			t.Fatal(err)
		}
		if i%10 == 0 { // the others are dropped while they wait
			mustPut(t, c.Other(node), "grow/x", fmt.Sprint(i))
			if _, err := s.Next(); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		s.Close()
	}
	for _, node := range c.Nodes {
		node.CloseIdle()
	}
}

func transfers(t *testing.T, c *harness.Cluster, n int) {
	t.Helper()
	for i := range n {
		transferTo(t, c.Nodes[i%3], c, nil)
	}
}

// snapshotsWithWrites takes n snapshots with the same few keys overwritten between them.
func snapshotsWithWrites(t *testing.T, c *harness.Cluster, n int) {
	t.Helper()
	for i := range n {
		for k := range 50 {
			mustPut(t, c.Nodes[k%3], fmt.Sprint("snap/", k), fmt.Sprint(i))
		}
		snapshotNow(t, c.Nodes[i%3])
	}
}
