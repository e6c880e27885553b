package raftstore

import "time"

// gatherer decides whether the gate's next batch waits for those who were just
// answered. Clients that send their next write when the last is answered would
// otherwise split into two halves that take turns, each waiting for the other's batch
// and paying a whole batch's costs.
//
// It waits until three quarters of those that were there (in the batch answered, or
// waiting) are waiting, for at most as long as that batch took and never longer than
// longestWait. Writers that keep no such rhythm do not come back in time: then the next
// 1, 2, 4 ... batches do not wait.
type gatherer struct {
	// target is how many end the wait; 0 = there is none.
	target int
	// skip is how many batches still go without waiting, missed how many waits in a row
	// ended by the clock.
	skip, missed int
}

const (
	// longestWait bounds the wait for more: a batch may take seconds when its followers
	// are slow or leadership is lost.
	longestWait = 10 * time.Millisecond
	// enoughGathered is a batch whose own costs do not matter any more.
	enoughGathered = 64
	// maxMissed bounds the batches that do not wait to 2^maxMissed.
	maxMissed = 6
)

// answered is told that a batch of size proposals was answered, took after it was
// sent, when others were waiting. It returns how long to wait for more; 0 = not at all.
func (g *gatherer) answered(size, waiting int, took time.Duration) time.Duration {
	g.target = 0
	target := min((3*(size+waiting)+3)/4, enoughGathered)
	if target <= 1 || waiting >= target {
		return 0
	}
	if g.skip > 0 {
		g.skip--
		return 0
	}
	g.target = target
	return min(took, longestWait)
}

// enough reports whether a batch of waiting proposals may go.
func (g *gatherer) enough(waiting int) bool { return waiting >= g.target }

// sent is told that a batch goes; in time says that it did not go by the clock.
func (g *gatherer) sent(inTime bool) {
	if g.target == 0 {
		return
	}
	g.target = 0
	if inTime {
		g.missed = 0
		return
	}
	g.skip = 1 << g.missed
	g.missed = min(g.missed+1, maxMissed)
}
