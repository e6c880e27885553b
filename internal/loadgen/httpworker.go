package loadgen

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// HTTPWorker is one connection to a Konsul node.
type HTTPWorker struct {
	target  *HTTPTarget
	ctx     context.Context
	timeout time.Duration
	next    int // the address of the next connection

	conn     net.Conn // nil = there is none
	reader   *bufio.Reader
	requests templates
	answer   answer
	limit    time.Time // the connection's deadline
	unwatch  func() bool
	mu       sync.Mutex // orders the deadline of an operation and the end of the run
	ended    bool
}

const readBuffer = 16 << 10

// Do sends the operation and reads the answer.
func (w *HTTPWorker) Do(_ context.Context, op *Op) error {
	if w.conn == nil {
		if err := w.connect(); err != nil {
			return &HTTPError{Code: "unreachable", cause: err}
		}
	}
	var request []byte
	switch op.Kind {
	case Put:
		request = w.requests.putRequest(op.Value)
		setKey(request, w.requests.putKey, op.Key)
	case Batch:
		request = w.requests.batchRequest(op.Items)
	default:
		request = w.requests.get
		setKey(request, w.requests.getKey, op.Key)
	}
	w.arm()
	if _, err := w.conn.Write(request); err != nil {
		return w.broken(err)
	}
	if err := readAnswer(w.reader, &w.answer); err != nil {
		return w.broken(err)
	}
	if w.reader.Buffered() > 0 {
		return w.broken(fmt.Errorf("%w: bytes after the end", errMalformed))
	}
	if w.answer.closing {
		w.disconnect()
	}
	if w.answer.status >= 300 {
		return failure(&w.answer)
	}
	return nil
}

// Close ends the connection.
func (w *HTTPWorker) Close() error {
	w.disconnect()
	return nil
}

// connect takes the address whose turn it is; the next call takes the one after it.
func (w *HTTPWorker) connect() error {
	address := w.target.Addresses[w.next]
	w.next = (w.next + 1) % len(w.target.Addresses)
	conn, requests, err := w.target.dial(w.ctx, address, w.timeout)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.conn, w.requests, w.limit = conn, requests, time.Time{}
	w.mu.Unlock()
	if w.reader == nil {
		w.reader = bufio.NewReaderSize(conn, readBuffer)
	} else {
		w.reader.Reset(conn)
	}
	w.unwatch = context.AfterFunc(w.ctx, w.end)
	return nil
}

// end makes an operation under way return at once.
func (w *HTTPWorker) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.conn != nil {
		_ = w.conn.SetDeadline(time.Now()) // fails on a closed connection only
	}
}

// arm makes sure that the connection's deadline is between one and one and a half
// timeouts away: a deadline costs a lock and a timer, so most operations find one set.
func (w *HTTPWorker) arm() {
	now := time.Now()
	if w.limit.Sub(now) >= w.timeout {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.limit = now.Add(w.timeout + w.timeout/2)
		_ = w.conn.SetDeadline(w.limit) // what is wrong with it the write will say
	}
}

func (w *HTTPWorker) disconnect() {
	if w.conn == nil {
		return
	}
	w.unwatch()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn.Close()
	w.conn = nil
}

// broken gives the connection up. Whether a put was applied is not known.
func (w *HTTPWorker) broken(err error) error {
	w.disconnect()
	code := "connection_lost"
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		code = "timeout"
	case errors.Is(err, errMalformed), errors.Is(err, bufio.ErrBufferFull):
		code = "malformed_answer"
	}
	return &HTTPError{Code: code, cause: err}
}

// HTTPError is an operation that failed.
type HTTPError struct {
	// Status is the HTTP status; 0 = no answer.
	Status int
	// Code is the server's, or unreachable, connection_lost, timeout, malformed_answer.
	Code  string
	cause error
}

func (e *HTTPError) Error() string {
	if e.cause != nil {
		return e.Code + ": " + e.cause.Error()
	}
	return fmt.Sprintf("%s (HTTP %d)", e.Code, e.Status)
}

// ErrorCode is what the failure is counted as.
func (e *HTTPError) ErrorCode() string { return e.Code }

func (e *HTTPError) Unwrap() error { return e.cause }

func failure(a *answer) error {
	var body struct{ Code string }
	if json.Unmarshal(a.body, &body) != nil || body.Code == "" {
		body.Code = "http_" + strconv.Itoa(a.status)
	}
	return &HTTPError{Status: a.status, Code: body.Code}
}
