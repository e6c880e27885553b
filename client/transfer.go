package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Conflict is what an import does with a key or a service that exists.
type Conflict string

// The values of Conflict.
const (
	Overwrite      Conflict = "overwrite" // it is replaced
	Skip           Conflict = "skip"      // it stays as it is
	FailOnConflict Conflict = "fail"      // the import ends with ErrCASConflict
)

// ExportOptions narrows an export.
type ExportOptions struct {
	// Prefix of the keys; empty = all keys, and all services.
	Prefix string
}

// ImportOptions says how to import.
type ImportOptions struct {
	// Prefix: only keys that begin with it are imported, and no services. Empty = everything.
	Prefix string
	// OnConflict; empty = Overwrite.
	OnConflict Conflict
	// DryRun checks everything and changes nothing.
	DryRun bool
}

// ImportResult is what an import did, or in a dry run would have done.
type ImportResult struct {
	Keys     uint64 `json:"kv"`
	Services uint64 `json:"services"`
	// Skipped are the keys and services that existed, with Skip.
	Skipped uint64 `json:"skipped"`
}

// Export writes everything, or the keys with a prefix, to w as one JSON document at one
// version, as it arrives, and says how many bytes that was. It is sent again only as long
// as nothing has come; an export that breaks off later is an error, and what was written
// to w is not a whole document.
//
// The client's Timeout bounds each wait for the next bytes.
func (c *Client) Export(ctx context.Context, w io.Writer, o ExportOptions, options ...ReadOption) (int64, error) {
	req := &request{method: http.MethodGet, path: "/export"}
	if o.Prefix != "" {
		req.set("prefix", o.Prefix)
	}
	req.applyRead(options)
	return c.download(ctx, req, w)
}

// Import sends a document as Export writes it, from r, which may be of any length. It is
// not atomic: the result says what was done, also beside an error. Nothing that may have
// been read by a node is sent again; importing again is harmless with Overwrite.
//
// The client's Timeout bounds each wait for the node to take more, or to answer.
func (c *Client) Import(ctx context.Context, r io.Reader, o ImportOptions) (ImportResult, error) {
	var result ImportResult
	req := &request{method: http.MethodPost, path: "/import", contentType: "application/json"}
	for name, value := range map[string]string{"prefix": o.Prefix, "on_conflict": string(o.OnConflict)} {
		if value != "" {
			req.set(name, value)
		}
	}
	if o.DryRun {
		req.set("dry_run", "true")
		req.read = true // it changes nothing
	}
	resp, err := c.upload(ctx, req, r)
	if err == nil {
		return result, resp.decode(req, &result)
	}
	// Errors have the counts, too. A body that has none leaves them at 0.
	var failed *Error
	if resp != nil && json.Unmarshal(resp.body, &result) == nil && errors.As(err, &failed) {
		failed.partly = result.Keys+result.Services > 0
	}
	return result, err
}

// download copies an answer of any length to w. The body's end is known: an answer cut
// short is an error of the connection.
func (c *Client) download(ctx context.Context, req *request, w io.Writer) (n int64, err error) {
	err = c.retry(ctx, req, func(address *url.URL) *Error {
		if n > 0 {
			panic("client: a stream that has begun is not sent again")
		}
		attempt, idle := c.watchIdle(ctx)
		defer idle.stop()
		resp, failed := c.send(attempt, address, req)
		if failed != nil {
			return idle.explain(failed)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			_, failed := readAnswer(resp, address, req)
			if failed == nil {
				failed = &Error{Status: resp.StatusCode, Code: fmt.Sprintf("http_%d", resp.StatusCode), Op: -1, Address: address.Host, foreign: true}
			}
			return failed
		}
		if req.meta != nil {
			*req.meta = metaOf(resp.Header)
		}
		out := &sink{w: w}
		n, err = io.Copy(out, idle.reader(resp.Body))
		if err == nil {
			return nil
		}
		// Not a code of an outcome: it would be sent again.
		failed = &Error{Code: "broken_off", Message: fmt.Sprintf("the answer of %s broke off after %d bytes", address.Host, n), Op: -1, Address: address.Host, cause: err}
		if out.err != nil {
			failed.Code, failed.Message, failed.told = "cannot_write", "writing what came: "+out.err.Error(), true
		}
		return idle.explain(failed)
	})
	return n, err
}

