package persistence

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// eventually polls until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func TestWaitPublished(t *testing.T) {
	db := openTest(t, Options{InMemory: true, Badger: small})
	const n = 3000
	var returned [n + 1]atomic.Bool
	var wg sync.WaitGroup
	for i := 1; i <= n; i++ {
		wg.Go(func() {
			if err := db.WaitPublished(context.Background(), uint64(i)); err != nil {
				t.Error(err)
			}
			if got := db.Published(); got < uint64(i) {
				t.Errorf("returned at %d, wanted %d", got, i)
			}
			returned[i].Store(true)
		})
	}
	waiting := func() int {
		db.waiters.mu.Lock()
		defer db.waiters.mu.Unlock()
		return len(db.waiters.heap)
	}
	eventually(t, "all wait", func() bool { return waiting() == n })
	db.Publish(n / 2)
	eventually(t, "half of them go on", func() bool { return waiting() == n/2 })
	for i := n/2 + 1; i <= n; i++ {
		if returned[i].Load() {
			t.Fatalf("%d returned too early", i)
		}
	}
	db.Publish(n / 3) // older: nothing
	if db.Published() != n/2 {
		t.Fatal("published went back")
	}
	for i := uint64(n / 2); i <= n; i += 1 + rand.Uint64N(20) {
		db.Publish(i)
	}
	db.Publish(n)
	wg.Wait()
}

func TestWaitPublishedGivesUp(t *testing.T) {
	db := openTest(t, Options{InMemory: true, Badger: small})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- db.WaitPublished(ctx, 5) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if len(db.waiters.heap) != 0 {
		t.Fatal("a waiter that gave up is still in the queue")
	}
	go func() { done <- db.WaitPublished(context.Background(), 5) }()
	eventually(t, "it waits", func() bool { return db.waiters.lowest.Load() == 5 })
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if err := db.WaitPublished(context.Background(), 5); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func BenchmarkWaitPublished(b *testing.B) {
	db := openTest(b, Options{InMemory: true, Badger: small})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 5000 { // waiting for what never comes costs the others nothing
		wg.Go(func() { _ = db.WaitPublished(ctx, 1<<62) })
	}
	b.ResetTimer()
	for i := range b.N {
		db.Publish(uint64(i + 1))
		if err := db.WaitPublished(ctx, uint64(i+1)); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	cancel()
	wg.Wait()
}
