//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/neogan74/konsul/test/harness"
)

// oddKeys are keys that some path through routers, cleaners, decoders or logs
// could change. The long one is the longest allowed.
var oddKeys = []string{
	"a//b", "../x", "..", ".", "./", "a/../b", "/", "//", "/a", "a/", "%2F", "%", "%zz", "a%00b", " ", "a b", " a ", "+", "a+b", "?", "a?b=c", "#", "a#b", "&", "a;b",
	"emoji/\U0001F600", "ключ", "e\u0301", "\u00e9", "\x00", "a\x00b", "\n", "a\r\nb", "\t", "\"quoted\"", "\\", "a\\b", "'", "<script>", "\u2028", "\ufeff", "null",
	"{\"op\":\"set\"}", "!badger!key", "kv:", "svc:x", "sys:cluster", strings.Repeat("k", 4096),
}

var oddValues = map[string][]byte{
	"empty": {}, "zero byte": {0}, "binary": {0xff, 0xfe, 0, 1, 0x80}, "text": []byte("plain"), "looks like base64": []byte("AAAA"), "json": []byte(`{"value":"x"}`),
	"surrogate": {0xed, 0xa0, 0x80}, "newlines": []byte("a\r\n\nb\n"), "html": []byte("<a&b>\u2028"), "longest": bytes.Repeat([]byte{0xe9}, 512<<10),
}

// Every odd key goes through every path, written and read through leader and
// follower, as bytes and as JSON.
func TestOddKeysRoundTrip(t *testing.T) {
	c := three(t)
	leader := c.Leader()
	follower := c.Other(leader)
	for i, key := range oddKeys {
		t.Run(fmt.Sprintf("%.20q", key), func(t *testing.T) {
			to, from := leader, follower
			if i%2 == 1 {
				to, from = from, to
			}
			value := fmt.Sprint("value ", i)
			single(t, to, from, key, value)
			inBatch(t, from, to, key, value)
			inTxn(t, to, from, key, value)
			inList(t, from, key)
		})
	}
	c.SameDigest()
}

// single is put and get of one key, both as bytes and as JSON, and its delete.
func single(t *testing.T, to, from *harness.Node, key, value string) {
	t.Helper()
	index := mustPut(t, to, key, value)
	if err := wantValue(from, key, value, index); err != nil {
		t.Fatal(err)
	}
	e, err := from.Read(soon(t), key, "")
	if err != nil || e.Key != key {
		t.Fatalf("the entry names the key %q (%v)", e.Key, err)
	}
	wantStatus(t, 200)(to.SendJSON(soon(t), "PUT", harness.KeyPath(key), map[string]any{"value": value + "j"}))
	if err := wantValue(from, key, value+"j", 0); err != nil {
		t.Fatal(err)
	}
	a := wantStatus(t, 200)(from.Get(soon(t), harness.KeyPath(key)+"?raw=true"))
	if string(a.Body) != value+"j" {
		t.Fatalf("raw: %q", a.Body)
	}
	if was, err := from.Delete(soon(t), key); err != nil || !was {
		t.Fatalf("delete: %v %v", was, err)
	}
	wantStatus(t, 404)(to.Get(soon(t), harness.KeyPath(key)))
}

func inBatch(t *testing.T, to, from *harness.Node, key, value string) {
	t.Helper()
	wantStatus(t, 200)(to.Post(soon(t), "/batch/set", map[string]any{"items": map[string]string{key: value}}))
	var got struct {
		Found    map[string]string `json:"found"`
		NotFound []string          `json:"not_found"`
	}
	a := wantStatus(t, 200)(from.Post(soon(t), "/batch/get", map[string]any{"keys": []string{key, key + "x"[:min(1, 4096-len(key))]}}))
	if err := a.JSON(&got); err != nil || got.Found[key] != value {
		t.Fatalf("batch/get: %s %v", a.Body, err)
	}
	a = wantStatus(t, 200)(from.Post(soon(t), "/batch/delete", map[string]any{"keys": []string{key}}))
	var n struct{ Deleted int }
	if err := a.JSON(&n); err != nil || n.Deleted != 1 {
		t.Fatalf("batch/delete: %s %v", a.Body, err)
	}
}

func inTxn(t *testing.T, to, from *harness.Node, key, value string) {
	t.Helper()
	a := wantStatus(t, 200)(to.Post(soon(t), "/txn", map[string]any{
		"compare": []any{map[string]any{"key": key, "target": "exists", "op": "=", "value": false}},
		"then":    []any{map[string]any{"op": "set", "key": key, "value": value}, map[string]any{"op": "get", "key": key}},
	}))
	var r struct{ Succeeded bool }
	if err := a.JSON(&r); err != nil || !r.Succeeded {
		t.Fatalf("txn: %s %v", a.Body, err)
	}
	if err := wantValue(from, key, value, 0); err != nil {
		t.Fatal(err)
	}
}

