package api_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/api/apitest"
)

const webBody = `{"address":"10.0.0.1","port":8080,"tags":["prod","v2"],"meta":{"zone":"a","arch":"arm"},"ttl":"30s"}`

func TestServiceAnswers(t *testing.T) {
	s, l := apitest.StartLocal(t)
	i := s.PutJSON("/services/web", webBody).Want(200)
	index := i.Index()
	if want := fmt.Sprintf(`{"message":"service registered","name":"web","id":"web","modify_index":%d}`+"\n", index); string(i.Body) != want {
		t.Fatalf("%s", i.Body)
	}
	l.Sleep(10 * time.Second)
	fields := fmt.Sprintf(`"id":"web","address":"10.0.0.1","port":8080,"tags":["prod","v2"],"meta":{"arch":"arm","zone":"a"},"ttl":"30s","expires_in":"20s",`+
		`"create_index":%d,"modify_index":%d,"node":"local","healthy":true`, index, index)
	want := `{"name":"web",` + fields + `,"instances":[{` + fields + `,"checks":[]}]}` + "\n"
	get := s.Get("/services/web").Want(200)
	if string(get.Body) != want || get.Header.Get("X-Konsul-Node") != "local" || get.Header.Get("X-Konsul-Leader") != "local" {
		t.Fatalf("got  %s\nwant %s", get.Body, want)
	}
	beat := s.PutJSON("/services/web/heartbeat", "").Want(200)
	if want := `{"message":"heartbeat received","name":"web","id":"web","expires_in":"30s"}` + "\n"; string(beat.Body) != want {
		t.Fatalf("%s", beat.Body)
	}
	if a := s.Get("/services/web").Want(200); a.String("expires_in") != "30s" || a.Uint("modify_index") != index {
		t.Fatalf("a heartbeat is no change: %s", a.Body)
	}
	if a := s.Get("/services?detail=true").Want(200); string(a.Body) != `{"services":[`+strings.TrimSuffix(strings.Replace(want, "20s", "30s", 2), "\n")+"]}\n" {
		t.Fatalf("%s", a.Body)
	}
	again := s.PutJSON("/services/web", `{"address":"10.0.0.2","port":0}`).Want(200)
	a := s.Get("/services/web").Want(200)
	if a.Uint("create_index") != index || a.Uint("modify_index") != again.Index() || a.String("address") != "10.0.0.2" || a.Object()["ttl"] != nil {
		t.Fatalf("%s", a.Body)
	}
	if a := s.Do("PUT", "/services/web/heartbeat", "{}").Want(200); strings.Contains(string(a.Body), "expires_in") {
		t.Fatalf("a heartbeat without a TTL: %s", a.Body)
	}
	del := s.Delete("/services/web").Want(200)
	if want := fmt.Sprintf(`{"message":"service deregistered","name":"web","deleted":1,"modify_index":%d}`+"\n", del.Index()); string(del.Body) != want {
		t.Fatalf("%s", del.Body)
	}
	if e := s.Delete("/services/web").Want(404, "service_not_found"); e.String("error") != "service not found" {
		t.Fatalf("%s", e.Body)
	}
}

func TestSeveralInstances(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for _, id := range []string{"web-2", "web-1", "web"} {
		s.PutJSON("/services/web", fmt.Sprintf(`{"id":%q,"address":"10.0.0.1","port":1}`, id)).Want(200)
	}
	s.PutJSON("/services/web.x", `{"address":"10.0.0.1","port":1}`).Want(200)
	s.PutJSON("/services/we", `{"address":"10.0.0.1","port":1}`).Want(200)
	if ids := instances(t, s.Get("/services/web").Want(200)); !slices.Equal(ids, []string{"web", "web-1", "web-2"}) {
		t.Fatalf("%q", ids)
	}
	if names := services(s.Get("/services").Want(200)); !slices.Equal(names, []string{"we", "web", "web.x"}) {
		t.Fatalf("%q", names)
	}
	s.Do("PUT", "/services/web/heartbeat?id=web-1", "").Want(200)
	s.Do("PUT", "/services/web/heartbeat?id=web-9", "").Want(404, "service_not_found")
	if a := s.Delete("/services/web?id=web-1").Want(200); a.String("id") != "web-1" || a.Uint("deleted") != 1 {
		t.Fatalf("%s", a.Body)
	}
	s.Delete("/services/web?id=web-1").Want(404, "service_not_found")
	if a := s.Delete("/services/web").Want(200); a.Uint("deleted") != 2 {
		t.Fatalf("%s", a.Body)
	}
	s.Get("/services/web").Want(404, "service_not_found")
	s.Get("/services/web.x").Want(200)
}

