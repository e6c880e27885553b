package peer

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// maxHandshakes bounds the connections that have not said yet who they are. When
// there are more, the one that has been silent the longest is closed: a node says
// who it is at once, so strangers that hold connections open keep no node out.
const maxHandshakes = 128

// WrapFunc puts another layer (TLS) around a connection before the handshake.
// dialled is the address for an outgoing connection, "" for an accepted one.
type WrapFunc func(conn net.Conn, dialled string) (net.Conn, error)

// Options of a Listener.
type Options struct {
	// BindAddr is host:port to listen on; port 0 picks one.
	BindAddr string
	// AdvertiseAddr is how other nodes reach this listener; kept as written,
	// never resolved. Empty = the address bound.
	AdvertiseAddr string
	Identity      Identity
	// Wrap is nil for plain TCP.
	Wrap   WrapFunc
	Logger hclog.Logger
}

// Listener owns the one TCP port between nodes and hands each connection to
// what it says it is for: Raft streams to Accept, requests to the Server.
type Listener struct {
	opts   Options
	ln     net.Listener
	server *Server
	raft   chan net.Conn
	log    hclog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	silent list.List // of net.Conn: in their handshake, the oldest first
}

// Listen binds the port. Requests are served by server from this moment on.
func Listen(opts Options, server *Server) (*Listener, error) {
	ln, err := net.Listen("tcp", opts.BindAddr)
	if err != nil {
		return nil, fmt.Errorf("listening for other nodes on %s: %w", opts.BindAddr, err)
	}
	if opts.AdvertiseAddr == "" {
		opts.AdvertiseAddr = ln.Addr().String()
	}
	l := &Listener{
		opts: opts, ln: ln, server: server,
		raft:  make(chan net.Conn),
		log:   opts.Logger,
		conns: make(map[net.Conn]struct{}),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.wg.Add(1)
	go l.accept()
	return l, nil
}

// Addr is the advertised address as configured: a host name stays one.
func (l *Listener) Addr() net.Addr { return addr(l.opts.AdvertiseAddr) }

type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }

// Accept returns the next Raft stream; net.ErrClosed after Close.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.raft:
		return conn, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close stops listening, closes every accepted connection and waits for the
// goroutines of this listener. Idempotent.
func (l *Listener) Close() error {
	l.cancel()
	err := l.ln.Close()
	l.mu.Lock()
	for e := l.silent.Front(); e != nil; e = e.Next() {
		hangUp(e)
	}
	l.mu.Unlock()
	l.DropConnections()
	l.wg.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("closing listener: %w", err)
	}
	return nil
}

// DropConnections closes every accepted connection; the others dial again.
func (l *Listener) DropConnections() {
	l.mu.Lock()
	conns := slices.Collect(maps.Keys(l.conns))
	l.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close() // takes the lock
	}
}

func (l *Listener) accept() {
	defer l.wg.Done()
	for {
		conn, err := l.ln.Accept()
		if err != nil {
			if l.ctx.Err() != nil {
				return
			}
			l.log.Warn("accepting a connection failed", "error", err)
			if !pause(l.ctx, 50*time.Millisecond) {
				return
			}
			continue
		}
		l.wg.Add(1)
		go l.welcome(conn, l.expect(conn))
	}
}

// expect notes a connection that has to say who it is, and makes room for it.
func (l *Listener) expect(conn net.Conn) *list.Element {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		_ = conn.Close()
	}
	if l.silent.Len() >= maxHandshakes {
		hangUp(l.silent.Front())
		l.silent.Remove(l.silent.Front())
	}
	return l.silent.PushBack(conn)
}

// hangUp ends the handshake of a connection.
func hangUp(e *list.Element) { _ = e.Value.(net.Conn).Close() }

// introduced ends what expect began; false if the connection had to make room.
func (l *Listener) introduced(e *list.Element) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.silent.Len()
	l.silent.Remove(e)
	return l.silent.Len() < before
}

// welcome runs the handshake and serves or passes on the connection.
func (l *Listener) welcome(raw net.Conn, e *list.Element) {
	defer l.wg.Done()
	conn, h, err := l.handshake(raw)
	if !l.introduced(e) && err == nil {
		err = net.ErrClosed
	}
	if err != nil {
		_ = raw.Close()
		if l.ctx.Err() == nil {
			l.log.Debug("connection refused", "remote", raw.RemoteAddr(), "error", err)
		}
		return
	}
	tracked := &trackedConn{Conn: conn, l: l}
	if !l.track(tracked) {
		_ = conn.Close()
		return
	}
	if h.kind == KindRPC {
		l.server.serve(l.ctx, tracked, h.nodeID)
		return
	}
	select {
	case l.raft <- tracked:
	case <-l.ctx.Done():
		_ = tracked.Close()
	}
}

func (l *Listener) handshake(raw net.Conn) (net.Conn, hello, error) {
	tune(raw)
	conn := raw
	if l.opts.Wrap != nil {
		var err error
		if conn, err = l.opts.Wrap(raw, ""); err != nil {
			return nil, hello{}, fmt.Errorf("securing connection: %w", err)
		}
	}
	h, err := receive(conn, l.opts.Identity)
	return conn, h, err
}

func (l *Listener) track(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return false
	}
	l.conns[conn] = struct{}{}
	return true
}

// trackedConn leaves the listener's set when it is closed.
type trackedConn struct {
	net.Conn
	l    *Listener
	once sync.Once
}

func (c *trackedConn) Close() error {
	c.once.Do(func() {
		c.l.mu.Lock()
		delete(c.l.conns, c)
		c.l.mu.Unlock()
	})
	return c.Conn.Close()
}

// pause waits for d; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
