// Package peer carries requests between the nodes of a cluster, many at a time
// over one connection, on the port that Raft uses too. Its frames are drawn in
// DESIGN.md.
package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	minBackoff = 20 * time.Millisecond
	maxBackoff = time.Second
)

// Client calls methods of other nodes over one kept connection for each
// address, many requests at a time.
type Client struct {
	dialer *Dialer

	mu     sync.Mutex
	links  map[string]*link
	closed bool
}

// NewClient returns a client that dials when first asked to.
func NewClient(d *Dialer) *Client {
	return &Client{dialer: d, links: make(map[string]*link)}
}

// Call runs method on the node at addr. The answer of the other node, if it is
// an error, is an *Error; without an answer the error is ErrNotSent (certainly
// not carried out) or ErrInterrupted (unknown). The deadline of ctx travels along.
func (c *Client) Call(ctx context.Context, addr string, method uint16, body []byte) ([]byte, error) {
	if len(body) > MaxBody {
		return nil, fmt.Errorf("%w: %w: %d bytes", ErrNotSent, ErrTooLarge, len(body))
	}
	l, err := c.link(addr)
	if err != nil {
		return nil, err
	}
	conn, err := l.connection(ctx, c.dialer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return conn.call(ctx, method, body)
}

// Close ends every connection; calls under way get ErrInterrupted or ErrNotSent.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	links := c.links
	c.links = make(map[string]*link)
	c.mu.Unlock()
	for _, l := range links {
		l.close()
	}
}

// Drop closes the connections; the next call dials again.
func (c *Client) Drop() {
	c.mu.Lock()
	links := c.links
	if !c.closed {
		c.links = make(map[string]*link)
	}
	c.mu.Unlock()
	for _, l := range links {
		l.close()
	}
}

func (c *Client) link(addr string) (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, ErrClosed)
	}
	l := c.links[addr]
	if l == nil {
		l = &link{addr: addr}
		c.links[addr] = l
	}
	return l, nil
}

// link is the way to one address: at most one connection, and a pause after
// each failure that grows.
type link struct {
	addr string

	mu      sync.Mutex
	conn    *clientConn
	dialing chan struct{}
	lastErr error
	retryAt time.Time
	backoff time.Duration
	closed  bool
}

// connection returns the live connection or dials one. Callers that arrive
// while a dial is under way share it.
func (l *link) connection(ctx context.Context, d *Dialer) (*clientConn, error) {
	for {
		l.mu.Lock()
		switch {
		case l.closed:
			l.mu.Unlock()
			return nil, ErrClosed
		case l.conn != nil && !l.conn.dead():
			conn := l.conn
			l.mu.Unlock()
			return conn, nil
		case l.dialing != nil:
			wait := l.dialing
			l.mu.Unlock()
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		case time.Now().Before(l.retryAt):
			err := l.lastErr
			l.mu.Unlock()
			return nil, err
		}
		done := make(chan struct{})
		l.dialing = done
		l.mu.Unlock()
		// The dial outlives this caller's context: others wait for it too.
		go l.dial(d, done)
	}
}

func (l *link) dial(d *Dialer, done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	raw, _, err := d.Dial(ctx, l.addr, KindRPC)
	l.mu.Lock()
	defer l.mu.Unlock()
	defer close(done)
	l.dialing = nil
	if err == nil && l.closed {
		_ = raw.Close()
		return
	}
	if err != nil {
		l.backoff = min(max(2*l.backoff, minBackoff), maxBackoff)
		l.retryAt, l.lastErr = time.Now().Add(l.backoff), err
		return
	}
	l.backoff, l.lastErr, l.retryAt = 0, nil, time.Time{}
	l.conn = newClientConn(raw)
}

func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	conn, dialing := l.conn, l.dialing
	l.mu.Unlock()
	if conn != nil {
		conn.close(ErrClosed)
		conn.wg.Wait()
	}
	if dialing != nil {
		<-dialing
	}
}

// Sent reports whether err, from Call, leaves open that the request was carried out.
func Sent(err error) bool {
	if err == nil {
		return true
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code != CodeBusy && e.Code != CodeUnknownMethod
	}
	return !errors.Is(err, ErrNotSent)
}
