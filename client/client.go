package client

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Defaults of Config.
const (
	DefaultAddress      = "http://127.0.0.1:8500"
	DefaultTimeout      = 15 * time.Second
	DefaultRetryTimeout = 15 * time.Second
)

// Config is what New needs; the zero value is a client of a node on this machine.
type Config struct {
	// Addresses are API addresses of one cluster, "host:port" or "http(s)://host:port".
	// Default: DefaultAddress.
	Addresses []string
	// Token goes into the Authorization header of every request, if not empty.
	Token string
	// HTTPClient sends the requests, for TLS settings and the like. Redirects are never
	// followed. Default: one of its own, with keep-alive connections.
	HTTPClient *http.Client
	// Timeout bounds one attempt of a request; a blocking read gets its wait on top.
	// Default: DefaultTimeout; negative = only the context bounds it.
	Timeout time.Duration
	// RetryTimeout bounds how long after its first failure a call goes on sending again.
	// Default: DefaultRetryTimeout; negative = nothing is sent a second time.
	RetryTimeout time.Duration
	// FailFast: give up as soon as no address accepts a connection, without waiting.
	FailFast bool
	// AutoIdempotency gives every write that has no idempotency key a random one, so
	// that a write with an unknown outcome can be sent again. It costs the cluster the
	// memory of the answer.
	AutoIdempotency bool
	// OnRetry, if not nil, is told why a call failed before it waits and sends again.
	OnRetry func(err error)
}

// Client talks to a cluster. It is safe for concurrent use and needs no closing,
// though CloseIdleConnections frees what it keeps open.
type Client struct {
	addresses       []*url.URL // scheme and host only
	current         *atomic.Uint32
	http            *http.Client
	token           string
	timeout         time.Duration
	retryTimeout    time.Duration
	failFast        bool
	autoIdempotency bool
	onRetry         func(error)
}

// New checks the configuration; it sends nothing.
func New(cfg Config) (*Client, error) {
	if len(cfg.Addresses) == 0 {
		cfg.Addresses = []string{DefaultAddress}
	}
	c := &Client{
		current:         new(atomic.Uint32),
		http:            cfg.HTTPClient,
		token:           cfg.Token,
		timeout:         orDefault(cfg.Timeout, DefaultTimeout),
		retryTimeout:    orDefault(cfg.RetryTimeout, DefaultRetryTimeout),
		failFast:        cfg.FailFast,
		autoIdempotency: cfg.AutoIdempotency,
		onRetry:         cfg.OnRetry,
	}
	for _, text := range cfg.Addresses {
		address, err := parseAddress(text)
		if err != nil {
			return nil, err
		}
		c.addresses = append(c.addresses, address)
	}
	if strings.ContainsAny(cfg.Token, "\r\n") {
		return nil, errors.New("the token has a line break in it")
	}
	if c.http == nil {
		c.http = &http.Client{Transport: newTransport()}
	}
	// A copy, because the caller's client may have a policy of its own: following a
	// redirect would send a write twice without anybody having decided so.
	own := *c.http
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &own
	return c, nil
}

// Node gives a client of one address only, with the same settings and connections.
func (c *Client) Node(address string) (*Client, error) {
	parsed, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	one := *c
	one.addresses = []*url.URL{parsed}
	one.current = new(atomic.Uint32)
	return &one, nil
}

// Addresses gives the addresses, with their scheme, in the order of the configuration.
func (c *Client) Addresses() []string {
	out := make([]string, len(c.addresses))
	for i, address := range c.addresses {
		out[i] = address.String()
	}
	return out
}

// CloseIdleConnections closes connections that no request is using.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

func parseAddress(text string) (*url.URL, error) {
	full := strings.TrimSpace(text)
	if !strings.Contains(full, "://") {
		full = "http://" + full
	}
	u, err := url.Parse(full)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("address %q is not host:port or http(s)://host:port", text)
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("address %q has more than a scheme, a host and a port", text)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// newTransport is http.DefaultTransport with a shorter dial (fail-over waits for it),
// room for many idle connections to one node, and no compression, which costs more
// than it saves inside a data centre.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConns:        1024,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}
}

// orDefault: 0 = the default, negative = off (0).
func orDefault(d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	}
	return d
}
