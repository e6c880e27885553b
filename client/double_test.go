package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/client"
)

// seen is a request as a node got it.
type seen struct {
	Method, URI, Body string
	Header            http.Header
}

// double is a node that answers as the test says and remembers what it was asked.
type double struct {
	*httptest.Server
	mu      sync.Mutex
	seen    []seen
	arrived chan struct{} // one per request, as far as it has room
}

// answerFunc answers the n-th request, from 0.
type answerFunc func(w http.ResponseWriter, r *http.Request, n int)

func newDouble(t *testing.T, answer answerFunc) *double {
	t.Helper()
	d := &double{arrived: make(chan struct{}, 1000)}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		d.mu.Lock()
		n := len(d.seen)
		d.seen = append(d.seen, seen{r.Method, r.RequestURI, string(body), r.Header.Clone()})
		d.mu.Unlock()
		select {
		case d.arrived <- struct{}{}:
		default:
		}
		answer(w, r, n)
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *double) requests() []seen {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]seen(nil), d.seen...)
}

// says answers every request with a status and a JSON document.
func says(status int, body string) answerFunc {
	return func(w http.ResponseWriter, _ *http.Request, _ int) { reply(w, status, body) }
}

// script answers the requests one after the other; the last goes on.
func script(answers ...answerFunc) answerFunc {
	return func(w http.ResponseWriter, r *http.Request, n int) {
		answers[min(n, len(answers)-1)](w, r, n)
	}
}

func reply(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// failure is an error answer of the contract.
func failure(status int, code string) answerFunc {
	return says(status, fmt.Sprintf(`{"error":"it is %s","code":%q}`, code, code))
}

// hangUp closes the connection after the request was read, without an answer.
func hangUp(w http.ResponseWriter, _ *http.Request, _ int) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.Close()
	}
}

func newClient(t *testing.T, cfg client.Config) *client.Client {
	t.Helper()
	if cfg.RetryTimeout == 0 {
		cfg.RetryTimeout = 5 * time.Second
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func to(t *testing.T, doubles ...*double) *client.Client {
	t.Helper()
	var addresses []string
	for _, d := range doubles {
		addresses = append(addresses, d.URL)
	}
	return newClient(t, client.Config{Addresses: addresses})
}

// refusing is an address where nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%q is not JSON: %v", got, err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%q is not JSON: %v", want, err)
	}
	gb, _ := json.Marshal(g)
	wb, _ := json.Marshal(w)
	if string(gb) != string(wb) {
		t.Errorf("sent %s, want %s", gb, wb)
	}
}
