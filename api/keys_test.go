package api_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/neogan74/konsul/api/apitest"
)

// escapeAll percent-encodes every byte.
func escapeAll(key string) string {
	var b strings.Builder
	for i := range len(key) {
		fmt.Fprintf(&b, "%%%02X", key[i])
	}
	return b.String()
}

var oddKeys = []string{
	"plain", "a/b", "a//b", "//", "/", "a/", "/a", ".", "..", "../x", "a/../b", "a/./b", "./", "%2F", "%", "%zz", "a b", "a+b",
	"?", "#", "a?b=c&d", ";", "emoji😀", "é", "\x00", "a\x00b", "\xff\xfe", "a\nb", "\"quoted\"", "\\", "<>&", "\u2028",
	strings.Repeat("k", 4096), strings.Repeat("\xff", 4096), "kv/", "kv:", "svc:x", "sys:cluster",
}

func TestOddKeysRoundTrip(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for _, key := range oddKeys {
		target := "/kv/" + escapeAll(key)
		s.Get(target).Want(404, "key_not_found")
		put := s.Put(target, "value of "+key).Want(200)
		got := s.Get(target).Want(200)
		if got.Uint("modify_index") != put.Uint("modify_index") {
			t.Fatalf("%q: indexes differ", key)
		}
		shown := got.String("key")
		if utf8.ValidString(key) != (got.String("key_encoding") == "") {
			t.Fatalf("%q: key_encoding %q", key, got.String("key_encoding"))
		}
		if got.String("key_encoding") == "base64" {
			b, err := base64.StdEncoding.DecodeString(shown)
			if err != nil {
				t.Fatal(err)
			}
			shown = string(b)
		}
		if shown != key {
			t.Fatalf("key %q came back as %q", key, shown)
		}
		if raw := s.Get(target + "?raw=true").Want(200); string(raw.Body) != "value of "+key {
			t.Fatalf("%q: raw value %q", key, raw.Body)
		}
	}
	if n := s.Get("/kv?limit=10000").Want(200).Object()["keys"].([]any); len(n) != len(oddKeys) {
		t.Fatalf("%d keys, want %d", len(n), len(oddKeys))
	}
	for _, key := range oddKeys {
		if del := s.Delete("/kv/" + escapeAll(key)).Want(200).Object(); del["deleted"] != true {
			t.Fatalf("%q: %v", key, del)
		}
	}
}

func TestPathsAreTakenAsTheyAre(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for target, key := range map[string]string{
		"/kv//a//b/": "/a//b/", "/kv/../x": "../x", "/kv/%2e%2e/x": "../x", "/kv/a%2Fb": "a/b", "/kv/%252F": "%2F", "/kv/a+b": "a+b",
	} {
		if got := s.Put(target, "v").Want(200).String("key"); got != key {
			t.Errorf("%s is the key %q, want %q", target, got, key)
		}
	}
	s.Get("/kv%2Fx").Want(404, "not_found")
	s.Get("//kv/x").Want(404, "not_found")
	s.Get("/x/../kv/x").Want(404, "not_found")
	s.Get("/kv/").Want(400, "bad_request")
	s.Get("/kv/"+strings.Repeat("k", 4097)).Want(400, "bad_request")
	s.Get("/kv/"+escapeAll(strings.Repeat("\xf0", 4096))).Want(404, "key_not_found")
}

func TestValues(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for name, value := range map[string]string{
		"empty": "", "text": "héllo\n\t\"", "binary": string(all), "large": strings.Repeat("x", 524288), "control": "\x00\x01\x1f",
	} {
		s.Put("/kv/v", value, "X", "y").Want(200)
		if raw := s.Get("/kv/v?raw=true").Want(200); string(raw.Body) != value || raw.Header.Get("Content-Type") != "application/octet-stream" {
			t.Fatalf("%s: raw value differs (%d bytes)", name, len(raw.Body))
		}
		got := s.Get("/kv/v").Want(200)
		shown := got.String("value")
		if got.String("encoding") == "base64" {
			b, _ := base64.StdEncoding.DecodeString(shown)
			shown = string(b)
		}
		if shown != value {
			t.Fatalf("%s: value differs", name)
		}
		if utf8.ValidString(value) != (got.String("encoding") == "") {
			t.Fatalf("%s: encoding %q", name, got.String("encoding"))
		}
	}
}

