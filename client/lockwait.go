package client

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"time"
)

// abandonTime bounds the cleaning up after a lock that was not got.
const abandonTime = 5 * time.Second

// lockWait is one attempt to get a lock.
type lockWait struct {
	client   *Client
	key      string
	options  LockOptions
	keeper   *keeper
	refused  error // the last answer that the lock is taken
	perhaps  bool  // the session may hold the key
	failures int
}

// run acquires the key. The first trouble is the caller's, as everywhere; once there is
// a session, it waits as long as ctx allows.
func (w *lockWait) run(ctx context.Context) (PutResult, error) {
	if err := w.newSession(ctx); err != nil {
		return PutResult{}, w.failure(ctx, err)
	}
	for {
		result, err := w.acquire(ctx)
		if err == nil && w.keeper.alive() {
			return result, nil
		}
		if !w.next(ctx, err) || ctx.Err() != nil {
			return PutResult{}, w.failure(ctx, err)
		}
	}
}

func (w *lockWait) acquire(ctx context.Context) (PutResult, error) {
	if w.keeper == nil || !w.keeper.alive() {
		if err := w.newSession(ctx); err != nil {
			return PutResult{}, err
		}
	}
	result, err := w.client.Acquire(ctx, w.key, w.options.Value, w.keeper.id)
	w.perhaps = w.perhaps || err == nil || errors.Is(err, ErrOutcomeUnknown)
	return result, err
}

// newSession also replaces a session that has ended while waiting.
func (w *lockWait) newSession(ctx context.Context) error {
	w.giveUp(ctx)
	made, err := w.client.newKeeper(ctx, SessionSpec{Name: w.options.Name, TTL: w.options.TTL,
		Behavior: w.options.Behavior, LockDelay: w.options.LockDelay}, w.options.OnTrouble)
	w.keeper = made
	return err
}

// next waits until it is worth to try again; false: it is not.
func (w *lockWait) next(ctx context.Context, err error) bool {
	var e *Error
	errors.As(err, &e)
	taken := errors.Is(err, ErrLockHeld) || errors.Is(err, ErrLockDelay)
	switch {
	case err == nil: // acquired, but the session has ended meanwhile
		return true
	case errors.Is(err, ErrSessionNotFound):
		w.keeper.lose(err)
	case taken && w.options.NoWait:
		return false
	case taken:
		if w.refused == nil {
			w.options.OnWait(err)
		}
		w.refused = err
		if errors.Is(err, ErrLockHeld) {
			w.failures = 0
			return w.untilFree(ctx, e.ModifyIndex)
		}
	case errors.Is(err, ErrNotApplied), errors.Is(err, ErrOutcomeUnknown):
		// Harmless to repeat: the holder may acquire again.
		w.options.OnTrouble(err)
	default:
		return false
	}
	w.failures++
	return sleep(ctx, max(backoff(w.failures-1), e.Wait))
}

// untilFree reads the key until nobody holds it. It returns also when the session has
// ended, for a new one is needed then; false: ctx has ended.
func (w *lockWait) untilFree(ctx context.Context, index uint64) bool {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.keeper.ctx, cancel)()
	for failures := 0; ; {
		var meta Meta
		entry, err := w.client.Get(reading, w.key, Wait(index, monitorWait), WithMeta(&meta))
		switch {
		case reading.Err() != nil:
			return ctx.Err() == nil
		case errors.Is(err, ErrNotFound), err == nil && (entry.Session == "" || entry.Session == w.keeper.id):
			return true
		case err == nil:
			failures = 0
			index = max(index, meta.Index, entry.ModifyIndex)
		default:
			w.options.OnTrouble(err)
			sleep(reading, backoff(failures))
			failures++
		}
	}
}

// failure is what the caller of Lock gets: that the lock is taken is more than that the
// time is over.
func (w *lockWait) failure(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if w.refused != nil && !w.options.NoWait {
		return &waitedInVain{refused: w.refused, ended: ctx.Err()}
	}
	if err == nil {
		return ctx.Err()
	}
	return err
}

// waitedInVain is both errors, and reads as the first.
type waitedInVain struct{ refused, ended error }

func (w *waitedInVain) Error() string   { return w.refused.Error() }
func (w *waitedInVain) Unwrap() []error { return []error{w.refused, w.ended} }

// giveUp leaves no session behind, as far as that can be had in a short time: ctx has
// probably ended, and the TTL does the rest.
func (w *lockWait) giveUp(ctx context.Context) {
	if w.keeper == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTime)
	defer cancel()
	if w.perhaps { // and then leave no lock delay
		_ = w.client.Release(ctx, w.key, w.keeper.id)
	}
	_ = w.keeper.destroy(ctx)
	w.keeper, w.perhaps = nil, false
}

func randomKey() string { return cryptorand.Text() }