func instances(t *testing.T, a *apitest.Answer) (ids []string) {
	t.Helper()
	for _, in := range a.Object()["instances"].([]any) {
		ids = append(ids, in.(map[string]any)["id"].(string))
	}
	return ids
}

func services(a *apitest.Answer) (names []string) {
	for _, name := range a.Object()["services"].([]any) {
		names = append(names, name.(string))
	}
	return names
}

func TestServiceSelection(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for _, body := range []string{
		`{"id":"a","address":"h","port":1,"tags":["prod","v1"],"meta":{"zone":"a","url":"http://x"}}`,
		`{"id":"b","address":"h","port":1,"tags":["prod"],"meta":{"zone":"b"},"checks":[{"ttl":"10s","status":"passing"}]}`,
		`{"id":"c","address":"h","port":1,"tags":["test"],"meta":{"a:b":"c"},"checks":[{"ttl":"10s"}]}`,
	} {
		s.PutJSON("/services/web", body).Want(200)
	}
	s.PutJSON("/services/db", `{"address":"h","port":1,"tags":["prod"],"checks":[{"ttl":"10s","status":"warning"}]}`).Want(200)
	for _, c := range []struct{ query, instances, names string }{
		{"", "a b c", "db web"},
		{"tag=prod", "a b", "db web"},
		{"tag=prod&tag=v1", "a", "web"},
		{"tag=v1&tag=test", "", ""},
		{"meta=zone:b", "b", "web"},
		{"meta=zone:a&meta=url:" + url.QueryEscape("http://x"), "a", "web"},
		{"meta=a:b:c", "c", "web"},
		{"meta=zone:", "", ""},
		{"healthy=true", "a b", "db web"},
		{"healthy=false", "a b c", "db web"},
		{"healthy&tag=test", "", ""},
	} {
		a := s.Get("/services/web?" + c.query).Want(200)
		if got := strings.Join(instances(t, a), " "); got != c.instances {
			t.Errorf("%s: instances %q, want %q", c.query, got, c.instances)
		}
		if first := a.Object()["id"]; c.instances != "" && first != c.instances[:1] || c.instances == "" && first != nil {
			t.Errorf("%s: %s", c.query, a.Body)
		}
		if got := strings.Join(services(s.Get("/services?"+c.query).Want(200)), " "); got != c.names {
			t.Errorf("%s: names %q, want %q", c.query, got, c.names)
		}
	}
	detail := s.Get("/services?detail&healthy&tag=prod").Want(200).Object()["services"].([]any)
	if len(detail) != 2 || len(detail[1].(map[string]any)["instances"].([]any)) != 2 {
		t.Fatalf("%v", detail)
	}
}

// A TTL that has passed: 410 for an hour, then 404; and a list without the name.
func TestServiceExpires(t *testing.T) {
	s, l := apitest.StartLocal(t)
	s.PutJSON("/services/web", webBody).Want(200)
	s.PutJSON("/services/db", `{"address":"h","port":1}`).Want(200)
	l.Advance(29 * time.Second)
	s.Do("PUT", "/services/web/heartbeat", "").Want(200)
	l.Advance(30*time.Second - 1)
	if a := s.Get("/services/web").Want(200); a.String("expires_in") != "0s" {
		t.Fatalf("%s", a.Body)
	}
	l.Advance(1)
	if e := s.Get("/services/web").Want(410, "service_expired"); e.String("error") != "service expired" || e.Index() == 0 {
		t.Fatalf("%s", e.Body)
	}
	s.Do("PUT", "/services/web/heartbeat", "").Want(410, "service_expired")
	s.Do("PUT", "/services/never/heartbeat", "").Want(404, "service_not_found")
	s.Get("/services/web/checks").Want(410, "service_expired")
	if names := services(s.Get("/services").Want(200)); !slices.Equal(names, []string{"db"}) {
		t.Fatalf("%q", names)
	}
	l.Advance(time.Hour)
	s.Get("/services/web").Want(404, "service_not_found")
	s.PutJSON("/services/web", webBody).Want(200)
	l.Advance(time.Minute)
	s.PutJSON("/services/web", webBody).Want(200)
	s.Get("/services/web").Want(200)
}

