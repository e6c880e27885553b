package raftstore

import (
	"context"
	"sync"
	"time"
)

// rounds shares read rounds between readers: while one is under way, everybody
// who comes waits for the next. One round at a time therefore serves any number
// of readers, each with a round that began after it asked.
type rounds struct {
	// exec runs one round and returns the read index.
	exec func(ctx context.Context) (uint64, error)
	// done is told how many readers a round served and how long it took.
	done func(readers int, took time.Duration, err error)
	stop <-chan struct{}

	mu      sync.Mutex
	next    *round
	running bool
}

// round is one round and those who wait for it.
type round struct {
	readers int
	ended   chan struct{}
	index   uint64
	err     error
}

func newRounds(s *Store) *rounds {
	return &rounds{exec: s.readRound, done: s.metrics.round, stop: s.closing}
}

// wait returns the index of a round that began after the call.
func (r *rounds) wait(ctx context.Context) (uint64, error) {
	r.mu.Lock()
	if r.next == nil {
		r.next = &round{ended: make(chan struct{})}
	}
	rd := r.next
	rd.readers++
	if !r.running {
		r.running = true
		go r.run()
	}
	r.mu.Unlock()
	select {
	case <-rd.ended:
		return rd.index, rd.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run works until nobody waits.
func (r *rounds) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		select {
		case <-r.stop:
			cancel()
		case <-stopped:
		}
	}()
	for {
		r.mu.Lock()
		rd := r.next
		r.next = nil
		if rd == nil {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		start := time.Now()
		rd.index, rd.err = r.exec(ctx)
		r.done(rd.readers, time.Since(start), rd.err)
		close(rd.ended)
	}
}

// busy reports whether a round is under way.
func (r *rounds) busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}
