package api_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/api/apitest"
	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/internal/persistence"
)

// until polls for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(10 * time.Second); !ok(); <-look.C {
		if time.Now().After(deadline) {
			t.Fatalf("not in 10 s: %s", what)
		}
	}
}

func TestWatchPrefix(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	s.Put("/kv/a/0", "before").Want(200)
	w := s.Watch("/watch?prefix=a/&prev=true")
	if w.Header.Get("X-Konsul-Index") == "" || w.Header.Get("Cache-Control") != "no-cache" {
		t.Fatalf("%v", w.Header)
	}
	i1 := s.Put("/kv/a/1", "x").Want(200).Uint("modify_index")
	s.Put("/kv/b", "x").Want(200)
	i2 := s.Delete("/kv/a/1").Want(200).Index()
	i3 := s.Post("/batch/set", `{"items":{"a/3":"3","b":"0","a/2":"2"}}`).Want(200).Index()
	want := []apitest.Frame{
		{ID: fmt.Sprint(i1), Event: "put", Data: fmt.Sprintf(`{"key":"a/1","value":"x","create_index":%d,"modify_index":%d,"flags":0}`, i1, i1)},
		{ID: fmt.Sprint(i2), Event: "delete", Data: fmt.Sprintf(`{"key":"a/1","index":%d,"modify_index":%d,"prev":{"key":"a/1","value":"x","create_index":%d,"modify_index":%d,"flags":0}}`, i2, i2, i1, i1)},
		{ID: fmt.Sprint(i3), Event: "put", Data: fmt.Sprintf(`{"key":"a/2","value":"2","create_index":%d,"modify_index":%d,"flags":0}`, i3, i3)},
		{ID: fmt.Sprint(i3), Event: "put", Data: fmt.Sprintf(`{"key":"a/3","value":"3","create_index":%d,"modify_index":%d,"flags":0}`, i3, i3)},
	}
	for _, f := range want {
		if got := w.Next(); got != f {
			t.Fatalf("got  %+v\nwant %+v", got, f)
		}
	}
}

func TestWatchResumes(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	var indexes []uint64
	for i := range 5 {
		indexes = append(indexes, s.Put("/kv/a", fmt.Sprint(i)).Want(200).Index())
	}
	for name, w := range map[string]*apitest.Events{
		"from":             s.Watch(fmt.Sprintf("/watch?key=a&from=%d", indexes[1])),
		"Last-Event-ID":    s.Watch("/watch?key=a", "Last-Event-ID", fmt.Sprint(indexes[1])),
		"the latter first": s.Watch("/watch?key=a&from=0", "Last-Event-ID", fmt.Sprint(indexes[1])),
	} {
		for _, i := range indexes[2:] {
			if got := w.Next(); got.ID != fmt.Sprint(i) {
				t.Errorf("%s: event %+v, want index %d", name, got, i)
			}
		}
	}
	if got := s.Watch("/watch?key=a&from=0").Next(); got.ID != fmt.Sprint(indexes[0]) {
		t.Errorf("from 0: %+v", got)
	}
}

func TestWatchKeyIsExact(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	w := s.Watch("/watch?key=a%FF")
	s.Put("/kv/a", "no").Want(200)
	s.Put("/kv/a%FFb", "no").Want(200)
	i := s.Put("/kv/a%FF", "yes").Want(200).Index()
	want := fmt.Sprintf(`{"key":"Yf8=","key_encoding":"base64","value":"yes","create_index":%d,"modify_index":%d,"flags":0}`, i, i)
	if got := w.Next(); got.Data != want {
		t.Fatalf("%+v", got)
	}
}

func TestWatchSaysItIsAlive(t *testing.T) {
	l := apitest.NewLocal(t)
	s := apitest.Start(t, api.Config{Keepalive: 5 * time.Millisecond}, l, nil)
	w := s.Watch("/watch?key=a")
	if f, ok := w.Frame(); !ok || f.Comment == "" {
		t.Fatalf("no comment first: %+v", f)
	}
	i := s.Put("/kv/other", "x").Want(200).Index()
	for {
		f, ok := w.Frame()
		if !ok || f.Comment == "" || f.Event != "" {
			t.Fatalf("%+v", f)
		}
		if f.ID == fmt.Sprint(i) { // progress without an event
			return
		}
	}
}