// The past has its own time: what was left then.
func TestServicesOfThePast(t *testing.T) {
	s, l := apitest.StartLocal(t)
	i := s.PutJSON("/services/web", webBody).Want(200).Index()
	l.Advance(10 * time.Second)
	s.PutJSON("/services/web", `{"address":"new","port":1}`).Want(200)
	a := s.Get(fmt.Sprintf("/services/web?at=%d", i)).Want(200)
	if a.String("address") != "10.0.0.1" || a.String("expires_in") != "30s" {
		t.Fatalf("%s", a.Body)
	}
	if a := s.Get("/services/web?consistency=stale&max_stale=5s").Want(200); a.Header.Get("X-Konsul-Staleness-Ms") == "" || a.String("address") != "new" {
		t.Fatalf("%v %s", a.Header, a.Body)
	}
	s.Get(fmt.Sprintf("/services?at=%d", i-1)).Want(200)
	s.Get("/services?at=1000000").Want(400, "bad_request")
}

// blocked sends a blocking read and waits until it waits, besides what waits already.
func blocked(t *testing.T, s *apitest.Server, target string) <-chan *apitest.Answer {
	t.Helper()
	done := make(chan *apitest.Answer, 1)
	before := waiting(t, s)
	go func() { done <- s.Get(target) }()
	until(t, "a waiting read", func() bool { return waiting(t, s) > before })
	return done
}

