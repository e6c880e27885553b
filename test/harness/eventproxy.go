package harness

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// EventProxy serves the API at address, and change decides what becomes of each frame of
// its event streams: what to send instead, and whether the stream goes on. It is called
// from one goroutine per stream. The result is the proxy's address.
func EventProxy(t testing.TB, address string, change func(frame string) (string, bool)) string {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: address}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = hclog.NewNullLogger().StandardLogger(nil) // streams that are cut are meant to be
	proxy.ModifyResponse = func(resp *http.Response) error {
		if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
			resp.Body = &changedStream{Closer: resp.Body, r: bufio.NewReader(resp.Body), change: change}
		}
		return nil
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// changedStream is the body of an event stream, changed.
type changedStream struct {
	io.Closer
	r      *bufio.Reader
	change func(string) (string, bool)
	rest   string
	ended  bool
}

func (s *changedStream) Read(p []byte) (int, error) {
	for s.rest == "" {
		if s.ended {
			return 0, io.ErrUnexpectedEOF
		}
		var frame strings.Builder
		for line := "-"; line != "\n"; {
			var err error
			if line, err = s.r.ReadString('\n'); err != nil {
				return 0, err
			}
			frame.WriteString(line)
		}
		out, more := s.change(frame.String())
		s.rest, s.ended = out, !more
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
