//go:build cluster

package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// life is a key with a TTL: when its put was sent, acknowledged, and when it was
// first seen gone on any node.
type life struct {
	ttl               time.Duration
	sent, acked, gone time.Time
}

// outage is a time in which no write was taken.
type outage struct{ from, to time.Time }

// lives is what became of keys with a TTL.
type lives struct {
	mu      sync.Mutex
	of      map[string]*life
	outages []outage
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// startLives has one client on each node put keys with a TTL of up to longest, a
// hundred a second in all, and watches on all nodes when they go.
func startLives(t *testing.T, c *harness.Cluster, longest time.Duration) *lives {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &lives{of: map[string]*life{}, cancel: cancel}
	from := mustPut(t, c.Nodes[0], "ttl/first", "kept")
	for w, n := range c.Nodes {
		followWith(t, l.seen, "lives "+n.Name, "ttl/", from, n)
		l.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.put(n, fmt.Sprintf("ttl/%d/%d", w, i), 200*time.Millisecond+rand.N(longest))
				harness.Hold(ctx, 30*time.Millisecond)
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

func (l *lives) stop() {
	l.cancel()
	l.wg.Wait()
}

// put books a life if the write was acknowledged.
func (l *lives) put(n *harness.Node, key string, ttl time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	sent := time.Now()
	_, err := n.Put(ctx, key, []byte("v"), "ttl="+ttl.String())
	acked := time.Now()
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	li := l.life(key)
	li.ttl, li.sent, li.acked = ttl, sent, acked
}

func (l *lives) life(key string) *life {
	if l.of[key] == nil {
		l.of[key] = &life{}
	}
	return l.of[key]
}

// seen is told what a watcher saw.
func (l *lives) seen(c change) {
	if c.typ != "delete" {
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if li := l.life(c.key); li.gone.IsZero() {
		li.gone = now
	}
}

// out books that no write was taken from one time to another.
func (l *lives) out(from, to time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outages = append(l.outages, outage{from, to})
}

// judge waits for all keys to go and checks that none went early, nor later than
// allowed besides the outages it lived in. It prints how late they were.
func (l *lives) judge(t *testing.T, allowed time.Duration) {
	t.Helper()
	l.stop()
	harness.Eventually(t, 60*time.Second, "all keys to go", func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for key, li := range l.of {
			if li.ttl > 0 && li.gone.IsZero() {
				return fmt.Errorf("%s with ttl %s is there %s after it was acknowledged", key, li.ttl, time.Since(li.acked))
			}
		}
		return nil
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	var late, net []time.Duration
	for key, li := range l.of {
		if li.ttl == 0 {
			continue // not acknowledged
		}
		if early := li.sent.Add(li.ttl).Sub(li.gone); early > 0 {
			t.Errorf("%s with ttl %s went %s early", key, li.ttl, early)
		}
		by := li.gone.Sub(li.acked.Add(li.ttl))
		late = append(late, by)
		if by -= l.within(li); by > allowed {
			t.Errorf("%s with ttl %s went %s late, besides the outages", key, li.ttl, by)
		}
		net = append(net, by)
	}
	if len(late) == 0 {
		t.Fatal("no key was judged")
	}
	t.Logf("late:                    %s", distribution(late))
	if len(l.outages) > 0 {
		t.Logf("late besides the outages: %s", distribution(net))
	}
}

// within is how much of the outages a key lived through.
func (l *lives) within(li *life) (sum time.Duration) {
	for _, o := range l.outages {
		from, to := o.from, o.to
		if li.sent.After(from) {
			from = li.sent
		}
		if li.gone.Before(to) {
			to = li.gone
		}
		sum += max(to.Sub(from), 0)
	}
	return sum
}

func distribution(d []time.Duration) string {
	slices.Sort(d)
	at := func(p float64) time.Duration { return d[int(p*float64(len(d)-1))].Round(time.Millisecond) }
	return fmt.Sprintf("%d keys, min %s, median %s, p99 %s, max %s", len(d), at(0), at(0.5), at(0.99), at(1))
}
