package peer

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// userTimeout closes a connection whose sent data nobody acknowledged for
	// this long: a machine that is gone without a word.
	userTimeout = 5 * time.Second
	dialTimeout = 3 * time.Second
)

// Dialer opens connections to other nodes and introduces this one.
type Dialer struct {
	Identity Identity
	// Wrap is nil for plain TCP.
	Wrap WrapFunc
}

// Dial connects to addr for kind and returns the other node's id. The host
// name is looked up each time: addresses may change.
func (d *Dialer) Dial(ctx context.Context, addr string, kind Kind) (net.Conn, string, error) {
	var nd net.Dialer
	raw, err := nd.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, "", fmt.Errorf("connecting to node at %s: %w", addr, err)
	}
	tune(raw)
	conn := raw
	if d.Wrap != nil {
		if conn, err = d.Wrap(raw, addr); err != nil {
			_ = raw.Close()
			return nil, "", fmt.Errorf("securing connection to %s: %w", addr, err)
		}
	}
	deadline := time.Now().Add(handshakeTimeout)
	if t, ok := ctx.Deadline(); ok && t.Before(deadline) {
		deadline = t
	}
	h := hello{kind: kind, clusterID: d.Identity.ClusterID(), nodeID: d.Identity.NodeID()}
	id, err := greet(conn, h, deadline)
	if err != nil {
		_ = conn.Close()
		return nil, "", fmt.Errorf("introducing this node to %s: %w", addr, err)
	}
	return conn, id, nil
}

// tune sets what makes a dead peer noticed; failures only make it later.
func tune(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tcp.SetNoDelay(true)
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3,
	})
	if sc, err := tcp.SyscallConn(); err == nil {
		_ = sc.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
		})
	}
}
