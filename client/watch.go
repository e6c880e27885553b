package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// silence is how long a stream may be without a sign of life: the server sends a
// comment every 15 s.
const silence = 45 * time.Second

// WatchOptions says what to watch.
type WatchOptions struct {
	// Key watches one key; Service the instances of one service; Services those of all.
	// Otherwise Prefix is watched, and if that is empty every key.
	Key, Prefix string
	Service     string
	Services    bool
	// From: changes with an index greater than this; 0 = from now on.
	From uint64
	// Previous asks for the value before a delete.
	Previous bool
	// OnDisconnect hears why a stream ended, or could not be resumed yet. May be nil.
	OnDisconnect func(error)
}

// EventType is put or delete.
type EventType string

// The types of events.
const (
	EventPut    EventType = "put"
	EventDelete EventType = "delete"
)

// Event is one change of one key, or of one instance of a service.
type Event struct {
	Type  EventType
	Index uint64 // of the log entry that made the change
	// Key is the key; of a service the name and id, as in "web/web-1".
	Key string
	// Instance is the new instance of a put; of a delete only Name and ID are set. nil in
	// a watch of keys.
	Instance *Instance
	// Entry is the new entry of a put; of a delete only its Key is set.
	Entry Entry
	// Previous is the value before a delete, if it was asked for.
	Previous []byte
}

// Watch yields changes in the order of their indexes, and of the keys within one index,
// each exactly once, until the context ends or the loop breaks. When the connection is
// lost it goes on where it was, at the next address if need be, and tries that until
// the context ends. An error ends it: ErrCompacted if the history no longer reaches
// back (also for a consumer that is too slow), ErrReset if the data was replaced, a
// first connection that cannot be made, the context's error.
func (c *Client) Watch(ctx context.Context, o WatchOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := &watcher{client: c, options: o, complete: o.From, known: o.From > 0, yield: yield}
		if err := w.run(ctx); err != nil && !w.stopped {
			yield(Event{}, err)
		}
	}
}

// watcher is one Watch. Its position is exact in the middle of an index too:
// everything up to complete was yielded, and of the index current everything up to
// the key last. A resumed stream starts after complete and skips what was yielded.
type watcher struct {
	client   *Client
	options  WatchOptions
	complete uint64
	known    bool // complete means something
	current  uint64
	last     string
	yield    func(Event, error) bool
	stopped  bool // the consumer broke off
	failures int  // connections in a row that gave nothing
}

func (w *watcher) run(ctx context.Context) error {
	for connected := false; ; {
		err := w.connection(ctx, connected)
		if w.stopped {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var lost *streamLost
		if !errors.As(err, &lost) {
			if !connected || !resumable(err) {
				return err
			}
		} else {
			connected = true
		}
		if w.options.OnDisconnect != nil {
			w.options.OnDisconnect(err)
		}
		if !sleep(ctx, backoff(w.failures)) {
			return ctx.Err()
		}
		w.failures++
	}
}

// resumable: a resumed stream waits for the cluster to come back; only an answer that
// the same request would get again ends it.
func resumable(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Status == 0 && e.Code == codeUnreachable || e.Code == codeConnectionLost ||
		e.Status >= 500 || errors.Is(e, ErrNotApplied))
}

// streamLost is the end of a stream that can be resumed.
type streamLost struct{ cause error }

func (s *streamLost) Error() string { return "watch interrupted: " + s.cause.Error() }
func (s *streamLost) Unwrap() error { return s.cause }

