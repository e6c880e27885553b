//go:build fault

package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
	"github.com/neogan74/konsul/test/linear"
)

// cuts are the ways to break the network around the leader l; f and g are the others.
var cuts = map[string]func(w *network, l, f, g int){
	"the leader alone":                   func(w *network, l, _, _ int) { w.isolate(l) },
	"a follower alone":                   func(w *network, _, f, _ int) { w.isolate(f) },
	"the leader hears nobody":            func(w *network, l, f, g int) { w.deafen(l, f); w.deafen(l, g) },
	"nobody hears the leader":            func(w *network, l, f, g int) { w.deafen(f, l); w.deafen(g, l) },
	"one link of the leader":             func(w *network, l, f, _ int) { w.deafen(l, f); w.deafen(f, l) },
	"one link of the leader, one way":    func(w *network, l, f, _ int) { w.deafen(f, l) },
	"a follower hears only the follower": func(w *network, l, f, g int) { w.deafen(f, l); w.deafen(g, f) },
}

// Reads and writes through all nodes, also the one that is cut off, are
// linearizable; when the network is whole again all nodes have the same state.
func TestLinearizableUnderPartitions(t *testing.T) {
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t, 3)
			c := harness.Start(t, w.options())
			stop := linear.Run(t, c, linear.Default())
			for range pick(2, 6) {
				harness.Hold(t.Context(), time.Duration(300+rand.IntN(700))*time.Millisecond)
				l, f, g := roles(c)
				cut(w, l, f, g)
				harness.Hold(t.Context(), time.Duration(1000+rand.IntN(4000))*time.Millisecond)
				w.heal()
				recovers(t, c)
			}
			stop().Check(t)
			c.SameDigest()
		})
	}
}

// roles returns the numbers of the leader and of the others.
func roles(c *harness.Cluster) (l, f, g int) {
	leader := c.Leader()
	for i, n := range c.Nodes {
		if n == leader {
			l = i
		}
	}
	f, g = (l+1)%3, (l+2)%3
	if rand.IntN(2) == 0 {
		f, g = g, f
	}
	return l, f, g
}

// recovers checks that every node takes writes soon after the network is whole.
func recovers(t *testing.T, c *harness.Cluster) {
	t.Helper()
	for _, n := range c.Nodes {
		harness.Eventually(t, 15*time.Second, n.Name+" to take a write after the partition", func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			_, err := n.Put(ctx, "healed", []byte(n.Name), "")
			return err
		})
	}
}

// While the leader is cut off the others go on within a few seconds, and no write is lost.
func TestWritesGoOnBesideAnIsolatedLeader(t *testing.T) {
	w := newNetwork(t, 3)
	c := harness.Start(t, w.options())
	load := c.StartWriters("isolated", 12, 128)
	for round := range pick(2, 8) {
		harness.Hold(t.Context(), time.Second)
		l, _, _ := roles(c)
		c.Nodes[l].MarkDown()
		cutAt := time.Now()
		w.isolate(l)
		harness.Eventually(t, 15*time.Second, "a write beside the isolated leader", func() error {
			if load.Gap(cutAt.Add(time.Second)) > time.Hour { // what is acknowledged later than a second after the cut
				return fmt.Errorf("none yet")
			}
			return nil
		})
		t.Logf("round %d: longest time without a write %s", round+1, load.LongestGap(cutAt, time.Now()).Round(time.Millisecond))
		w.heal()
		c.Nodes[l].WaitReady(30 * time.Second)
		recovers(t, c)
	}
	load.Stop()
	load.NoWrongErrors(t)
	c.Verify(t, load.Ledger)
}
