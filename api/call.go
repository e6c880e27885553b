package api

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"
)

// keepBuffer is the largest buffer, in bytes, that goes back to the pool.
const keepBuffer = 64 << 10

// call is one request on its way through. Calls are pooled: nothing of one may be
// kept after its handler has returned.
type call struct {
	s     *Server
	route *route
	w     http.ResponseWriter
	r     *http.Request

	key   []byte // of /kv/{key}, decoded
	query query
	body  []byte // what readBody read
	out   []byte // the answer so far

	// now is the cluster time that expires_in is counted from, once it is known.
	now      int64
	nowKnown bool

	status  int           // sent; 0 = nothing yet
	waited  time.Duration // spent waiting for a change, not working
	counted bool          // in Server.inFlight
}

// run serves one request: admission, handler, errors, panics, metrics.
func (s *Server) run(rt *route, w http.ResponseWriter, r *http.Request, key string) {
	begin := time.Now()
	c := s.calls.Get().(*call)
	c.s, c.route, c.w, c.r = s, rt, w, r
	c.key = append(c.key[:0], key...)
	defer c.finish(begin)
	if err := c.serve(); err != nil {
		c.fail(err)
	}
}

func (c *call) serve() error {
	if !c.admit() {
		return errTooManyRequests
	}
	if err := crossOrigin.Check(c.r); err != nil {
		return errCrossOrigin
	}
	if err := c.query.parse(c.r.URL.RawQuery); err != nil {
		return err
	}
	return c.route.serve(c)
}

// crossOrigin refuses writes that a browser sends for a page from elsewhere: a
// node on a developer's machine has no other guard against them.
var crossOrigin http.CrossOriginProtection

// admit counts the request and refuses it if too many are being worked on.
func (c *call) admit() bool {
	if c.route.exempt {
		return true
	}
	c.counted = true
	return c.s.inFlight.Add(1) <= int64(c.s.cfg.MaxInFlight)
}

// release ends the request's claim to be worked on, for the time it waits.
func (c *call) release() {
	if c.counted {
		c.s.inFlight.Add(-1)
		c.counted = false
	}
}

// finish runs deferred: it is also where a panic ends up.
func (c *call) finish(begin time.Time) {
	p := recover()
	if p != nil && p != http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http does
		c.s.log.Error("request panicked", "method", c.r.Method, "path", c.r.URL.Path,
			"panic", p, "stack", string(debug.Stack()))
		if c.status == 0 {
			c.out = c.out[:0]
			c.fail(errPanic)
			p = nil
		}
	}
	c.release()
	c.route.metrics.observe(c.status, time.Since(begin)-c.waited)
	c.recycle()
	if p != nil {
		panic(http.ErrAbortHandler) // the answer is cut: the connection must be, too
	}
}

func (c *call) recycle() {
	s := c.s
	fresh := call{key: c.key[:0], body: small(c.body), out: small(c.out)}
	*c = fresh
	s.calls.Put(c)
}

func small(b []byte) []byte {
	if cap(b) > keepBuffer {
		return nil
	}
	return b[:0]
}

// Header values that never change: shared, so that setting one allocates nothing.
var (
	contentJSON   = []string{"application/json"}
	contentBytes  = []string{"application/octet-stream"}
	contentEvents = []string{"text/event-stream"}
	noCache       = []string{"no-cache"}
)

// json sends c.out as the whole answer.
func (c *call) json(status int) error {
	c.out = append(c.out, '\n')
	return c.send(status, contentJSON, c.out)
}

// send writes a whole answer. An error of the connection is nobody's to see.
func (c *call) send(status int, contentType []string, body []byte) error {
	h := c.w.Header()
	h["Content-Type"] = contentType
	if len(body) > 1024 { // net/http counts the small ones itself
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	c.status = status
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body)
	return nil
}

// fail answers with an error, or cuts the connection if an answer has begun: the
// client must not take a part for the whole.
func (c *call) fail(err error) {
	if c.status != 0 {
		if !errors.Is(err, errClientGone) {
			c.s.log.Warn("answer cut short", "method", c.r.Method, "path", c.r.URL.Path, "error", err)
		}
		panic(http.ErrAbortHandler)
	}
	f := c.failure(err)
	if f.status == http.StatusInternalServerError && !errors.Is(err, errPanic) {
		c.s.log.Error("request failed", "method", c.r.Method, "path", c.r.URL.Path, "error", err)
	}
	h := c.w.Header()
	if f.retryAfter > 0 {
		h["Retry-After"] = []string{strconv.Itoa(f.retryAfter)}
	}
	if f.allow != "" {
		h["Allow"] = []string{f.allow}
	}
	c.out = f.appendJSON(c.out[:0])
	_ = c.json(f.status)
}

// describe sets the headers that every read and write has.
func (c *call) describe(index uint64, leader string) {
	h := c.w.Header()
	h["X-Konsul-Index"] = []string{strconv.FormatUint(index, 10)}
	h["X-Konsul-Node"] = c.s.nodeHeader
	if value := c.s.leaderValue(leader); value != nil {
		h["X-Konsul-Leader"] = value
	}
}

// patient takes the listener's deadlines off a request that may wait long: d from
// now the answer must be on its way.
func (c *call) patient(d time.Duration) {
	rc := http.NewResponseController(c.w)
	// A writer without deadlines (a test's recorder) has none to move.
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Now().Add(d + writeTimeout))
}

var errPanic = fmt.Errorf("handler panicked")
