package etcdload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/net/http2/hpack"

	"github.com/neogan74/konsul/internal/loadgen"
)

// Target is an etcd cluster. Workers are spread over the addresses in turn.
type Target struct {
	Addresses []string // host:port
	Prefix    string   // of every key, before ten digits
	Stale     bool     // reads are serializable: answered by the member asked
	// Connections is how many connections the workers share; 0 = one for each worker.
	Connections int

	mu     sync.Mutex
	shared []*shared
}

// shared is a connection of several workers, with its reader.
type shared struct {
	*conn
	users int
}

// NewWorker makes the client with this number.
func (t *Target) NewWorker(ctx context.Context, id int) (loadgen.Worker, error) {
	w := &worker{target: t, call: call{done: make(chan error, 1)}}
	var err error
	if t.Connections == 0 {
		w.conn, err = t.connect(ctx, id)
		return w, err
	}
	w.shared, err = t.share(ctx, id%t.Connections)
	if err == nil {
		w.conn = w.shared.conn
	}
	return w, err
}

func (t *Target) connect(ctx context.Context, i int) (*conn, error) {
	address := t.Addresses[i%len(t.Addresses)]
	c, err := dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", address, err)
	}
	// The first two requests of a connection differ from the later ones: they
	// fill the server's header table. Warm makes them, so that every block is final.
	return c, t.warm(c, address)
}

// warm makes one call of each kind with the headers spelled out.
func (t *Target) warm(c *conn, authority string) error {
	var buf bytes.Buffer
	enc := hpack.NewEncoder(&buf)
	for _, path := range []string{pathRange, pathPut} {
		first := headerBlock(path, authority, enc, &buf)
		op := loadgen.Op{Kind: loadgen.Get}
		if path == pathPut {
			op = loadgen.Op{Kind: loadgen.Put, Value: []byte("warm")}
		}
		cl := &call{status: -1}
		if err := c.direct(func(*conn) []byte { return first }, appendMessage(nil, t.Prefix+"warm-", &op, false), cl); err != nil {
			return err
		}
	}
	c.get = headerBlock(pathRange, authority, enc, &buf)
	c.put = headerBlock(pathPut, authority, enc, &buf)
	return nil
}

// share returns connection i, making it for its first user.
func (t *Target) share(ctx context.Context, i int) (*shared, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.shared) <= i {
		t.shared = append(t.shared, nil)
	}
	if t.shared[i] == nil {
		c, err := t.connect(ctx, i)
		if err != nil {
			return nil, err
		}
		t.shared[i] = &shared{conn: c}
		go c.read()
	}
	t.shared[i].users++
	return t.shared[i], nil
}

func (t *Target) release(s *shared) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.users--; s.users == 0 {
		s.close()
		for i := range t.shared {
			if t.shared[i] == s {
				t.shared[i] = nil
			}
		}
	}
}

// read hands the answers of a shared connection to those who wait for them.
func (c *conn) read() {
	for {
		cl, err := c.receive()
		if err != nil {
			c.fail(err)
			return
		}
		if cl != nil {
			cl.done <- nil
		}
	}
}

// fail ends every call under way and all later ones.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for _, cl := range c.pending {
		cl.done <- err
	}
	c.pending = map[uint32]*call{}
	c.cond.Broadcast()
}

// direct makes a call on a connection that nobody else uses.
func (c *conn) direct(block func(*conn) []byte, message []byte, cl *call) error {
	pump := func() error { _, err := c.receive(); return err }
	if err := c.send(block, message, cl, pump); err != nil {
		return err
	}
	for {
		done, err := c.receive()
		if err != nil {
			return err
		}
		if done == cl {
			return cl.result()
		}
	}
}

func (cl *call) result() error {
	switch {
	case cl.status < 0:
		return errNoStatus
	case cl.status > 0:
		return &statusError{cl.status, cl.message}
	}
	return nil
}

// worker is one client.
type worker struct {
	target  *Target
	conn    *conn
	shared  *shared // nil if the connection is its own
	call    call
	message []byte
}

func putBlock(c *conn) []byte { return c.put }
func getBlock(c *conn) []byte { return c.get }

// Do runs one operation. A connection that broke stays broken: a comparison in
// which a server goes away is void.
func (w *worker) Do(_ context.Context, op *loadgen.Op) error {
	w.message = appendMessage(w.message[:0], w.target.Prefix, op, w.target.Stale)
	w.call.body, w.call.status, w.call.message = w.call.body[:0], -1, ""
	block := getBlock
	if op.Kind == loadgen.Put {
		block = putBlock
	}
	err := w.run(block)
	if err == nil && op.Kind == loadgen.Get && (len(w.call.body) < 5 || !found(w.call.body[5:])) {
		err = errMissing
	}
	return err
}

func (w *worker) run(block func(*conn) []byte) error {
	if w.shared == nil {
		return w.conn.direct(block, w.message, &w.call)
	}
	if err := w.conn.send(block, w.message, &w.call, nil); err != nil {
		return err
	}
	if err := <-w.call.done; err != nil {
		return err
	}
	return w.call.result()
}

// Close gives the connection up.
func (w *worker) Close() error {
	switch {
	case w.shared != nil:
		w.target.release(w.shared)
	case w.conn != nil:
		w.conn.close()
	default:
		return errors.New("never connected")
	}
	return nil
}
