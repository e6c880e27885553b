package apitest

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Frame is one block of an event stream.
type Frame struct {
	ID, Event, Data, Comment string
}

// Events is an open watch.
type Events struct {
	Header http.Header
	frames chan Frame
	cancel context.CancelFunc
	t      testing.TB
}

// Watch opens a watch; it ends with the test.
func (s *Server) Watch(target string, header ...string) *Events {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(cancel)
	resp, err := s.HTTP.Client().Do(s.Request(http.MethodGet, target, nil, header...).WithContext(ctx))
	if err != nil {
		s.t.Fatalf("GET %s: %v", target, err)
	}
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || ct != "text/event-stream" {
		b, _ := io.ReadAll(resp.Body)
		s.t.Fatalf("GET %s: %d %s %s", target, resp.StatusCode, ct, b)
	}
	e := &Events{Header: resp.Header, frames: make(chan Frame, 4096), cancel: cancel, t: s.t}
	go func() {
		defer resp.Body.Close()
		defer close(e.frames)
		readFrames(bufio.NewReader(resp.Body), e.frames)
	}()
	return e
}

func readFrames(r *bufio.Reader, to chan<- Frame) {
	var f Frame
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			to <- f
			f = Frame{}
		case name == "":
			f.Comment = value
		case name == "id":
			f.ID = value
		case name == "event":
			f.Event = value
		case name == "data":
			f.Data = value
		}
	}
}

// Frame returns the next block, comments included; ok is false at the end of the stream.
func (e *Events) Frame() (f Frame, ok bool) {
	e.t.Helper()
	select {
	case f, ok = <-e.frames:
		return f, ok
	case <-time.After(10 * time.Second):
		e.t.Fatal("no event for 10 s")
		return f, false
	}
}

// Next returns the next event.
func (e *Events) Next() Frame {
	e.t.Helper()
	for {
		f, ok := e.Frame()
		if !ok {
			e.t.Fatal("the stream ended")
		}
		if f.Event != "" {
			return f
		}
	}
}

// Close ends the watch from the client's side.
func (e *Events) Close() { e.cancel() }
