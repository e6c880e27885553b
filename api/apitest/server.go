package apitest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/neogan74/konsul/api"
)

// Server is a listening API.
type Server struct {
	*api.Server
	URL  string
	HTTP *httptest.Server
	t    testing.TB
}

// Start serves the API of a node on a free port until the test ends.
func Start(t testing.TB, cfg api.Config, node api.Node, cl api.Cluster) *Server {
	t.Helper()
	if cl == nil {
		cl = &Cluster{}
	}
	return Serve(t, api.NewServer(cfg, node, cl))
}

// Serve listens for a server that is made already.
func Serve(t testing.TB, s *api.Server) *Server {
	t.Helper()
	h := httptest.NewUnstartedServer(nil)
	h.Config = s.HTTPServer()
	h.Start()
	t.Cleanup(func() {
		s.Drain()
		h.CloseClientConnections()
		h.Close()
	})
	return &Server{Server: s, URL: h.URL, HTTP: h, t: t}
}

// StartLocal is Start with a Local.
func StartLocal(t testing.TB) (*Server, *Local) {
	t.Helper()
	l := NewLocal(t)
	return Start(t, api.Config{Version: "test"}, l, nil), l
}

// Answer is a whole answer.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	t      testing.TB
	what   string
}

// Request makes a request whose target goes out exactly as it is.
func (s *Server) Request(method, target string, body io.Reader, header ...string) *http.Request {
	s.t.Helper()
	base, err := url.Parse(s.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	raw, query, _ := strings.Cut(target, "?")
	path, err := url.PathUnescape(raw)
	if err != nil {
		s.t.Fatalf("target %q: %v", target, err)
	}
	req, err := http.NewRequest(method, s.URL, body)
	if err != nil {
		s.t.Fatal(err)
	}
	req.URL = &url.URL{Scheme: "http", Host: base.Host, Path: path, RawPath: raw, RawQuery: query}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// Do sends a request and reads the answer; the headers are names and values in turn.
func (s *Server) Do(method, target, body string, header ...string) *Answer {
	s.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	resp, err := s.HTTP.Client().Do(s.Request(method, target, r, header...))
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: reading the answer: %v", method, target, err)
	}
	return &Answer{resp.StatusCode, resp.Header, b, s.t, method + " " + target}
}

// Get is Do without a body.
func (s *Server) Get(target string, header ...string) *Answer {
	s.t.Helper()
	return s.Do(http.MethodGet, target, "", header...)
}

// Put sends the value as raw bytes.
func (s *Server) Put(target, value string, header ...string) *Answer {
	s.t.Helper()
	return s.Do(http.MethodPut, target, value, append([]string{"Content-Type", "application/octet-stream"}, header...)...)
}

// PutJSON sends a body that is JSON.
func (s *Server) PutJSON(target, body string, header ...string) *Answer {
	s.t.Helper()
	return s.Do(http.MethodPut, target, body, append([]string{"Content-Type", "application/json"}, header...)...)
}

// Post sends a body that is JSON.
func (s *Server) Post(target, body string, header ...string) *Answer {
	s.t.Helper()
	return s.Do(http.MethodPost, target, body, append([]string{"Content-Type", "application/json"}, header...)...)
}

// Delete is Do without a body.
func (s *Server) Delete(target string, header ...string) *Answer {
	s.t.Helper()
	return s.Do(http.MethodDelete, target, "", header...)
}

// Want checks the status, and that an error is JSON with this code.
func (a *Answer) Want(status int, code ...string) *Answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("%s: status %d, want %d: %.300s", a.what, a.Status, status, a.Body)
	}
	if status < 400 {
		return a
	}
	if got := a.String("code"); len(code) > 0 && got != code[0] {
		a.t.Fatalf("%s: code %q, want %q: %s", a.what, got, code[0], a.Body)
	}
	if a.String("error") == "" {
		a.t.Fatalf("%s: an error without a text: %s", a.what, a.Body)
	}
	return a
}

// Object is the answer as an object; numbers stay as they were written.
func (a *Answer) Object() map[string]any {
	a.t.Helper()
	if ct := a.Header.Get("Content-Type"); ct != "application/json" {
		a.t.Fatalf("%s: content type %q: %.300s", a.what, ct, a.Body)
	}
	dec := json.NewDecoder(bytes.NewReader(a.Body))
	dec.UseNumber()
	var o map[string]any
	if err := dec.Decode(&o); err != nil {
		a.t.Fatalf("%s: answer %.300q: %v", a.what, a.Body, err)
	}
	return o
}

// String is a field of the answer; "" if it is not there.
func (a *Answer) String(field string) string {
	a.t.Helper()
	s, _ := a.Object()[field].(string)
	return s
}

// Uint is a number of the answer.
func (a *Answer) Uint(field string) uint64 {
	a.t.Helper()
	n, ok := a.Object()[field].(json.Number)
	v, err := strconv.ParseUint(n.String(), 10, 64)
	if !ok || err != nil {
		a.t.Fatalf("%s: no number %q in %s", a.what, field, a.Body)
	}
	return v
}

// Index is the header X-Konsul-Index.
func (a *Answer) Index() uint64 {
	a.t.Helper()
	v, err := strconv.ParseUint(a.Header.Get("X-Konsul-Index"), 10, 64)
	if err != nil {
		a.t.Fatalf("%s: X-Konsul-Index %q", a.what, a.Header.Get("X-Konsul-Index"))
	}
	return v
}
