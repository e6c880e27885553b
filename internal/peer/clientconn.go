package peer

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pingEvery = 2 * time.Second
	// silence ends a connection on which nothing came back, not even a pong,
	// although something was asked.
	silence = 10 * time.Second
)

// call states: the step from queued to sent is taken by the writer, the step
// to abandoned by the caller; whoever is first decides what the caller is told.
const (
	callQueued int32 = iota
	callSent
	callAbandoned
)

type call struct {
	state atomic.Int32
	done  chan struct{}
	body  []byte
	err   error
}

// clientConn is one connection of a Client.
type clientConn struct {
	conn net.Conn
	w    *writer
	wg   sync.WaitGroup

	lastRead atomic.Int64 // unix ns
	ended    chan struct{}

	mu     sync.Mutex
	nextID uint64
	calls  map[uint64]*call
	err    error
}

func newClientConn(raw net.Conn) *clientConn {
	c := &clientConn{conn: raw, w: newWriter(raw), calls: make(map[uint64]*call), ended: make(chan struct{})}
	c.lastRead.Store(time.Now().UnixNano())
	c.wg.Add(3)
	go func() {
		defer c.wg.Done()
		c.close(c.w.run())
	}()
	go func() {
		defer c.wg.Done()
		c.close(c.read())
	}()
	go func() {
		defer c.wg.Done()
		c.keepAlive()
	}()
	return c
}

func (c *clientConn) dead() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// call sends one request and waits for its answer.
func (c *clientConn) call(ctx context.Context, method uint16, body []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	cl := &call{done: make(chan struct{})}
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	c.nextID++
	id := c.nextID
	c.calls[id] = cl
	c.mu.Unlock()
	left := leftMS(ctx)
	c.w.put(item{size: lenSize + frameHeader + requestHead + len(body), encode: func(b []byte) []byte {
		if !cl.state.CompareAndSwap(callQueued, callSent) {
			return b
		}
		return appendRequest(b, id, method, left, body)
	}})
	select {
	case <-cl.done:
		return cl.body, cl.err
	case <-ctx.Done():
		return nil, c.abandon(id, cl, ctx.Err())
	}
}

// abandon gives up a call whose context ended.
func (c *clientConn) abandon(id uint64, cl *call, cause error) error {
	c.mu.Lock()
	delete(c.calls, id)
	c.mu.Unlock()
	if cl.state.CompareAndSwap(callQueued, callAbandoned) {
		return fmt.Errorf("%w: %w", ErrNotSent, cause)
	}
	c.w.put(item{size: lenSize + frameHeader, encode: func(b []byte) []byte {
		return appendEmpty(b, frameCancel, id)
	}})
	return fmt.Errorf("%w: %w", ErrInterrupted, cause)
}

func (c *clientConn) read() error {
	r := bufio.NewReaderSize(c.conn, 64<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		c.lastRead.Store(time.Now().UnixNano())
		if f.typ != frameResponse && f.typ != frameFailure {
			continue
		}
		c.mu.Lock()
		cl := c.calls[f.id]
		delete(c.calls, f.id)
		c.mu.Unlock()
		if cl == nil {
			continue
		}
		cl.body = f.body
		if f.err != nil {
			cl.err = f.err
		}
		close(cl.done)
	}
}

// keepAlive notices an end that accepts bytes and never answers.
func (c *clientConn) keepAlive() {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.ended:
			return
		case now := <-tick.C:
			c.mu.Lock()
			waiting := len(c.calls) > 0
			c.mu.Unlock()
			last := time.Unix(0, c.lastRead.Load())
			if !waiting {
				c.lastRead.Store(now.UnixNano())
				continue
			}
			if now.Sub(last) > silence {
				c.close(fmt.Errorf("no answer for %s", silence))
				return
			}
			c.w.put(item{size: lenSize + frameHeader, encode: func(b []byte) []byte {
				return appendEmpty(b, framePing, 0)
			}})
		}
	}
}

// close ends the connection and every call: those the writer had not reached
// were not sent.
func (c *clientConn) close(cause error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	if cause == nil {
		cause = ErrClosed
	}
	c.err = cause
	calls := c.calls
	c.calls = make(map[uint64]*call)
	c.mu.Unlock()
	close(c.ended)
	c.w.close()
	_ = c.conn.Close()
	for _, cl := range calls {
		if cl.state.CompareAndSwap(callQueued, callAbandoned) {
			cl.err = fmt.Errorf("%w: %w", ErrNotSent, cause)
		} else {
			cl.err = fmt.Errorf("%w: %w", ErrInterrupted, cause)
		}
		close(cl.done)
	}
}

// leftMS is the time left until the deadline of ctx, at least 1; 0 = none.
func leftMS(ctx context.Context) uint32 {
	t, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return uint32(min(max(time.Until(t).Milliseconds(), 1), int64(^uint32(0))))
}
