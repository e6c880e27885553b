package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/api/apitest"
)

func TestServiceChecks(t *testing.T) {
	s, l := apitest.StartLocal(t)
	i := s.PutJSON("/services/web", `{"id":"w1","address":"h","port":1,"checks":[{"ttl":"10s","name":"alive"},{"http":"http://h:1/ok","interval":"2s"},
		{"id":"port","tcp":"h:1","timeout":"1s","passing_after":2,"critical_after":3,"status":"warning"}]}`).Want(200).Index()
	own := func(id string) string {
		return fmt.Sprintf(`{"service":"web","instance":"w1","node":"local","id":%q`, id)
	}
	numbers := fmt.Sprintf(`,"create_index":%d,"modify_index":%d`, i, i)
	want := `{"checks":[` + own("ttl") + `,"name":"alive","kind":"ttl","status":"critical","output":""` + numbers + `,"ttl":"10s"},` +
		own("http") + `,"name":"","kind":"http","status":"critical","output":""` + numbers + `,"http":"http://h:1/ok","interval":"2s","timeout":"2s"},` +
		own("port") + `,"name":"","kind":"tcp","status":"warning","output":""` + numbers + `,"tcp":"h:1","interval":"10s","timeout":"1s","passing_after":2,"critical_after":3}]}` + "\n"
	if a := s.Get("/services/web/checks").Want(200); string(a.Body) != want {
		t.Fatalf("got  %swant %s", a.Body, want)
	}
	a := s.PutJSON("/services/web/checks/ttl?id=w1", `{"status":"passing","output":"fine"}`).Want(200)
	if string(a.Body) != `{"message":"check updated","name":"web","id":"w1","check":"ttl","status":"passing"}`+"\n" {
		t.Fatalf("%s", a.Body)
	}
	status := func() map[string]any {
		return s.Get("/services/web").Want(200).Object()["instances"].([]any)[0].(map[string]any)["checks"].([]any)[0].(map[string]any)
	}
	if c := status(); c["status"] != "passing" || c["output"] != "fine" || fmt.Sprint(c["modify_index"]) != fmt.Sprint(a.Index()) {
		t.Fatalf("%v", c)
	}
	l.Advance(9 * time.Second)
	s.PutJSON("/services/web/checks/ttl?id=w1", `{"status":"warning","output":"`+strings.Repeat("\u00e9", 3000)+`"}`).Want(200)
	l.Advance(9 * time.Second)
	if c := status(); c["status"] != "warning" || len(c["output"].(string)) != 4096 {
		t.Fatalf("%v", c)
	}
	l.Advance(time.Second)
	if c := status(); c["status"] != "critical" || c["output"] != "TTL expired" {
		t.Fatalf("%v", c)
	}
	s.PutJSON("/services/web/checks/ttl", `{"status":"passing"}`).Want(404, "service_not_found")
	if e := s.PutJSON("/services/web/checks/none?id=w1", `{"status":"passing"}`).Want(404, "check_not_found"); e.String("error") != "check not found" {
		t.Fatalf("%s", e.Body)
	}
	s.PutJSON("/services/web/checks/http?id=w1", `{"status":"passing"}`).Want(400, "bad_request")
	s.Get("/services/none/checks").Want(404, "service_not_found")
}

// A check of a node decides about every instance on it.
func TestNodeChecks(t *testing.T) {
	s, l := apitest.StartLocal(t)
	s.PutJSON("/services/web", webBody).Want(200)
	a := s.PutJSON("/checks/disk", `{"ttl":"10s","status":"passing","name":"disk space"}`).Want(200)
	if want := fmt.Sprintf(`{"message":"check registered","node":"local","id":"disk","modify_index":%d}`+"\n", a.Index()); string(a.Body) != want {
		t.Fatalf("%s", a.Body)
	}
	healthy := func() bool { return s.Get("/services/web").Want(200).Object()["healthy"].(bool) }
	if !healthy() {
		t.Fatal("unhealthy with a check that passes")
	}
	l.Advance(10 * time.Second)
	want := fmt.Sprintf(`{"checks":[{"node":"local","id":"disk","name":"disk space","kind":"ttl","status":"critical","output":"TTL expired","create_index":%d,"modify_index":%d,"ttl":"10s"}]}`+"\n",
		a.Index(), l.DB.Published())
	if list := s.Get("/checks").Want(200); string(list.Body) != want {
		t.Fatalf("got  %swant %s", list.Body, want)
	}
	if healthy() || len(s.Get("/services?healthy").Want(200).Object()["services"].([]any)) != 0 {
		t.Fatal("healthy with a critical check of the node")
	}
	up := s.PutJSON("/checks/disk/status", `{"status":"passing","output":"40 GB free"}`).Want(200)
	if string(up.Body) != `{"message":"check updated","node":"local","check":"disk","status":"passing"}`+"\n" || !healthy() {
		t.Fatalf("%s", up.Body)
	}
	s.PutJSON("/checks/web", `{"http":"http://h/"}`).Want(200)
	s.PutJSON("/checks/web/status", `{"status":"passing"}`).Want(400, "bad_request")
	s.PutJSON("/checks/none/status", `{"status":"passing"}`).Want(404, "check_not_found")
	s.PutJSON("/checks/disk/status?node=other", `{"status":"passing"}`).Want(404, "check_not_found")
	if list := s.Get("/checks?node=other").Want(200); string(list.Body) != `{"checks":[]}`+"\n" {
		t.Fatalf("%s", list.Body)
	}
	s.Delete("/checks/disk?node=other").Want(404, "check_not_found")
	if del := s.Delete("/checks/disk").Want(200); del.String("node") != "local" || del.String("id") != "disk" {
		t.Fatalf("%s", del.Body)
	}
	s.Delete("/checks/disk?node=local").Want(404, "check_not_found")
}