func TestWatchRefuses(t *testing.T) {
	s, l := apitest.StartLocal(t)
	for _, q := range []string{
		"", "key=", "key=a&prefix=b", "service=a/b", "services=false", "key=a&services=true", "key=a&from=x", "key=a&prev=maybe", "key=a&x=1",
		"key=" + strings.Repeat("k", 4097), "prefix=" + strings.Repeat("k", 4097),
	} {
		s.Get("/watch?"+q).Want(400, "bad_request")
	}
	s.Get("/watch?key=a", "Last-Event-ID", "abc").Want(400, "bad_request")
	if a := s.Get("/watch?key=a&from=1000000").Want(400, "bad_request"); a.Uint("newest_index") != l.DB.Published() {
		t.Fatalf("%s", a.Body)
	}
}

// scripted is a subscription that answers from a list.
type scripted struct {
	answers []func(context.Context) ([]fsm.Event, uint64, error)
}

func (s *scripted) Next(ctx context.Context) ([]fsm.Event, uint64, error) {
	next := s.answers[0]
	s.answers = s.answers[1:]
	return next(ctx)
}
func (s *scripted) Progress() uint64 { return 0 }
func (s *scripted) Close()           {}

func ends(err error) func(context.Context) ([]fsm.Event, uint64, error) {
	return func(context.Context) ([]fsm.Event, uint64, error) { return nil, 0, err }
}

func TestWatchCompacted(t *testing.T) {
	node := &apitest.Node{Node: apitest.NewLocal(t)}
	s := apitest.Start(t, api.Config{}, node, nil)
	node.SubscribeFunc = func(fsm.Filter, uint64) (api.Subscription, error) {
		return nil, &persistence.CompactedError{Oldest: 42}
	}
	if a := s.Get("/watch?key=a&from=1").Want(410, "compacted"); a.Uint("oldest_index") != 42 {
		t.Fatalf("%s", a.Body)
	}
	for want, err := range map[string]error{
		`"code":"compacted","oldest_index":42}`: fmt.Errorf("reading history: %w", &persistence.CompactedError{Oldest: 42}),
		`"code":"reset"}`:                       fsm.ErrReset,
		`"code":"internal"}`:                    fmt.Errorf("a bug"),
	} {
		node.SubscribeFunc = func(fsm.Filter, uint64) (api.Subscription, error) {
			return &scripted{[]func(context.Context) ([]fsm.Event, uint64, error){ends(err)}}, nil
		}
		w := s.Watch("/watch?key=a&from=1")
		if f := w.Next(); f.Event != "error" || !strings.Contains(f.Data, want) || f.ID != "" {
			t.Fatalf("%+v, want %s", f, want)
		}
		if _, more := w.Frame(); more {
			t.Fatal("the stream goes on after an error")
		}
	}
}

func TestWatchersAreLimited(t *testing.T) {
	l := apitest.NewLocal(t)
	s := apitest.Start(t, api.Config{MaxWaiting: 1}, l, nil)
	w := s.Watch("/watch?key=a")
	if a := s.Get("/watch?key=b").Want(429, "overloaded"); a.Header.Get("Retry-After") == "" {
		t.Fatal("no Retry-After")
	}
	s.Get("/kv/a?index=1").Want(429, "overloaded")
	w.Close()
	until(t, "the first watch is gone", func() bool {
		return s.Get("/kv/a?index=1&wait=1ms").Status == 404
	})
}