func TestPutJSON(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	first := s.PutJSON("/kv/a", `{"value":"x\u00e9","flags":7}`).Want(200)
	if first.String("message") != "key set" || first.Uint("create_index") != first.Uint("modify_index") || first.Index() != first.Uint("modify_index") {
		t.Fatalf("%s", first.Body)
	}
	if got := s.Get("/kv/a").Want(200); got.String("value") != "xé" || got.Uint("flags") != 7 {
		t.Fatalf("%s", got.Body)
	}
	second := s.Do(http.MethodPost, "/kv/a", `{"value":"/wA=","encoding":"base64"}`, "Content-Type", "application/json; charset=utf-8").Want(200)
	if second.Uint("create_index") != first.Uint("create_index") || second.Uint("modify_index") <= first.Uint("modify_index") {
		t.Fatalf("%s", second.Body)
	}
	if raw := s.Get("/kv/a?raw=true"); string(raw.Body) != "\xff\x00" {
		t.Fatalf("%q", raw.Body)
	}
	for name, body := range map[string]string{
		"no value": `{}`, "null": `null`, "null value": `{"value":null}`, "unknown field": `{"value":"a","x":1}`, "wrong case": `{"Value":"a"}`,
		"trailing data": `{"value":"a"}{}`, "twice": `{"value":"a","value":"b"}`, "bad base64": `{"value":"?","encoding":"base64"}`,
		"bad encoding": `{"value":"a","encoding":"hex"}`, "negative cas": `{"value":"a","cas":-1}`, "text cas": `{"value":"a","cas":"1"}`,
		"ttl": `{"value":"a","ttl":"10"}`, "number": `{"value":1}`, "invalid UTF-8": "{\"value\":\"\xff\"}", "empty": ``, "array": `[]`,
	} {
		if a := s.PutJSON("/kv/b", body); a.Status != 400 || a.String("code") != "bad_request" {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
	s.Get("/kv/b").Want(404)
	s.PutJSON("/kv/b?cas=0", `{"value":"a"}`).Want(400, "bad_request")
}

func TestCAS(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	if a := s.Put("/kv/a?cas=5", "x").Want(409, "cas_conflict"); a.Uint("modify_index") != 0 {
		t.Fatalf("%s", a.Body)
	}
	now := s.Put("/kv/a?cas=0&flags=3", "x").Want(200).Uint("modify_index")
	if a := s.Put("/kv/a?cas=0", "y").Want(409, "exists"); a.Uint("modify_index") != now {
		t.Fatalf("%s", a.Body)
	}
	if a := s.PutJSON("/kv/a", `{"value":"y","cas":1}`).Want(409, "cas_conflict"); a.Uint("modify_index") != now {
		t.Fatalf("%s", a.Body)
	}
	s.Delete("/kv/a?cas=1").Want(409, "cas_conflict")
	now = s.PutJSON("/kv/a", fmt.Sprintf(`{"value":"y","cas":%d}`, now)).Want(200).Uint("modify_index")
	if got := s.Get("/kv/a"); got.String("value") != "y" || got.Uint("flags") != 0 {
		t.Fatalf("%s", got.Body)
	}
	if a := s.Delete(fmt.Sprintf("/kv/a?cas=%d", now)).Want(200); a.Object()["deleted"] != true || a.String("message") != "key deleted" {
		t.Fatalf("%s", a.Body)
	}
	if a := s.Delete("/kv/a").Want(200); a.Object()["deleted"] != false {
		t.Fatalf("%s", a.Body)
	}
}

func TestIdempotencyKey(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	first := s.Put("/kv/a", "x", "Idempotency-Key", "k1").Want(200)
	s.Put("/kv/a", "other").Want(200)
	again := s.Put("/kv/a", "x", "Idempotency-Key", "k1").Want(200)
	if string(first.Body) != string(again.Body) || first.Index() != again.Index() {
		t.Fatalf("%s and %s", first.Body, again.Body)
	}
	if got := s.Get("/kv/a?raw"); string(got.Body) != "other" {
		t.Fatalf("applied twice: %s", got.Body)
	}
	s.Put("/kv/a", "z", "Idempotency-Key", "k1").Want(400, "bad_request")
	s.Put("/kv/a", "z", "Idempotency-Key", strings.Repeat("k", 257)).Want(400, "bad_request")
	s.Put("/kv/a", "z", "Idempotency-Key", "caf\xc3\xa9").Want(400, "bad_request")
	s.Put("/kv/a", "z", "Idempotency-Key", strings.Repeat("k", 256)).Want(200)
}

func TestDeletePrefix(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for _, k := range []string{"a/1", "a/2", "b"} {
		s.Put("/kv/"+k, "x").Want(200)
	}
	s.Delete("/kv").Want(400, "bad_request")
	s.Delete("/kv?prefix=").Want(400, "bad_request")
	s.Delete("/kv?prefix=a&all=true").Want(400, "bad_request")
	if n := s.Delete("/kv?prefix=a%2F").Want(200).Uint("deleted"); n != 2 {
		t.Fatalf("deleted %d", n)
	}
	if n := s.Delete("/kv?all=true").Want(200).Uint("deleted"); n != 1 {
		t.Fatalf("deleted %d", n)
	}
}

func TestLimits(t *testing.T) {
	s, l := apitest.StartLocal(t)
	before := l.DB.Published()
	if a := s.Put("/kv/a", strings.Repeat("x", 524289)).Want(413, "too_large"); a.Uint("limit") != 524288 {
		t.Fatalf("%s", a.Body)
	}
	s.PutJSON("/kv/a", `{"value":"`+strings.Repeat("x", 524289)+`"}`).Want(413, "too_large")
	s.PutJSON("/kv/a", `{"value":"`+strings.Repeat(" ", 4<<20)+`"}`).Want(413, "too_large")
	s.Post("/batch/set", `{"items":{"a":"`+strings.Repeat("x", 524288)+`","b":"`+strings.Repeat("x", 524288)+`"}}`).Want(413, "too_large")
	s.Post("/batch/set", `{"items":{"a":"`+strings.Repeat("x", 524289)+`"}}`).Want(413, "too_large")
	var keys, ops []string
	for i := range 1025 {
		keys = append(keys, fmt.Sprintf(`"%d"`, i))
		ops = append(ops, fmt.Sprintf(`{"op":"get","key":"%d"}`, i))
	}
	s.Post("/batch/delete", `{"keys":[`+strings.Join(keys, ",")+`]}`).Want(413, "too_large")
	s.Post("/batch/get", `{"keys":[`+strings.Join(keys, ",")+`]}`).Want(413, "too_large")
	s.Post("/txn", `{"then":[`+strings.Join(ops, ",")+`]}`).Want(413, "too_large")
	s.Post("/txn", `{"then":[`+strings.Join(ops[:1000], ",")+`],"else":[`+strings.Join(ops[:25], ",")+`]}`).Want(413, "too_large")
	if l.DB.Published() != before {
		t.Fatal("something was applied")
	}
	s.Post("/txn", `{"then":[`+strings.Join(ops[:1024], ",")+`]}`).Want(200)
}
