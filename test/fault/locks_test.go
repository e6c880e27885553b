//go:build fault

package fault

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
	"github.com/neogan74/konsul/test/locks"
)

// A lock is never held by two at once, whoever is cut off from whom: all nodes are asked
// all the time, also one that leads nobody any more.
func TestLocksUnderPartitions(t *testing.T) {
	w := newNetwork(t, 3)
	c := harness.Start(t, w.options())
	load := locks.Default()
	stop := locks.Run(t, c, load)
	names := slices.Sorted(maps.Keys(cuts))
	begin := time.Now()
	for end := begin.Add(pick(25*time.Second, 10*time.Minute)); time.Now().Before(end); {
		harness.Hold(t.Context(), time.Duration(300+rand.IntN(1500))*time.Millisecond)
		l, f, g := roles(c)
		cuts[names[rand.IntN(len(names))]](w, l, f, g)
		harness.Hold(t.Context(), time.Duration(500+rand.IntN(4000))*time.Millisecond)
		w.heal()
		recovers(t, c)
	}
	took := time.Since(begin)
	stop().Check(t, int(took/(3*time.Second)))
	locks.Settled(t, c, load)
	c.SameDigest()
}
