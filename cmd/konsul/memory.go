package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

const (
	// roomyHeap is up to where garbage may be as much as what is alive, as is Go's default:
	// collections cost CPU, and a node's live heap is small most of the time.
	roomyHeap = 272 << 20
	// leastGarbage is how much garbage there may be in percent of what is alive, however
	// much that is.
	leastGarbage = 50
)

// boundGarbage keeps the heap at roomyHeap where that costs no more than a collection for
// each leastGarbage percent of what is alive. Bulk work, an import or a compaction, makes
// garbage in pieces of megabytes, which the default would let pile up to twice what is
// alive. GOGC and GOMEMLIMIT, if set, are obeyed instead.
func boundGarbage() (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	var stopped atomic.Bool
	percent := 100
	before := debug.SetGCPercent(percent)
	watchCollections(func() bool {
		if stopped.Load() {
			return false
		}
		if want := garbagePercent(liveHeap()); want != percent { // setting it stops the world
			percent = want
			debug.SetGCPercent(want)
		}
		return true
	})
	return func() {
		stopped.Store(true)
		debug.SetGCPercent(before)
	}
}

// garbagePercent is GOGC for a live heap of so many bytes, in tens.
func garbagePercent(live uint64) int {
	if live >= roomyHeap {
		return leastGarbage
	}
	return int(min(100, max(leastGarbage, (roomyHeap-live)*10/max(live, 1)*10)))
}

// liveHeap is what the last collection found alive.
func liveHeap() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}

// watchCollections calls fn after each collection until it returns false.
func watchCollections(fn func() bool) {
	type sentinel struct{ _ *byte } // of a kind that is not pooled with others
	runtime.AddCleanup(&sentinel{new(byte)}, func(struct{}) {
		if fn() {
			watchCollections(fn)
		}
	}, struct{}{})
}
