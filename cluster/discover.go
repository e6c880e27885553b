package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// maxBody bounds every answer read from another node over HTTP.
const maxBody = 1 << 20

// httpClient speaks to other nodes' APIs before they share a cluster id, when
// internal/peer does not let them in yet.
type httpClient struct {
	c *http.Client
}

// newHTTPClient uses rt, the place where TLS comes in; nil = plain HTTP. A
// join list is walked rarely, so connections are not kept.
func newHTTPClient(rt http.RoundTripper) *httpClient {
	if rt == nil {
		rt = &http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: time.Minute}
	}
	return &httpClient{c: &http.Client{
		Transport: rt,
		// A redirect would send a join to a place nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// baseURL is the address with a scheme and without a path's trailing slash.
func baseURL(addr string) (string, error) {
	addr = strings.TrimSpace(addr)
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil {
		return "", &InvalidError{Field: "join", Why: err.Error()}
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", &InvalidError{Field: "join", Why: fmt.Sprintf("%q is not an API address", addr)}
	}
	return u.Scheme + "://" + u.Host + strings.TrimRight(u.Path, "/"), nil
}

// get and post bound the time by ctx and the body by maxBody. An answer other
// than 2xx is the error its body names.
func (h *httpClient) get(ctx context.Context, base, path string, out any) error {
	return h.do(ctx, http.MethodGet, base+path, nil, out)
}

func (h *httpClient) post(ctx context.Context, base, path string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding request: %w", err)
	}
	return h.do(ctx, http.MethodPost, base+path, b, out)
}

func (h *httpClient) do(ctx context.Context, method, url string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking %s: %w", url, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := h.c.Do(req)
	if err != nil {
		return err // names method and URL already
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("reading answer of %s: %w", url, err)
	}
	if resp.StatusCode/100 != 2 {
		return httpError(url, resp.StatusCode, b)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("reading answer of %s: %w", url, err)
	}
	return nil
}

// httpError is what a node's API refused with.
func httpError(url string, status int, body []byte) error {
	var e struct{ Error, Code, Field string }
	if json.Unmarshal(body, &e) != nil || e.Error == "" {
		return fmt.Errorf("%s answered %d", url, status)
	}
	return fromCode(e.Code, e.Field, e.Error)
}

// seen is one node found through an address.
type seen struct {
	base   string
	status Status
}

// view is what one look at all addresses found.
type view struct {
	nodes []seen // distinct nodes, without this one
	// silent are addresses nobody answered at.
	silent []string
	self   bool // one of the addresses is this node's own
}

// look asks every address at once. The same node behind several addresses
// counts once; this node itself is recognised by its id.
func (m *Manager) look(ctx context.Context, addrs []string) view {
	return m.lookWith(ctx, addrs, m.saySilent)
}

// lookQuietly is look for a node that does not need the addresses.
func (m *Manager) lookQuietly(ctx context.Context, addrs []string) view {
	return m.lookWith(ctx, addrs, func(string, error) {})
}

func (m *Manager) lookWith(ctx context.Context, addrs []string, silent func(addr string, err error)) view {
	ctx, cancel := context.WithTimeout(ctx, m.time.probe)
	defer cancel()
	found := make([]*seen, len(addrs))
	var wg sync.WaitGroup
	for i, a := range addrs {
		wg.Go(func() { found[i] = m.probe(ctx, a, silent) })
	}
	wg.Wait()
	var v view
	ids := map[string]bool{m.cfg.NodeID: true}
	for i, s := range found {
		switch {
		case s == nil:
			v.silent = append(v.silent, addrs[i])
		case s.status.NodeID == m.cfg.NodeID:
			v.self = true
		case !ids[s.status.NodeID]:
			ids[s.status.NodeID] = true
			v.nodes = append(v.nodes, *s)
		}
	}
	return v
}

// probe asks one address for its status; nil if it does not answer as a node.
func (m *Manager) probe(ctx context.Context, addr string, silent func(addr string, err error)) *seen {
	s, err := m.askStatus(ctx, addr)
	if err != nil {
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			silent(addr, err)
		}
		return nil
	}
	return s
}

func (m *Manager) askStatus(ctx context.Context, addr string) (*seen, error) {
	base, err := baseURL(addr)
	if err != nil {
		return nil, err
	}
	s := &seen{base: base}
	if err := m.http.get(ctx, base, "/cluster/status", &s.status); err != nil {
		return nil, err
	}
	if s.status.NodeID == "" {
		return nil, fmt.Errorf("%s does not answer as a konsul node", base)
	}
	return s, nil
}