// inList finds the key, which exists, in lists and in a watch.
func inList(t *testing.T, n *harness.Node, key string) {
	t.Helper()
	list, err := n.List(soon(t), key, "")
	if err != nil || !slices.ContainsFunc(list, func(e harness.Entry) bool { return e.Key == key }) {
		t.Fatalf("not in the list of its own prefix: %+v %v", list, err)
	}
	e, err := n.Read(soon(t), key, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, query := range []string{"key=", "prefix="} {
		s, err := n.Watch(ctx, query+queryEscape(key)+fmt.Sprintf("&from=%d", e.ModifyIndex-1), 0)
		if err != nil {
			t.Fatal(err)
		}
		ev, err := s.Next()
		s.Close()
		if err != nil || ev.Entry.Key != key || ev.ID != e.ModifyIndex {
			t.Fatalf("watch %s: %+v %v", query, ev, err)
		}
	}
}

func TestOddValuesRoundTrip(t *testing.T) {
	c := three(t)
	nodes := []*harness.Node{c.Leader(), c.Other(c.Leader())}
	for name, value := range oddValues {
		for i, to := range nodes {
			from := nodes[1-i]
			key := fmt.Sprint("value/", name, "/", i)
			if _, err := to.Put(soon(t), key, value, ""); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			wantBytes(t, from, key, value)
			wantStatus(t, 200)(to.SendJSON(soon(t), "PUT", harness.KeyPath(key), map[string]any{"value": base64.StdEncoding.EncodeToString(value), "encoding": "base64", "flags": 7}))
			if e := wantBytes(t, from, key, value); e.Flags != 7 {
				t.Errorf("%s: flags %d", name, e.Flags)
			}
			if utf8.Valid(value) {
				wantStatus(t, 200)(to.SendJSON(soon(t), "POST", harness.KeyPath(key), map[string]any{"value": string(value)}))
				wantBytes(t, from, key, value)
			}
			wantStatus(t, 200)(to.Post(soon(t), "/txn", map[string]any{"then": []any{
				map[string]any{"op": "set", "key": key, "value": base64.StdEncoding.EncodeToString(value), "encoding": "base64"}}}))
			wantBytes(t, from, key, value)
		}
	}
	c.SameDigest()
}

// wantBytes compares the value as JSON gives it, as bytes, in a list and in a watch.
func wantBytes(t *testing.T, n *harness.Node, key string, value []byte) harness.Entry {
	t.Helper()
	e, err := n.Read(soon(t), key, "")
	if err != nil || !bytes.Equal(e.Bytes(), value) {
		t.Fatalf("%s: %q: got %.40q %q (%v), want %.40q", n.Name, key, e.Value, e.Encoding, err, value)
	}
	if utf8.Valid(value) == (e.Encoding == "base64") {
		t.Errorf("%q: encoding %q of a value that is valid UTF-8: %v", key, e.Encoding, utf8.Valid(value))
	}
	a := wantStatus(t, 200)(n.Get(soon(t), harness.KeyPath(key)+"?raw=true"))
	if !bytes.Equal(a.Body, value) || a.Header.Get("Content-Type") != "application/octet-stream" {
		t.Fatalf("%q raw: %.40q as %s", key, a.Body, a.Header.Get("Content-Type"))
	}
	list, err := n.List(soon(t), key, "")
	if err != nil || len(list) != 1 || !bytes.Equal(list[0].Bytes(), value) {
		t.Fatalf("%q in a list: %d entries, %v", key, len(list), err)
	}
	s, err := n.Watch(soon(t), "key="+queryEscape(key)+fmt.Sprintf("&from=%d", e.ModifyIndex-1), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if ev, err := s.Next(); err != nil || !bytes.Equal(ev.Entry.Bytes(), value) {
		t.Fatalf("%q in a watch: %.80q %v", key, ev.Data, err)
	}
	return e
}

// The path after /kv/ is decoded once and otherwise left alone.
func TestPathsAreDecodedOnce(t *testing.T) {
	c := harness.Start(t, harness.Options{Nodes: 1})
	n := c.Nodes[0]
	for target, key := range map[string]string{
		"/kv/a%2Fb": "a/b", "/kv/a/b": "a/b", "/kv/a//b": "a//b", "/kv/%2F": "/", "/kv/a/": "a/", "/kv/a%2F": "a/", "/kv/%252F": "%2F", "/kv/a/../b": "a/../b",
		"/kv/../b": "../b", "/kv/%2e%2e/b": "../b", "/kv/./b": "./b", "/kv/a+b": "a+b", "/kv/a%20b": "a b", "/kv/a:b@c!$&'()*,;=": "a:b@c!$&'()*,;=", "/kv/%61": "a",
	} {
		want := fmt.Sprintf("value of %s", target)
		wantStatus(t, 200)(n.Do(soon(t), "PUT", target, []byte(want), "Content-Type", "text/plain"))
		if err := wantValue(n, key, want, 0); err != nil {
			t.Errorf("%s: %v", target, err)
		}
		a, err := n.Get(soon(t), target)
		if err != nil || a.Want(200) != nil {
			t.Errorf("%s: %v %v", target, a, err)
			continue
		}
		var e harness.Entry
		if err := a.JSON(&e); err != nil || e.Key != key {
			t.Errorf("%s: key %q, want %q", target, e.Key, key)
		}
	}
}
