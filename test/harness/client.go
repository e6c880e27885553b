package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Client speaks the HTTP contract with nothing but net/http.
type Client struct {
	Addr string // host:port
	http *http.Client
}

// NewClient returns a client of one node. It follows no redirects and has no
// deadline of its own: pass one in the context.
func NewClient(addr string) *Client {
	tr := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 512,
		DisableCompression:  true,
	}
	return &Client{Addr: addr, http: &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// CloseIdle closes connections that are not in use.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// Answer is a complete response.
type Answer struct {
	Method, Target string
	Status         int
	Header         http.Header
	Body           []byte
}

// Do sends a request whose target (path and query) goes out exactly as given.
// header holds names and values alternately.
func (c *Client) Do(ctx context.Context, method, target string, body []byte, header ...string) (*Answer, error) {
	resp, err := c.open(ctx, method, target, body, header...)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: reading the answer: %w", method, short(target), err)
	}
	return &Answer{method, target, resp.StatusCode, resp.Header, b}, nil
}

func (c *Client) open(ctx context.Context, method, target string, body []byte, header ...string) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.Addr+"/", r)
	if err != nil {
		return nil, err
	}
	path, query, _ := strings.Cut(target, "?")
	req.URL = &url.URL{Scheme: "http", Host: c.Addr, Opaque: path, RawQuery: query}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, short(target), errors.Unwrap(err))
	}
	return resp, nil
}

// Get is Do for a read.
func (c *Client) Get(ctx context.Context, target string) (*Answer, error) {
	return c.Do(ctx, http.MethodGet, target, nil)
}

// Post sends v as JSON.
func (c *Client) Post(ctx context.Context, target string, v any) (*Answer, error) {
	return c.SendJSON(ctx, http.MethodPost, target, v)
}

// SendJSON sends v as JSON; header as in Do.
func (c *Client) SendJSON(ctx context.Context, method, target string, v any, header ...string) (*Answer, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return c.Do(ctx, method, target, b, append(header, "Content-Type", "application/json")...)
}

// Index is the X-Konsul-Index of the answer, 0 if it has none.
func (a *Answer) Index() uint64 {
	n, _ := strconv.ParseUint(a.Header.Get("X-Konsul-Index"), 10, 64)
	return n
}

// JSON decodes the body into v.
func (a *Answer) JSON(v any) error {
	if err := json.Unmarshal(a.Body, v); err != nil {
		return fmt.Errorf("%s %s: body %.200q: %w", a.Method, short(a.Target), a.Body, err)
	}
	return nil
}

// Want returns nil if the status is the one wanted, else the answer as an error.
func (a *Answer) Want(status int) error {
	if a.Status == status {
		return nil
	}
	return fmt.Errorf("wanted status %d: %w", status, a.Err())
}

// Err is the answer as an *APIError, whatever its status.
func (a *Answer) Err() error {
	e := &APIError{Method: a.Method, Target: a.Target, Status: a.Status}
	if json.Unmarshal(a.Body, e) != nil {
		e.Text = string(a.Body)
	}
	return e
}

// APIError is an error answer of the contract.
type APIError struct {
	Method, Target string `json:"-"`
	Status         int    `json:"-"`
	Text           string `json:"error"`
	Code           string `json:"code"`
	ModifyIndex    uint64 `json:"modify_index"`
	OldestIndex    uint64 `json:"oldest_index"`
}

func (e *APIError) Error() string {
	return fmt.Sprintf("%s %s: %d %s: %.300s", e.Method, short(e.Target), e.Status, e.Code, e.Text)
}

// Outcome is what an error says about a write.
type Outcome int

// The outcomes: three, never two.
const (
	Done Outcome = iota
	NotDone
	Unknown
)

// OutcomeOf sorts an error of a write: documented refusals and connections that
// were never made are NotDone; everything else may have been applied.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Done
	}
	if e := (*APIError)(nil); errors.As(err, &e) {
		if e.Status == 504 || !Documented(e) {
			return Unknown
		}
		return NotDone
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" || errors.Is(err, syscall.ECONNREFUSED) {
		return NotDone
	}
	return Unknown
}

// codes is the error table of the contract.
var codes = map[string]int{
	"bad_request": 400, "unauthenticated": 401, "forbidden": 403,
	"key_not_found": 404, "service_not_found": 404, "not_found": 404,
	"method_not_allowed": 405, "unsupported_media_type": 415,
	"cas_conflict": 409, "exists": 409, "wrong_cluster": 409,
	"session_not_found": 404, "check_not_found": 404, "lock_held": 409, "lock_delay": 409, "not_holder": 409, "limit_reached": 409,
	"service_expired": 410, "compacted": 410, "too_large": 413, "overloaded": 429,
	"no_leader": 503, "not_ready": 503, "shutting_down": 503, "disk_full": 503,
	"outcome_unknown": 504,
	// Of membership requests and of a watch whose data was replaced.
	"member_not_found": 404, "last_voter": 409, "would_lose_quorum": 409, "not_voter": 409, "address_in_use": 409, "member_exists": 409,
	"has_state": 409, "removed": 409, "transfer_failed": 503, "not_formed": 503, "reset": 410,
}

// Documented says whether status and code are a pair of the contract.
func Documented(e *APIError) bool { return e.Text != "" && codes[e.Code] == e.Status }

func short(target string) string {
	if len(target) > 120 {
		return target[:120] + "..."
	}
	return target
}