// sink remembers whose fault a failed copy was.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.err = err
	return n, err
}

// upload sends a body of any length and reads the answer. It goes to another address
// only while none of the body has been taken.
func (c *Client) upload(ctx context.Context, req *request, body io.Reader) (*response, error) {
	source := &source{r: body}
	at := c.current.Load()
	for tried := 1; ; tried++ {
		resp, failed := c.uploadOnce(ctx, c.addresses[int(at)%len(c.addresses)], req, source)
		switch {
		case failed == nil:
			return resp, nil
		case source.touched() || !IsUnreachable(failed) || tried >= len(c.addresses):
			return resp, failed
		}
		c.current.CompareAndSwap(at, at+1)
		at++
	}
}

func (c *Client) uploadOnce(ctx context.Context, address *url.URL, req *request, body *source) (*response, *Error) {
	attempt, idle := c.watchIdle(ctx)
	defer idle.stop()
	httpReq, err := c.build(attempt, address, req)
	if err != nil {
		return nil, badRequest("building the request: %v", err)
	}
	httpReq.Header.Set("Content-Type", req.contentType)
	httpReq.Body = io.NopCloser(&movingReader{w: idle, r: body, last: req.patient})
	httpReq.ContentLength = -1
	httpResp, err := c.http.Do(httpReq)
	if err != nil {
		if failure := body.failure(); failure != nil {
			return nil, &Error{Code: "cannot_read", Message: "reading what to send: " + failure.Error(), Op: -1, Address: address.Host, cause: failure, told: true, write: !req.read}
		}
		return nil, idle.explain(transportError(address, req, body.touched(), err))
	}
	defer httpResp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(httpResp.Body, 1<<20))
	resp := &response{status: httpResp.StatusCode, body: text, address: address.Host}
	if httpResp.StatusCode == http.StatusOK {
		if err != nil {
			return nil, transportError(address, req, true, fmt.Errorf("reading the answer: %w", err))
		}
		return resp, nil
	}
	failed := decodeError(httpResp.StatusCode, httpResp.Header, text)
	failed.Address, failed.write = address.Host, !req.read
	return resp, failed
}

// source is the body of an upload; it knows whether any of it was taken.
type source struct {
	mu  sync.Mutex
	r   io.Reader
	any bool
	err error
}

func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.any = true
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (s *source) touched() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.any
}

func (s *source) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// idleWatch ends an attempt when nothing has moved for the client's timeout.
type idleWatch struct {
	timeout time.Duration
	timer   *time.Timer
	cancel  context.CancelFunc
	mu      sync.Mutex
	expired bool
}

func (c *Client) watchIdle(ctx context.Context) (context.Context, *idleWatch) {
	ctx, cancel := context.WithCancel(ctx)
	w := &idleWatch{timeout: c.timeout, cancel: cancel}
	if w.timeout > 0 {
		w.timer = time.AfterFunc(w.timeout, func() {
			w.mu.Lock()
			w.expired = true
			w.mu.Unlock()
			cancel()
		})
	}
	return ctx, w
}

func (w *idleWatch) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.cancel()
}

// rest ends the watch, and lets the attempt go on.
func (w *idleWatch) rest() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// moved says that something was sent or has come.
func (w *idleWatch) moved() {
	if w.timer != nil {
		w.timer.Reset(w.timeout)
	}
}

// explain says that the attempt ended for want of movement, if it did.
func (w *idleWatch) explain(e *Error) *Error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.expired {
		e.Message += fmt.Sprintf(": nothing moved for %v", w.timeout)
		e.told = true
	}
	return e
}

// reader is r with every read counted as movement.
func (w *idleWatch) reader(r io.Reader) io.Reader { return &movingReader{w: w, r: r} }

type movingReader struct {
	w    *idleWatch
	r    io.Reader
	last bool // at its end nothing has to move any more
}

func (m *movingReader) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if m.last && errors.Is(err, io.EOF) {
		m.w.rest()
		return n, err
	}
	m.w.moved()
	return n, err
}
