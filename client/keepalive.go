package client

import (
	"context"
	"errors"
	"sync"
	"time"
)

// DefaultServiceTTL is the TTL of a service that KeepAlive registers without one.
const DefaultServiceTTL = 30 * time.Second

// KeepAliveOptions may be left out.
type KeepAliveOptions struct {
	// OnTrouble hears why a heartbeat failed and is tried again. May be nil; it is called
	// from another goroutine.
	OnTrouble func(error)
	// OnRegister hears of each registration after the first: the TTL had passed, or
	// somebody had deregistered the instance. May be nil, as above.
	OnRegister func(RegisterResult)
}

// Registration is an instance of a service that is kept alive.
type Registration struct {
	RegisterResult // the first

	client  *Client
	service Service
	options KeepAliveOptions
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{} // closed when the last heartbeat is over
	once    sync.Once
	closed  error
}

// KeepAlive registers an instance, sends its heartbeats, and registers it again when it
// was lost, until Close. When ctx ends, that is a Close with five seconds to do it in. An
// error means that it is not registered, or that nobody knows (ErrOutcomeUnknown).
// Updates of TTL checks are the caller's.
func (c *Client) KeepAlive(ctx context.Context, s Service, o KeepAliveOptions) (*Registration, error) {
	if s.TTL == 0 {
		s.TTL = DefaultServiceTTL
	}
	if o.OnTrouble == nil {
		o.OnTrouble = func(error) {}
	}
	if o.OnRegister == nil {
		o.OnRegister = func(RegisterResult) {}
	}
	sent := time.Now()
	result, err := c.Register(ctx, s)
	if err != nil {
		return nil, err
	}
	s.ID = result.ID
	r := &Registration{RegisterResult: result, client: c, service: s, options: o, done: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(ctx)
	go func() {
		r.run(sent)
		if ctx.Err() != nil {
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTime)
			defer cancel()
			_ = r.Close(bounded) // Close tells who asks
		}
	}()
	return r, nil
}

// Close ends the heartbeats and deregisters the instance. It is no error if it is gone
// already. The first call decides; more of them wait for it.
func (r *Registration) Close(ctx context.Context) error {
	r.once.Do(func() {
		r.cancel()
		<-r.done
		err := insist(ctx, func() error { return r.client.Deregister(ctx, r.Name, r.ID) })
		if !errors.Is(err, ErrNotFound) {
			r.closed = err
		}
	})
	return r.closed
}

// run sends heartbeats at a third of the TTL, and sooner after a failure.
func (r *Registration) run(sent time.Time) {
	defer close(r.done)
	every := r.service.TTL / 3
	wait := time.Until(sent.Add(every))
	for failures := 0; sleep(r.ctx, wait); {
		sent = time.Now()
		err := r.beat(every)
		switch {
		case err == nil:
			failures, wait = 0, time.Until(sent.Add(every))
		case r.ctx.Err() == nil:
			r.options.OnTrouble(err)
			wait = min(backoff(failures), every)
			failures++
		}
	}
}

// beat is one heartbeat, or a registration if that is what it takes. A node that hangs
// must leave time for the next one.
func (r *Registration) beat(within time.Duration) error {
	ctx, cancel := context.WithTimeout(r.ctx, max(within, time.Second))
	defer cancel()
	err := r.client.Heartbeat(ctx, r.Name, r.ID)
	if !errors.Is(err, ErrServiceExpired) && !errors.Is(err, ErrServiceNotFound) {
		return err
	}
	result, err := r.client.Register(ctx, r.service)
	if err == nil {
		r.options.OnRegister(result)
	}
	return err
}
