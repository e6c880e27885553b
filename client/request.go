package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"
)

// request is one call of the API, before it has an address.
type request struct {
	method      string
	path        string // percent-encoded, with the leading slash
	query       url.Values
	header      http.Header
	contentType string
	body        []byte
	// read: it changes nothing, so it may be sent again whatever happened to it.
	read bool
	// idempotencyKey makes a write safe to send again; keyable says that the server
	// remembers the answer to this kind of write.
	idempotencyKey string
	keyable        bool
	// patient: when all of an upload is sent, the answer may take any time.
	patient bool
	// extra is added to the timeout of an attempt: the wait of a blocking read.
	extra time.Duration
	// accept: statuses that are answers although they are not 2xx.
	accept func(status int) bool
	// meta receives the answer's headers, if not nil.
	meta *Meta
}

// response is a complete answer.
type response struct {
	status  int
	body    []byte
	address string
}

// decode reads the JSON of the answer. After a write a broken answer means that the
// outcome is known (2xx) but its details are not, which only "unknown" can say.
func (r *response) decode(req *request, into any) error {
	err := json.Unmarshal(r.body, into)
	if err == nil {
		return nil
	}
	code := codeConnectionLost
	if !req.read {
		code = codeOutcomeUnknown
	}
	return &Error{Status: r.status, Code: code, Message: "the answer is not the JSON it should be",
		Op: -1, Address: r.address, cause: err, write: !req.read, foreign: true}
}

// call sends a request (again, where that is safe) and decodes the answer into out.
func (c *Client) call(ctx context.Context, req *request, out any) error {
	resp, err := c.do(ctx, req)
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	return resp.decode(req, out)
}

// do sends a request (again, where that is safe) and reads the whole answer.
func (c *Client) do(ctx context.Context, req *request) (*response, error) {
	var resp *response
	err := c.retry(ctx, req, func(address *url.URL) *Error {
		attempt := ctx
		if c.timeout > 0 {
			var cancel context.CancelFunc
			attempt, cancel = context.WithTimeout(ctx, c.timeout+req.extra)
			defer cancel()
		}
		begin := time.Now()
		httpResp, failed := c.send(attempt, address, req)
		if failed != nil {
			return failed
		}
		defer httpResp.Body.Close()
		if resp, failed = readAnswer(httpResp, address, req); failed != nil {
			failed.tellTimeout(time.Since(begin))
		}
		return failed
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// send makes one attempt. The error tells whether anything can have reached the node.
func (c *Client) send(ctx context.Context, address *url.URL, req *request) (*http.Response, *Error) {
	httpReq, err := c.build(ctx, address, req)
	if err != nil {
		return nil, badRequest("building the request: %v", err)
	}
	begin := time.Now()
	watch := &sentWatch{keyed: req.idempotencyKey != ""}
	httpReq = httpReq.WithContext(httptrace.WithClientTrace(ctx, watch.trace()))
	resp, err := c.http.Do(httpReq)
	if err == nil {
		return resp, nil
	}
	failed := transportError(address, req, watch.maybeSent(), err)
	failed.tellTimeout(time.Since(begin))
	return nil, failed
}

func (c *Client) build(ctx context.Context, address *url.URL, req *request) (*http.Request, error) {
	path, err := url.PathUnescape(req.path)
	if err != nil {
		return nil, err
	}
	// Path and RawPath together make net/http send RawPath as it is: no cleaning, no
	// re-encoding. The query must not be built by url.Parse, which would read the path anew.
	u := &url.URL{Scheme: address.Scheme, Host: address.Host, Path: path, RawPath: req.path, RawQuery: req.query.Encode()}
	httpReq := (&http.Request{
		Method: req.method, URL: u, Host: address.Host, Header: http.Header{},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	for name, values := range req.header {
		httpReq.Header[name] = values
	}
	if req.body != nil {
		httpReq.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(req.body)), nil }
		httpReq.Body, _ = httpReq.GetBody()
		httpReq.ContentLength = int64(len(req.body))
		if len(req.body) == 0 {
			httpReq.Body = http.NoBody
		}
		httpReq.Header.Set("Content-Type", req.contentType)
	}
	if req.idempotencyKey != "" {
		httpReq.Header.Set("Idempotency-Key", req.idempotencyKey)
	}
	if c.token != "" {
		httpReq.Header.Set("Authorization", "Bearer "+c.token)
	}
	return httpReq, nil
}

// readAnswer reads the body; a body that breaks off is a lost answer.
func readAnswer(resp *http.Response, address *url.URL, req *request) (*response, *Error) {
	body, err := io.ReadAll(resp.Body)
	ok := resp.StatusCode >= 200 && resp.StatusCode < 300 || req.accept != nil && req.accept(resp.StatusCode)
	if ok && err != nil {
		return nil, transportError(address, req, true, fmt.Errorf("reading the answer: %w", err))
	}
	var failed *Error
	if !ok {
		failed = decodeError(resp.StatusCode, resp.Header, body)
		failed.Address, failed.write = address.Host, !req.read
	}
	// "Not found" is complete up to an index as well, from which a blocking read goes on.
	if req.meta != nil && (ok || errors.Is(failed, ErrNotFound)) {
		*req.meta = metaOf(resp.Header)
	}
	if !ok {
		return nil, failed
	}
	return &response{status: resp.StatusCode, body: body, address: address.Host}, nil
}

func transportError(address *url.URL, req *request, maybeSent bool, err error) *Error {
	// *url.Error repeats method and URL, which callers know.
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	e := &Error{Address: address.Host, Op: -1, cause: err, write: !req.read}
	switch {
	case !maybeSent:
		e.Code, e.Message = codeUnreachable, "cannot connect to "+address.Host
	case req.read:
		e.Code, e.Message = codeConnectionLost, "no answer from "+address.Host
	default:
		e.Code, e.Message = codeOutcomeUnknown, "no answer from "+address.Host
	}
	return e
}

// tellTimeout says how long the attempt had instead of that a deadline was exceeded.
func (e *Error) tellTimeout(took time.Duration) {
	if errors.Is(e.cause, context.DeadlineExceeded) {
		step := 100 * time.Millisecond
		if took < time.Second {
			step = 10 * time.Millisecond
		}
		e.Message += " within " + took.Round(step).String()
		e.told = true
	}
}

// sentWatch follows one http.Client.Do. The transport may use several connections for
// one call, but without an idempotency key a write moves to another one only if
// nothing of it was written; so the last connection decides, and it decides when it is
// handed out. With a key the transport also repeats what was written.
type sentWatch struct {
	mu    sync.Mutex
	keyed bool
	sent  bool
}

func (s *sentWatch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { s.set(s.keyed && s.maybeSent()) },
		GotConn: func(httptrace.GotConnInfo) { s.set(true) },
	}
}

func (s *sentWatch) set(sent bool) {
	s.mu.Lock()
	s.sent = sent
	s.mu.Unlock()
}

func (s *sentWatch) maybeSent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent
}
