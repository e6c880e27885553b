package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGarbagePercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 100, 1 << 20: 100, 136 << 20: 100, 160 << 20: 70, 200 << 20: 50, 272 << 20: 50, 4 << 30: 50} {
		require.Equal(t, want, garbagePercent(live), "live %d MiB", live>>20)
	}
}

// The percentage follows what is alive, after each collection, and goes back.
func TestBoundGarbageFollowsTheHeap(t *testing.T) {
	t.Setenv("GOGC", "") // the test's own environment must not decide
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	stop := boundGarbage()
	now := func() int { p := debug.SetGCPercent(100); debug.SetGCPercent(p); return p }
	big := make([]byte, 300<<20)
	for i := 0; i < len(big); i += 4096 {
		big[i] = 1
	}
	require.Eventually(t, func() bool { runtime.GC(); return now() == leastGarbage }, 10*time.Second, 10*time.Millisecond)
	runtime.KeepAlive(big) // and no longer
	require.Eventually(t, func() bool { runtime.GC(); return now() == 100 }, 10*time.Second, 10*time.Millisecond)
	stop()
	require.Equal(t, 100, now())
}
