package cluster

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// progress logs what a waiting node waits for: at once when it changes, and
// again once per interval while it stays the same. So a retry loop is neither
// silent nor a flood.
type progress struct {
	log   hclog.Logger
	every time.Duration

	mu   sync.Mutex
	last map[string]said
}

type said struct {
	text string
	at   time.Time
}

func newProgress(log hclog.Logger, every time.Duration) *progress {
	return &progress{log: log, every: every, last: map[string]said{}}
}

// say logs text for a topic.
func (p *progress) say(level hclog.Level, topic, text string, args ...any) {
	p.sayEvery(p.every, level, topic, text, args...)
}

// sayEvery is say with another interval.
func (p *progress) sayEvery(every time.Duration, level hclog.Level, topic, text string, args ...any) {
	p.mu.Lock()
	was, now := p.last[topic], time.Now()
	repeat := was.text == text && now.Sub(was.at) < every
	if !repeat {
		p.last[topic] = said{text, now}
	}
	p.mu.Unlock()
	if !repeat {
		p.log.Log(level, text, args...)
	}
}

// backoff doubles from min to max; each pause is a random half to all of it, so
// that nodes started together do not stay in step.
type backoff struct {
	min, max, next time.Duration
}

func (b *backoff) wait(ctx context.Context) error { return b.waitOr(ctx, nil) }

// waitOr is wait that ends early when the channel is closed.
func (b *backoff) waitOr(ctx context.Context, early <-chan struct{}) error {
	if b.next == 0 {
		b.next = b.min
	}
	d := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, b.max)
	return pauseOr(ctx, d, early, nil)
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error { return pauseOr(ctx, d, nil, nil) }

// pauseOr is pause that ends early, without an error, when one of the channels
// is closed or has something. Either may be nil.
func pauseOr(ctx context.Context, d time.Duration, early, also <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-early:
	case <-also:
	case <-t.C:
	}
	return nil
}
