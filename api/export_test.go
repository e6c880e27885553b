package api_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/api/apitest"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/enginetest"
	"github.com/neogan74/konsul/raftstore"
)

// state is every key with its value and flags, as the list shows them.
func state(t *testing.T, s *apitest.Server) string {
	t.Helper()
	var list struct {
		Entries []map[string]any
	}
	parse(t, s.Get("/kv?values=true&limit=10000").Want(200).Body, &list)
	for _, e := range list.Entries {
		delete(e, "create_index")
		delete(e, "modify_index")
	}
	b, err := json.Marshal(list.Entries)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestExportAndImportKeepEveryByte(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	keys := enginetest.OddKeys()
	for i, key := range keys {
		s.Put(keyPath(key)+fmt.Sprintf("?flags=%d", i%3), fmt.Sprintf("value %d", i)).Want(200)
	}
	for name, value := range largeValues() {
		s.Put("/kv/large/"+name, value).Want(200)
	}
	s.Put(keyPath("/w=="), "text whose name is the base64 of ff").Want(200)
	s.Put("/kv/empty", "").Want(200)
	want := state(t, s)

	file := s.Get("/export").Want(200)
	if !json.Valid(file.Body) {
		t.Fatalf("not JSON: %.300q", file.Body)
	}
	if file.Index() == 0 {
		t.Error("no index")
	}
	for _, policy := range []string{"overwrite", "skip", "fail"} {
		other, _ := apitest.StartLocal(t)
		a := other.Post("/import?on_conflict="+policy, string(file.Body)).Want(200)
		if n := uint64(len(keys) + len(largeValues()) + 2); a.Uint("kv") != n || a.Uint("services") != 0 || a.Uint("skipped") != 0 {
			t.Fatalf("%s, want %d keys", a.Body, n)
		}
		if got := state(t, other); got != want {
			t.Fatalf("%s: imported %.2000s, exported %.2000s", policy, got, want)
		}
		if again := other.Get("/export").Want(200); !bytes.Equal(again.Body, file.Body) {
			t.Errorf("%s: exported again it is another file", policy)
		}
	}
}

// keyPath is the target of any key.
func keyPath(key string) string {
	var b strings.Builder
	b.WriteString("/kv/")
	for i := range len(key) {
		fmt.Fprintf(&b, "%%%02X", key[i])
	}
	return b.String()
}

func TestExportIsTheSeedsFormat(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	s.Put("/kv/config/host", "10.0.0.1").Want(200)
	s.Put("/kv/config/port", "8080").Want(200)
	s.Put("/kv/config/raw", "\xff").Want(200)
	var doc struct {
		KV       map[string]any
		Services map[string]any
	}
	parse(t, s.Get("/export").Want(200).Body, &doc)
	want := map[string]any{"config/host": "10.0.0.1", "config/port": "8080",
		"config/raw": map[string]any{"value": "/w==", "encoding": "base64"}}
	if fmt.Sprint(doc.KV) != fmt.Sprint(want) || doc.Services == nil {
		t.Errorf("%v, %v", doc.KV, doc.Services)
	}
	empty, _ := apitest.StartLocal(t)
	if got := strings.Join(strings.Fields(string(empty.Get("/export").Want(200).Body)), ""); got != `{"kv":{},"services":{}}` {
		t.Errorf("an empty store: %s", got)
	}
}

func TestExportAndImportOfAPrefix(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for _, key := range []string{"/kv/a", "/kv/app/1", "/kv/app/%FF", "/kv/b"} {
		s.Put(key, "x").Want(200)
	}
	file := s.Get("/export?prefix=app/").Want(200)
	for body, target := range map[string]string{string(file.Body): "/import", string(s.Get("/export").Want(200).Body): "/import?prefix=app/"} {
		other, _ := apitest.StartLocal(t)
		if a := other.Post(target, body).Want(200); a.Uint("kv") != 2 {
			t.Errorf("%s: %s", target, a.Body)
		}
		list := other.Get("/kv").Want(200)
		want := base64.StdEncoding.EncodeToString([]byte("app/1")) + `","` + base64.StdEncoding.EncodeToString([]byte("app/\xff"))
		if !strings.Contains(string(list.Body), `["`+want+`"]`) {
			t.Errorf("%s: %s", target, list.Body)
		}
	}
}

func TestExportOfThePast(t *testing.T) {
	s, l := apitest.StartLocal(t)
	at := s.Put("/kv/a", "then").Want(200).Index()
	s.Put("/kv/a", "now").Want(200)
	if a := s.Get(fmt.Sprintf("/export?at=%d", at)).Want(200); !strings.Contains(string(a.Body), `"a":"then"`) || a.Index() != at {
		t.Errorf("%s at %d", a.Body, a.Index())
	}
	s.PutJSON("/kv/ttl", `{"value":"v","ttl":"1h"}`).Want(200)
	l.Advance(15 * time.Minute)
	at = l.Published()
	l.Advance(30 * time.Minute)
	if a := s.Get(fmt.Sprintf("/export?at=%d", at)).Want(200); !strings.Contains(string(a.Body), `"ttl":"45m0s"`) {
		t.Errorf("what was left then: %s", a.Body)
	}
	if a := s.Get("/export").Want(200); !strings.Contains(string(a.Body), `"ttl":"15m0s"`) {
		t.Errorf("what is left: %s", a.Body)
	}
	s.Get("/export?index=1").Want(400, "bad_request")
	s.Get("/export?limit=1").Want(400, "bad_request")
}

// scanned is a view that says how often it was scanned and each key that is visited.
type scanned struct {
	api.View
	scans int
	visit func(scan int)
}

func (v *scanned) Scan(prefix, start []byte, fn func(key, value []byte) error) error {
	v.scans++
	return v.View.Scan(prefix, start, func(key, value []byte) error {
		v.visit(v.scans)
		return fn(key, value)
	})
}

// The second look at the keys, for those that are no text, has nothing to send for long.
func TestExportEndsWithItsClientWhenItFindsNothing(t *testing.T) {
	local := apitest.NewLocal(t)
	node := &apitest.Node{Node: local}
	s := apitest.Start(t, api.Config{}, node, nil)
	s.Put("/kv/%FF", "not text").Want(200)
	s.Post("/import", document(1000)).Want(200)
	ctx, cancel := context.WithCancel(t.Context())
	visited := 0
	node.ViewFunc = func(ctx context.Context, o raftstore.ReadOptions) (api.View, raftstore.ReadInfo, error) {
		v, info, err := local.View(ctx, o)
		return &scanned{View: v, visit: func(scan int) {
			if scan == 2 {
				cancel()
				visited++
			}
		}}, info, err
	}
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, "/export", nil))
	if visited == 0 || visited > 500 || answer.Code == 200 {
		t.Errorf("status %d, %d keys were read after the client had gone", answer.Code, visited)
	}
}

