package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/net/netutil"

	"github.com/neogan74/konsul/internal/config"
	"github.com/neogan74/konsul/raftstore"
)

// listenAPI opens the API's port; the error names the options to change. Connections beyond
// maxConnections wait until others are closed.
func listenAPI(cfg config.HTTP) (net.Listener, error) {
	addr := net.JoinHostPort(cfg.Host, strconv.Itoa(cfg.Port))
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("address %s for the API is in use by another process: choose another with --port (http.port, KONSUL_PORT) or stop that one", addr)
	case err != nil:
		return nil, fmt.Errorf("listening on the API address %s (http.host, http.port): %w", addr, err)
	}
	return netutil.LimitListener(l, maxConnections()), nil
}

// maxConnections leaves half of the files that the process may open to the engine, whose every
// table is one, and to the log: without files they could not go on.
func maxConnections() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return defaultConnections
	}
	return int(min(files.Cur/2, mostConnections))
}

const (
	defaultConnections = 4096
	mostConnections    = 1 << 20
)

// explainOpen adds to an error of opening the store which option it is about.
func explainOpen(cfg *config.Result, err error) error {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("address %s for Raft is in use by another process: choose another with --raft-bind-addr (raft.bind_addr, KONSUL_RAFT_BIND_ADDR) or stop that one", cfg.Raft.BindAddr)
	case errors.As(err, &dns), errors.As(err, &op):
		return fmt.Errorf("%w (raft.bind_addr is %s)", err, cfg.Raft.BindAddr)
	case errors.Is(err, raftstore.ErrLocked):
		return fmt.Errorf("%w; stop it or choose another directory with --data-dir (persistence.data_dir, KONSUL_DATA_DIR)", err)
	case errors.Is(err, fs.ErrPermission):
		return explainPermission(cfg, err)
	case errors.Is(err, raftstore.ErrBadConfig):
		return fmt.Errorf("%w: %w", config.ErrInvalid, err)
	}
	return err
}

// apiAddr is the address the API really listens on.
func (n *node) apiAddr() string { return n.listener.Addr().String() }

// advertisedAPI is how others reach this API. A listener on every address that was given no name
// (config allows it for a node that starts alone) is known by the loopback address only.
func (n *node) advertisedAPI() string {
	if n.cfg.HTTP.AdvertiseAddr != "" {
		return n.cfg.HTTP.AdvertiseAddr
	}
	_, port, _ := net.SplitHostPort(n.apiAddr())
	host := n.cfg.HTTP.Host
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
