package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/client"
)

// stream answers with an event stream and ends it like a broken connection.
func stream(index string, frames ...string) answerFunc {
	return func(w http.ResponseWriter, r *http.Request, n int) {
		w.Header().Set("Content-Type", "text/event-stream")
		if index != "" {
			w.Header().Set("X-Konsul-Index", index)
		}
		w.WriteHeader(http.StatusOK)
		io.WriteString(w, ": hello\n\n"+strings.Join(frames, ""))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func put(index int, key, value string) string {
	return fmt.Sprintf("id: %d\nevent: put\ndata: {\"key\":%q,\"value\":%q,\"create_index\":1,\"modify_index\":%d,\"flags\":0}\n\n", index, key, value, index)
}

func del(index int, key, rest string) string {
	return fmt.Sprintf("id: %d\nevent: delete\ndata: {\"key\":%q%s}\n\n", index, key, rest)
}

func errorEvent(code string) string {
	return fmt.Sprintf("event: error\ndata: {\"error\":\"it is %s\",\"code\":%q,\"oldest_index\":30}\n\n", code, code)
}

// collect watches until an error or until want events were seen.
func collect(ctx context.Context, c *client.Client, o client.WatchOptions, want int) (events []string, err error) {
	for event, err := range c.Watch(ctx, o) {
		if err != nil {
			return events, err
		}
		line := fmt.Sprintf("%d %s %s", event.Index, event.Type, event.Key)
		if event.Type == client.EventPut {
			line += "=" + string(event.Entry.Value)
		}
		if event.Previous != nil {
			line += " was " + string(event.Previous)
		}
		if events = append(events, line); len(events) == want {
			break
		}
	}
	return events, nil
}

func sameLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWatchYieldsEvents(t *testing.T) {
	d := newDouble(t, stream("4",
		put(5, "a", "1"), ": a comment\n\n", del(6, "a", ""), del(7, "b", `,"prev":{"key":"b","value":"old"}`),
		"id:8\r\nevent:put\r\ndata:{\"key\":\"/w==\",\"key_encoding\":\"base64\",\r\ndata:\"value\":\"x\"}\r\n\r\n"))
	got, err := collect(testContext(t), to(t, d), client.WatchOptions{Prefix: "a b", Previous: true}, 4)
	if err != nil {
		t.Fatal(err)
	}
	sameLines(t, got, "5 put a=1", "6 delete a", "7 delete b was old", "8 put \xff=x")
	r := d.requests()[0]
	if r.URI != "/watch?prefix=a+b&prev=true" || r.Header.Get("Last-Event-ID") != "" || r.Header.Get("Accept") != "text/event-stream" {
		t.Errorf("asked %s with %v", r.URI, r.Header)
	}
}

func TestWatchAsksForOneKeyFromAnIndex(t *testing.T) {
	d := newDouble(t, stream("", put(5, "k", "1")))
	if _, err := collect(testContext(t), to(t, d), client.WatchOptions{Key: "k", From: 4}, 1); err != nil {
		t.Fatal(err)
	}
	if uri := d.requests()[0].URI; uri != "/watch?from=4&key=k" {
		t.Errorf("asked %s", uri)
	}
}

// TestWatchResumes: the connection breaks at every kind of place; every event comes
// exactly once, and the next stream is asked for from the last index known complete.
func TestWatchResumes(t *testing.T) {
	for name, tc := range map[string]struct {
		options client.WatchOptions
		streams []answerFunc
		resumed string // Last-Event-ID of the second stream
		want    []string
	}{
		"before any event, from now on": {
			streams: []answerFunc{stream("4"), stream("4", put(5, "a", "1"))}, resumed: "4", want: []string{"5 put a=1"},
		},
		"before any event, from an index": {
			options: client.WatchOptions{From: 3},
			streams: []answerFunc{stream("9"), stream("9", put(5, "a", "1"))}, resumed: "3", want: []string{"5 put a=1"},
		},
		"after an event, its index perhaps not complete": {
			streams: []answerFunc{stream("4", put(5, "a", "1"), put(6, "a", "2")),
				stream("9", put(6, "a", "2"), put(6, "b", "2"), put(7, "a", "3"))},
			resumed: "5", want: []string{"5 put a=1", "6 put a=2", "6 put b=2", "7 put a=3"},
		},
		"in the middle of an event": {
			streams: []answerFunc{stream("4", put(5, "a", "1"), "id: 6\nevent: put\ndata: {\"key\":\"a\",\"val"),
				stream("9", put(5, "a", "1"), put(6, "a", "2"))},
			resumed: "4", want: []string{"5 put a=1", "6 put a=2"},
		},
		"in the middle of an event, at the end of a line": {
			streams: []answerFunc{stream("4", put(5, "a", "1"), strings.TrimSuffix(put(6, "a", "2"), "\n")),
				stream("9", put(5, "a", "1"), put(6, "a", "2"))},
			resumed: "4", want: []string{"5 put a=1", "6 put a=2"},
		},
		"after a progress mark": {
			streams: []answerFunc{stream("4", put(5, "a", "1"), "id: 8\n\n"), stream("9", put(9, "a", "2"))},
			resumed: "8", want: []string{"5 put a=1", "9 put a=2"},
		},
		"by a node that stops": {
			streams: []answerFunc{stream("4", put(5, "a", "1"), errorEvent("shutting_down")),
				stream("9", put(5, "a", "1"), put(6, "a", "2"))},
			resumed: "4", want: []string{"5 put a=1", "6 put a=2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t, script(tc.streams...))
			var lost int
			tc.options.OnDisconnect = func(error) { lost++ }
			got, err := collect(testContext(t), to(t, d), tc.options, len(tc.want))
			if err != nil {
				t.Fatal(err)
			}
			sameLines(t, got, tc.want...)
			requests := d.requests()
			if len(requests) != 2 || lost != 1 {
				t.Fatalf("%d streams, %d disconnects", len(requests), lost)
			}
			if id := requests[1].Header.Get("Last-Event-ID"); id != tc.resumed {
				t.Errorf("resumed after %q, want %q", id, tc.resumed)
			}
		})
	}
}

func TestWatchMovesToAnotherNodeAndWaitsForTheCluster(t *testing.T) {
	first := newDouble(t, script(stream("4", put(5, "a", "1")), failure(503, "not_ready")))
	second := newDouble(t, script(failure(503, "no_leader"), failure(503, "no_leader"), stream("9", put(5, "a", "1"), put(6, "a", "2"))))
	got, err := collect(testContext(t), to(t, first, second), client.WatchOptions{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	sameLines(t, got, "5 put a=1", "6 put a=2")
}

func TestWatchEndsWithAnError(t *testing.T) {
	for name, tc := range map[string]struct {
		streams []answerFunc
		is      error
	}{
		"compacted at once":          {[]answerFunc{failure(410, "compacted")}, client.ErrCompacted},
		"compacted in the stream":    {[]answerFunc{stream("4", put(5, "a", "1"), errorEvent("compacted"))}, client.ErrCompacted},
		"compacted when resumed":     {[]answerFunc{stream("4", put(5, "a", "1")), failure(410, "compacted")}, client.ErrCompacted},
		"data replaced":              {[]answerFunc{stream("4", put(5, "a", "1"), errorEvent("reset"))}, client.ErrReset},
		"forbidden":                  {[]answerFunc{failure(403, "forbidden")}, client.ErrForbidden},
		"bad request":                {[]answerFunc{failure(400, "bad_request")}, client.ErrBadRequest},
		"an event without an index":  {[]answerFunc{stream("4", "event: put\ndata: {}\n\n")}, errAny},
		"an event that is not JSON":  {[]answerFunc{stream("4", "id: 5\nevent: put\ndata: <\n\n")}, errAny},
		"an event of another kind":   {[]answerFunc{stream("4", "id: 5\nevent: moved\ndata: {}\n\n")}, errAny},
		"a status that is no stream": {[]answerFunc{says(204, "")}, errAny},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := collect(testContext(t), to(t, newDouble(t, script(tc.streams...))), client.WatchOptions{}, 100)
			if err == nil || !errors.Is(tc.is, errAny) && !errors.Is(err, tc.is) {
				t.Fatalf("error %v, want %v", err, tc.is)
			}
			var e *client.Error
			if errors.Is(tc.is, client.ErrCompacted) && errors.As(err, &e) && e.Status == 0 && e.OldestIndex != 30 {
				t.Errorf("oldest index %d", e.OldestIndex)
			}
		})
	}
}

func TestWatchEndsWithTheContextAndTheLoop(t *testing.T) {
	gone := make(chan struct{}, 2)
	d := newDouble(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		w.Header().Set("X-Konsul-Index", "4")
		w.WriteHeader(http.StatusOK)
		io.WriteString(w, put(5, "a", "1"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	})
	c := to(t, d)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var last error
	for _, err := range c.Watch(ctx, client.WatchOptions{}) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("ended with %v", last)
	}
	for range c.Watch(testContext(t), client.WatchOptions{}) {
		break
	}
	for range 2 {
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Fatal("a connection was left open")
		}
	}
}

func TestWatchWithoutANodeFails(t *testing.T) {
	c := newClient(t, client.Config{Addresses: []string{refusing(t)}, FailFast: true})
	if _, err := collect(testContext(t), c, client.WatchOptions{}, 1); !client.IsUnreachable(err) {
		t.Errorf("error %v", err)
	}
}
