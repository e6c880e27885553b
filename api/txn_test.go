package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/neogan74/konsul/api/apitest"
	"github.com/neogan74/konsul/fsm/command"
)

func TestTxn(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	a := s.Put("/kv/a", "1").Want(200).Uint("modify_index")
	res := s.Post("/txn", fmt.Sprintf(`{
		"compare":[{"key":"a","target":"value","op":"=","value":"1"},{"key":"a","target":"modify_index","op":"=","value":%d},
			{"key":"a","target":"create_index","op":"<","value":"%d"},{"key":"none","target":"exists","op":"=","value":false},
			{"key":"a","target":"value","op":"!=","value":"MQA=","encoding":"base64"}],
		"then":[{"op":"set","key":"a","value":"2","flags":9},{"op":"get","key":"a"},{"op":"get","key":"none"},{"op":"delete","key":"a"},{"op":"delete","key":"a"},
			{"op":"set","key":"p/1","value":"/w==","encoding":"base64"},{"op":"get","key":"p/1"},{"op":"set","key":"/w==","key_encoding":"base64","value":""},
			{"op":"delete_prefix","key":"p/"}],
		"else":[]}`, a, a+1)).Want(200)
	i := res.Uint("index")
	if i != res.Index() {
		t.Fatalf("index %d, header %d", i, res.Index())
	}
	want := fmt.Sprintf(`{"succeeded":true,"index":%d,"results":[`+
		`{"op":"set","key":"a","modify_index":%d,"create_index":%d},`+
		`{"op":"get","key":"a","found":true,"value":"2","create_index":%d,"modify_index":%d,"flags":9},`+
		`{"op":"get","key":"none","found":false},{"op":"delete","key":"a","deleted":true},{"op":"delete","key":"a","deleted":false},`+
		`{"op":"set","key":"p/1","modify_index":%d,"create_index":%d},`+
		`{"op":"get","key":"p/1","found":true,"value":"/w==","encoding":"base64","create_index":%d,"modify_index":%d,"flags":0},`+
		`{"op":"set","key":"/w==","key_encoding":"base64","modify_index":%d,"create_index":%d},`+
		`{"op":"delete_prefix","key":"p/","deleted":1}]}`+"\n", i, i, a, a, i, i, i, i, i, i, i)
	if string(res.Body) != want {
		t.Fatalf("got  %s\nwant %s", res.Body, want)
	}
}

func TestTxnElseAndConflict(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	now := s.Put("/kv/a", "1").Want(200).Uint("modify_index")
	els := s.Post("/txn", `{"compare":[{"key":"a","target":"exists","op":"!=","value":true}],"then":[],"else":[{"op":"get","key":"a"}]}`).Want(200)
	if els.Object()["succeeded"] != false || len(els.Object()["results"].([]any)) != 1 {
		t.Fatalf("%s", els.Body)
	}
	c := s.Post("/txn", `{"then":[{"op":"set","key":"b","value":"x"},{"op":"set","key":"a","value":"y","cas":1}]}`).Want(409, "cas_conflict")
	if c.Uint("op") != 1 || c.Uint("modify_index") != now {
		t.Fatalf("%s", c.Body)
	}
	c = s.Post("/txn", `{"then":[{"op":"set","key":"a","value":"y","cas":0}]}`).Want(409, "exists")
	if c.Uint("op") != 0 {
		t.Fatalf("%s", c.Body)
	}
	s.Get("/kv/b").Want(404)
	if empty := s.Post("/txn", `{"compare":[{"key":"a","target":"exists","op":"=","value":"true"}]}`).Want(200); len(empty.Object()["results"].([]any)) != 0 {
		t.Fatalf("%s", empty.Body)
	}
}

func TestTxnAnswerTooLarge(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	s.Put("/kv/a", strings.Repeat("x", 500<<10)).Want(200)
	a := s.Post("/txn", `{"then":[{"op":"get","key":"a"},{"op":"get","key":"a"},{"op":"get","key":"a"}]}`).Want(413, "too_large")
	if a.Uint("limit") != command.MaxResultBytes || a.Uint("op") != 1 {
		t.Fatalf("%s", a.Body)
	}
}

func TestTxnRefuses(t *testing.T) {
	s, l := apitest.StartLocal(t)
	before := l.DB.Published()
	for _, body := range []string{
		`{}`, `{"then":[]}`, `{"then":[{}]}`, `{"then":[{"op":"set","key":"a"}]}`, `{"then":[{"op":"set","value":"x"}]}`, `{"then":[{"op":"put","key":"a","value":"x"}]}`,
		`{"then":[{"op":"get","key":"a","value":"x"}]}`, `{"then":[{"op":"get","key":"a","cas":1}]}`, `{"then":[{"op":"delete","key":"a","flags":1}]}`,
		`{"then":[{"op":"set","key":"a","value":1}]}`, `{"then":[{"op":"set","key":"a","value":"x","ttl":"1"}]}`, `{"then":[{"op":"delete_prefix","key":""}]}`,
		`{"then":[{"op":"delete_prefix","key":"a","cas":0}]}`, `{"then":[{"op":"get","key":"a","target":"value"}]}`, `{"then":{}}`, `{"then":[1]}`, `{"now":[]}`,
		`{"compare":[{"key":"a","target":"value","op":"=","value":1}]}`, `{"compare":[{"key":"a","target":"modify_index","op":"=","value":"x"}]}`,
		`{"compare":[{"key":"a","target":"modify_index","op":"=","value":true}]}`, `{"compare":[{"key":"a","target":"exists","op":"<","value":true}]}`,
		`{"compare":[{"key":"a","target":"exists","op":"=","value":1}]}`, `{"compare":[{"key":"a","target":"exists","op":"="}]}`, `{"compare":[{"key":"a","op":"=","value":"x"}]}`,
		`{"compare":[{"key":"a","target":"value","value":"x"}]}`, `{"compare":[{"target":"value","op":"=","value":"x"}]}`, `{"compare":[{"key":"a","target":"value","op":"==","value":"x"}]}`,
	} {
		if a := s.Post("/txn", body); a.Status != 400 || a.String("code") != "bad_request" {
			t.Errorf("%s: %d %s", body, a.Status, a.Body)
		}
	}
	s.Post("/txn?x=1", `{"then":[{"op":"get","key":"a"}]}`).Want(400, "bad_request")
	if l.DB.Published() != before {
		t.Fatal("something was applied")
	}
}
