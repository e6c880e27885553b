package client_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeLock is a node that knows one key and sessions. Nothing expires by itself: what
// the client decides on its own clock is the point.
type fakeLock struct {
	*httptest.Server
	mu       sync.Mutex
	changed  *sync.Cond
	index    int
	sessions map[string]bool
	created  int
	exists   bool
	holder   string
	lock     int
	modified int
	delay    time.Time // until then nobody may acquire
	silent   bool      // requests are read and never answered
	// before is asked what to do instead of an answer: "" = answer, "drop" = do it and hang
	// up, "503" = refuse.
	before func(call string) string
	calls  []string
}

func newFakeLock(t *testing.T) *fakeLock {
	t.Helper()
	f := &fakeLock{index: 10, sessions: map[string]bool{}, before: func(string) string { return "" }}
	f.changed = sync.NewCond(&f.mu)
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// change does something behind the client's back.
func (f *fakeLock) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	f.changed.Broadcast()
}

func (f *fakeLock) nothingLeft(t *testing.T) {
	t.Helper()
	f.change(func() {
		if f.holder != "" || len(f.sessions) != 0 {
			t.Errorf("held by %q, sessions %v", f.holder, f.sessions)
		}
	})
}

func (f *fakeLock) count(call string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.calls {
		if c == call {
			n++
		}
	}
	return n
}

func (f *fakeLock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	call := f.name(r)
	f.calls = append(f.calls, call)
	if f.silent {
		f.mu.Unlock()
		<-r.Context().Done()
		f.mu.Lock()
		return
	}
	what := f.before(call)
	if what == "503" {
		reply(w, 503, `{"error":"no leader","code":"no_leader"}`)
		return
	}
	status, body := f.do(call, r)
	if what == "drop" {
		hangUp(w, r, 0)
		return
	}
	w.Header().Set("X-Konsul-Index", fmt.Sprint(f.index))
	reply(w, status, body)
}

func (f *fakeLock) name(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.URL.Path == "/sessions":
		return "create"
	case strings.HasSuffix(r.URL.Path, "/renew"):
		return "renew"
	case strings.HasPrefix(r.URL.Path, "/sessions/"):
		return "destroy"
	case q.Has("acquire"):
		return "acquire"
	case q.Has("release"):
		return "release"
	}
	return "read"
}

func (f *fakeLock) do(call string, r *http.Request) (int, string) {
	const noSession = `{"error":"session not found","code":"session_not_found"}`
	q := r.URL.Query()
	id := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/sessions/"), "/renew")
	if call == "acquire" || call == "release" {
		id = q.Get(call)
	}
	if call != "create" && call != "read" && !f.sessions[id] {
		return 404, noSession
	}
	f.changed.Broadcast()
	switch call {
	case "create":
		f.created++
		id = fmt.Sprintf("s%d", f.created)
		f.sessions[id] = true
		return 201, fmt.Sprintf(`{"id":%q,"ttl":"1s","modify_index":%d}`, id, f.index)
	case "renew":
		return 200, `{}`
	case "destroy":
		f.end(id)
		return 200, `{}`
	case "acquire":
		return f.acquire(id)
	case "release":
		if f.holder != id {
			return 409, fmt.Sprintf(`{"error":"not the holder","code":"not_holder","session":%q}`, f.holder)
		}
		f.set("")
		return 200, fmt.Sprintf(`{"modify_index":%d}`, f.index)
	}
	return f.read(r)
}

func (f *fakeLock) acquire(id string) (int, string) {
	if f.holder != "" && f.holder != id {
		return 409, fmt.Sprintf(`{"error":"the key is held by session %s","code":"lock_held","session":%q,"modify_index":%d}`, f.holder, f.holder, f.modified)
	}
	if left := time.Until(f.delay); left > 0 {
		return 409, fmt.Sprintf(`{"error":"wait","code":"lock_delay","wait":%q,"modify_index":%d}`, left, f.modified)
	}
	if f.holder != id {
		f.lock = f.index + 1
	}
	f.exists = true
	f.set(id)
	return 200, fmt.Sprintf(`{"modify_index":%d,"create_index":10,"lock_index":%d}`, f.index, f.lock)
}

// end is what a destroyed session leaves.
func (f *fakeLock) end(id string) {
	delete(f.sessions, id)
	if f.holder == id {
		f.set("")
	}
}

func (f *fakeLock) set(holder string) {
	f.index++
	f.holder, f.modified = holder, f.index
	f.changed.Broadcast()
}

func (f *fakeLock) read(r *http.Request) (int, string) {
	var after int
	fmt.Sscan(r.URL.Query().Get("index"), &after)
	defer time.AfterFunc(10*time.Second, f.changed.Broadcast).Stop()
	go func() {
		<-r.Context().Done()
		f.changed.Broadcast()
	}()
	for f.modified <= after && r.Context().Err() == nil {
		f.changed.Wait()
	}
	if !f.exists {
		return 404, `{"error":"key not found","code":"key_not_found"}`
	}
	return 200, fmt.Sprintf(`{"key":"k","value":"","create_index":10,"modify_index":%d,"flags":0,"lock_index":%d,"session":%q}`, f.modified, f.lock, f.holder)
}