// damaged is a view whose scans ended where the engine could not read any more.
type damaged struct {
	api.View
	asked []byte
}

func (v *damaged) Scan(prefix, start []byte, fn func(key, value []byte) error) error {
	n := 0
	return v.View.Scan(prefix, start, func(key, value []byte) error {
		if n++; n > 5 {
			return persistence.ErrStop
		}
		return fn(key, value)
	})
}

func (v *damaged) Whole(_ context.Context, prefix []byte) error {
	v.asked = prefix
	return fmt.Errorf("%w: 000001.sst", persistence.ErrCorrupt)
}

func TestExportOfDamagedDataIsNone(t *testing.T) {
	local := apitest.NewLocal(t)
	node := &apitest.Node{Node: local}
	s := apitest.Start(t, api.Config{}, node, nil)
	s.Post("/import", document(10)).Want(200)
	var v *damaged
	node.ViewFunc = func(ctx context.Context, o raftstore.ReadOptions) (api.View, raftstore.ReadInfo, error) {
		inner, info, err := local.View(ctx, o)
		v = &damaged{View: inner, asked: []byte("nobody has asked")}
		return v, info, err
	}
	for query, asked := range map[string]string{"": "", "?prefix=k": "kv:k"} {
		s.Get("/export"+query).Want(500, "internal")
		if string(v.asked) != asked {
			t.Errorf("%s: was %q read whole?", query, v.asked)
		}
	}
}

