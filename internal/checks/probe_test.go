package checks

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence/record"
)

func probeOnce(t *testing.T, kind command.Check_Kind, target string, timeout time.Duration) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return newProber().run(ctx, &record.Check{Kind: uint32(kind), Target: target})
}

func TestHTTPStatus(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code := map[string]int{"/ok": 200, "/empty": 204, "/busy": 429, "/bad": 503, "/lost": 404, "/moved": 304}[r.URL.Path]
		w.WriteHeader(code)
		if r.URL.Path == "/bad" {
			_, _ = io.WriteString(w, "out of \xff cheese\n")
		}
	}))
	defer srv.Close()
	for path, want := range map[string]command.Check_Status{
		"/ok": command.Check_PASSING, "/empty": command.Check_PASSING, "/busy": command.Check_WARNING,
		"/bad": command.Check_CRITICAL, "/lost": command.Check_CRITICAL, "/moved": command.Check_CRITICAL,
	} {
		require.Equal(t, want, probeOnce(t, command.Check_HTTP, srv.URL+path, patience).status, path)
	}
	require.Equal(t, "GET "+srv.URL+"/bad: 503 Service Unavailable: out of \uFFFD cheese",
		probeOnce(t, command.Check_HTTP, srv.URL+"/bad", patience).output)
}

func TestOutputIsBounded(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat("ä", 1000)); err != nil {
				return // the reader had enough
			}
		}
	}))
	defer srv.Close()
	res := probeOnce(t, command.Check_HTTP, srv.URL, patience)
	require.Equal(t, command.Check_PASSING, res.status)
	require.LessOrEqual(t, len(res.output), command.MaxCheckOutput)
	require.Greater(t, len(res.output), command.MaxCheckOutput-4)
	require.True(t, utf8.ValidString(res.output))
}

func TestRedirectsStayWithinTheHost(t *testing.T) {
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer other.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := map[string]string{"/near": "/there", "/away": other.URL, "/round": "/round"}[r.URL.Path]
		if to != "" {
			http.Redirect(w, r, to, http.StatusFound)
		}
	}))
	defer srv.Close()
	require.Equal(t, command.Check_PASSING, probeOnce(t, command.Check_HTTP, srv.URL+"/near", patience).status)
	require.Equal(t, command.Check_CRITICAL, probeOnce(t, command.Check_HTTP, srv.URL+"/away", patience).status)
	require.False(t, asked, "the check went elsewhere")
	require.Equal(t, command.Check_CRITICAL, probeOnce(t, command.Check_HTTP, srv.URL+"/round", patience).status)
}

func TestTimeoutsAndRefusals(t *testing.T) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer srv.Close()
	defer close(hang)
	res := probeOnce(t, command.Check_HTTP, srv.URL, 50*time.Millisecond)
	require.Equal(t, command.Check_CRITICAL, res.status)
	require.Contains(t, res.output, "no answer within")

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.Equal(t, result{command.Check_PASSING, "connected to " + addr}, probeOnce(t, command.Check_TCP, addr, patience))
	require.NoError(t, ln.Close())
	res = probeOnce(t, command.Check_TCP, addr, patience)
	require.Equal(t, command.Check_CRITICAL, res.status)
	require.Contains(t, res.output, "refused")
	require.Equal(t, command.Check_CRITICAL, probeOnce(t, command.Check_HTTP, "http://user:secret@"+addr, patience).status)
	require.NotContains(t, probeOnce(t, command.Check_HTTP, "http://user:secret@"+addr, patience).output, "secret")
	require.Equal(t, command.Check_CRITICAL, probeOnce(t, command.Check_TTL, addr, patience).status)
}

// The environment's proxy is this node's, not the service's.
// The connection of an answer 101 is no longer the HTTP client's, and does not end with
// the check's time: reading from it would hold a place, and the node's end, for ever.
func TestSwitchingProtocolsDoesNotHang(t *testing.T) {
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
		<-done
	}))
	defer srv.Close()
	defer close(done)
	got := make(chan result, 1)
	go func() { got <- probeOnce(t, command.Check_HTTP, srv.URL, 100*time.Millisecond) }()
	select {
	case res := <-got:
		require.Equal(t, result{status: command.Check_CRITICAL, output: "GET " + srv.URL + ": 101 Switching Protocols"}, res)
	case <-time.After(patience):
		t.Fatal("the check hangs")
	}
}

func TestNoProxy(t *testing.T) {
	used := false
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { used = true }))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	probeOnce(t, command.Check_HTTP, "http://konsul-check.invalid/", patience)
	require.False(t, used)
}
