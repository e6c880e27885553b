//go:build cluster

package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

var malformed = []request{
	{"PUT", "/kv/m", "application/json", []byte(``), 400},
	{"PUT", "/kv/m", "application/json", []byte(`{`), 400},
	{"PUT", "/kv/m", "application/json", []byte(`null`), 400},
	{"PUT", "/kv/m", "application/json", []byte(`[]`), 400},
	{"PUT", "/kv/m", "application/json", []byte(`"x"`), 400},
	{"PUT", "/kv/m", "application/json", []byte(`{"value":1}`), 400},
	{"PUT", "/kv/m", "application/json", []byte(`{"valeu":"x"}`), 400},
	{"PUT", "/kv/m", "application/json", []byte(`{"value":"x"} trailing`), 400},
	{"PUT", "/kv/m", "application/json", []byte(`{"value":"x"}{"value":"y"}`), 400},
	{"PUT", "/kv/m", "application/json", []byte("{\"value\":\"\xff\"}"), 400},
	{"PUT", "/kv/m", "application/json", []byte(`{"value":"!!!","encoding":"base64"}`), 400},
	{"PUT", "/kv/m", "application/json", []byte(`{"value":"x","encoding":"rot13"}`), 400},
	{"PUT", "/kv/m", "application/json", []byte(`{"value":"x","cas":-1}`), 400},
	{"PUT", "/kv/m", "application/json", []byte(`{"value":"x","cas":1e30}`), 400},
	{"PUT", "/kv/m", "application/json", []byte(strings.Repeat("[", 100_000)), 400},
	{"PUT", "/kv/m?cas=x", "text/plain", []byte("v"), 400},
	{"PUT", "/kv/m?cas=-1", "text/plain", []byte("v"), 400},
	{"PUT", "/kv/m?flags=99999999999999999999", "text/plain", []byte("v"), 400},
	{"GET", "/kv/m?consistency=maybe", "", nil, 400},
	{"GET", "/kv/m?max_stale=-1s&consistency=stale", "", nil, 400},
	{"GET", "/kv/m?max_stale=soon&consistency=stale", "", nil, 400},
	{"GET", "/kv/m?index=-1", "", nil, 400},
	{"GET", "/kv/m?index=1&wait=forever", "", nil, 400},
	{"GET", "/kv/m?at=x", "", nil, 400},
	{"GET", "/kv/m?at=18446744073709551615", "", nil, 400},
	{"GET", "/kv/m?raw=perhaps", "", nil, 400},
	{"GET", "/kv?limit=0", "", nil, 400},
	{"GET", "/kv?limit=-5", "", nil, 400},
	{"GET", "/kv?limit=many", "", nil, 400},
	{"GET", "/kv?values=perhaps", "", nil, 400},
	{"DELETE", "/kv", "", nil, 400},
	{"DELETE", "/kv?prefix=", "", nil, 400},
	{"POST", "/batch/set", "application/json", []byte(`{"items":[]}`), 400},
	{"POST", "/batch/set", "application/json", []byte(`{"items":{"a":1}}`), 400},
	{"POST", "/batch/get", "application/json", []byte(`{"keys":"a"}`), 400},
	{"POST", "/batch/get", "application/json", []byte(`{"keys":[""]}`), 400},
	{"POST", "/txn", "application/json", []byte(`{"then":[{"op":"explode","key":"m"}]}`), 400},
	{"POST", "/txn", "application/json", []byte(`{"then":[{"op":"set"}]}`), 400},
	{"POST", "/txn", "application/json", []byte(`{"compare":[{"key":"m","target":"colour","op":"=","value":"x"}]}`), 400},
	{"POST", "/txn", "application/json", []byte(`{"compare":[{"key":"m","target":"value","op":"~","value":"x"}]}`), 400},
	{"POST", "/txn", "application/json", []byte(`{"compare":[{"key":"m","target":"modify_index","op":"=","value":"x"}]}`), 400},
	{"POST", "/txn", "text/csv", []byte(`a,b`), 415},
	{"POST", "/batch/set", "text/plain", []byte(`x`), 415},
	{"PATCH", "/kv/m", "text/plain", []byte("v"), 405},
	{"GET", "/txn", "", nil, 405},
	{"POST", "/watch?prefix=a", "application/json", []byte(`{}`), 405},
	{"PUT", "/health", "text/plain", []byte(`x`), 405},
	{"GET", "/watch?from=x", "", nil, 400},
	{"GET", "/watch?prefix=a&key=b", "", nil, 400},
	{"GET", "/nothing/here", "", nil, 404},
	{"GET", "/", "", nil, 404},
	{"GET", "/cluster/digest?at=x", "", nil, 400},
	{"POST", "/cluster/join", "application/json", []byte(`{"node_id":""}`), 400},
	{"POST", "/cluster/join", "application/json", []byte(`{"node_id":"x","address":"not an address"}`), 400},
	{"POST", "/cluster/transfer", "application/json", []byte(`{"to":"nobody"}`), 404},
	{"DELETE", "/cluster/leave/nobody", "", nil, 404},
}

