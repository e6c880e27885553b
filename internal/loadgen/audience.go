package loadgen

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/neogan74/konsul/client"
)

// audience is the watchers of a run of the watch workload. They are connected, and have
// seen the mark of the beginning, before the first write; they leave when they see the
// mark of the end.
type audience struct {
	cfg      *Config
	target   *HTTPTarget
	run      runID
	epoch    time.Time // the stamps' times are since then
	writers  []*stamper
	watchers []*watcher

	ready  chan struct{} // one for each watcher that saw the beginning
	left   chan *watcher // each watcher, when it is through
	cancel context.CancelFunc
	group  sync.WaitGroup
	events atomic.Int64 // of the run's writes, at all watchers, warm-up included

	interrupted bool
	lastErr     error
}

func newAudience(cfg *Config) *audience {
	target, _ := cfg.Target.(*HTTPTarget) // Config.Check has looked
	return &audience{cfg: cfg, target: target, run: newRunID(), epoch: time.Now(),
		ready: make(chan struct{}, cfg.Clients), left: make(chan *watcher, cfg.Clients)}
}

// writer makes a writer of a client of the store.
func (a *audience) writer(id int, worker Worker) Worker {
	s := &stamper{Worker: worker, audience: a, id: uint16(id)}
	a.writers = append(a.writers, s)
	return s
}

// start connects the watchers. After an error nothing is left running.
func (a *audience) start(ctx context.Context) error {
	ctx, a.cancel = context.WithCancel(ctx)
	err := a.begin(ctx)
	if err != nil {
		a.stop()
	}
	return err
}

func (a *audience) begin(ctx context.Context) error {
	for id := range a.cfg.Clients {
		w, err := newWatcher(a, id)
		if err != nil {
			return err
		}
		a.watchers = append(a.watchers, w)
	}
	from, err := a.watchers[0].position(ctx)
	if err != nil {
		return err
	}
	for _, w := range a.watchers {
		a.group.Go(func() {
			w.run(ctx, from)
			a.left <- w
		})
	}
	if err := a.mark(ctx, beginMark); err != nil {
		return fmt.Errorf("telling the watchers to begin: %w", err)
	}
	return a.gather(ctx)
}