// TestWatchCutsOffWhoDoesNotRead: the consumer's connection is closed once the
// buffers on the way are full, and nothing grows on the node.
func TestWatchCutsOffWhoDoesNotRead(t *testing.T) {
	l := apitest.NewLocal(t)
	s := apitest.Start(t, api.Config{SendTimeout: 50 * time.Millisecond}, l, nil)
	conn, err := net.Dial("tcp", s.HTTP.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /watch?prefix= HTTP/1.1\r\nHost: x\r\n\r\n")
	watchers := func() bool { return strings.Contains(string(s.Get("/metrics").Body), "konsul_watchers 1") }
	until(t, "the watch is open", watchers)
	value := strings.Repeat("x", 256<<10)
	until(t, "the watch is cut off", func() bool {
		s.Put("/kv/a", value).Want(200)
		return !watchers()
	})
}

func TestDrain(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	w := s.Watch("/watch?key=a")
	blocked := make(chan *apitest.Answer, 1)
	go func() { blocked <- s.Get("/kv/a?index=100&wait=1m") }()
	until(t, "both wait", func() bool { return strings.Contains(string(s.Get("/metrics").Body), "konsul_http_waiting 2") })
	s.Drain()
	if f := w.Next(); f.Event != "error" || !strings.Contains(f.Data, `"shutting_down"`) {
		t.Fatalf("%+v", f)
	}
	(<-blocked).Want(503, "shutting_down")
	s.Get("/watch?key=a").Want(503, "shutting_down")
	s.Get("/health/ready").Want(503, "shutting_down")
	s.Put("/kv/a", "x").Want(200)
	s.Get("/kv/a").Want(200)
}

func TestBlockingReads(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	now := s.Get("/kv/a").Want(404, "key_not_found").Index()
	answers := make(chan *apitest.Answer, 2)
	go func() { answers <- s.Get(fmt.Sprintf("/kv/a?index=%d&wait=10s", now)) }()
	go func() { answers <- s.Get(fmt.Sprintf("/kv?prefix=a&index=%d&wait=10s", now)) }()
	until(t, "both wait", func() bool { return strings.Contains(string(s.Get("/metrics").Body), "konsul_http_waiting 2") })
	s.Put("/kv/b", "unrelated").Want(200)
	select {
	case a := <-answers:
		t.Fatalf("woken by an unrelated change: %s", a.Body)
	case <-time.After(30 * time.Millisecond):
	}
	put := s.Put("/kv/a", "x").Want(200).Uint("modify_index")
	for range 2 {
		if a := (<-answers).Want(200); a.Index() < put {
			t.Fatalf("index %d, want at least %d", a.Index(), put)
		}
	}
	if a := s.Get(fmt.Sprintf("/kv/a?index=%d&wait=10s", put-1)).Want(200); a.Uint("modify_index") != put {
		t.Fatalf("%s", a.Body)
	}
	go func() { answers <- s.Get(fmt.Sprintf("/kv/a?index=%d&wait=10s", put)) }()
	until(t, "it waits", func() bool { return strings.Contains(string(s.Get("/metrics").Body), "konsul_http_waiting 1") })
	s.Delete("/kv/a").Want(200)
	(<-answers).Want(404, "key_not_found")
}

func TestBlockingReadTimesOut(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	put := s.Put("/kv/a", "x").Want(200).Uint("modify_index")
	s.Put("/kv/b", "x").Want(200)
	a := s.Get(fmt.Sprintf("/kv/a?index=%d&wait=5ms", put)).Want(200)
	if a.Uint("modify_index") != put || a.Index() != put+1 {
		t.Fatalf("%s at %d", a.Body, a.Index())
	}
	s.Get("/kv/none?index=1000000&wait=0s").Want(404)
}

func TestReadsOfThePast(t *testing.T) {
	s, l := apitest.StartLocal(t)
	first := s.Put("/kv/a", "1").Want(200).Index()
	s.Put("/kv/a", "2").Want(200)
	if a := s.Get(fmt.Sprintf("/kv/a?at=%d", first)).Want(200); a.String("value") != "1" || a.Index() != first {
		t.Fatalf("%s", a.Body)
	}
	s.Get(fmt.Sprintf("/kv/a?at=%d", first-1)).Want(404, "key_not_found")
	if a := s.Get("/kv/a?at=1000000").Want(400, "bad_request"); a.Uint("newest_index") != l.DB.Published() {
		t.Fatalf("%s", a.Body)
	}
	if a := s.Get("/kv/a?consistency=stale&max_stale=5s").Want(200); a.Header.Get("X-Konsul-Staleness-Ms") != "0" {
		t.Fatalf("%v", a.Header)
	}
	if a := s.Get("/kv/a").Want(200); a.Header.Get("X-Konsul-Node") != apitest.LocalID || a.Header.Get("X-Konsul-Leader") != apitest.LocalID {
		t.Fatalf("%v", a.Header)
	}
	if resp, err := s.HTTP.Client().Do(s.Request(http.MethodHead, "/kv/a", nil)); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("HEAD: %v", err)
	}
}
