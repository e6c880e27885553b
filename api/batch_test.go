package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/neogan74/konsul/api/apitest"
)

func TestBatch(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	set := s.Post("/batch/set", `{"items":{"a":"1","b":{"encoding":"base64","value":"/w=="},"c":{"value":"3"}}}`).Want(200)
	if set.Uint("count") != 3 || set.Uint("modify_index") != set.Index() || set.String("message") == "" {
		t.Fatalf("%s", set.Body)
	}
	got := s.Post("/batch/get", `{"keys":["a","b","none","a","none"]}`).Want(200)
	want := `{"found":{"a":"1","b":{"encoding":"base64","value":"/w=="}},"not_found":["none"],"index":` + fmt.Sprint(got.Index()) + "}\n"
	if string(got.Body) != want {
		t.Fatalf("%s, want %s", got.Body, want)
	}
	s.Put("/kv/a", "2").Want(200)
	past := s.Post(fmt.Sprintf("/batch/get?at=%d", set.Index()), `{"keys":["a"]}`).Want(200)
	if past.Object()["found"].(map[string]any)["a"] != "1" {
		t.Fatalf("%s", past.Body)
	}
	if del := s.Post("/batch/delete", `{"keys":["a","b","a","none"]}`).Want(200); del.Uint("count") != 4 || del.Uint("deleted") != 2 {
		t.Fatalf("%s", del.Body)
	}
}

func TestBatchKeysInBase64(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	s.Post("/batch/set", `{"items":{"/w==":"x","YQ==":"y"},"keys_encoding":"base64"}`).Want(200)
	if got := s.Get("/kv/%FF").Want(200); got.String("value") != "x" {
		t.Fatalf("%s", got.Body)
	}
	got := s.Post("/batch/get", `{"keys_encoding":"base64","keys":["/w==","YQ==","/g=="]}`).Want(200).Object()
	if f := got["found"].(map[string]any); f["/w=="] != "x" || f["YQ=="] != "y" || got["keys_encoding"] != "base64" || got["not_found"].([]any)[0] != "/g==" {
		t.Fatalf("%v", got)
	}
	if d := s.Post("/batch/delete", `{"keys_encoding":"base64","keys":["/w=="]}`).Want(200).Uint("deleted"); d != 1 {
		t.Fatalf("deleted %d", d)
	}
}

func TestBatchGetStreams(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	value := strings.Repeat("v", 100<<10)
	var keys []string
	for i := range 50 {
		k := fmt.Sprintf("k%02d", i)
		s.Put("/kv/"+k, value).Want(200)
		keys = append(keys, k)
	}
	body, _ := json.Marshal(map[string]any{"keys": keys})
	found := s.Post("/batch/get", string(body)).Want(200).Object()["found"].(map[string]any)
	for _, k := range keys {
		if found[k] != value {
			t.Fatalf("%s differs", k)
		}
	}
}

func TestBatchRefuses(t *testing.T) {
	s, l := apitest.StartLocal(t)
	before := l.DB.Published()
	for target, bodies := range map[string][]string{
		"/batch/set": {`{}`, `{"items":{}}`, `{"items":[]}`, `{"items":{"a":1}}`, `{"items":{"a":null}}`, `{"items":{"":"x"}}`, `{"items":{"a":{}}}`,
			`{"items":{"a":"1","a":"2"}}`, `{"items":{"a":{"value":"?","encoding":"base64"}}}`, `{"keys":["a"]}`, `[]`, ``, `{"items":{"a":"1"},"keys_encoding":"base64"}`,
			`{"items":{"` + strings.Repeat("k", 4097) + `":"x"}}`},
		"/batch/get":    {`{}`, `{"keys":[]}`, `{"keys":"a"}`, `{"keys":[1]}`, `{"keys":[""]}`, `{"items":{}}`},
		"/batch/delete": {`{}`, `{"keys":[]}`, `{"keys":{}}`, `{"keys":["a"],"x":1}`},
	} {
		for _, body := range bodies {
			s.Post(target, body).Want(400, "bad_request")
		}
	}
	s.Post("/batch/get?index=1", `{"keys":["a"]}`).Want(400, "bad_request")
	if l.DB.Published() != before {
		t.Fatal("something was applied")
	}
}

func TestBatchGetIsBounded(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	value := strings.Repeat("v", 512<<10)
	var keys []string
	for i := range 17 {
		key := fmt.Sprintf("k%02d", i)
		s.Put("/kv/"+key, value).Want(200)
		keys = append(keys, `"`+key+`"`)
	}
	a := s.Post("/batch/get", `{"keys":[`+strings.Join(keys, ",")+`]}`).Want(413, "too_large")
	if a.Uint("limit") != 8<<20 {
		t.Errorf("%s", a.Body)
	}
	var b struct{ Found map[string]string }
	parse(t, s.Post("/batch/get", `{"keys":[`+strings.Join(keys[:16], ",")+`]}`).Want(200).Body, &b)
	if len(b.Found) != 16 || b.Found["k15"] != value {
		t.Errorf("%d keys", len(b.Found))
	}
}