// gather waits until all watchers have seen the beginning.
func (a *audience) gather(ctx context.Context) error {
	patience := time.NewTimer(a.patience())
	defer patience.Stop()
	for n := range a.watchers {
		select {
		case <-a.ready:
			patience.Reset(a.patience())
		case w := <-a.left:
			if w.err != nil {
				return w.err
			}
			return ctx.Err()
		case <-patience.C:
			return fmt.Errorf("%d of %d watchers had no event within %v", len(a.watchers)-n, len(a.watchers), a.patience())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// finish waits until everything has arrived, or nothing has for a while.
func (a *audience) finish(ctx context.Context) {
	defer a.stop()
	if ctx.Err() == nil {
		if err := a.mark(ctx, endMark); err != nil {
			a.lastErr = fmt.Errorf("telling the watchers to end: %w", err)
		} else {
			a.await(ctx)
		}
	}
	a.interrupted = ctx.Err() != nil
}

func (a *audience) await(ctx context.Context) {
	ticker := time.NewTicker(a.patience() / 10)
	defer ticker.Stop()
	events, since := a.events.Load(), time.Now()
	for n := 0; n < len(a.watchers); {
		select {
		case <-a.left:
			n++
			continue
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if now := a.events.Load(); now != events {
			events, since = now, time.Now()
		} else if time.Since(since) > a.patience() {
			return
		}
	}
}

// patience is how long to wait for a sign of life.
func (a *audience) patience() time.Duration {
	if a.target.Timeout > 0 {
		return a.target.Timeout
	}
	return defaultHTTPTimeout
}

// stop ends the watchers and waits for them.
func (a *audience) stop() {
	a.cancel()
	a.group.Wait()
	for _, w := range a.watchers {
		w.client.CloseIdleConnections()
	}
}

// mark writes a mark, and again if it failed: one of them suffices. Only called while no writer is at work.
func (a *audience) mark(ctx context.Context, which uint64) error {
	value := append([]byte(nil), newValues(a.cfg.ValueSize, a.cfg.Seed).at(0)...)
	stamp{writer: marker, seq: which, sent: time.Since(a.epoch)}.put(value, a.run)
	for begin := time.Now(); ; wait(ctx, 50*time.Millisecond) {
		err := a.writers[0].Worker.Do(ctx, &Op{Kind: Put, Value: value})
		var answered *HTTPError
		refused := errors.As(err, &answered) && answered.Status >= 400 && answered.Status < 500 && answered.Status != 429
		if err == nil || refused || ctx.Err() != nil || time.Since(begin) > a.patience() {
			return err
		}
	}
}

// watcher is one watch of all the keys.
type watcher struct {
	audience *audience
	client   *client.Client
	tally    *tally
	begun    bool // it saw the beginning
	ended    bool // it saw the end
	err      error

	resets, compactions, disconnects int64
}

// newWatcher makes the watcher with this number, from 0: they are spread over the
// addresses as the clients are.
func newWatcher(a *audience, id int) (*watcher, error) {
	addresses := a.target.Addresses
	n := id % len(addresses)
	addresses = append(append([]string(nil), addresses[n:]...), addresses[:n]...)
	c, err := client.New(client.Config{Addresses: addresses, Token: a.target.Token, Timeout: a.target.Timeout})
	if err != nil {
		return nil, err
	}
	return &watcher{audience: a, client: c, tally: newTally(len(a.writers))}, nil
}

// run is follow, for which the end of the run is no error.
func (w *watcher) run(ctx context.Context, from uint64) {
	if err := w.follow(ctx, from); err != nil && ctx.Err() == nil {
		w.err = err
	}
}

// follow watches until the end. A watch that is told that it has missed something goes on
// from the current index, as the API asks.
func (w *watcher) follow(ctx context.Context, from uint64) error {
	for {
		err := w.stream(ctx, from)
		switch {
		case err == nil:
			return nil
		case client.IsReset(err):
			w.resets++
		case client.IsCompacted(err):
			w.compactions++
		default:
			return err
		}
		wait(ctx, 10*time.Millisecond) // while data is replaced, every watch is refused
		if from, err = w.position(ctx); err != nil {
			return err
		}
		w.tally.reset(func(writer int) uint64 { return w.audience.writers[writer].sent.Load() })
	}
}

// position is the current index: whatever is sent after it returns has a higher one. A
// consumer would read the data as well; here nobody wants it.
func (w *watcher) position(ctx context.Context) (uint64, error) {
	page, err := w.client.ListKeys(ctx, client.ListOptions{Prefix: w.audience.target.Prefix, PageSize: 1})
	return page.Meta.Index, err
}

// stream watches until the end (nil), or until the watch fails.
func (w *watcher) stream(ctx context.Context, from uint64) error {
	o := client.WatchOptions{Prefix: w.audience.target.Prefix, From: from, OnDisconnect: func(error) { w.disconnects++ }}
	for event, err := range w.client.Watch(ctx, o) {
		if err != nil {
			return err
		}
		if w.take(&event); w.ended {
			return nil
		}
	}
	return ctx.Err()
}

func (w *watcher) take(event *client.Event) {
	a := w.audience
	arrived := time.Since(a.epoch)
	s, ok := stampOf(event.Entry.Value, a.run)
	switch {
	case !ok || s.writer != marker && int(s.writer) >= len(a.writers):
		w.tally.foreign++
	case s.writer != marker:
		w.tally.add(event.Index, event.Key, s, arrived)
		a.events.Add(1)
	case s.seq == endMark:
		w.ended = true
	case !w.begun:
		w.begun = true
		a.ready <- struct{}{}
	}
}
