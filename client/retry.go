package client

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"math/rand/v2"
	"net/url"
	"time"
)

const (
	backoffMin = 25 * time.Millisecond
	backoffMax = time.Second
)

// retry runs try against one address after the other until it succeeds, fails for
// good, or the budget (the context, RetryTimeout) is used up.
func (c *Client) retry(ctx context.Context, req *request, try func(*url.URL) *Error) error {
	if req.keyable && req.idempotencyKey == "" && c.autoIdempotency {
		req.idempotencyKey = cryptorand.Text()
	}
	run := &attempts{client: c, req: req, at: c.current.Load()}
	for {
		if err := ctx.Err(); err != nil {
			return run.result(&Error{Code: codeUnreachable, Message: "nothing was sent", Op: -1, cause: err})
		}
		failed := try(c.addresses[int(run.at)%len(c.addresses)])
		if failed == nil {
			return nil
		}
		run.unknown = run.unknown || errors.Is(failed, ErrOutcomeUnknown)
		wait, again := run.next(ctx, failed)
		if !again {
			return run.result(failed)
		}
		if wait > 0 && c.onRetry != nil {
			c.onRetry(failed)
		}
		if !sleep(ctx, wait) {
			failed.cause = errors.Join(failed.cause, ctx.Err())
			return run.result(failed)
		}
	}
}

// attempts is the state of one call.
type attempts struct {
	client  *Client
	req     *request
	failing time.Time // since when; the first attempt's own time (a blocking read's wait) is not the budget's
	at      uint32    // which address, modulo their number
	inRound int       // addresses given up in this round
	refused int       // of those, how many accepted no connection, or will never serve again
	rounds  int
	unknown bool // an earlier attempt may have been applied
}

// next decides whether to try again after a failure, where, and how long from now.
func (a *attempts) next(ctx context.Context, failed *Error) (time.Duration, bool) {
	if a.failing.IsZero() {
		a.failing = time.Now()
	}
	elsewhere := a.aboutNode(ctx, failed)
	if elsewhere {
		a.moveOn()
	}
	if !a.mayRepeat(failed) || ctx.Err() != nil || a.client.retryTimeout == 0 {
		return 0, false
	}
	if elsewhere {
		a.inRound++
		if failed.Code == codeUnreachable || failed.removed() {
			a.refused++
		}
		if a.inRound < len(a.client.addresses) {
			return 0, a.withinBudget(ctx, 0)
		}
	}
	if a.client.failFast && a.refused == len(a.client.addresses) {
		return 0, false
	}
	a.inRound, a.refused = 0, 0
	wait := max(backoff(a.rounds), failed.RetryAfter)
	a.rounds++
	return wait, a.withinBudget(ctx, wait)
}

// mayRepeat is the rule of the package: certainly not applied, or harmless.
func (a *attempts) mayRepeat(failed *Error) bool {
	if errors.Is(failed, ErrNotApplied) {
		return true
	}
	if a.req.read {
		return failed.Code == codeConnectionLost || failed.Status >= 500
	}
	return a.req.idempotencyKey != "" && errors.Is(failed, ErrOutcomeUnknown)
}

// aboutNode: another node may well do better. A full queue is the cluster's, so asking
// elsewhere at once would only add to it; a caller who gives up says nothing about the node.
func (a *attempts) aboutNode(ctx context.Context, failed *Error) bool {
	switch {
	case errors.Is(ctx.Err(), context.Canceled), errors.Is(failed, ErrOverloaded):
		return false
	case failed.Status == 0, errors.Is(failed, ErrNotApplied):
		return true
	}
	return a.req.read && failed.Status >= 500
}

// moveOn leaves the address for everybody, unless another call has done so already.
func (a *attempts) moveOn() {
	a.client.current.CompareAndSwap(a.at, a.at+1)
	a.at++
}

func (a *attempts) withinBudget(ctx context.Context, wait time.Duration) bool {
	at := time.Now().Add(wait)
	if deadline, ok := ctx.Deadline(); ok && at.After(deadline) {
		return false
	}
	return at.Sub(a.failing) <= a.client.retryTimeout
}

// result is what the caller gets. After an attempt that may have been applied, a later
// "not applied" speaks only for itself.
func (a *attempts) result(failed *Error) error {
	if a.unknown && errors.Is(failed, ErrNotApplied) {
		return &Error{Code: codeOutcomeUnknown, Message: "an earlier attempt had no answer",
			Op: -1, Address: failed.Address, cause: failed.withoutKind(), write: true}
	}
	return failed
}

// withoutKind keeps the text and the cause but no longer matches a sentinel: the
// whole is unknown, and must not be "not applied" at the same time.
func (e *Error) withoutKind() error { return &lastAttempt{e} }

type lastAttempt struct{ last *Error }

func (l *lastAttempt) Error() string { return l.last.Error() }
func (l *lastAttempt) Unwrap() error { return l.last.cause }

// backoff grows from backoffMin to backoffMax, each with up to half of it in jitter.
func backoff(round int) time.Duration {
	d := backoffMax
	if round < 6 {
		d = min(backoffMin<<round, backoffMax)
	}
	return d/2 + rand.N(d/2+1)
}

// sleep waits, and reports whether the whole time has passed.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
