//go:build fault

package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// The disk of one node runs full to the last byte, that of the leader and that of
// a follower: the node says disk_full, the cluster goes on, and when there is space
// again the same process has the same state as the others.
func TestDiskFullOnOneNode(t *testing.T) {
	for _, kind := range pick([]string{"xfs"}, []string{"xfs", "ext4"}) {
		t.Run(kind, func(t *testing.T) {
			small := newDisk(t, kind, 1500)
			c := harness.Start(t, harness.Options{Nodes: 3, DataDir: func(i int) string {
				if i == 0 {
					return filepath.Join(small.mount, "data")
				}
				return filepath.Join(t.TempDir(), "data")
			}})
			for round := range pick(1, 3) {
				makeLeader(t, c, c.Nodes[0])
				full(t, c, small, fmt.Sprintf("leader%d", round))
				makeLeader(t, c, c.Nodes[1])
				full(t, c, small, fmt.Sprintf("follower%d", round))
			}
			c.Nodes[0].Restart()
			c.WaitReady(60 * time.Second)
			c.SameDigest()
		})
	}
}

// A disk that has room, but no inodes for new files, is full as well.
func TestOutOfInodesOnOneNode(t *testing.T) {
	small := newDisk(t, "ext4 -N 2000", 600)
	c := harness.Start(t, harness.Options{Nodes: 3, DataDir: func(i int) string {
		if i == 0 {
			return filepath.Join(small.mount, "data")
		}
		return filepath.Join(t.TempDir(), "data")
	}})
	victim := c.Nodes[0]
	load := c.StartWriters("inodes", 8, 1024)
	harness.Hold(t.Context(), time.Second)
	dir := filepath.Join(small.mount, "files")
	must(t, os.Mkdir(dir, 0o700))
	for i := 0; ; i++ {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if errors.Is(err, syscall.ENOSPC) {
			// Raft ends the process if it cannot note down its term: one or two must be left.
			for j := range 16 {
				must(t, os.Remove(filepath.Join(dir, fmt.Sprint(i-1-j))))
			}
			break
		}
		must(t, err)
		must(t, f.Close())
	}
	harness.Eventually(t, 20*time.Second, "the full node to say disk_full", func() error { return saysDiskFull(victim) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if a, err := victim.Post(ctx, "/admin/compact", map[string]string{}); err == nil && a.Status == 200 {
		t.Errorf("it compacts, without a file for the tables: %s", a.Body)
	}
	harness.Hold(t.Context(), pick(3*time.Second, 10*time.Second))
	must(t, os.RemoveAll(dir))
	harness.Eventually(t, 30*time.Second, "the node to take writes again", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := victim.Put(ctx, "full/again", []byte("x"), "")
		return err
	})
	victim.WaitReady(30 * time.Second)
	load.Stop()
	load.NoWrongErrors(t)
	c.Verify(t, load.Ledger)
	c.SameDigest()
}

func makeLeader(t *testing.T, c *harness.Cluster, n *harness.Node) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, n.Name+" to lead", func() error {
		leader, err := c.TryLeader()
		if err == nil && leader == n {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		a, err := c.Nodes[2].Post(ctx, "/cluster/transfer", map[string]string{"to": n.ID()})
		if err == nil {
			err = a.Want(200)
		}
		return errors.Join(errors.New("not yet"), err)
	})
}

// full fills the small disk of node 1 under load, checks, and empties it again.
func full(t *testing.T, c *harness.Cluster, small *disk, name string) {
	t.Helper()
	victim, pid := c.Nodes[0], c.Nodes[0].PID()
	load := c.StartWriters("full/"+name, 8, 1024)
	harness.Hold(t.Context(), time.Second)
	ballast, err := small.fill()
	must(t, err)
	filled := time.Now()
	harness.Eventually(t, 20*time.Second, "the full node to say disk_full", func() error { return saysDiskFull(victim) })
	harness.Eventually(t, 20*time.Second, "the full node to be degraded", func() error { return degraded(victim) })
	harness.Hold(t.Context(), pick(3*time.Second, 10*time.Second))
	if gap := load.LongestGap(filled, time.Now()); gap > 5*time.Second {
		t.Errorf("%s: the cluster stood still for %s", name, gap)
	}
	must(t, os.Remove(ballast))
	harness.Eventually(t, 30*time.Second, "the node to take writes again", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := victim.Put(ctx, "full/again", []byte(name), "")
		return err
	})
	victim.WaitReady(30 * time.Second)
	load.Stop()
	load.NoWrongErrors(t)
	c.Verify(t, load.Ledger)
	if victim.PID() != pid || !victim.Running() {
		t.Errorf("%s: the process did not survive the full disk", name)
	}
}

func saysDiskFull(n *harness.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := n.Put(ctx, "full/probe", []byte("x"), "")
	if e := (*harness.APIError)(nil); errors.As(err, &e) && e.Status == 503 && e.Code == "disk_full" {
		return nil
	}
	return fmt.Errorf("a write to it: %s", fmt.Sprint(err))
}

func degraded(n *harness.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	a, err := n.Get(ctx, "/health")
	if err != nil {
		return err
	}
	var h struct{ Status string }
	if err := a.JSON(&h); err != nil {
		return err
	}
	if h.Status != "degraded" && h.Status != "unhealthy" {
		return fmt.Errorf("health is %q", h.Status)
	}
	return nil
}
