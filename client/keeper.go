package client

import (
	"context"
	"errors"
	"sync"
	"time"
)

// keeper keeps a session alive, and knows until when it can be relied on: its TTL after
// the last successful renewal was sent, on this process's monotonic clock. The cluster
// counts from when it received that, so its own deadline is never earlier. What ends the
// keeper is that time, whatever became of the requests; an answer is not needed.
type keeper struct {
	client  *Client
	id      string
	ttl     time.Duration
	trouble func(error)

	// ctx ends when the session can no longer be relied on; its cause says why.
	ctx  context.Context
	lose context.CancelCauseFunc
	done chan struct{} // closed when run has returned

	mu    sync.Mutex
	until time.Time
	timer *time.Timer // at until
}

// newKeeper creates a session and begins to renew it. ctx is for the creation only.
func (c *Client) newKeeper(ctx context.Context, spec SessionSpec, trouble func(error)) (*keeper, error) {
	sent := time.Now()
	// With the key a lost answer is asked for again, and leaves no second session behind.
	session, err := c.CreateSession(ctx, spec, IdempotencyKey(randomKey()))
	if err != nil {
		return nil, err
	}
	k := &keeper{client: c, id: session.ID, ttl: spec.TTL, trouble: trouble,
		done: make(chan struct{}), until: sent.Add(spec.TTL)}
	k.ctx, k.lose = context.WithCancelCause(context.WithoutCancel(ctx))
	k.timer = time.AfterFunc(time.Until(k.until), k.expire)
	go k.run(sent)
	return k, nil
}

// run renews at a third of the TTL, and sooner after a failure.
func (k *keeper) run(sent time.Time) {
	defer close(k.done)
	defer k.timer.Stop()
	wait := time.Until(sent.Add(k.ttl / 3))
	for failures := 0; sleep(k.ctx, wait); {
		sent = time.Now()
		// A node that hangs must leave time for the next one.
		ctx, cancel := context.WithTimeout(k.ctx, k.ttl/3)
		err := k.client.RenewSession(ctx, k.id)
		cancel()
		switch {
		case err == nil:
			k.extend(sent.Add(k.ttl))
			failures, wait = 0, time.Until(sent.Add(k.ttl/3))
		case errors.Is(err, ErrSessionNotFound):
			k.lose(err)
		case k.ctx.Err() == nil:
			k.trouble(err)
			wait = min(backoff(failures), k.ttl/10)
			failures++
		}
	}
}

func (k *keeper) extend(until time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.until = until
	k.timer.Reset(time.Until(until))
}

// expire is what the timer calls; it may have been extended meanwhile.
func (k *keeper) expire() {
	if !k.alive() {
		k.lose(errNotRenewed)
	}
}

var errNotRenewed = errors.New("its session could not be renewed in time")

// alive looks at the clock itself: after a pause of the process the timer may be late.
func (k *keeper) alive() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ctx.Err() == nil && time.Now().Before(k.until)
}

// destroy stops renewing and ends the session. Whatever the outcome is, the session does
// not outlive its TTL.
func (k *keeper) destroy(ctx context.Context) error {
	k.lose(context.Canceled)
	<-k.done
	err := insist(ctx, func() error { return k.client.DestroySession(ctx, k.id) })
	if errors.Is(err, ErrSessionNotFound) {
		return nil
	}
	return err
}

// insist repeats what is harmless to repeat while its outcome is unknown.
func insist(ctx context.Context, do func() error) error {
	for failures := 0; ; failures++ {
		err := do()
		if !errors.Is(err, ErrOutcomeUnknown) || !sleep(ctx, backoff(failures)) {
			return err
		}
	}
}
