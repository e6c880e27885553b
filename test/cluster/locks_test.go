//go:build cluster

package cluster

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
	"github.com/neogan74/konsul/test/locks"
)

// A lock is never held by two at once, while nodes are killed, paused and made to hand
// over the leadership, and holders vanish without a word.
func TestLocksUnderFaults(t *testing.T) {
	c := three(t)
	load := locks.Default()
	stop := locks.Run(t, c, load)
	begin := time.Now()
	for end := begin.Add(pick(12*time.Second, 10*time.Minute)); time.Now().Before(end); {
		harness.Hold(t.Context(), time.Duration(500+rand.IntN(2000))*time.Millisecond)
		anyFault(t, c)
	}
	c.WaitReady(30 * time.Second)
	took := time.Since(begin)
	stop().Check(t, int(took/(3*time.Second)))
	locks.Settled(t, c, load)
	c.SameDigest()
}
