package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/neogan74/konsul/fsm"
)

// watchRequest is what GET /watch asks for.
type watchRequest struct {
	filter fsm.Filter
	prev   bool
	from   uint64
	known  bool // from was given
}

// watch is GET /watch.
func (c *call) watch() error {
	wr, err := c.takeWatch()
	if err != nil {
		return err
	}
	leave, err := c.enterWaiting()
	if err != nil {
		return err
	}
	defer leave()
	c.s.watchers.Add(1)
	defer c.s.watchers.Add(-1)
	if err := c.watchStart(wr); err != nil {
		return err
	}
	sub, err := c.s.node.Subscribe(wr.filter, wr.from)
	if err != nil {
		return err
	}
	defer sub.Close()
	ctx, cancel := c.waitContext()
	defer cancel()
	s := &eventStream{c: c, rc: http.NewResponseController(c.w), prev: wr.prev, complete: wr.from}
	s.run(ctx, sub)
	return nil
}

// takeWatch takes the parameters. Last-Event-ID wins over from: a browser that
// reconnects repeats the address it was given at first.
func (c *call) takeWatch() (*watchRequest, error) {
	wr := new(watchRequest)
	var err error
	if wr.filter, err = c.takeFilter(); err != nil {
		return nil, err
	}
	if wr.prev, err = c.query.flag("prev"); err != nil {
		return nil, err
	}
	if wr.from, wr.known, err = c.query.number("from"); err != nil {
		return nil, err
	}
	if err := c.query.done(); err != nil {
		return nil, err
	}
	if id := c.r.Header.Get("Last-Event-ID"); id != "" {
		if wr.from, err = strconv.ParseUint(id, 10, 64); err != nil {
			return nil, badRequest("Last-Event-ID must be an index")
		}
		wr.known = true
	}
	return wr, nil
}

// takeFilter takes what to watch.
func (c *call) takeFilter() (f fsm.Filter, err error) {
	key, byKey := c.query.text("key")
	prefix, byPrefix := c.query.text("prefix")
	service, byService := c.query.text("service")
	services, err := c.query.flag("services")
	if err != nil {
		return f, err
	}
	given := 0
	for _, by := range []bool{byKey, byPrefix, byService, services} {
		if by {
			given++
		}
	}
	if given != 1 {
		return f, badRequest("exactly one of the parameters key, prefix, service and services is required")
	}
	switch {
	case byKey:
		f.Key = []byte(key)
		return f, checkKey("parameter key", f.Key)
	case byPrefix:
		f.Prefix = []byte(prefix)
		return f, checkKeyLen("parameter prefix", len(prefix))
	case byService:
		f.Service = service
		return f, checkName("parameter service", service)
	}
	f.Services = true
	return f, nil
}

// watchStart finds out where the watch starts: now, which is an index at or beyond
// every write acknowledged so far, or the index given, which may be ahead of this
// node but not of the cluster.
func (c *call) watchStart(wr *watchRequest) error {
	if !wr.known || wr.from > c.s.node.Published() {
		ctx, cancel := context.WithTimeout(c.r.Context(), c.s.cfg.ReadTimeout)
		now, err := c.s.node.ReadIndex(ctx)
		cancel()
		switch {
		case err != nil:
			return err
		case !wr.known:
			wr.from = now
		case wr.from > now:
			f := badRequest("index %d is newer than the newest, %d", wr.from, now)
			f.numbers = []number{{"newest_index", now}}
			return f
		}
	}
	leader, _, _ := c.s.node.Leader()
	c.describe(wr.from, leader)
	return nil
}

// eventStream writes Server-Sent Events (https://html.spec.whatwg.org/#server-sent-events).
type eventStream struct {
	c    *call
	rc   *http.ResponseController
	prev bool
	// complete is the index up to which the client has everything, sent the last one
	// it was told.
	complete, sent uint64
	past           View // of index pastAt, for previous values
	pastAt         uint64
}

// run sends until the client goes or reads too slowly, the server drains, or the
// history is left behind. The last two end with an event that says so; a client that
// is gone needs no answer, so there is no error to return.
func (s *eventStream) run(ctx context.Context, sub Subscription) {
	c := s.c
	c.patient(0)
	c.w.Header()["Cache-Control"] = noCache
	c.w.Header()["X-Accel-Buffering"] = []string{"no"}
	c.begin(contentEvents)
	s.progress("watching")
	for s.flush() == nil {
		wait, cancel := context.WithTimeout(ctx, c.s.cfg.Keepalive)
		events, complete, err := sub.Next(wait)
		cancel()
		switch {
		case err == nil:
			s.complete = complete
			if s.events(events) != nil {
				return
			}
		case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
			s.complete = sub.Progress()
			s.progress("alive")
		case c.r.Context().Err() != nil:
			return
		case ctx.Err() != nil:
			s.end(errDraining)
			return
		default:
			s.end(err)
			return
		}
	}
}

