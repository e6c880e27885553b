package persistence

import (
	"container/heap"
	"context"
	"math"
	"sync"
	"sync/atomic"
)

// Published is the newest index that readers may see.
func (db *DB) Published() uint64 { return db.gen.Load().published.Load() }

// Publish lets readers see up to index. The state machine calls it for entries
// that write nothing, and at the start; Commit does it by itself. An index that
// is not newer changes nothing.
func (db *DB) Publish(index uint64) {
	g := db.gen.Load()
	if index > g.published.Load() {
		g.published.Store(index)
		db.waiters.wake(index)
	}
}

// WaitPublished returns when index is published. It costs an atomic load if it
// is already, and otherwise wakes nobody before its time: waiters stand in a heap
// by index.
func (db *DB) WaitPublished(ctx context.Context, index uint64) error {
	if db.Published() >= index {
		return nil
	}
	w := db.waiters.add(index)
	if w == nil {
		return ErrClosed
	}
	// Published may have moved between the look and the queue.
	if db.Published() >= index {
		db.waiters.remove(w)
		return nil
	}
	select {
	case <-w.ready:
		if db.closed.Load() && db.Published() < index {
			return ErrClosed
		}
		return nil
	case <-ctx.Done():
		db.waiters.remove(w)
		return ctx.Err()
	}
}

type waiter struct {
	index uint64
	pos   int // in the heap; -1 when out
	ready chan struct{}
}

// waiters is a heap of waiters, lowest index first. lowest repeats the first
// one's index, so that publishing with nobody due takes no lock.
type waiters struct {
	lowest atomic.Uint64
	mu     sync.Mutex
	heap   waiterHeap
	closed bool
}

func (w *waiters) init() { w.lowest.Store(math.MaxUint64) }

func (w *waiters) add(index uint64) *waiter {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	x := &waiter{index: index, ready: make(chan struct{})}
	heap.Push(&w.heap, x)
	w.note()
	return x
}

func (w *waiters) remove(x *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if x.pos >= 0 {
		heap.Remove(&w.heap, x.pos)
		w.note()
	}
}

func (w *waiters) wake(index uint64) {
	if index < w.lowest.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.heap) > 0 && w.heap[0].index <= index {
		close(heap.Pop(&w.heap).(*waiter).ready)
	}
	w.note()
}

func (w *waiters) close() {
	w.wake(math.MaxUint64)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, x := range w.heap {
		x.pos = -1
		close(x.ready)
	}
	w.heap = nil
}

func (w *waiters) note() {
	if len(w.heap) == 0 {
		w.lowest.Store(math.MaxUint64)
		return
	}
	w.lowest.Store(w.heap[0].index)
}

type waiterHeap []*waiter

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].index < h[j].index }
func (h waiterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

// Push implements heap.Interface.
func (h *waiterHeap) Push(x any) {
	w := x.(*waiter)
	w.pos = len(*h)
	*h = append(*h, w)
}

// Pop implements heap.Interface.
func (h *waiterHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.pos = -1
	return w
}