func TestImportPolicies(t *testing.T) {
	body := `{"kv":{"a":"new","b":"new","c":"new","b":"again"}}`
	for _, c := range []struct {
		query         string
		status        int
		kv, skipped   uint64
		a, b, present string
	}{
		{"", 200, 4, 0, "new", "again", "c"},
		{"?on_conflict=overwrite", 200, 4, 0, "new", "again", "c"},
		{"?on_conflict=skip", 200, 2, 2, "new", "old", "c"},
		{"?on_conflict=fail", 409, 0, 0, "", "old", ""},
		{"?dry_run=true", 200, 4, 0, "", "old", ""},
		{"?dry_run=true&on_conflict=skip", 200, 2, 2, "", "old", ""},
		{"?dry_run=true&on_conflict=fail", 409, 0, 0, "", "old", ""},
	} {
		s, _ := apitest.StartLocal(t)
		s.Put("/kv/b", "old").Want(200)
		a := s.Post("/import"+c.query, body).Want(c.status, "exists")
		if a.Uint("kv") != c.kv || a.Uint("skipped") != c.skipped {
			t.Errorf("%s: %s", c.query, a.Body)
		}
		if c.status == 409 && a.String("key") != "b" {
			t.Errorf("%s: %s", c.query, a.Body)
		}
		for key, want := range map[string]string{"a": c.a, "b": c.b, "c": c.present} {
			got := s.Get("/kv/" + key)
			if (got.Status == 200) != (want != "") || key != "c" && want != "" && got.String("value") != want {
				t.Errorf("%s: %s is %s, want %q", c.query, key, got.Body, want)
			}
		}
	}
}

// What somebody creates between the look and the write is not overwritten.
func TestImportSkipsWhatAppears(t *testing.T) {
	local := apitest.NewLocal(t)
	node := &apitest.Node{Node: local}
	s := apitest.Start(t, api.Config{}, node, nil)
	once := true
	node.ApplyFunc = func(ctx context.Context, m proto.Message, key string) (*command.Result, error) {
		if once {
			once = false
			local.Apply0(&command.Txn{Then: []*command.Op{{Kind: command.Op_SET, Key: []byte("k5"), Value: []byte("theirs")}}}, command.Type_TYPE_TXN)
		}
		return local.Apply(ctx, command.Type_TYPE_TXN, m, key)
	}
	a := s.Post("/import?on_conflict=skip", document(10)).Want(200)
	if a.Uint("kv") != 9 || a.Uint("skipped") != 1 || s.Get("/kv/k5").String("value") != "theirs" {
		t.Errorf("%s, k5 = %s", a.Body, s.Get("/kv/k5").Body)
	}
}

// document has n keys, one on a line.
func document(n int) string {
	var b strings.Builder
	b.WriteString(`{"kv":{`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "\n\"k%d\":\"v%d\"", i, i)
	}
	b.WriteString("\n}}")
	return b.String()
}

func TestImportSaysWhereItEnded(t *testing.T) {
	long := strings.Repeat("v", command.MaxValueLen+1)
	for name, c := range map[string]struct {
		record string
		status int
		key    string
	}{
		"a number":            {`"bad":1`, 400, "bad"},
		"half a record":       {`"bad":"x`, 400, "bad"},
		"an unknown field":    {`"bad":{"value":"x","colour":"red"}`, 400, "bad"},
		"no value":            {`"bad":{"flags":1}`, 400, "bad"},
		"bad base64":          {`"bad":{"value":"!","encoding":"base64"}`, 400, "bad"},
		"a bad encoding":      {`"bad":{"value":"!","encoding":"rot13"}`, 400, "bad"},
		"an empty key":        {`"":"x"`, 400, ""},
		"a long key":          {`"` + strings.Repeat("k", command.MaxKeyLen+1) + `":"x"`, 400, strings.Repeat("k", command.MaxKeyLen+1)},
		"a large value":       {`"bad":"` + long + `"`, 413, "bad"},
		"a value of 20 MB":    {`"bad":"` + strings.Repeat("v", 20<<20) + `"`, 413, "bad"},
		"a half surrogate":    {`"bad":"\ud800"`, 400, "bad"},
		"not UTF-8":           {"\"bad\":\"\xff\"", 400, "bad"},
		"a value in a list":   {`"bad":["x"]`, 400, "bad"},
		"an object as a text": {`"bad":{"value":{}}`, 400, "bad"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := apitest.StartLocal(t)
			good := strings.TrimSuffix(document(3000), "\n}}") + ",\n"
			a := s.Post("/import", good+c.record+"}}").Want(c.status)
			// Two chunks of 1,024 were applied, the one with the mistake was not.
			if a.String("key") != c.key || a.Uint("line") != 3002 || a.Uint("offset") < uint64(len(good)) || a.Uint("kv") != 2048 {
				t.Errorf("%.500s", a.Body)
			}
			if !strings.Contains(a.String("error"), "line 3002") || !strings.Contains(a.String("error"), "2048 keys") {
				t.Errorf("%.500s", a.Body)
			}
			s.Get("/kv/k2047").Want(200)
			s.Get("/kv/k2048").Want(404)
		})
	}
}

