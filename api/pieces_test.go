package api_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/api/apitest"
)

// largeValues are written in pieces; runes of every length lie across their ends.
func largeValues() map[string]string {
	binary := make([]byte, 512<<10)
	for i := range binary {
		binary[i] = byte(i * 7)
	}
	return map[string]string{
		"ascii":    strings.Repeat("a", 512<<10),
		"escapes":  strings.Repeat("\x00", 512<<10),
		"runes":    "a" + strings.Repeat("é€\u2028😀", 30000),
		"binary":   string(binary),
		"one over": strings.Repeat("b", 24<<10+1),
	}
}

type shownEntry struct {
	Key, Value, Encoding string
	ModifyIndex          uint64 `json:"modify_index"`
}

func (e shownEntry) value(t *testing.T) string {
	t.Helper()
	if e.Encoding == "" {
		return e.Value
	}
	b, err := base64.StdEncoding.DecodeString(e.Value)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func parse(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

func TestLargeValuesComeWhole(t *testing.T) {
	for name, value := range largeValues() {
		t.Run(name, func(t *testing.T) {
			s, _ := apitest.StartLocal(t)
			w := s.Watch("/watch?prefix=&prev=true")
			index := s.Put("/kv/k", value).Want(200).Index()
			var entry, event shownEntry
			parse(t, s.Get("/kv/k").Want(200).Body, &entry)
			var list struct{ Entries []shownEntry }
			parse(t, s.Get("/kv?prefix=&values=true").Want(200).Body, &list)
			var found struct{ Found map[string]json.RawMessage }
			parse(t, s.Post("/batch/get", `{"keys":["k"]}`).Want(200).Body, &found)
			item := shownEntry{}
			if raw := found.Found["k"]; raw[0] == '"' {
				parse(t, raw, &item.Value)
			} else {
				parse(t, raw, &item)
			}
			s.Delete("/kv/k").Want(200)
			parse(t, []byte(w.Next().Data), &event)
			var deleted struct{ Prev shownEntry }
			parse(t, []byte(w.Next().Data), &deleted)
			for where, e := range map[string]shownEntry{
				"get": entry, "list": list.Entries[0], "batch": item, "watch": event, "prev": deleted.Prev,
			} {
				if e.value(t) != value {
					t.Errorf("%s: another value of %d bytes", where, len(e.value(t)))
				}
				if where != "batch" && e.ModifyIndex != index {
					t.Errorf("%s: modify_index %d, want %d", where, e.ModifyIndex, index)
				}
			}
		})
	}
}

// largest remembers the largest write, which is what a client that does not read
// makes the node hold.
type largest struct {
	http.ResponseWriter
	size int
}

func (l *largest) Write(b []byte) (int, error) {
	l.size = max(l.size, len(b))
	return l.ResponseWriter.Write(b)
}

func (l *largest) Unwrap() http.ResponseWriter { return l.ResponseWriter }

// Thousands of watchers and waiting reads may be sent one value: what each of them
// holds must be small.
func TestLargeValuesAreHeldInPieces(t *testing.T) {
	const most = 6*24<<10 + 32<<10 + 4096
	l := apitest.NewLocal(t)
	s := api.NewServer(api.Config{Keepalive: time.Hour}, l, nil)
	do := func(method, target, body string) int {
		w := &largest{ResponseWriter: httptest.NewRecorder()}
		s.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
		return w.size
	}
	do(http.MethodPut, "/kv/k", strings.Repeat("\x00", 512<<10))
	for _, target := range []string{"/kv/k", "/kv?prefix=&values=true"} {
		if size := do(http.MethodGet, target, ""); size == 0 || size > most {
			t.Errorf("GET %s: %d bytes at once", target, size)
		}
	}
	if size := do(http.MethodPost, "/batch/get", `{"keys":["k"]}`); size == 0 || size > most {
		t.Errorf("POST /batch/get: %d bytes at once", size)
	}
	w := &largest{ResponseWriter: httptest.NewRecorder()}
	r := httptest.NewRequest(http.MethodGet, "/watch?prefix=&from=0", nil)
	time.AfterFunc(time.Second, s.Drain)
	s.ServeHTTP(w, r)
	if w.size == 0 || w.size > most {
		t.Errorf("GET /watch: %d bytes at once", w.size)
	}
}