func TestBadChecks(t *testing.T) {
	s, l := apitest.StartLocal(t)
	before := l.DB.Published()
	for _, body := range []string{
		``, `{}`, `[]`, `{"ttl":"0s"}`, `{"ttl":"1ms"}`, `{"ttl":1}`, `{"ttl":"1s","http":"http://h"}`, `{"ttl":"1s","interval":"1s"}`, `{"ttl":"1s","timeout":"1s"}`, `{"ttl":"1s","passing_after":2}`,
		`{"http":""}`, `{"http":"h:1"}`, `{"http":"ftp://h"}`, `{"http":"http://"}`, `{"tcp":"h"}`, `{"tcp":":1"}`, `{"tcp":"h:0"}`, `{"tcp":"h:99999"}`,
		`{"tcp":"h:1","interval":"0s"}`, `{"tcp":"h:1","interval":"500ms"}`, `{"tcp":"h:1","interval":"25h"}`, `{"tcp":"h:1","timeout":"11s"}`, `{"tcp":"h:1","timeout":"0s"}`,
		`{"tcp":"h:1","interval":"2m","timeout":"61s"}`, `{"tcp":"h:1","passing_after":-1}`, `{"tcp":"h:1","status":"good"}`, `{"tcp":"h:1","id":"other"}`, `{"tcp":"h:1","id":"a b"}`,
		`{"script":"rm"}`, `{"tcp":"h:1","tcp":"h:1"}`, `{"tcp":"h:1"}x`,
	} {
		s.PutJSON("/checks/a", body).Want(400, "bad_request")
	}
	for _, body := range []string{`{"http":"http://` + strings.Repeat("h", 2048) + `"}`, `{"tcp":"h:1","passing_after":101}`, `{"tcp":"h:1","critical_after":18446744073709551615}`, `{"tcp":"h:1","name":"` + strings.Repeat("n", 129) + `"}`} {
		s.PutJSON("/checks/a", body).Want(413, "too_large")
	}
	for _, body := range []string{``, `{}`, `{"status":"good"}`, `{"status":1}`, `{"status":""}`, `{"output":"x"}`, `{"status":"passing","output":1}`, `{"status":"passing","x":1}`, `null`} {
		s.PutJSON("/checks/a/status", body).Want(400, "bad_request")
		s.PutJSON("/services/a/checks/b", body).Want(400, "bad_request")
	}
	const ok = `{"ttl":"1s"}`
	s.PutJSON("/checks/a%20b", ok).Want(400, "bad_request")
	s.PutJSON("/checks/a?node=n", ok).Want(400, "bad_request")
	s.Delete("/checks/a?node=").Want(400, "bad_request")
	s.PutJSON("/checks/a/status?node=a%2Fb", `{"status":"passing"}`).Want(400, "bad_request")
	s.PutJSON("/services/a/checks/b%2F", `{"status":"passing"}`).Want(400, "bad_request")
	s.PutJSON("/services/a/checks/b?id=%00", `{"status":"passing"}`).Want(400, "bad_request")
	s.Get("/checks?node=a%20b").Want(400, "bad_request")
	s.Get("/checks?service=a").Want(400, "bad_request")
	s.Put("/checks/a", ok).Want(415, "unsupported_media_type")
	if l.DB.Published() != before {
		t.Fatal("something was applied")
	}
}