func TestImportRefuses(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for name, body := range map[string]string{
		"nothing":            ``,
		"a list":             `[]`,
		"an unknown section": `{"kvs":{}}`,
		"a section twice":    `{"kv":{},"kv":{}}`,
		"no object":          `{"kv":[]}`,
		"something behind":   `{"kv":{}} {}`,
		"bad base64 keys":    `{"kv_base64":{"!":"x"}}`,
	} {
		if a := s.Post("/import", body).Want(400, "bad_request"); a.Uint("kv") != 0 {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	for _, query := range []string{"on_conflict=ask", "dry_run=perhaps", "colour=red", "prefix=" + strings.Repeat("p", command.MaxKeyLen+1)} {
		s.Post("/import?"+query, `{"kv":{}}`).Want(400, "bad_request")
	}
	s.Do(http.MethodPost, "/import", "a: b", "Content-Type", "application/yaml").Want(415)
	s.Do(http.MethodPost, "/import", "x", "Content-Encoding", "gzip").Want(415)
	s.Post("/import", `{"kv":{}}`, "Idempotency-Key", "k").Want(400, "bad_request")
	s.Do(http.MethodPost, "/import", `{"kv":{"as":"curl -d sends it"}}`, "Content-Type", "application/x-www-form-urlencoded").Want(200)
}

// Errors of the cluster keep their meaning, and say how far the import had come.
func TestImportPassesOutcomesOn(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{raftstore.ErrOutcomeUnknown, 504, "outcome_unknown"},
		{context.DeadlineExceeded, 504, "outcome_unknown"},
		{io.ErrUnexpectedEOF, 500, "internal"},
	} {
		local := apitest.NewLocal(t)
		node := &apitest.Node{Node: local}
		s := apitest.Start(t, api.Config{}, node, nil)
		calls := 0
		node.ApplyFunc = func(ctx context.Context, m proto.Message, key string) (*command.Result, error) {
			if calls++; calls == 3 {
				return nil, c.err
			}
			return local.Apply(ctx, command.Type_TYPE_TXN, m, key)
		}
		a := s.Post("/import", document(5000)).Want(c.status, c.code)
		if a.Uint("kv") != 2048 || calls != 3 {
			t.Errorf("%v: %s after %d calls", c.err, a.Body, calls)
		}
	}
}

// What was not applied for certain is tried again.
func TestImportWaitsForALeader(t *testing.T) {
	local := apitest.NewLocal(t)
	node := &apitest.Node{Node: local}
	s := apitest.Start(t, api.Config{}, node, nil)
	calls := 0
	node.ApplyFunc = func(ctx context.Context, m proto.Message, key string) (*command.Result, error) {
		if calls++; calls < 4 {
			return nil, []error{raftstore.ErrNoLeader, raftstore.ErrOverloaded, raftstore.ErrNotReady}[calls-1]
		}
		return local.Apply(ctx, command.Type_TYPE_TXN, m, key)
	}
	if a := s.Post("/import", document(5000)).Want(200); a.Uint("kv") != 5000 {
		t.Errorf("%s", a.Body)
	}
}

func TestImportEndsWhenTheNodeStops(t *testing.T) {
	local := apitest.NewLocal(t)
	node := &apitest.Node{Node: local}
	s := apitest.Start(t, api.Config{}, node, nil)
	node.ApplyFunc = func(ctx context.Context, m proto.Message, key string) (*command.Result, error) {
		s.Drain()
		return local.Apply(ctx, command.Type_TYPE_TXN, m, key)
	}
	if a := s.Post("/import", document(50000)).Want(503, "shutting_down"); a.Uint("kv") == 0 || a.Uint("kv") == 50000 {
		t.Errorf("%s", a.Body)
	}
}

func TestImportsAreBounded(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	var bodies []*io.PipeWriter
	done := make(chan int, 8)
	for range 4 {
		r, w := io.Pipe()
		bodies = append(bodies, w)
		go func() {
			resp, err := s.HTTP.Client().Do(s.Request(http.MethodPost, "/import", r, "Content-Type", "application/json"))
			if err != nil {
				done <- 0
				return
			}
			resp.Body.Close()
			done <- resp.StatusCode
		}()
		if _, err := w.Write([]byte(`{"kv":{`)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "a full house", func() bool { return s.Get("/export").Status == http.StatusTooManyRequests })
	for _, w := range bodies {
		if _, err := w.Write([]byte("}}")); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	for range 4 {
		if status := <-done; status != 200 {
			t.Errorf("status %d", status)
		}
	}
	s.Get("/export").Want(200)
}

func TestExportAndImportServices(t *testing.T) {
	s, l := apitest.StartLocal(t)
	s.PutJSON("/services/web", `{"address":"10.0.0.1","port":8080}`).Want(200)
	s.PutJSON("/services/api", webBody).Want(200)
	for _, id := range []string{"db-1", "db"} {
		s.PutJSON("/services/db", `{"id":"`+id+`","address":"`+id+`","port":1,"checks":[{"ttl":"10s","status":"warning"},`+
			`{"id":"h","name":"n","http":"http://h/","interval":"3s","timeout":"2s","passing_after":2,"critical_after":3}]}`).Want(200)
	}
	s.PutJSON("/kv/ttl", `{"value":"v","ttl":"1h"}`).Want(200)
	s.Put("/kv/a", "1").Want(200)
	l.Sleep(15 * time.Minute)
	s.PutJSON("/services/api", webBody).Want(200)
	file := s.Get("/export").Want(200)
	var doc struct {
		KV       map[string]any
		Services map[string]map[string]any
	}
	parse(t, file.Body, &doc)
	if want := "map[address:10.0.0.1 name:web port:8080]"; fmt.Sprint(doc.Services["web"]) != want || len(doc.Services) != 3 {
		t.Errorf("%v", doc.Services)
	}
	if ttl := doc.KV["ttl"].(map[string]any)["ttl"]; ttl != "45m0s" {
		t.Errorf("ttl %v", ttl)
	}
	other, _ := apitest.StartLocal(t)
	if a := other.Post("/import", string(file.Body)).Want(200); a.Uint("services") != 3 || a.Uint("kv") != 2 {
		t.Fatalf("%s", a.Body)
	}
	if again := other.Get("/export").Want(200); string(again.Body) != string(file.Body) {
		t.Errorf("exported\n%s\nimported\n%s", file.Body, again.Body)
	}
	if a := other.Get("/services/api").Want(200); a.String("expires_in") != "30s" {
		t.Errorf("%s", a.Body)
	}
	for query, want := range map[string]uint64{"": 3, "dry_run=true": 3, "prefix=w": 0, "prefix=": 3} {
		if a := other.Post("/import?"+query, string(file.Body)).Want(200); a.Uint("services") != want || a.Uint("skipped") != 0 {
			t.Errorf("%s: %s", query, a.Body)
		}
	}
	if a := other.Post("/import?on_conflict=skip", string(file.Body)).Want(200); a.Uint("skipped") != 5 {
		t.Errorf("%s", a.Body)
	}
	if a := other.Post("/import?on_conflict=fail", `{"services":{"web":{"address":"x","port":1}}}`).Want(409, "exists"); a.String("field") != "services.web" {
		t.Errorf("%s", a.Body)
	}
	for _, bad := range []string{
		`"web":{"address":"x"}`, `"web":{"port":1}`, `"web":{"address":"x","port":70000}`, `"web":{"name":"api","address":"x","port":1}`,
		`"w b":{"address":"x","port":1}`, `"web":{"address":"x","port":1,"colour":1}`, `"web":{"address":"x","port":1,"ttl":"1ns"}`,
		`"web":{"instances":[{"id":"a b","address":"x","port":1}]}`, `"web":[]`, `"web":{"data":"!","data_encoding":"base64"}`,
	} {
		if a := other.Post("/import", `{"services":{`+bad+`}}`).Want(400, "bad_request"); !strings.Contains(a.String("error"), "line 1") {
			t.Errorf("%s: %s", bad, a.Body)
		}
	}
}
