package raftstore

import (
	"testing"
	"time"
)

func TestClusterClock(t *testing.T) {
	now := time.Now()
	c := newClusterClock(func() time.Time { return now })
	if _, ok := c.at(3); ok {
		t.Fatal("a time before any office")
	}
	c.begin(3, 1000)
	now = now.Add(50)
	if at, ok := c.at(3); !ok || at != 1050 {
		t.Fatalf("%d, %v", at, ok)
	}
	for _, term := range []uint64{0, 2, 4} {
		if _, ok := c.at(term); ok {
			t.Errorf("term %d has the clock of term 3", term)
		}
	}
	now = now.Add(-time.Hour) // no monotonic clock does that
	if at, _ := c.at(3); at != 1000 {
		t.Errorf("the clock went back to %d", at)
	}
	c.begin(7, 2000)
	if at, ok := c.at(7); !ok || at != 2000 {
		t.Errorf("%d, %v", at, ok)
	}
}

func TestRetryPauseIsBounded(t *testing.T) {
	last := time.Duration(0)
	for failures := 1; failures < 100; failures++ {
		p := retryPause(failures)
		if p < last || p > tickRetryMax || p < tickRetry {
			t.Fatalf("pause %s after %d failures", p, failures)
		}
		last = p
	}
}
