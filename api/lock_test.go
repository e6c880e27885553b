package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/api/apitest"
)

// session makes a session and returns its id.
func session(t *testing.T, s *apitest.Server, body string) string {
	t.Helper()
	return s.Post("/sessions", body).Want(201).String("id")
}

func TestSessionAnswers(t *testing.T) {
	s, l := apitest.StartLocal(t)
	a := s.Post("/sessions", `{"ttl":"30s","behavior":"delete","lock_delay":"1s","name":"job"}`).Want(201)
	id, index := a.String("id"), a.Index()
	if want := fmt.Sprintf(`{"id":%q,"ttl":"30s","modify_index":%d}`+"\n", id, index); string(a.Body) != want || len(id) != 36 {
		t.Fatalf("%s", a.Body)
	}
	l.Sleep(10 * time.Second)
	want := fmt.Sprintf(`{"id":%q,"name":"job","node":"local","ttl":"30s","expires_in":"20s","behavior":"delete","lock_delay":"1s","held":0,"create_index":%d,"modify_index":%d}`,
		id, index, index)
	if a := s.Get("/sessions/" + id).Want(200); string(a.Body) != want+"\n" {
		t.Fatalf("got  %swant %s", a.Body, want)
	}
	if a := s.Get("/sessions").Want(200); string(a.Body) != `{"sessions":[`+want+"]}\n" {
		t.Fatalf("%s", a.Body)
	}
	if a := s.Do("PUT", "/sessions/"+id+"/renew", "").Want(200); string(a.Body) != fmt.Sprintf(`{"message":"session renewed","id":%q,"expires_in":"30s"}`+"\n", id) {
		t.Fatalf("%s", a.Body)
	}
	del := s.Delete("/sessions/" + id).Want(200)
	if want := fmt.Sprintf(`{"message":"session destroyed","id":%q,"modify_index":%d}`+"\n", id, del.Index()); string(del.Body) != want {
		t.Fatalf("%s", del.Body)
	}
	for _, a := range []*apitest.Answer{s.Get("/sessions/" + id), s.Delete("/sessions/" + id), s.Do("PUT", "/sessions/"+id+"/renew", ""), s.Put("/kv/a?acquire="+id, "")} {
		if a.Want(404, "session_not_found").String("error") != "session not found" {
			t.Fatalf("%s", a.Body)
		}
	}
	short := session(t, s, `{"ttl":"1s"}`)
	l.Advance(time.Second)
	s.Get("/sessions/"+short).Want(404, "session_not_found")
	eternal := s.Do("POST", "/sessions", "").Want(201)
	l.Advance(1000 * time.Hour)
	if a := s.Get("/sessions/" + eternal.String("id")).Want(200); eternal.String("ttl") != "0s" || a.String("lock_delay") != "15s" || a.Object()["expires_in"] != nil {
		t.Fatalf("%s %s", eternal.Body, a.Body)
	}
	if a := s.Do("PUT", "/sessions/"+eternal.String("id")+"/renew", "{}").Want(200); a.Object()["expires_in"] != nil {
		t.Fatalf("%s", a.Body)
	}
}

