package client_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neogan74/konsul/client"
)

// lines are the requests as "METHOD /path".
func (d *double) lines() (lines []string) {
	for _, r := range d.requests() {
		lines = append(lines, r.Method+" "+r.URI)
	}
	return lines
}

const registered = `{"message":"service registered","name":"web","id":"web-1","modify_index":9}`

// TestKeepAlive: heartbeats, a registration when one says that the instance is gone, and
// a deregistration at the end.
func TestKeepAlive(t *testing.T) {
	var beats atomic.Int32
	d := newDouble(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if strings.HasSuffix(r.URL.Path, "/heartbeat") {
			switch beats.Add(1) {
			case 2:
				reply(w, 410, `{"error":"service expired","code":"service_expired"}`)
				return
			case 3:
				reply(w, 404, `{"error":"service not found","code":"service_not_found"}`)
				return
			case 4:
				reply(w, 500, `{"error":"internal","code":"internal"}`)
				return
			}
		}
		reply(w, 200, registered)
	})
	var again, troubles atomic.Int32
	r, err := to(t, d).KeepAlive(testContext(t), client.Service{Name: "web", Address: "a", Port: 1, TTL: 60 * time.Millisecond},
		client.KeepAliveOptions{OnRegister: func(r client.RegisterResult) { again.Add(int32(r.ModifyIndex)) }, OnTrouble: func(error) { troubles.Add(1) }})
	if err != nil || r.ID != "web-1" || r.ModifyIndex != 9 {
		t.Fatalf("%+v, %v", r, err)
	}
	eventually(t, "heartbeats", func() bool { return beats.Load() >= 6 })
	if err := r.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	lines := d.lines()
	const beat, register = "PUT /services/web/heartbeat?id=web-1", "PUT /services/web"
	want := []string{register, beat, beat, register, beat, register, beat, beat}
	if !slices.Equal(lines[:8], want) || lines[len(lines)-1] != "DELETE /services/web?id=web-1" {
		t.Errorf("asked %q", lines)
	}
	if again.Load() != 18 || troubles.Load() != 1 {
		t.Errorf("registered again with indexes of %d in all, %d troubles", again.Load(), troubles.Load())
	}
	if r.Close(testContext(t)) != nil || len(d.lines()) != len(lines) {
		t.Errorf("a second Close: %q", d.lines())
	}
}

// The end of the context is a Close, and Close waits for it.
func TestKeepAliveEndsWithTheContext(t *testing.T) {
	d := newDouble(t, script(says(200, registered), says(404, `{"error":"service not found","code":"service_not_found"}`)))
	ctx, cancel := context.WithCancel(t.Context())
	r, err := to(t, d).KeepAlive(ctx, client.Service{Name: "web", Address: "a"}, client.KeepAliveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, d.requests()[0].Body, `{"address":"a","port":0,"ttl":"30s"}`)
	cancel()
	eventually(t, "the deregistration", func() bool { return len(d.lines()) == 2 })
	if err := r.Close(testContext(t)); err != nil || d.lines()[1] != "DELETE /services/web?id=web-1" {
		t.Errorf("%v, asked %q", err, d.lines())
	}
}

func TestKeepAliveFailsAtFirst(t *testing.T) {
	d := newDouble(t, failure(400, "bad_request"))
	if _, err := to(t, d).KeepAlive(testContext(t), client.Service{Name: "web"}, client.KeepAliveOptions{}); !errors.Is(err, client.ErrBadRequest) {
		t.Error(err)
	}
	d = newDouble(t, script(says(200, registered), failure(403, "forbidden")))
	r, err := to(t, d).KeepAlive(testContext(t), client.Service{Name: "web"}, client.KeepAliveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(testContext(t)); !errors.Is(err, client.ErrForbidden) {
		t.Errorf("Close: %v", err)
	}
}

// TestWatchService yields what has changed only, also that there is none, and gets over
// a lost connection.
func TestWatchService(t *testing.T) {
	at := func(index, body string, status int) answerFunc {
		return func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("X-Konsul-Index", index)
			reply(w, status, body)
		}
	}
	one := `{"instances":[` + instanceJSON + `]}`
	d := newDouble(t, script(at("5", one, 200), at("6", strings.Replace(one, "12.5s", "9s", 1), 200), hangUp,
		at("7", `{"error":"service expired","code":"service_expired"}`, 410), at("8", strings.Replace(one, "true", "false", 1), 200), failure(400, "bad_request")))
	var seen []int
	var last error
	for instances, err := range to(t, d).WatchService(testContext(t), "web", client.Healthy()) {
		if last = err; err == nil {
			seen = append(seen, len(instances))
		}
	}
	if !slices.Equal(seen, []int{1, 0, 1}) || !errors.Is(last, client.ErrBadRequest) {
		t.Errorf("seen %v, %v", seen, last)
	}
	want := []string{"GET /services/web?healthy=true", "GET /services/web?healthy=true&index=5", "GET /services/web?healthy=true&index=6",
		"GET /services/web?healthy=true&index=6", "GET /services/web?healthy=true&index=7", "GET /services/web?healthy=true&index=8"}
	if lines := d.lines(); !slices.Equal(lines, want) {
		t.Errorf("asked %q", lines)
	}
}

func TestWatchOfServices(t *testing.T) {
	d := newDouble(t, script(stream("4", "id: 5\nevent: put\ndata: {\"name\":\"web\","+strings.ReplaceAll(instanceJSON[1:], "\n", "")+"\n\n"+
		"id: 6\nevent: delete\ndata: {\"name\":\"web\",\"id\":\"web-1\"}\n\n"), failure(410, "compacted")))
	var events []client.Event
	for event, err := range to(t, d).Watch(testContext(t), client.WatchOptions{Services: true}) {
		if err == nil {
			events = append(events, event)
		}
	}
	if len(events) != 2 || events[0].Key != "web/web-1" || events[0].Instance.Port != 80 || events[0].Index != 5 ||
		events[1].Type != client.EventDelete || events[1].Key != "web/web-1" || events[1].Instance.ID != "web-1" {
		t.Errorf("events %+v", events)
	}
	d2 := newDouble(t, failure(410, "compacted"))
	for range to(t, d2).Watch(testContext(t), client.WatchOptions{Service: "web", From: 3}) {
	}
	if lines := append(d.lines(), d2.lines()...); lines[0] != "GET /watch?services=true" || lines[2] != "GET /watch?from=3&service=web" {
		t.Errorf("asked %q", lines)
	}
}
