package raftstore

import (
	"testing"
	"time"
)

func TestGatherer(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name          string
		size, waiting int
		took, wait    time.Duration
		target        int
	}{
		{"who is alone does not wait", 1, 0, 2 * ms, 0, 0},
		{"of two, one waits for the other", 1, 1, 2 * ms, 2 * ms, 2},
		{"two halves become one", 32, 32, 3 * ms, 3 * ms, 48},
		{"when most are there already they go", 10, 30, 3 * ms, 0, 0},
		{"a large batch is large enough", 100, 64, 3 * ms, 0, 0},
		{"but not one that a few are left over from", 200, 6, 3 * ms, 3 * ms, enoughGathered},
		{"a batch that took long is not waited for as long", 16, 1, time.Minute, longestWait, 13},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var g gatherer
			if wait := g.answered(tt.size, tt.waiting, tt.took); wait != tt.wait || g.target != tt.target {
				t.Errorf("wait %v for %d, want %v for %d", wait, g.target, tt.wait, tt.target)
			}
			if tt.target > 0 && (g.enough(tt.target-1) || !g.enough(tt.target)) {
				t.Errorf("not enough at its target, or before")
			}
			if tt.wait == 0 && !g.enough(0) {
				t.Error("what does not wait is not let through")
			}
		})
	}
}

// Writers that do not come back in time are waited for less and less often.
func TestGathererGivesUp(t *testing.T) {
	var g gatherer
	waits := func(batches int) (n int) {
		for range batches {
			if g.answered(10, 5, time.Millisecond) > 0 {
				n++
				g.sent(false)
			} else {
				g.sent(true)
			}
		}
		return n
	}
	if n := waits(1000); n > 25 {
		t.Errorf("waited in vain %d times in 1,000 batches", n)
	}
	for g.answered(10, 5, time.Millisecond) == 0 {
		g.sent(true)
	}
	g.sent(true) // in time
	if n := waits(3); n != 2 {
		t.Errorf("after writers came back in time: %d waits in 3 batches, want 2", n)
	}
}