func TestLockAnswers(t *testing.T) {
	s, l := apitest.StartLocal(t)
	one, two := session(t, s, `{"ttl":"30s"}`), session(t, s, `{"ttl":"1h","lock_delay":"0s"}`)
	created := s.Put("/kv/job", "free").Want(200).Index()
	got := s.Put("/kv/job?acquire="+one, "mine").Want(200)
	token := got.Index()
	if want := fmt.Sprintf(`{"message":"lock acquired","key":"job","modify_index":%d,"create_index":%d,"lock_index":%d,"session":%q}`+"\n", token, created, token, one); string(got.Body) != want {
		t.Fatalf("%s", got.Body)
	}
	entry := fmt.Sprintf(`{"key":"job","value":"mine","create_index":%d,"modify_index":%d,"flags":0,"lock_index":%d,"session":%q}`, created, token, token, one)
	if a := s.Get("/kv/job").Want(200); string(a.Body) != entry+"\n" {
		t.Fatalf("%s", a.Body)
	}
	if a := s.Get("/kv?values=true").Want(200); string(a.Body) != `{"entries":[`+entry+`],"next":null}`+"\n" {
		t.Fatalf("%s", a.Body)
	}
	if a := s.Get("/sessions/" + one).Want(200); a.Uint("held") != 1 {
		t.Fatalf("%s", a.Body)
	}
	held := s.PutJSON("/kv/job?acquire="+two, `{"value":"no"}`).Want(409, "lock_held")
	if held.String("session") != one || held.Uint("modify_index") != token || held.Header.Get("Retry-After") != "" {
		t.Fatalf("%s", held.Body)
	}
	if e := s.Put("/kv/job?release="+two, "").Want(409, "not_holder"); e.String("session") != one || e.Uint("modify_index") != token {
		t.Fatalf("%s", e.Body)
	}
	again := s.PutJSON("/kv/job?acquire="+one, `{"value":"still mine","flags":7}`).Want(200)
	if again.Uint("lock_index") != token || again.Index() == token {
		t.Fatalf("%s", again.Body)
	}
	plain := s.Put("/kv/job", "anybody's").Want(200)
	if plain.Uint("lock_index") != token || plain.String("session") != one {
		t.Fatalf("a put keeps the holder: %s", plain.Body)
	}
	free := s.Put("/kv/job?release="+one, "").Want(200)
	if want := fmt.Sprintf(`{"message":"lock released","key":"job","modify_index":%d,"create_index":%d,"lock_index":%d}`+"\n", free.Index(), created, token); string(free.Body) != want {
		t.Fatalf("%s", free.Body)
	}
	if a := s.Get("/kv/job").Want(200); a.String("value") != "anybody's" || a.Uint("lock_index") != token || a.Object()["session"] != nil {
		t.Fatalf("%s", a.Body)
	}
	if e := s.Put("/kv/job?release="+one, "").Want(409, "not_holder"); e.Object()["session"] != nil {
		t.Fatalf("%s", e.Body)
	}
	s.Put("/kv/job?acquire="+two, "").Want(200)
	s.PutJSON("/kv/job?release="+two, `{"value":"last words","flags":3}`).Want(200)
	if a := s.Get("/kv/job").Want(200); a.String("value") != "last words" || a.Uint("flags") != 3 {
		t.Fatalf("%s", a.Body)
	}
	s.Put("/kv/job?acquire="+one, "").Want(200)
	s.Do("PUT", "/kv/job?release="+one, "", "Content-Type", "application/json").Want(200)
	s.Put("/kv/absent?release="+one, "").Want(409, "not_holder")
	s.Put("/kv/job?acquire="+one, "").Want(200)
	l.Advance(30 * time.Second)
	delay := s.Put("/kv/job?acquire="+two, "").Want(409, "lock_delay")
	if delay.String("wait") != "15s" || delay.Header.Get("Retry-After") != "15" {
		t.Fatalf("%v %s", delay.Header, delay.Body)
	}
	l.Advance(14*time.Second + 500*time.Millisecond)
	if delay = s.Put("/kv/job?acquire="+two, "").Want(409, "lock_delay"); delay.String("wait") != "500ms" || delay.Header.Get("Retry-After") != "1" {
		t.Fatalf("%v %s", delay.Header, delay.Body)
	}
	l.Advance(500 * time.Millisecond)
	if next := s.Put("/kv/job?acquire="+two, "").Want(200).Uint("lock_index"); next <= token {
		t.Fatalf("lock_index %d after %d", next, token)
	}
}

// A session that ends releases or deletes what it holds, at one index, as watchers see.
func TestLostSessions(t *testing.T) {
	s, l := apitest.StartLocal(t)
	w := s.Watch("/watch?prefix=")
	release, del := session(t, s, `{"ttl":"1s","lock_delay":"0s"}`), session(t, s, `{"ttl":"1s","behavior":"delete","lock_delay":"3s"}`)
	for _, key := range []string{"a", "b"} {
		s.Put("/kv/"+key+"?acquire="+release, "r").Want(200)
		s.Put("/kv/d"+key+"?acquire="+del, "d").Want(200)
		w.Next()
		w.Next()
	}
	l.Advance(time.Second)
	at := fmt.Sprint(l.DB.Published())
	for _, want := range []struct{ event, key string }{{"put", "a"}, {"put", "b"}, {"delete", "da"}, {"delete", "db"}} {
		f := w.Next()
		if f.Event != want.event || f.ID != at || !strings.HasPrefix(f.Data, `{"key":"`+want.key+`"`) || strings.Contains(f.Data, `"session"`) {
			t.Fatalf("%+v, want %+v at %s", f, want, at)
		}
	}
	next := session(t, s, `{"ttl":"1m"}`)
	s.Put("/kv/a?acquire="+next, "").Want(200)
	s.Put("/kv/da?acquire="+next, "").Want(409, "lock_delay")
	s.Put("/kv/da", "anybody may still write").Want(200)
	l.Advance(3 * time.Second)
	s.Put("/kv/da?acquire="+next, "").Want(200)
	s.Delete("/kv/a").Want(200)
	if a := s.Get("/sessions/" + next).Want(200); a.Uint("held") != 1 {
		t.Fatalf("a deletion ends the hold: %s", a.Body)
	}
	s.Delete("/sessions/" + next).Want(200)
	s.Put("/kv/a?acquire="+session(t, s, ""), "").Want(200)
}

