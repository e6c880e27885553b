//go:build cluster

package cluster

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/neogan74/konsul/test/harness"
)

func queryEscape(s string) string { return url.QueryEscape(s) }

// wantStatus returns a check that fits around a request.
func wantStatus(t *testing.T, status int) func(*harness.Answer, error) *harness.Answer {
	t.Helper()
	return func(a *harness.Answer, err error) *harness.Answer {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Want(status); err != nil {
			t.Fatal(err)
		}
		return a
	}
}

// What is over a limit is refused with the documented status and code, through
// leader and follower, and changes nothing; what is just at it is accepted.
func TestLimits(t *testing.T) {
	c := settled(t)
	leader := c.Leader()
	mustPut(t, leader, "limit/key", "before")
	for _, n := range []*harness.Node{leader, c.Other(leader)} {
		before := c.SameDigest()
		for name, r := range overTheLimits() {
			a, err := n.Do(soon(t), r.method, r.target, r.body, "Content-Type", r.ctype)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			e := (*harness.APIError)(nil)
			if !errors.As(a.Err(), &e) || e.Status != r.status || !harness.Documented(e) {
				t.Errorf("%s: %v, want %d", name, a.Err(), r.status)
			}
		}
		after := c.SameDigest()
		if after.Digest != before.Digest {
			t.Errorf("%s: refused requests changed the state: %+v, then %+v", n.Name, before, after)
		}
		atTheLimits(t, n)
	}
}

type request struct {
	method, target, ctype string
	body                  []byte
	status                int
}

func overTheLimits() map[string]request {
	const js, bin = "application/json", "application/octet-stream"
	big := bytes.Repeat([]byte("v"), 512<<10+1)
	many := map[string]string{}
	var keys, ops []string
	for i := range 1025 {
		many[fmt.Sprint("limit/", i)] = "v"
		keys = append(keys, fmt.Sprintf("%q", fmt.Sprint("limit/", i)))
		ops = append(ops, fmt.Sprintf(`{"op":"set","key":"limit/%d","value":"v"}`, i))
	}
	wide := map[string]string{}
	for i := range 5 {
		wide[fmt.Sprint("limit/", i)] = strings.Repeat("v", 250<<10)
	}
	return map[string]request{
		"value over 512 KiB as bytes":  {"PUT", "/kv/limit/big", bin, big, 413},
		"value over 512 KiB as JSON":   {"PUT", "/kv/limit/big", js, fmt.Appendf(nil, `{"value":%q}`, big), 413},
		"value over 512 KiB in base64": {"PUT", "/kv/limit/big", js, fmt.Appendf(nil, `{"encoding":"base64","value":%q}`, base64.StdEncoding.EncodeToString(big)), 413},
		"value far over":               {"PUT", "/kv/limit/big", bin, bytes.Repeat(big, 8), 413},
		"key over 4096 bytes":          {"PUT", "/kv/" + strings.Repeat("k", 4097), bin, []byte("v"), 400},
		"empty key":                    {"PUT", "/kv/", bin, []byte("v"), 400},
		"1025 items":                   {"POST", "/batch/set", js, items(many), 413},
		"1025 keys to delete":          {"POST", "/batch/delete", js, []byte(`{"keys":[` + strings.Join(keys, ",") + `]}`), 413},
		"1025 operations":              {"POST", "/txn", js, []byte(`{"then":[` + strings.Join(ops, ",") + `]}`), 413},
		"batch over 1 MiB":             {"POST", "/batch/set", js, items(wide), 413},
		"one item over 512 KiB":        {"POST", "/batch/set", js, items(map[string]string{"limit/a": "v", "limit/big": string(big)}), 413},
		"a key too long in a batch":    {"POST", "/batch/set", js, items(map[string]string{"limit/a": "v", strings.Repeat("k", 4097): "v"}), 400},
		"an empty key in a batch":      {"POST", "/batch/set", js, items(map[string]string{"limit/a": "v", "": "v"}), 400},
		"a key too long in a txn":      {"POST", "/txn", js, fmt.Appendf(nil, `{"then":[{"op":"set","key":"limit/a","value":"v"},{"op":"delete","key":%q}]}`, strings.Repeat("k", 4097)), 400},
	}
}

func items(m map[string]string) []byte {
	var b strings.Builder
	b.WriteString(`{"items":{`)
	sep := ""
	for k, v := range m {
		fmt.Fprintf(&b, "%s%q:%q", sep, k, v)
		sep = ","
	}
	b.WriteString("}}")
	return []byte(b.String())
}

// atTheLimits writes the largest things that are allowed.
func atTheLimits(t *testing.T, n *harness.Node) {
	t.Helper()
	value := bytes.Repeat([]byte("v"), 512<<10)
	wantStatus(t, 200)(n.Do(soon(t), "PUT", "/kv/limit/big", value, "Content-Type", "application/octet-stream"))
	wantStatus(t, 200)(n.Do(soon(t), "PUT", "/kv/"+strings.Repeat("k", 4096), []byte("v"), "Content-Type", "text/plain"))
	many := map[string]string{}
	for i := range 1024 {
		many[fmt.Sprint("limit/", i)] = "v"
	}
	wantStatus(t, 200)(n.Do(soon(t), "POST", "/batch/set", items(many), "Content-Type", "application/json"))
	wantStatus(t, 200)(n.Do(soon(t), "DELETE", "/kv?prefix=limit/", nil))
}
