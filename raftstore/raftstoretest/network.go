package raftstoretest

import (
	"errors"
	"net"
	"sync"
	"time"
)

const dialTimeout = 3 * time.Second

var errCut = errors.New("raftstoretest: the network is cut")

// wire is one node's connection to the network; it can be cut, so that the
// others notice at once, or swallow everything, so that nobody is told.
type wire struct {
	mu      sync.Mutex
	cut     bool
	swallow chan struct{} // not nil while it swallows; closed at the end
	conns   map[*wireConn]struct{}
}

func newWire() *wire { return &wire{conns: make(map[*wireConn]struct{})} }

// wrap is a peer.WrapFunc.
func (w *wire) wrap(conn net.Conn, _ string) (net.Conn, error) {
	if hole := w.hole(); hole != nil {
		select {
		case <-hole:
		case <-time.After(dialTimeout):
		}
		return nil, errCut
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return nil, errCut
	}
	c := &wireConn{Conn: conn, w: w}
	w.conns[c] = struct{}{}
	return c, nil
}

func (w *wire) setCut(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if cut {
		for c := range w.conns {
			_ = c.Conn.Close()
		}
	}
}

// setSwallow starts or ends swallowing; what was open breaks at the end.
func (w *wire) setSwallow(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if on {
		w.swallow = make(chan struct{})
		return
	}
	close(w.swallow)
	w.swallow = nil
	for c := range w.conns {
		_ = c.Conn.Close()
	}
}

func (w *wire) hole() chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.swallow
}

type wireConn struct {
	net.Conn
	w *wire
}

// Read drops what comes while the network swallows.
func (c *wireConn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || c.w.hole() == nil {
			return n, err
		}
	}
}

// Write pretends while the network swallows.
func (c *wireConn) Write(b []byte) (int, error) {
	if c.w.hole() != nil {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *wireConn) Close() error {
	c.w.mu.Lock()
	delete(c.w.conns, c)
	c.w.mu.Unlock()
	return c.Conn.Close()
}
