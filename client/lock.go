package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// DefaultLockTTL is the TTL of a lock's session if LockOptions says none.
const DefaultLockTTL = 15 * time.Second

// monitorWait is how long one blocking read of a waiting or holding lock may take.
const monitorWait = time.Minute

// ErrLockLost says that the lock is no longer held, or cannot be known to be.
var ErrLockLost = errors.New("lock lost")

// LockOptions says how a key is locked; the zero value is good.
type LockOptions struct {
	// Value is written to the key with the acquisition: who holds it, for people to see.
	Value []byte
	// TTL is how long the lock outlives a holder that died; a holder that cannot renew
	// it gives up after the same time. 0 = DefaultLockTTL.
	TTL time.Duration
	// LockDelay is how long, after the holder was lost, nobody else gets the lock: time
	// for what the holder still has under way. As in SessionSpec; Unlock has none.
	LockDelay time.Duration
	// Behavior: DeleteKeys removes the key when the holder is lost.
	Behavior Behavior
	// Name of the session, for people.
	Name string
	// NoWait: fail with ErrLockHeld or ErrLockDelay instead of waiting.
	NoWait bool
	// OnWait hears, once, why the lock is not free: ErrLockHeld or ErrLockDelay. May be nil.
	OnWait func(error)
	// OnTrouble hears what goes wrong and is tried again. May be nil; it may be called
	// from another goroutine.
	OnTrouble func(error)
}

// Lock is a key held by a session of its own, which is renewed until Unlock. It ends
// before that, if it is lost: the session was destroyed or expired, the key was deleted
// or taken, or the TTL has passed since the last renewal that succeeded was sent, as
// measured here, even if nobody said no.
//
// A lock keeps others from believing that they hold it; it cannot keep a paused process
// from going on when it wakes up. What is written elsewhere under the lock should carry
// Index, and whoever receives it should refuse a smaller one than he has seen.
type Lock struct {
	// Key is what is locked, Session who holds it.
	Key, Session string
	// Index is the fencing token: it is larger for each holder than for all before.
	Index uint64

	client  *Client
	keeper  *keeper
	watched chan struct{} // closed when monitor has returned
	once    sync.Once
	unlock  error
}

// Lock acquires the key, and waits for it as long as ctx allows: ctx is for that only,
// the lock lasts until Unlock. If ctx ends first, the error is both that of ctx and,
// if the lock was taken, ErrLockHeld or ErrLockDelay.
//
//	lock, err := c.Lock(ctx, "jobs/cleanup", client.LockOptions{})
//	if err != nil {
//		return err
//	}
//	defer lock.Unlock(context.WithoutCancel(ctx))
//	return cleanup(lock.Context(ctx), lock.Index)
func (c *Client) Lock(ctx context.Context, key string, o LockOptions) (*Lock, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if o.TTL == 0 {
		o.TTL = DefaultLockTTL
	}
	if o.OnTrouble == nil {
		o.OnTrouble = func(error) {}
	}
	if o.OnWait == nil {
		o.OnWait = func(error) {}
	}
	w := &lockWait{client: c, key: key, options: o}
	held, err := w.run(ctx)
	if err != nil {
		w.giveUp(ctx)
		return nil, err
	}
	l := &Lock{Key: key, Session: w.keeper.id, Index: held.LockIndex, client: c, keeper: w.keeper, watched: make(chan struct{})}
	go l.monitor(held.ModifyIndex)
	return l, nil
}

// Lost is closed when the lock has ended: lost, or unlocked.
func (l *Lock) Lost() <-chan struct{} { return l.keeper.ctx.Done() }

// Held looks at the clock: true until the lock is lost or unlocked. It may end at any
// time after that.
func (l *Lock) Held() bool { return l.keeper.alive() }

// Err says why the lock has ended: ErrLockLost and why, context.Canceled after Unlock,
// nil while it is held.
func (l *Lock) Err() error {
	if l.Held() {
		return nil
	}
	cause := context.Cause(l.keeper.ctx)
	switch {
	case cause == nil:
		cause = errNotRenewed // the timer has not run yet
	case errors.Is(cause, context.Canceled):
		return cause
	}
	return fmt.Errorf("%w: %w", ErrLockLost, cause)
}

// Context is for the work under the lock: it ends with parent, and as soon as the lock
// has ended; then its cause is Err.
func (l *Lock) Context(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	stop := context.AfterFunc(l.keeper.ctx, func() { cancel(l.Err()) })
	context.AfterFunc(ctx, func() { stop() })
	return ctx
}

// Unlock gives the key back, without a lock delay, and destroys the session. It is
// ErrLockLost if the lock was lost before: what was done under it was not protected to
// the end. Any other error means that the lock is free only when its TTL and lock delay
// have passed. The first call decides; more of them do nothing.
func (l *Lock) Unlock(ctx context.Context) error {
	l.once.Do(func() { l.unlock = l.release(ctx) })
	return l.unlock
}

func (l *Lock) release(ctx context.Context) error {
	lost := l.Err()
	l.keeper.lose(context.Canceled)
	<-l.watched
	if lost == nil {
		tries := 0
		err := insist(ctx, func() error {
			tries++
			return l.client.Release(ctx, l.Key, l.Session)
		})
		switch {
		case err == nil:
		case tries > 1 && errors.Is(err, ErrNotHolder):
			// An earlier try has released it.
		case errors.Is(err, ErrNotHolder), errors.Is(err, ErrNotFound):
			lost = fmt.Errorf("%w: %w", ErrLockLost, err)
		default:
			_ = l.keeper.destroy(ctx) // the first failure is the one to report
			return fmt.Errorf("releasing the lock: %w", err)
		}
	}
	err := l.keeper.destroy(ctx)
	if lost != nil {
		return lost
	}
	if err != nil {
		return fmt.Errorf("destroying the lock's session: %w", err)
	}
	return nil
}

// monitor notices what renewals of the session do not: that the key was deleted, and
// that it was taken away. It also hears of a destroyed session sooner.
func (l *Lock) monitor(index uint64) {
	defer close(l.watched)
	ctx := l.keeper.ctx
	for failures := 0; ctx.Err() == nil; {
		var meta Meta
		entry, err := l.client.Get(ctx, l.Key, Wait(index, monitorWait), WithMeta(&meta))
		switch {
		case errors.Is(err, ErrNotFound):
			l.keeper.lose(errors.New("its key was deleted"))
		case err == nil && (entry.Session != l.Session || entry.LockIndex != l.Index):
			l.keeper.lose(takenBy(entry.Session))
		case err == nil:
			failures = 0
			index = max(index, meta.Index, entry.ModifyIndex)
		case ctx.Err() == nil:
			l.keeper.trouble(err)
			sleep(ctx, backoff(failures))
			failures++
		}
	}
}

func takenBy(session string) error {
	if session == "" {
		return errors.New("its session was destroyed or has expired")
	}
	return fmt.Errorf("session %s holds it now", session)
}