func TestLocksInTransactions(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	one, two := session(t, s, ""), session(t, s, "")
	a := s.Post("/txn", fmt.Sprintf(`{"then":[{"op":"acquire","key":"l","value":"1","session":%q},{"op":"set","key":"k","value":"v","ttl":"1m"},
		{"op":"get","key":"l"},{"op":"release","key":"l","session":%q},{"op":"acquire","key":"l","value":"2","session":%q},{"op":"release","key":"l","value":"3","flags":4,"session":%q}]}`,
		one, one, two, two)).Want(200)
	i := a.Index()
	want := fmt.Sprintf(`{"succeeded":true,"index":%d,"results":[{"op":"acquire","key":"l","modify_index":%[1]d,"create_index":%[1]d,"lock_index":%[1]d,"session":%[2]q},`+
		`{"op":"set","key":"k","modify_index":%[1]d,"create_index":%[1]d},{"op":"get","key":"l","found":true,"value":"1","create_index":%[1]d,"modify_index":%[1]d,"flags":0,"lock_index":%[1]d,"session":%[2]q},`+
		`{"op":"release","key":"l","modify_index":%[1]d,"create_index":%[1]d,"lock_index":%[1]d},{"op":"acquire","key":"l","modify_index":%[1]d,"create_index":%[1]d,"lock_index":%[1]d,"session":%[3]q},`+
		`{"op":"release","key":"l","modify_index":%[1]d,"create_index":%[1]d,"lock_index":%[1]d}]}`+"\n", i, one, two)
	if string(a.Body) != want {
		t.Fatalf("got  %s\nwant %s", a.Body, want)
	}
	if e := s.Get("/kv/l").Want(200); e.String("value") != "3" || e.Uint("flags") != 4 {
		t.Fatalf("%s", e.Body)
	}
	if e := s.Get("/kv/k").Want(200); e.String("expires_in") != "1m0s" {
		t.Fatalf("%s", e.Body)
	}
	s.Put("/kv/held?acquire="+one, "").Want(200)
	for _, c := range []struct {
		op, code string
		status   int
	}{
		{`{"op":"acquire","key":"held","value":"","session":"` + two + `"}`, "lock_held", 409},
		{`{"op":"release","key":"held","session":"` + two + `"}`, "not_holder", 409},
		{`{"op":"acquire","key":"x","value":"","session":"nobody"}`, "session_not_found", 404},
	} {
		e := s.Post("/txn", `{"then":[{"op":"set","key":"undone","value":"x"},`+c.op+`]}`).Want(c.status, c.code)
		if e.Uint("op") != 1 {
			t.Errorf("%s", e.Body)
		}
	}
	s.Get("/kv/undone").Want(404, "key_not_found")
	for _, op := range []string{
		`{"op":"acquire","key":"a","value":""}`, `{"op":"acquire","key":"a","session":"s"}`, `{"op":"release","key":"a"}`, `{"op":"set","key":"a","value":"","session":"s"}`,
		`{"op":"get","key":"a","ttl":"1s"}`, `{"op":"delete","key":"a","session":"s"}`, `{"op":"set","key":"a","value":"","ttl":1}`, `{"op":"set","key":"a","value":"","ttl":"1ms"}`,
		`{"op":"release","key":"a","session":"s","ttl":"1s"}`, `{"op":"release","key":"a","session":"s","flags":1}`, `{"op":"acquire","key":"a","value":"","session":"a b"}`,
	} {
		s.Post("/txn", `{"then":[`+op+`]}`).Want(400, "bad_request")
	}
}

