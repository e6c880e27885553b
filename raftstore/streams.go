package raftstore

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/peer"
)

const (
	// ioTimeout bounds one exchange of raft messages; installing a snapshot gets
	// as much for every 256 KiB.
	ioTimeout = 10 * time.Second
	// dialTimeout is short so that a node is found soon after a network heals.
	dialTimeout = 2 * time.Second
	maxPool     = 3
)

// streams is raft's stream layer on the port shared with internal/peer. It
// remembers the connections it dialled, so that Close ends the exchanges under
// way: raft waits for them when it shuts down.
type streams struct {
	*peer.Listener
	dialer *peer.Dialer

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

var _ raft.StreamLayer = (*streams)(nil)

func newStreams(l *peer.Listener, d *peer.Dialer) *streams {
	return &streams{Listener: l, dialer: d, conns: make(map[net.Conn]struct{})}
}

// Dial implements raft.StreamLayer.
func (s *streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), min(timeout, dialTimeout))
	defer cancel()
	want, addr := splitTarget(address)
	conn, id, err := s.dialer.Dial(ctx, addr, peer.KindRaft)
	if err != nil {
		return nil, err
	}
	if want != "" && id != want {
		_ = conn.Close()
		return nil, fmt.Errorf("node %s answers at %s, not %s", id, addr, want)
	}
	d := &dialled{Conn: conn, s: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	s.conns[d] = struct{}{}
	return d, nil
}

// peerAt names the node that is meant along with its address. Raft counts an
// answer for the server it asked: whoever else answers at a member's address
// (addresses were exchanged; even this node itself) must not speak for it.
func peerAt(id raft.ServerID, addr raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + "\x00" + addr
}

func splitTarget(t raft.ServerAddress) (id, addr string) {
	id, addr, ok := strings.Cut(string(t), "\x00")
	if !ok {
		return "", string(t)
	}
	return id, addr
}

// Close implements net.Listener. Idempotent.
func (s *streams) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.dropDialled()
	return s.Listener.Close()
}

func (s *streams) dropDialled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.(*dialled).Conn.Close()
	}
}

// dialled leaves the set when raft closes it.
type dialled struct {
	net.Conn
	s *streams
}

func (d *dialled) Close() error {
	d.s.mu.Lock()
	delete(d.s.conns, d)
	d.s.mu.Unlock()
	return d.Conn.Close()
}