// Malformed requests of every kind get the documented 4xx, through leader and
// follower, and change nothing.
func TestMalformedRequests(t *testing.T) {
	c := settled(t)
	leader := c.Leader()
	mustPut(t, leader, "m", "before")
	for _, n := range []*harness.Node{leader, c.Other(leader)} {
		before := c.SameDigest()
		for _, r := range malformed {
			a, err := n.Do(soon(t), r.method, r.target, r.body, "Content-Type", r.ctype)
			if err != nil {
				t.Errorf("%s %s %.60q: %v", r.method, r.target, r.body, err)
				continue
			}
			e := (*harness.APIError)(nil)
			if !errors.As(a.Err(), &e) || e.Status != r.status || e.Text == "" || e.Code == "" {
				t.Errorf("%s with %.60q: %v, want %d", n.Name, r.body, a.Err(), r.status)
			}
			if r.status == 405 && a.Header.Get("Allow") == "" {
				t.Errorf("%s %s: 405 without Allow", r.method, r.target)
			}
		}
		if after := c.SameDigest(); after.Digest != before.Digest {
			t.Errorf("malformed requests changed the state: %+v, then %+v", before, after)
		}
	}
	wantPeers(t, leader, 3)
}

// Bytes that are no HTTP at all, and mutations of good requests: never a 5xx, never a crash.
func TestGarbageNeverMakesAServerError(t *testing.T) {
	c := harness.Start(t, harness.Options{Nodes: 1})
	n := c.Nodes[0]
	var wg sync.WaitGroup
	const senders = 16
	for s := range senders {
		wg.Go(func() {
			for i := s; i < pick(2000, 20000); i += senders {
				raw := garbage(i)
				status, err := exchange(n, raw)
				if err != nil {
					t.Errorf("the node is gone after %.200q: %v", raw, err)
					return
				}
				if strings.HasPrefix(status, "5") && status != "505" && status != "501" { // net/http's own refusals of unknown versions and encodings
					t.Errorf("status %s for %.200q", status, raw)
				}
			}
		})
	}
	wg.Wait()
	if err := n.TryReady(5 * time.Second); err != nil {
		t.Fatal(err)
	}
}

// garbage is a request of the table above, or bytes, with some changed.
func garbage(i int) []byte {
	r := malformed[i%len(malformed)]
	raw := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", r.method, r.target, r.ctype, len(r.body), r.body)
	if len(raw) > 4096 {
		raw = raw[:4096]
	}
	for range rand.IntN(6) {
		at := rand.IntN(len(raw))
		switch rand.IntN(3) {
		case 0:
			raw[at] = byte(rand.Uint32())
		case 1:
			raw = append(raw[:at:at], raw[min(len(raw), at+rand.IntN(8)):]...)
		default:
			raw = append(raw[:at:at], append([]byte(`{"[%00`)[:rand.IntN(6)], raw[at:]...)...)
		}
	}
	return raw
}

// exchange sends raw bytes and returns the status of the answer, or "". The
// error is that of connecting. It does not close its half of the connection, which
// would tell the server that nobody waits for the answer.
func exchange(n *harness.Node, raw []byte) (string, error) {
	conn, err := net.Dial("tcp", n.HTTP)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(200 * time.Millisecond)) // a mutated length makes the server wait for more: that is its right
	if _, err := conn.Write(raw); err != nil {
		return "", nil //nolint:nilerror // the server may refuse to read on
	}
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil || !bytes.HasPrefix(head, []byte("HTTP/1.")) {
		return "", nil //nolint:nilerror // no answer is no server error
	}
	return string(head[9:]), nil
}