// connection opens one stream and yields from it until it ends.
func (w *watcher) connection(ctx context.Context, resumed bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var resp *http.Response
	err := w.client.retry(ctx, w.request(resumed), func(address *url.URL) *Error {
		opened, failed := w.open(ctx, address, resumed)
		resp = opened
		return failed
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return w.consume(ctx, cancel, resp)
}

func (w *watcher) open(ctx context.Context, address *url.URL, resumed bool) (*http.Response, *Error) {
	req := w.request(resumed)
	// Only the headers are bounded in time, so the attempt's context must outlive them.
	timer := (*time.Timer)(nil)
	open, cancel := context.WithCancelCause(ctx)
	if w.client.timeout > 0 {
		timer = time.AfterFunc(w.client.timeout, func() { cancel(context.DeadlineExceeded) })
	}
	resp, failed := w.client.send(open, address, req)
	if timer != nil && !timer.Stop() && failed == nil {
		resp.Body.Close()
		failed = transportError(address, req, true, context.DeadlineExceeded)
	}
	if failed != nil {
		cancel(nil)
		return nil, failed
	}
	if resp.StatusCode != http.StatusOK {
		defer cancel(nil)
		defer resp.Body.Close()
		_, failed = readAnswer(resp, address, req)
		if failed == nil {
			failed = &Error{Status: resp.StatusCode, Code: "http_" + strconv.Itoa(resp.StatusCode), Op: -1, Message: "the answer is not an event stream"}
		}
		return nil, failed
	}
	context.AfterFunc(ctx, func() { cancel(nil) })
	return resp, nil
}

func (w *watcher) request(resumed bool) *request {
	req := &request{method: http.MethodGet, path: "/watch", read: true,
		header: http.Header{"Accept": {"text/event-stream"}}}
	switch {
	case w.options.Key != "":
		req.set("key", w.options.Key)
	case w.options.Service != "":
		req.set("service", w.options.Service)
	case w.options.Services:
		req.set("services", "true")
	default:
		req.set("prefix", w.options.Prefix)
	}
	if w.options.Previous {
		req.set("prev", "true")
	}
	switch {
	case resumed && w.known:
		req.header.Set("Last-Event-ID", strconv.FormatUint(w.complete, 10))
	case w.known:
		req.setUint("from", w.complete)
	}
	return req
}

// consume reads one stream. It returns *streamLost where the stream can be resumed.
func (w *watcher) consume(ctx context.Context, cancel context.CancelCauseFunc, resp *http.Response) error {
	if start := metaOf(resp.Header).Index; !w.known && start > 0 {
		w.complete, w.known = start, true
	}
	quiet := time.AfterFunc(silence, func() { cancel(errors.New("no sign of life from the node")) })
	defer quiet.Stop()
	frames := &frameReader{r: bufio.NewReader(resp.Body), alive: func() { quiet.Reset(silence) }}
	var fr frame
	for {
		if err := frames.next(&fr); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return &streamLost{err}
		}
		w.failures = 0
		// A consumer may take its time; that is not the node's silence.
		quiet.Stop()
		if err := w.frame(&fr); err != nil || w.stopped {
			return err
		}
		quiet.Reset(silence)
	}
}

func (w *watcher) frame(fr *frame) error {
	if fr.event == "error" {
		return w.errorFrame(fr)
	}
	index, err := strconv.ParseUint(fr.id, 10, 64)
	if err != nil {
		if !fr.hasData {
			return nil
		}
		return fmt.Errorf("watching: the server sent an event with the id %q", fr.id)
	}
	if !fr.hasData {
		w.progress(index)
		return nil
	}
	decode := decodeEvent
	if w.options.Service != "" || w.options.Services {
		decode = decodeServiceEvent
	}
	event, err := decode(fr, index)
	if err != nil {
		return fmt.Errorf("watching: decoding an event of index %d: %w", index, err)
	}
	if w.options.Key != "" {
		event.Key, event.Entry.Key = w.options.Key, w.options.Key
	}
	w.deliver(event)
	return nil
}

// progress: the server has nothing more up to and including index.
func (w *watcher) progress(index uint64) {
	if index > w.complete || !w.known {
		w.complete, w.known = index, true
	}
}

// deliver yields an event unless it was yielded before the stream was resumed.
func (w *watcher) deliver(event Event) {
	seen := event.Index < w.current || event.Index == w.current && event.Key <= w.last
	if w.known && event.Index <= w.complete || w.current > 0 && seen {
		return
	}
	// The first event of an index completes all before it.
	w.progress(event.Index - 1)
	w.current, w.last = event.Index, event.Key
	w.stopped = !w.yield(event, nil)
}

// errorFrame is the server's last word on a stream.
func (w *watcher) errorFrame(fr *frame) error {
	e := decodeError(0, nil, fr.data)
	if e.Code == "http_0" {
		return &streamLost{errors.New("the server ended it: " + string(fr.data))}
	}
	if resumable(e) {
		return &streamLost{e}
	}
	return e
}

func decodeEvent(fr *frame, index uint64) (Event, error) {
	event := Event{Type: EventType(fr.event), Index: index}
	var previous struct {
		Prev *Entry `json:"prev"`
	}
	if err := json.Unmarshal(fr.data, &event.Entry); err != nil {
		return event, err
	}
	event.Key = event.Entry.Key
	switch event.Type {
	case EventPut:
	case EventDelete:
		if err := json.Unmarshal(fr.data, &previous); err != nil {
			return event, err
		}
		if previous.Prev != nil {
			event.Previous = previous.Prev.Value
		}
		event.Entry = Entry{Key: event.Key}
	default:
		return event, fmt.Errorf("unknown kind of event %q", fr.event)
	}
	return event, nil
}

// decodeServiceEvent is decodeEvent for a watch of services.
func decodeServiceEvent(fr *frame, index uint64) (Event, error) {
	event := Event{Type: EventType(fr.event), Index: index, Instance: new(Instance)}
	if event.Type != EventPut && event.Type != EventDelete {
		return event, fmt.Errorf("unknown kind of event %q", fr.event)
	}
	err := json.Unmarshal(fr.data, event.Instance)
	event.Key = event.Instance.Name + "/" + event.Instance.ID
	return event, err
}
