//go:build cluster

package cluster

import (
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// resumeWithin is how long writes may stand still after the leader was killed.
const resumeWithin = 3 * time.Second

// The leader is killed with -9 five times in a row under 16 writers on all
// nodes; then all three at once.
func TestLeaderKilledFiveTimesUnderLoad(t *testing.T) {
	c := three(t)
	load := c.StartWriters("kill", 16, 256)
	for round := range 5 {
		harness.Hold(t.Context(), pick(1500*time.Millisecond, 4*time.Second))
		leader := c.Leader()
		killed := time.Now()
		leader.Kill9()
		harness.Eventually(t, 20*time.Second, "a write after the kill", func() error {
			return since(load, killed)
		})
		gap := load.Gap(killed)
		t.Logf("round %d: %s killed; writes resumed after %s", round+1, leader.Name, gap.Round(time.Millisecond))
		if gap > resumeWithin {
			t.Errorf("round %d: writes resumed after %s, allowed are %s", round+1, gap, resumeWithin)
		}
		leader.Start()
		leader.WaitReady(30 * time.Second)
	}
	load.Stop()
	load.NoWrongErrors(t)
	c.Verify(t, load.Ledger)
	killAll(t, c)
	c.Verify(t, load.Ledger)
}

// All three are killed at once under load, several times.
func TestAllKilledAtOnceUnderLoad(t *testing.T) {
	c := three(t)
	load := c.StartWriters("all", 16, 256)
	for range pick(2, 6) {
		harness.Hold(t.Context(), 2*time.Second)
		killAll(t, c)
	}
	load.Stop()
	load.NoWrongErrors(t)
	c.Verify(t, load.Ledger)
}

// killAll kills every node as nearly at once as can be and starts them again.
func killAll(t *testing.T, c *harness.Cluster) {
	t.Helper()
	done := make(chan error, len(c.Nodes))
	for _, n := range c.Nodes {
		go func() { done <- n.TryKill9() }()
	}
	for range c.Nodes {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range c.Nodes {
		n.Start()
	}
	c.WaitReady(60 * time.Second)
}

func since(load *harness.Load, when time.Time) error {
	if load.Gap(when) > time.Hour {
		return errNone
	}
	return nil
}