func TestKeysWithTTL(t *testing.T) {
	s, l := apitest.StartLocal(t)
	w := s.Watch("/watch?prefix=&prev=true")
	s.Put("/kv/a?ttl=10s", "x").Want(200)
	s.PutJSON("/kv/b", `{"value":"x","ttl":"1m30s","cas":0}`).Want(200)
	s.Put("/kv/c?ttl=0s", "x").Want(200)
	for range 3 {
		w.Next()
	}
	l.Sleep(1500 * time.Millisecond)
	if a := s.Get("/kv/a").Want(200); a.String("expires_in") != "8.5s" {
		t.Fatalf("%s", a.Body)
	}
	if a := s.Get("/kv/b").Want(200); a.String("expires_in") != "1m28.5s" {
		t.Fatalf("%s", a.Body)
	}
	if a := s.Get("/kv/c").Want(200); a.Object()["expires_in"] != nil {
		t.Fatalf("%s", a.Body)
	}
	answer := blocked(t, s, fmt.Sprintf("/kv/a?wait=1m&index=%d", s.Get("/kv/a").Index()))
	l.Advance(8500 * time.Millisecond)
	if a := (<-answer).Want(404, "key_not_found"); a.Index() != l.DB.Published() {
		t.Fatalf("index %d, want %d", a.Index(), l.DB.Published())
	}
	if f := w.Next(); f.Event != "delete" || f.ID != fmt.Sprint(l.DB.Published()) || !strings.Contains(f.Data, `"prev":{"key":"a","value":"x"`) {
		t.Fatalf("%+v", f)
	}
	s.Put("/kv/b", "for ever").Want(200) // each put decides anew
	l.Advance(1000 * time.Hour)
	s.Get("/kv/b").Want(200)
	large := strings.Repeat("\xff", 100_000)
	s.Put("/kv/large?ttl=1h", large).Want(200)
	if a := s.Get("/kv/large").Want(200); a.String("expires_in") != "1h0m0s" || a.String("encoding") != "base64" {
		t.Fatalf("%.100s", a.Body)
	}
}

// What sessions, locks and TTLs must not be: refused, and nothing is changed.
func TestBadSessionsAndLocks(t *testing.T) {
	s, l := apitest.StartLocal(t)
	id := session(t, s, "")
	before := l.DB.Published()
	for _, body := range []string{
		`null`, `[]`, `{"ttl":10}`, `{"ttl":"x"}`, `{"ttl":"-1s"}`, `{"ttl":"1ms"}`, `{"ttl":"1000000h"}`, `{"behavior":"keep"}`, `{"behavior":""}`, `{"lock_delay":"-1s"}`, `{"lock_delay":"2h"}`,
		`{"name":"a b"}`, `{"name":"` + strings.Repeat("n", 129) + `"}`, `{"id":"mine"}`, `{"ttl":"1s","ttl":"1s"}`, `{"TTL":"1s"}`, `{}{}`,
	} {
		s.Post("/sessions", body).Want(400, "bad_request")
	}
	for _, target := range []string{
		"/kv/a?ttl=x", "/kv/a?ttl=-1s", "/kv/a?ttl=1ms", "/kv/a?ttl=1000000h", "/kv/a?ttl=1", "/kv/a?acquire=", "/kv/a?acquire=a%20b", "/kv/a?release=", "/kv/a?acquire=a&release=a",
		"/kv/a?acquire=" + strings.Repeat("s", 129), "/kv/a?session=" + id, "/kv/a?release=" + id + "&ttl=1s", "/kv/a?release=" + id + "&flags=1", "/sessions/a%20b/renew", "/sessions/" + id + "/renew?ttl=1s",
	} {
		s.Put(target, "").Want(400, "bad_request")
	}
	for _, body := range []string{`{"value":"x","ttl":10}`, `{"value":"x","ttl":"1ms"}`, `{"value":"x","session":"a"}`, `{"value":"x","acquire":"a"}`} {
		s.PutJSON("/kv/a", body).Want(400, "bad_request")
	}
	s.PutJSON("/kv/a?acquire="+id, `{}`).Want(400, "bad_request")
	s.PutJSON("/kv/a?acquire="+id, ``).Want(400, "bad_request")
	s.PutJSON("/kv/a?release="+id, `{"flags":1}`).Want(400, "bad_request")
	s.PutJSON("/kv/a?release="+id, `{"value":"x","ttl":"1s"}`).Want(400, "bad_request")
	s.PutJSON("/kv/a?ttl=1s", `{"value":"x"}`).Want(400, "bad_request")
	s.Delete("/kv/a?ttl=1s").Want(400, "bad_request")
	s.Delete("/kv/a?acquire="+id).Want(400, "bad_request")
	s.Delete("/sessions/"+id+"?x=1").Want(400, "bad_request")
	for _, target := range []string{"/sessions?index=1", "/sessions/" + id + "?index=1", "/sessions?x=1", "/sessions/%FF", "/sessions/" + strings.Repeat("s", 129), "/kv/a?ttl=1s"} {
		s.Get(target).Want(400, "bad_request")
	}
	s.Do("POST", "/sessions", `{}`, "Content-Type", "text/plain").Want(415, "unsupported_media_type")
	s.Do("PUT", "/sessions/"+id+"/renew", `{"ttl":"1s"}`).Want(400, "bad_request")
	s.Put("/kv/a?acquire="+id, strings.Repeat("x", 524289)).Want(413, "too_large")
	if l.DB.Published() != before {
		t.Fatal("something was applied")
	}
	s.Get("/sessions?at=1").Want(200)
	s.Get("/sessions?consistency=stale").Want(200)
}

