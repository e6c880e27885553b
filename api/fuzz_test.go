package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/api/apitest"
)

// The fuzz targets send what they are given through the whole handler onto a real
// engine: no answer may be a 5xx (a recovered panic is one), and every error is JSON.

// outside lets a node live outside of the target: inside, testing.F's Helper panics.
type outside struct{ testing.TB }

func (outside) Helper() {}

var fuzzBodies = []string{
	`{"value":"x"}`, `{"value":"AA==","encoding":"base64","cas":0,"flags":1}`, `{"items":{"a":"1","b":{"encoding":"base64","value":"/w=="}}}`,
	`{"keys":["a","b"]}`, `{"keys":["YQ=="],"keys_encoding":"base64"}`,
	`{"compare":[{"key":"a","target":"value","op":"=","value":"1"}],"then":[{"op":"set","key":"a","value":"x","cas":1}],"else":[{"op":"get","key":"a"}]}`,
	`{"then":[{"op":"delete_prefix","key":"a"},{"op":"delete","key":"/w==","key_encoding":"base64"}]}`,
	`{"node_id":"a","address":"h:1","voter":true}`, `{"join":["h:1"]}`, `{"phase":"prepare","ballot":{"round":1}}`, `{"to":"a"}`, `{}`, ``, `[`, `null`,
	`{"id":"a","address":"h","port":1,"tags":["t"],"meta":{"k":"v"},"ttl":"30s","checks":[{"ttl":"1s"},{"http":"http://h/","interval":"1s","timeout":"1s","passing_after":2}]}`,
	`{"status":"passing","output":"x"}`, `{"tcp":"h:1","critical_after":3,"status":"warning"}`, `{"ttl":"10s","behavior":"delete","lock_delay":"0s","name":"n"}`,
	`{"value":"x","ttl":"1h"}`, `{"then":[{"op":"acquire","key":"a","value":"x","session":"s","ttl":"1s"},{"op":"release","key":"a","session":"s"}]}`,
}

var fuzzTargets = []string{
	"/kv/a", "/batch/set", "/batch/get", "/batch/delete", "/txn", "/cluster/join", "/cluster/bootstrap", "/cluster/transfer", "/cluster/snapshot",
	"PUT /services/web", "PUT /services/web/heartbeat", "PUT /services/web/checks/ttl", "PUT /checks/ttl", "PUT /checks/ttl/status", "/sessions", "PUT /sessions/a/renew",
	"PUT /kv/a?acquire=s", "PUT /kv/a?release=s",
}

// serve runs one request through the handler and checks what must always hold.
func serve(t *testing.T, s *api.Server, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code >= 500 {
		t.Fatalf("%s %q: %d %s", r.Method, r.URL, w.Code, w.Body)
	}
	if ct := w.Header().Get("Content-Type"); ct == "application/json" && !json.Valid(w.Body.Bytes()) {
		t.Fatalf("%s %q: not JSON: %q", r.Method, r.URL, w.Body)
	}
	if w.Code >= 400 {
		var e struct{ Error, Code string }
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Error == "" || e.Code == "" {
			t.Fatalf("%s %q: %d %q", r.Method, r.URL, w.Code, w.Body)
		}
	}
	return w
}

func FuzzBodies(f *testing.F) {
	for i := range fuzzTargets {
		for _, b := range fuzzBodies {
			f.Add(uint8(i), []byte(b))
		}
	}
	s := api.NewServer(api.Config{}, apitest.NewLocal(outside{f}), &apitest.Cluster{})
	f.Fuzz(func(t *testing.T, target uint8, body []byte) {
		method, path, found := strings.Cut(fuzzTargets[int(target)%len(fuzzTargets)], " ")
		if !found {
			method, path = http.MethodPost, method
		}
		r := httptest.NewRequest(method, path, strings.NewReader(string(body)))
		r.Header.Set("Content-Type", "application/json")
		serve(t, s, r)
	})
}

func FuzzQueries(f *testing.F) {
	for _, q := range []string{
		"prefix=a&limit=2&after=b&separator=/&values=true", "at=1", "index=1&wait=1ms", "consistency=stale&max_stale=5s", "cas=0&flags=1", "raw", "all=true",
		"prefix=%ff", "a=1;b=2", "=&=", "%", "ttl=1s", "key=a&from=99999",
		"tag=a&tag=b&meta=k:v&healthy=true&detail=true", "acquire=s&ttl=1s", "release=s", "node=a", "id=web",
	} {
		f.Add(uint8(0), q)
		f.Add(uint8(1), q)
	}
	s := api.NewServer(api.Config{}, apitest.NewLocal(outside{f}), &apitest.Cluster{})
	f.Fuzz(func(t *testing.T, which uint8, query string) {
		if strings.Contains(query, "wait") || strings.Contains(query, "index") {
			query = "index=0&wait=0s"
		}
		for _, target := range []string{"/kv/a", "/kv", "/batch/get", "/cluster/digest", "/health", "/services", "/services/web", "/services/web/checks", "/checks", "/checks/a", "/sessions", "/sessions/a"} {
			r := httptest.NewRequest([]string{http.MethodGet, http.MethodDelete, http.MethodPut}[which%3], target, nil)
			r.URL.RawQuery = query
			if target == "/cluster/digest" && strings.Contains(query, "at") {
				continue // waits for an index that never comes
			}
			serve(t, s, r)
		}
	})
}

// FuzzKeyPaths: whatever the key, it round-trips; whatever the path, no 5xx.
func FuzzKeyPaths(f *testing.F) {
	for _, k := range oddKeys {
		f.Add(k)
	}
	s := api.NewServer(api.Config{}, apitest.NewLocal(outside{f}), &apitest.Cluster{})
	f.Fuzz(func(t *testing.T, key string) {
		if u, err := url.ParseRequestURI("/" + strings.ReplaceAll(key, " ", "%20")); err == nil { // the key as a raw path
			r := httptest.NewRequest(http.MethodGet, "/health/live", nil)
			r.URL = u
			r.URL.RawQuery = ""
			serve(t, s, r)
		}
		u, err := url.ParseRequestURI("/kv/" + escapeAll(key))
		if err != nil {
			t.Fatal(err)
		}
		put := httptest.NewRequest(http.MethodPut, "/kv/x", strings.NewReader(key))
		put.URL = u
		w := serve(t, s, put)
		if valid := len(key) >= 1 && len(key) <= 4096; (w.Code == 200) != valid {
			t.Fatalf("%q: %d %s", key, w.Code, w.Body)
		} else if !valid {
			return
		}
		get := httptest.NewRequest(http.MethodGet, "/kv/x?raw=true", nil)
		get.URL.Path, get.URL.RawPath = u.Path, u.RawPath
		if w := serve(t, s, get); w.Code != 200 || w.Body.String() != key {
			t.Fatalf("%q: %d %q", key, w.Code, w.Body)
		}
	})
}