// progress is a comment and, if it has moved, the index to resume from: an id
// without data sets Last-Event-ID and raises no event.
func (s *eventStream) progress(comment string) {
	out := append(s.c.out, ": "...)
	out = append(append(out, comment...), '\n')
	if s.complete != s.sent {
		out = append(strconv.AppendUint(append(out, "id: "...), s.complete, 10), '\n')
		s.sent = s.complete
	}
	s.c.out = append(out, '\n')
}

// events writes whole indexes.
func (s *eventStream) events(events []fsm.Event) error {
	defer s.forget()
	s.c.nowKnown = false
	for i := range events {
		if err := s.event(&events[i]); err != nil {
			return err
		}
		if len(s.c.out) >= chunk {
			if err := s.c.writeOut(); err != nil {
				return err
			}
		}
	}
	return nil
}

// put appends what was put: an entry or an instance.
func (s *eventStream) put(e *fsm.Event) error {
	if isService(e) {
		s.c.appendServiceEvent(e.Service)
		return nil
	}
	return s.c.entry(e.Key, e.Record, s.c.writeOut)
}

func (s *eventStream) event(e *fsm.Event) error {
	c := s.c
	c.out = strconv.AppendUint(append(c.out, "id: "...), e.Index, 10)
	s.sent = e.Index
	if !e.Deleted {
		c.out = append(c.out, "\nevent: put\ndata: "...)
		if err := s.put(e); err != nil {
			return err
		}
		c.out = append(c.out, "\n\n"...)
		return nil
	}
	c.out = append(c.out, "\nevent: delete\ndata: {"...)
	if isService(e) {
		c.out = appendString(c.out, `"name":`, e.Name)
		c.out = appendString(c.out, `,"id":`, e.ID)
	} else {
		c.out = appendKey(c.out, e.Key)
	}
	c.out = appendUint(c.out, `,"index":`, e.Index)
	c.out = appendUint(c.out, `,"modify_index":`, e.Index)
	if s.prev {
		if err := s.previous(e); err != nil {
			return err
		}
	}
	c.out = append(c.out, "}\n\n"...)
	return nil
}

// previous appends the entry before a delete, if the history still has it.
func (s *eventStream) previous(e *fsm.Event) error {
	c := s.c
	c.out = append(c.out, `,"prev":`...)
	if v := s.before(e.Index); v != nil {
		if !isService(e) {
			if kv, err := v.KV(e.Key); err == nil {
				return c.entry(e.Key, kv, c.writeOut)
			}
		} else if old := serviceAt(v, e.Name, e.ID); old != nil {
			c.appendServiceEvent(old)
			return nil
		}
	}
	c.out = append(c.out, "null"...)
	return nil
}

// before is the state before an index, nil if the history no longer has it. It stays
// open for further events of the index.
func (s *eventStream) before(index uint64) View {
	if s.past == nil || s.pastAt != index-1 {
		s.forget()
		v, err := s.c.s.node.ViewAt(index - 1)
		if err != nil {
			return nil
		}
		s.past, s.pastAt = v, index-1
	}
	return s.past
}

func (s *eventStream) forget() {
	if s.past != nil {
		s.past.Close()
		s.past = nil
	}
}

// flush sends everything gathered so far, and gives back a large buffer: most
// watches are idle most of the time.
func (s *eventStream) flush() error {
	if len(s.c.out) > 0 {
		if err := s.c.writeOut(); err != nil {
			return err
		}
	}
	if cap(s.c.out) > 1024 {
		s.c.out = nil
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(s.c.s.cfg.SendTimeout))
	return s.rc.Flush()
}

// end tells why the stream ends.
func (s *eventStream) end(err error) {
	f := s.c.failure(err)
	if f.status == http.StatusInternalServerError {
		s.c.s.log.Error("watch failed", "error", err)
	}
	s.c.out = f.appendJSON(append(s.c.out, "event: error\ndata: "...))
	s.c.out = append(s.c.out, "\n\n"...)
	_ = s.flush()
}
