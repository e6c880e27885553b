package api_test

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/neogan74/konsul/api/apitest"
)

// pages walks a list to its end and returns all names.
func pages(t *testing.T, s *apitest.Server, query string) (names []string, n int) {
	t.Helper()
	after := ""
	for {
		target := "/kv?" + query
		if after != "" {
			target += "&after=" + url.QueryEscape(after)
		}
		a := s.Get(target).Want(200)
		o := a.Object()
		for _, k := range o["keys"].([]any) {
			key := k.(string)
			if o["keys_encoding"] == "base64" {
				b, err := base64.StdEncoding.DecodeString(key)
				if err != nil {
					t.Fatal(err)
				}
				key = string(b)
			}
			names = append(names, key)
		}
		n++
		next, more := o["next"].(string)
		if !more {
			return names, n
		}
		if o["next_encoding"] == "base64" {
			b, err := base64.StdEncoding.DecodeString(next)
			if err != nil {
				t.Fatal(err)
			}
			next = string(b)
		}
		after = next
	}
}

func TestListPages(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	want := []string{"a", "a/b", "a/b/c", "a/d", "b", "b\xff", "é"}
	for _, k := range want {
		s.Put("/kv/"+escapeAll(k), "v"+k).Want(200)
	}
	for _, limit := range []int{1, 2, 3, 7, 8} {
		got, n := pages(t, s, fmt.Sprintf("limit=%d", limit))
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %q", limit, got)
		}
		if wantPages := (len(want) + limit - 1) / limit; n != wantPages {
			t.Errorf("limit %d: %d pages, want %d", limit, n, wantPages)
		}
	}
	if got, _ := pages(t, s, "prefix=a/"); !slices.Equal(got, []string{"a/b", "a/b/c", "a/d"}) {
		t.Errorf("prefix: %q", got)
	}
	if got, _ := pages(t, s, "prefix=a/&after=a/b/c"); !slices.Equal(got, []string{"a/d"}) {
		t.Errorf("after: %q", got)
	}
	if got, _ := pages(t, s, "prefix=b&after=a"); !slices.Equal(got, []string{"b", "b\xff"}) {
		t.Errorf("after before the prefix: %q", got)
	}
	if got, _ := pages(t, s, "prefix=a&after=z"); len(got) != 0 {
		t.Errorf("after behind the prefix: %q", got)
	}
	if a := s.Get("/kv?prefix=none").Want(200); string(a.Body) != `{"keys":[],"next":null}`+"\n" || a.Index() == 0 {
		t.Errorf("empty list: %s", a.Body)
	}
}

func TestListFolds(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for _, k := range []string{"a", "a/", "a/1", "b/1", "b/2/3", "c", "d//x", "e"} {
		s.Put("/kv/"+k, "x").Want(200)
	}
	for i := range 200 {
		s.Put(fmt.Sprintf("/kv/many/%03d", i), "x").Want(200)
	}
	want := []string{"a", "a/", "b/", "c", "d/", "e", "many/"}
	for _, limit := range []int{1, 2, 3, 100} {
		if got, _ := pages(t, s, fmt.Sprintf("separator=/&limit=%d", limit)); !slices.Equal(got, want) {
			t.Errorf("limit %d: %q", limit, got)
		}
	}
	for query, want := range map[string][]string{
		"separator=/&prefix=b/":                   {"b/1", "b/2/"},
		"separator=/&prefix=d/":                   {"d//"},
		"separator=/&prefix=b":                    {"b/"},
		"separator=2/&prefix=b/":                  {"b/1", "b/2/"},
		"separator=/&after=a/1":                   {"b/", "c", "d/", "e", "many/"},
		"separator=/&after=a/":                    {"b/", "c", "d/", "e", "many/"},
		"separator=/&prefix=many/&after=many/198": {"many/199"},
	} {
		if got, _ := pages(t, s, query); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	entries := s.Get("/kv?separator=/&values=true&limit=2").Want(200).Object()["entries"].([]any)
	if entries[1].(map[string]any)["prefix"] != true || entries[0].(map[string]any)["value"] != "x" {
		t.Errorf("%v", entries)
	}
}

func TestListValues(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	big := strings.Repeat("x", 512<<10)
	for i := range 20 {
		s.Put(fmt.Sprintf("/kv/big/%02d", i), big).Want(200)
	}
	s.Put("/kv/z%FF", "\xff").Want(200)
	var all []string
	after, n := "", 0
	for {
		o := s.Get("/kv?values=true&after=" + after).Want(200).Object()
		for _, e := range o["entries"].([]any) {
			entry := e.(map[string]any)
			all = append(all, entry["key"].(string))
			if v := entry["value"].(string); v != big && entry["encoding"] != "base64" {
				t.Fatalf("%v has %d bytes", entry["key"], len(v))
			}
		}
		n++
		next, more := o["next"].(string)
		if !more {
			break
		}
		after = next
	}
	if len(all) != 21 || n != 2 || all[20] != base64.StdEncoding.EncodeToString([]byte("z\xff")) {
		t.Fatalf("%d entries on %d pages: %q", len(all), n, all)
	}
}

func TestListRefuses(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	for _, q := range []string{
		"limit=0", "limit=10001", "limit=x", "limit=-1", "values=maybe", "prefix=%zz", "prefix=a&prefix=b", "consistency=eventual",
		"max_stale=5s", "wait=5s", "at=0", "at=1&index=1", "index=x", "index=1&wait=-1s", "index=1&wait=5", "unknown=1",
		"prefix=" + strings.Repeat("p", 4097), strings.Repeat("a=1&", 20),
	} {
		s.Get("/kv?"+q).Want(400, "bad_request")
	}
}