func TestManyLocksOfOneSession(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	id := session(t, s, "")
	op := func(i int) string {
		return fmt.Sprintf(`{"op":"acquire","key":"k%04d","value":"","session":%q}`, i, id)
	}
	for from := 0; from < 4096; from += 1024 {
		var ops []string
		for i := range 1024 {
			ops = append(ops, op(from+i))
		}
		s.Post("/txn", `{"then":[`+strings.Join(ops, ",")+`]}`).Want(200)
	}
	if e := s.Put("/kv/more?acquire="+id, "").Want(409, "limit_reached"); e.Uint("limit") != 4096 {
		t.Fatalf("%s", e.Body)
	}
	s.Delete("/sessions/" + id).Want(200)
	s.Put("/kv/k0000?acquire="+session(t, s, ""), "").Want(409, "lock_delay")
}

// The same Idempotency-Key again: the first answer, on any node, and nothing is applied.
func TestIdempotencyOfTheRegistry(t *testing.T) {
	_, servers := startCluster(t, 3)
	first := servers[0]
	holder := session(t, first, `{"ttl":"1h"}`)
	first.PutJSON("/services/beating", `{"address":"h","port":1,"ttl":"1h","checks":[{"ttl":"1h"}]}`).Want(200)
	first.PutJSON("/services/leaving", `{"address":"h","port":1}`).Want(200)
	leaving := session(t, first, "")
	node := first.Get("/cluster/status").Want(200).String("node_id")
	first.PutJSON("/checks/old", `{"ttl":"1h"}`).Want(200)
	for i, c := range []struct{ method, target, body string }{
		{"PUT", "/services/web", webBody}, {"PUT", "/services/beating/heartbeat", ""}, {"DELETE", "/services/leaving", ""},
		{"PUT", "/services/beating/checks/ttl", `{"status":"passing"}`}, {"DELETE", "/checks/old?node=" + node, ""},
		{"POST", "/sessions", `{"ttl":"1h"}`}, {"PUT", "/sessions/" + holder + "/renew", ""}, {"DELETE", "/sessions/" + leaving, ""},
		{"PUT", "/kv/lock?acquire=" + holder, "x"}, {"PUT", "/kv/lock?release=" + holder, ""}, {"PUT", "/kv/short?ttl=1h", "x"},
		{"PUT", "/services/none/heartbeat", ""}, {"DELETE", "/services/none", ""}, {"PUT", "/kv/lock?release=" + holder, "not again"},
	} {
		var bodies []string
		for _, s := range servers {
			a := s.Do(c.method, c.target, c.body, "Idempotency-Key", fmt.Sprintf("key-%d", i))
			bodies = append(bodies, fmt.Sprint(a.Status, string(a.Body)))
			if a.Status >= 500 {
				t.Fatalf("%s %s: %d %s", c.method, c.target, a.Status, a.Body)
			}
		}
		if bodies[0] != bodies[1] || bodies[1] != bodies[2] {
			t.Errorf("%s %s: answers differ: %q", c.method, c.target, bodies)
		}
		servers[0].Do("PUT", "/kv/other", "x", "Idempotency-Key", fmt.Sprintf("key-%d", i)).Want(400, "bad_request")
	}
	if a := servers[1].Get("/services/web").Want(200); a.String("node") != node {
		t.Fatalf("%s", a.Body)
	}
	if n := len(servers[2].Get("/sessions").Want(200).Object()["sessions"].([]any)); n != 2 {
		t.Fatalf("%d sessions, want 2", n)
	}
}
