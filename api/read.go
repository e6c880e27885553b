package api

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/raftstore"
)

const (
	defaultWait = 5 * time.Minute
	maxWait     = 10 * time.Minute
)

// readRequest is how a client wants to read.
type readRequest struct {
	opts raftstore.ReadOptions
	// blocking: answer only after something newer than after has touched filter, or
	// after wait.
	blocking bool
	after    uint64
	wait     time.Duration
}

// readRequest takes the parameters that all reads have.
func (c *call) readRequest() (rr readRequest, err error) {
	if c.query.n == 0 {
		return rr, nil
	}
	if err := c.takeConsistency(&rr.opts); err != nil {
		return rr, err
	}
	at, past, err := c.query.number("at")
	if err != nil {
		return rr, err
	}
	if past && at == 0 {
		return rr, badRequest("parameter at must be an index, from 1 on")
	}
	rr.opts.At = at
	if rr.after, rr.blocking, err = c.query.number("index"); err != nil {
		return rr, err
	}
	wait, waits, err := c.query.duration("wait")
	switch {
	case err != nil:
		return rr, err
	case waits && !rr.blocking:
		return rr, badRequest("parameter wait is only for reads with index")
	case past && rr.blocking:
		return rr, badRequest("parameters at and index exclude each other: the past does not change")
	case !waits:
		wait = defaultWait
	}
	rr.wait = min(wait, maxWait)
	return rr, nil
}

func (c *call) takeConsistency(o *raftstore.ReadOptions) error {
	level, _ := c.query.text("consistency")
	switch level {
	case "", "linearizable":
	case "stale":
		o.Consistency = raftstore.Stale
	default:
		return badRequest("parameter consistency must be linearizable or stale")
	}
	bound, given, err := c.query.duration("max_stale")
	if err != nil {
		return err
	}
	if given && o.Consistency != raftstore.Stale {
		return badRequest("parameter max_stale is only for consistency=stale")
	}
	if given && bound == 0 {
		bound = 1 // 0 means no bound below; nothing is as fresh as 0
	}
	o.MaxStale = bound
	return nil
}

// view opens the version to answer from, waiting first for a change of what the
// filters name if the client wants that, and sets the headers. The caller closes it.
func (c *call) view(rr *readRequest, filters ...fsm.Filter) (View, error) {
	if rr.blocking {
		if err := c.waitChange(rr, filters); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), c.s.cfg.ReadTimeout)
	v, info, err := c.s.node.View(ctx, rr.opts)
	cancel()
	if err != nil {
		return nil, err
	}
	if rr.opts.At != 0 { // what was left then, not what is left now
		if c.now, err = v.Time(); err != nil {
			v.Close()
			return nil, err
		}
		c.nowKnown = true
	}
	c.describe(v.Index(), info.Leader)
	if rr.opts.Consistency == raftstore.Stale {
		c.w.Header()["X-Konsul-Staleness-Ms"] = []string{staleness(info.Staleness)}
	}
	return v, nil
}

// staleness is in whole milliseconds, rounded up: a bound must not be too small.
// Not known (no contact with a leader yet) is the largest number.
func staleness(d time.Duration) string {
	if d < 0 {
		return strconv.FormatInt(math.MaxInt64, 10)
	}
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	return strconv.FormatInt(int64(ms), 10)
}

// waitChange returns when something newer touched a filter, or the time is up:
// either way the current state is the answer. An index older than the history means
// that nobody can tell whether something did, so it answers at once, too.
func (c *call) waitChange(rr *readRequest, filters []fsm.Filter) error {
	leave, err := c.enterWaiting()
	if err != nil {
		return err
	}
	defer leave()
	c.patient(rr.wait)
	ctx, cancel := c.waitContext()
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, rr.wait)
	defer stop()
	err = c.waitAny(ctx, filters, rr.after)
	switch {
	case err == nil, errors.Is(err, persistence.ErrCompacted), errors.Is(err, fsm.ErrReset):
		return nil
	case c.s.draining():
		return errDraining
	case c.r.Context().Err() != nil:
		return errClientGone
	case errors.Is(err, context.DeadlineExceeded):
		return nil
	}
	return err
}

// waitAny returns as soon as one of the filters has its change; nothing is left behind.
func (c *call) waitAny(ctx context.Context, filters []fsm.Filter, after uint64) error {
	if len(filters) == 1 {
		return c.s.node.WaitChange(ctx, filters[0], after)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	node, ends := c.s.node, make(chan error, len(filters))
	var waiters sync.WaitGroup
	for _, f := range filters {
		waiters.Go(func() { ends <- node.WaitChange(ctx, f, after) })
	}
	err := <-ends
	cancel()
	waiters.Wait()
	return err
}

// waitContext ends with the client and when the server drains.
func (c *call) waitContext() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(c.r.Context())
	stop := context.AfterFunc(c.s.stopping, cancel)
	return ctx, func() { stop(); cancel() }
}

// enterWaiting moves the request from the working to the waiting ones: it holds a
// connection and little memory, so there may be many of them.
func (c *call) enterWaiting() (leave func(), err error) {
	if c.s.draining() {
		return nil, errDraining
	}
	if c.s.waiting.Add(1) > int64(c.s.cfg.MaxWaiting) {
		c.s.waiting.Add(-1)
		return nil, errTooManyWaiting
	}
	c.release()
	begin := time.Now()
	return func() {
		c.waited += time.Since(begin)
		c.s.waiting.Add(-1)
	}, nil
}

// kvGet is GET /kv/{key}.
func (c *call) kvGet() error {
	if err := checkKey("key", c.key); err != nil {
		return err
	}
	rr, err := c.readRequest()
	if err != nil {
		return err
	}
	raw, err := c.query.flag("raw")
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	v, err := c.view(&rr, fsm.Filter{Key: c.key})
	if err != nil {
		return err
	}
	defer v.Close()
	kv, err := v.KV(c.key)
	if err != nil {
		return err
	}
	if raw {
		return c.send(http.StatusOK, contentBytes, kv.Value)
	}
	c.out = c.out[:0]
	if err := c.entry(c.key, kv, c.pushJSON); err != nil {
		return err
	}
	return c.endJSON()
}