// waiting is how many watches and blocking reads wait.
func waiting(t *testing.T, s *apitest.Server) (n int) {
	t.Helper()
	_, rest, _ := strings.Cut(string(s.Get("/metrics").Body), "\nkonsul_http_waiting ")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Each change wakes those who wait for it: a registration, a check, an expiry; not a heartbeat.
func TestBlockingReadsOfServices(t *testing.T) {
	s, l := apitest.StartLocal(t)
	index := s.PutJSON("/services/web", webBody).Want(200).Index()
	heartbeat := func() { s.Do("PUT", "/services/web/heartbeat", "").Want(200) }
	for _, c := range []struct {
		target string
		change func() uint64
		status int
	}{
		{"/services/web", func() uint64 { return s.PutJSON("/services/web", webBody).Want(200).Index() }, 200},
		{"/services", func() uint64 { return s.PutJSON("/services/db", webBody).Want(200).Index() }, 200},
		{"/services/web/checks", func() uint64 {
			return s.PutJSON("/services/web", strings.Replace(webBody, `"ttl"`, `"checks":[{"ttl":"10s"}],"ttl"`, 1)).Want(200).Index()
		}, 200},
		{"/services/web", func() uint64 { return s.PutJSON("/services/web/checks/ttl", `{"status":"passing"}`).Want(200).Index() }, 200},
		{"/services/web?healthy", func() uint64 { return s.PutJSON("/checks/disk", `{"ttl":"10m"}`).Want(200).Index() }, 200},
		{"/checks", func() uint64 { return s.PutJSON("/checks/disk/status", `{"status":"passing"}`).Want(200).Index() }, 200},
		{"/services/web", func() uint64 { l.Advance(30 * time.Second); return l.DB.Published() }, 410},
		{"/services/web", func() uint64 { return s.PutJSON("/services/web", webBody).Want(200).Index() }, 200},
		{"/services", func() uint64 { return s.Delete("/services/web").Want(200).Index() }, 200},
		{"/services/none", func() uint64 { return s.PutJSON("/services/none", webBody).Want(200).Index() }, 200},
	} {
		sep := "?"
		if strings.Contains(c.target, "?") {
			sep = "&"
		}
		if c.status == 200 && c.target == "/services/web" {
			s.Get(c.target + sep + fmt.Sprintf("wait=1ms&index=%d", index))
		}
		answer := blocked(t, s, c.target+sep+fmt.Sprintf("wait=1m&index=%d", index))
		if s.Get("/services/web").Status == 200 {
			heartbeat()
		}
		index = c.change()
		if a := <-answer; a.Status != c.status || a.Index() < index {
			t.Fatalf("%s: %d at %d, want %d at %d: %s", c.target, a.Status, a.Index(), c.status, index, a.Body)
		}
	}
}

// Watchers are told of every registration, change and expiry, each with its index.
func TestWatchServices(t *testing.T) {
	s, l := apitest.StartLocal(t)
	one, all := s.Watch("/watch?service=web&prev=true"), s.Watch("/watch?services=true")
	i1 := s.PutJSON("/services/web", webBody).Want(200).Index()
	s.Put("/kv/web", "x").Want(200)
	s.Do("PUT", "/services/web/heartbeat", "").Want(200)
	i2 := s.PutJSON("/services/webb", webBody).Want(200).Index()
	l.Advance(30 * time.Second)
	gone := l.DB.Published()
	shown := func(name string, index uint64) string {
		return fmt.Sprintf(`{"name":%q,"id":%q,"address":"10.0.0.1","port":8080,"tags":["prod","v2"],"meta":{"arch":"arm","zone":"a"},"ttl":"30s",`+
			`"create_index":%d,"modify_index":%d,"node":"local","healthy":true,"checks":[]}`, name, name, index, index)
	}
	deleted := func(name, prev string) string {
		return fmt.Sprintf(`{"name":%q,"id":%q,"index":%d,"modify_index":%d%s}`, name, name, gone, gone, prev)
	}
	for _, want := range []apitest.Frame{
		{ID: fmt.Sprint(i1), Event: "put", Data: shown("web", i1)},
		{ID: fmt.Sprint(gone), Event: "delete", Data: deleted("web", `,"prev":`+shown("web", i1))},
	} {
		if got := one.Next(); got != want {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	}
	for _, want := range []apitest.Frame{
		{ID: fmt.Sprint(i1), Event: "put", Data: shown("web", i1)},
		{ID: fmt.Sprint(i2), Event: "put", Data: shown("webb", i2)},
		{ID: fmt.Sprint(gone), Event: "delete", Data: deleted("web", "")},
		{ID: fmt.Sprint(gone), Event: "delete", Data: deleted("webb", "")},
	} {
		if got := all.Next(); got != want {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	}
	s.PutJSON("/services/web", `{"address":"h","port":1,"checks":[{"ttl":"1s","status":"passing"}]}`).Want(200)
	if f := one.Next(); !strings.Contains(f.Data, `"healthy":true,"checks":[{"id":"ttl"`) {
		t.Fatalf("%+v", f)
	}
	l.Advance(time.Second)
	if f := one.Next(); f.Event != "put" || !strings.Contains(f.Data, `"healthy":false`) || !strings.Contains(f.Data, `"output":"TTL expired"`) {
		t.Fatalf("%+v", f)
	}
	if f := s.Watch(fmt.Sprintf("/watch?service=web&from=%d", i2)).Next(); f.ID != fmt.Sprint(gone) {
		t.Fatalf("resumed: %+v", f)
	}
}

// Every expiry of many is seen once, as a deletion with the index at which it is gone.
func TestEveryExpiryIsSeen(t *testing.T) {
	s, l := apitest.StartLocal(t)
	const n = 200
	w := s.Watch("/watch?services=true")
	for i := range n {
		s.PutJSON("/services/s", fmt.Sprintf(`{"id":"i%03d","address":"h","port":1,"ttl":"%ds"}`, i, 1+i%7)).Want(200)
		w.Next()
	}
	deleted := map[string]bool{}
	for range 7 {
		l.Advance(time.Second)
		at := l.DB.Published()
		for s.Get("/services/s").Status == 200 && len(deleted) < n-len(instances(t, s.Get("/services/s"))) || len(deleted) < n && s.Get("/services/s").Status == 410 {
			f := w.Next()
			if f.Event != "delete" || f.ID != fmt.Sprint(at) || deleted[f.Data] {
				t.Fatalf("%+v, want a deletion at %d", f, at)
			}
			deleted[f.Data] = true
		}
	}
	if len(deleted) != n {
		t.Fatalf("%d deletions, want %d", len(deleted), n)
	}
}

// TestRegistryOnRealCluster: registered on one node, seen on every node; the instance
// belongs to the node that was asked, whoever leads; and TTLs pass by themselves.
func TestRegistryOnRealCluster(t *testing.T) {
	_, servers := startCluster(t, 3)
	watch := servers[2].Watch("/watch?services=true")
	for i, s := range servers {
		index := s.PutJSON("/services/web", fmt.Sprintf(`{"id":"w%d","address":"h","port":1}`, i)).Want(200).Index()
		node := s.Get("/cluster/status").Want(200).String("node_id")
		for _, other := range servers {
			a := other.Get("/services/web").Want(200)
			found := false
			for _, in := range a.Object()["instances"].([]any) {
				in := in.(map[string]any)
				found = found || in["id"] == fmt.Sprintf("w%d", i) && in["node"] == node
			}
			if !found || a.Index() < index {
				t.Fatalf("w%d of %s: %s", i, node, a.Body)
			}
		}
	}
	for i := range servers {
		s := servers[(i+1)%len(servers)] // registered anew elsewhere, it belongs there
		s.PutJSON("/services/web", fmt.Sprintf(`{"id":"w%d","address":"h","port":1,"ttl":"300ms"}`, i)).Want(200)
	}
	for deleted := 0; deleted < len(servers); {
		if watch.Next().Event == "delete" {
			deleted++
		}
	}
	for _, s := range servers {
		s.Get("/services/web").Want(410, "service_expired")
		index := s.Put("/kv/short?ttl=200ms", "x").Want(200).Index()
		s.Get(fmt.Sprintf("/kv/short?wait=10s&index=%d", index)).Want(404, "key_not_found")
	}
}

func TestHealthCountsServices(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for _, name := range []string{"a", "b"} {
		s.PutJSON("/services/"+name, webBody).Want(200)
	}
	h := s.Get("/health").Want(200).Object()["persistence"].(map[string]any)
	if fmt.Sprint(h["num_services"]) != "2" {
		t.Fatalf("%v", h)
	}
	m := string(s.Get("/metrics").Want(200).Body)
	if line := `konsul_http_request_duration_seconds_count{method="PUT",route="/services/{name}",status="200"} 2`; !strings.Contains(m, line) {
		t.Errorf("no %s", line)
	}
}

// What a registration must not be: refused, and nothing is changed.
func TestBadServices(t *testing.T) {
	s, l := apitest.StartLocal(t)
	long := strings.Repeat("n", 129)
	const ok = `{"address":"h","port":1}`
	before := l.DB.Published()
	for _, name := range []string{long, "a%20b", "a%2Fb", "%C3%A9", "a%00", "a:b", "a%FF"} {
		s.PutJSON("/services/"+name, ok).Want(400, "bad_request")
		s.Get("/services/"+name).Want(400, "bad_request")
		s.Delete("/services/"+name).Want(400, "bad_request")
		s.Do("PUT", "/services/"+name+"/heartbeat", "").Want(400, "bad_request")
		s.Do("PUT", "/services/web/heartbeat?id="+name, "").Want(400, "bad_request")
		s.Delete("/services/web?id="+name).Want(400, "bad_request")
		s.Get("/watch?service="+name).Want(400, "bad_request")
	}
	for _, body := range []string{
		``, `null`, `[]`, `{}`, `{"address":"h"}`, `{"port":1}`, `{"address":"","port":1}`, `{"address":1,"port":1}`, `{"address":"h","port":"1"}`,
		`{"address":"h","port":-1}`, `{"address":"h","port":65536}`, `{"address":"h","port":99999999999}`, `{"address":"h","port":1.5}`,
		`{"address":"h","port":1,"prot":2}`, `{"address":"h","address":"h","port":1}`, `{"address":"h","port":1}x`, `{"name":"web","address":"h","port":1}`,
		`{"address":"h","port":1,"id":""}`, `{"address":"h","port":1,"id":"a/b"}`, `{"address":"h","port":1,"id":"` + long + `"}`,
		`{"address":"h","port":1,"ttl":30}`, `{"address":"h","port":1,"ttl":"30"}`, `{"address":"h","port":1,"ttl":"-1s"}`, `{"address":"h","port":1,"ttl":"99ms"}`,
		`{"address":"h","port":1,"ttl":"99999999h"}`, `{"address":"h","port":1,"ttl":"876000h"}`, `{"address":"h","port":1,"ttl":""}`,
		`{"address":"h","port":1,"tags":"a"}`, `{"address":"h","port":1,"tags":[1]}`, `{"address":"h","port":1,"tags":[""]}`, `{"address":"h","port":1,"tags":null}`,
		`{"address":"h","port":1,"meta":[]}`, `{"address":"h","port":1,"meta":{"a":1}}`, `{"address":"h","port":1,"meta":{"a":"1","a":"2"}}`, `{"address":"h","port":1,"meta":{"":"1"}}`,
		`{"address":"h","port":1,"checks":{}}`, `{"address":"h","port":1,"checks":[{}]}`, `{"address":"h","port":1,"checks":[1]}`,
		`{"address":"h","port":1,"checks":[{"ttl":"1s","tcp":"h:1"}]}`, `{"address":"h","port":1,"checks":[{"ttl":"1s"},{"ttl":"2s"}]}`, "{\"address\":\"\xff\",\"port\":1}",
	} {
		s.PutJSON("/services/web", body).Want(400, "bad_request")
	}
	many := func(n int, item string) string { return strings.TrimSuffix(strings.Repeat(item+",", n), ",") }
	pairs := make([]string, 65)
	for i := range pairs {
		pairs[i] = fmt.Sprintf(`"k%d":""`, i)
	}
	for _, body := range []string{
		`{"address":"` + strings.Repeat("h", 256) + `","port":1}`, `{"address":"h","port":1,"tags":[` + many(65, `"t"`) + `]}`,
		`{"address":"h","port":1,"tags":["` + strings.Repeat("t", 129) + `"]}`, `{"address":"h","port":1,"meta":{` + strings.Join(pairs, ",") + `}}`,
		`{"address":"h","port":1,"meta":{"a":"` + strings.Repeat("v", 1025) + `"}}`, `{"address":"h","port":1,"checks":[` + many(17, `{"ttl":"1s"}`) + `]}`,
		`{"address":"h","port":1` + strings.Repeat(" ", 500_000) + `}`,
	} {
		s.PutJSON("/services/web", body).Want(413, "too_large").Uint("limit")
	}
	for _, target := range []string{
		"/services?tags=a", "/services?meta=a", "/services?healthy=maybe", "/services?detail=2", "/services?limit=3", "/services/web?detail", "/services/web?at=0",
		"/services/web?index=x", "/services/web?wait=1s", "/services/web?consistency=maybe", "/services/web/checks?node=a", "/services/web?healthy&healthy",
		"/watch?services=true&prefix=a", "/watch?service=a&key=a", "/watch?services=maybe", "/watch?services=false", "/watch?service=",
		"/services?" + strings.Repeat("tag=a&", 17),
	} {
		s.Get(target).Want(400, "bad_request")
	}
	s.Do("PUT", "/services/web?ttl=3s", ok).Want(400, "bad_request")
	s.Do("PUT", "/services/web/heartbeat?ttl=3s", "").Want(400, "bad_request")
	s.Do("PUT", "/services/web/heartbeat", `{"ttl":"3s"}`).Want(400, "bad_request")
	s.Do("PUT", "/services/web", ok, "Content-Type", "text/plain").Want(415, "unsupported_media_type")
	s.Put("/services/web", ok).Want(415, "unsupported_media_type")
	if l.DB.Published() != before {
		t.Fatal("something was applied")
	}
	s.Do("PUT", "/services/web", ok, "Content-Type", "application/x-www-form-urlencoded").Want(200)
}

func TestServiceRoutes(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for target, allow := range map[string]string{
		"/services": "GET, HEAD", "/services/web": "GET, HEAD, PUT, DELETE", "/services/web/heartbeat": "PUT", "/services/web/checks": "GET, HEAD",
		"/services/web/checks/ttl": "PUT", "/checks": "GET, HEAD", "/checks/a": "PUT, DELETE", "/checks/a/status": "PUT",
		"/sessions": "GET, HEAD, POST", "/sessions/a": "GET, HEAD, DELETE", "/sessions/a/renew": "PUT",
	} {
		if a := s.Do("PATCH", target, "").Want(405, "method_not_allowed"); a.Header.Get("Allow") != allow {
			t.Errorf("%s: Allow %q, want %q", target, a.Header.Get("Allow"), allow)
		}
	}
	for _, target := range []string{"/services/", "/services/web/", "/services/web/more", "/sessions/", "/sessions/a/b", "/checks/"} {
		s.Get(target).Want(404, "not_found")
	}
}

// A large list goes out in pieces and comes in whole.
func TestManyServices(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for i := range 300 {
		s.PutJSON(fmt.Sprintf("/services/s%03d", i), webBody).Want(200)
	}
	if n := len(services(s.Get("/services").Want(200))); n != 300 {
		t.Fatalf("%d names", n)
	}
	if n := len(s.Get("/services?detail=true").Want(200).Object()["services"].([]any)); n != 300 {
		t.Fatalf("%d services", n)
	}
	small := apitest.Start(t, api.Config{}, apitest.NewLocal(t), nil)
	for _, target := range []string{"/services", "/services?detail", "/checks", "/sessions"} {
		if a := small.Get(target).Want(200); !strings.HasSuffix(string(a.Body), "[]}\n") {
			t.Errorf("%s: %s", target, a.Body)
		}
	}
}
