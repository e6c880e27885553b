package raftstoretest

import (
	"errors"
	"net"
	"sync"
)

var errCut = errors.New("raftstoretest: the network is cut")

// wire is one node's connection to the network; it can be cut.
type wire struct {
	mu    sync.Mutex
	cut   bool
	conns map[*wireConn]struct{}
}

func newWire() *wire { return &wire{conns: make(map[*wireConn]struct{})} }

// wrap is a peer.WrapFunc.
func (w *wire) wrap(conn net.Conn, _ string) (net.Conn, error) {
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

type wireConn struct {
	net.Conn
	w *wire
}

func (c *wireConn) Close() error {
	c.w.mu.Lock()
	delete(c.w.conns, c)
	c.w.mu.Unlock()
	return c.Conn.Close()
}
