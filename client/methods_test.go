package client_test

import (
	"context"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/client"
)

const entryJSON = `{"key":"k","value":"v","create_index":3,"modify_index":9,"flags":4,"lock_index":2,"session":"s"}`

var entryK = client.Entry{Key: "k", Value: []byte("v"), CreateIndex: 3, ModifyIndex: 9, Flags: 4, LockIndex: 2, Session: "s"}

// TestRequestsAndAnswers: what each method sends, and what it makes of the answer.
func TestRequestsAndAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		call   func(ctx context.Context, c *client.Client) (any, error)
		sent   string // method and URI
		body   string // JSON, unless it starts with "="
		answer string
		want   any
	}{
		"get": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Get(ctx, "k") },
			sent: "GET /kv/k", answer: entryJSON, want: entryK,
		},
		"get a value that is not text": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Get(ctx, "k") },
			sent: "GET /kv/k", answer: `{"key":"k","value":"/wA=","encoding":"base64","modify_index":1}`,
			want: client.Entry{Key: "k", Value: []byte{0xff, 0}, ModifyIndex: 1},
		},
		"get stale": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Get(ctx, "k", client.Stale()) },
			sent: "GET /kv/k?consistency=stale", answer: entryJSON, want: entryK,
		},
		"get not too stale": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.Get(ctx, "k", client.MaxStale(5*time.Second))
			},
			sent: "GET /kv/k?consistency=stale&max_stale=5s", answer: entryJSON, want: entryK,
		},
		"get the past": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Get(ctx, "k", client.At(7)) },
			sent: "GET /kv/k?at=7", answer: entryJSON, want: entryK,
		},
		"get and wait": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.Get(ctx, "k", client.Wait(9, 30*time.Second))
			},
			sent: "GET /kv/k?index=9&wait=30s", answer: entryJSON, want: entryK,
		},
		"put": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.Put(ctx, "k", []byte("v\x00\xff"), client.CAS(0), client.Flags(7))
			},
			sent: "PUT /kv/k?cas=0&flags=7", body: "=v\x00\xff",
			answer: `{"message":"key set","key":"k","modify_index":9,"create_index":3}`,
			want:   client.PutResult{ModifyIndex: 9, CreateIndex: 3},
		},
		"put nothing": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Put(ctx, "k", nil) },
			sent: "PUT /kv/k", body: "=", answer: `{"modify_index":9,"create_index":9}`,
			want: client.PutResult{ModifyIndex: 9, CreateIndex: 9},
		},
		"delete": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.Delete(ctx, "k", client.CAS(9))
			},
			sent: "DELETE /kv/k?cas=9", answer: `{"message":"key deleted","key":"k","deleted":true}`, want: true,
		},
		"delete a prefix": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.DeletePrefix(ctx, "a/&") },
			sent: "DELETE /kv?prefix=a%2F%26", answer: `{"deleted":12}`, want: 12,
		},
		"delete everything": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.DeleteAll(ctx) },
			sent: "DELETE /kv?all=true", answer: `{"deleted":12}`, want: 12,
		},
		"batch set": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.BatchSet(ctx, map[string][]byte{"a<b": []byte("1"), "c": {0xff}})
			},
			sent: "POST /batch/set", body: `{"items":{"a<b":"1","c":{"encoding":"base64","value":"/w=="}}}`,
			answer: `{"message":"keys set","count":2,"modify_index":11}`, want: uint64(11),
		},
		"batch set of a key that is not text": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.BatchSet(ctx, map[string][]byte{"\xff": []byte("1")})
			},
			sent: "POST /batch/set", body: `{"items":{"/w==":"1"},"keys_encoding":"base64"}`,
			answer: `{"modify_index":11}`, want: uint64(11),
		},
		"batch delete": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.BatchDelete(ctx, []string{"a", "b"})
			},
			sent: "POST /batch/delete", body: `{"keys":["a","b"]}`, answer: `{"count":2,"deleted":1}`, want: 1,
		},
		"batch get": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				found, missing, err := c.BatchGet(ctx, []string{"a", "b", "c"}, client.Stale())
				return []any{found, missing}, err
			},
			sent: "POST /batch/get?consistency=stale", body: `{"keys":["a","b","c"]}`,
			answer: `{"found":{"a":"1","b":{"encoding":"base64","value":"/w=="}},"not_found":["c"],"index":4}`,
			want:   []any{map[string][]byte{"a": []byte("1"), "b": {0xff}}, []string{"c"}},
		},
		"batch get of keys that are not text": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				found, missing, err := c.BatchGet(ctx, []string{"\xff", "b"})
				return []any{found, missing}, err
			},
			sent: "POST /batch/get", body: `{"keys":["/w==","Yg=="],"keys_encoding":"base64"}`,
			answer: `{"found":{"/w==":"1"},"not_found":["Yg=="],"keys_encoding":"base64"}`,
			want:   []any{map[string][]byte{"\xff": []byte("1")}, []string{"b"}},
		},
		"transaction": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				r, err := c.Txn().
					If(client.CompareModifyIndex("k", "=", 9), client.CompareValue("v", "<", []byte{0xff}),
						client.CompareExists("x\xff", false), client.CompareCreateIndex("k", ">", 1)).
					Then(client.OpSet("k", []byte{0xff}).WithCAS(9).WithFlags(2), client.OpGet("k"), client.OpSet("e", nil)).
					Else(client.OpDelete("k"), client.OpDeletePrefix("p/")).Commit(ctx)
				return []any{r.Succeeded, r.Index, r.Results[1].Found, r.Results[1].Entry, r.Results[2].Deleted, r.Results[3].Deleted}, err
			},
			sent: "POST /txn",
			body: `{"compare":[{"key":"k","target":"modify_index","op":"=","value":9},
				{"key":"v","target":"value","op":"<","value":"/w==","encoding":"base64"},
				{"key":"eP8=","key_encoding":"base64","target":"exists","op":"=","value":false},
				{"key":"k","target":"create_index","op":">","value":1}],
				"then":[{"op":"set","key":"k","value":"/w==","encoding":"base64","cas":9,"flags":2},{"op":"get","key":"k"},
				{"op":"set","key":"e","value":""}],
				"else":[{"op":"delete","key":"k"},{"op":"delete_prefix","key":"p/"}]}`,
			answer: `{"succeeded":true,"index":12,"results":[{"op":"set","key":"k","modify_index":12,"create_index":3},
				{"op":"get","key":"k","found":true,"value":"v","create_index":3,"modify_index":9,"flags":4,"lock_index":2,"session":"s"},
				{"op":"delete","key":"k","deleted":true},{"op":"delete_prefix","key":"p/","deleted":5}]}`,
			want: []any{true, uint64(12), true, entryK, 1, 5},
		},
		"list keys": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.ListKeys(ctx, client.ListOptions{Prefix: "a/", After: "a/b", Separator: "/", PageSize: 2})
			},
			sent: "GET /kv?after=a%2Fb&limit=2&prefix=a%2F&separator=%2F", answer: `{"keys":["a/c","a/d/"],"next":"a/d/"}`,
			want: client.Page{Keys: []string{"a/c", "a/d/"}, Next: "a/d/", More: true, Meta: client.Meta{Index: 77, Node: "n1", Leader: "n2"}},
		},
		"list keys that are not text": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.ListKeys(ctx, client.ListOptions{})
			},
			sent: "GET /kv", answer: `{"keys":["/w=="],"keys_encoding":"base64","next":"/w==","next_encoding":"base64"}`,
			want: client.Page{Keys: []string{"\xff"}, Next: "\xff", More: true, Meta: client.Meta{Index: 77, Node: "n1", Leader: "n2"}},
		},
		"list entries": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.ListEntries(ctx, client.ListOptions{})
			},
			sent: "GET /kv?values=true", answer: `{"entries":[` + entryJSON + `],"next":null}`,
			want: client.Page{Entries: []client.Entry{entryK}, Meta: client.Meta{Index: 77, Node: "n1", Leader: "n2"}},
		},
		"status": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Status(ctx) },
			sent: "GET /cluster/status",
			answer: `{"cluster_id":"c","node_id":"n1","state":"leader","leader_id":"n1","leader_addr":"h:7000","term":3,"commit_index":8,
				"applied_index":7,"peers":[{"id":"n1","address":"h:7000","api_address":"h:8500","voter":true,"leader":true,"last_contact_ms":0,"applied_index":7,"healthy":true}]}`,
			want: client.Status{ClusterID: "c", NodeID: "n1", State: "leader", LeaderID: "n1", LeaderAddr: "h:7000", Term: 3, CommitIndex: 8,
				AppliedIndex: 7, Peers: []client.Peer{{ID: "n1", Address: "h:7000", APIAddress: "h:8500", Voter: true, Leader: true, AppliedIndex: 7, Healthy: true}}},
		},
		"peers": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Peers(ctx) },
			sent: "GET /cluster/peers", answer: `{"peers":[{"id":"n1"}]}`, want: []client.Peer{{ID: "n1"}},
		},
		"leader": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Leader(ctx) },
			sent: "GET /cluster/leader", answer: `{"leader_id":"n1","leader_addr":"a","api_address":"b"}`,
			want: client.Leader{ID: "n1", Address: "a", APIAddress: "b"},
		},
		"digest": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Digest(ctx, 5) },
			sent: "GET /cluster/digest?at=5", answer: `{"index":5,"digest":"ab","records":2}`,
			want: client.Digest{Index: 5, Digest: "ab", Records: 2},
		},
		"join": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.Join(ctx, client.JoinRequest{NodeID: "n4", Address: "a", APIAddress: "b"})
			},
			sent: "POST /cluster/join", body: `{"node_id":"n4","address":"a","api_address":"b"}`,
			answer: `{"cluster_id":"c","node_id":"n4","leader_id":"n1","voter":false}`,
			want:   client.JoinResult{ClusterID: "c", NodeID: "n4", LeaderID: "n1"},
		},
		"join another": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.JoinTo(ctx, "h:8500") },
			sent: "POST /cluster/join", body: `{"join":["h:8500"]}`, answer: `{"node_id":"n4"}`,
			want: client.JoinResult{NodeID: "n4"},
		},
		"leave": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return nil, c.Leave(ctx, "n/4") },
			sent: "DELETE /cluster/leave/n%2F4", answer: `{}`,
		},
		"transfer": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Transfer(ctx, "n2") },
			sent: "POST /cluster/transfer", body: `{"to":"n2"}`, answer: `{"leader_id":"n2"}`, want: "n2",
		},
		"snapshot": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Snapshot(ctx) },
			sent: "POST /cluster/snapshot", body: `{}`, answer: `{"index":44}`, want: uint64(44),
		},
		"health": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				h, err := c.Health(ctx)
				return []any{h.Status, h.Persistence.NumKeys}, err
			},
			sent: "GET /health", answer: `{"status":"degraded","persistence":{"num_keys":3},"raft":{}}`, want: []any{"degraded", uint64(3)},
		},
		"live":  {call: func(ctx context.Context, c *client.Client) (any, error) { return nil, c.Live(ctx) }, sent: "GET /health/live"},
		"ready": {call: func(ctx context.Context, c *client.Client) (any, error) { return nil, c.Ready(ctx) }, sent: "GET /health/ready"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
				h := w.Header()
				h.Set("X-Konsul-Index", "77")
				h.Set("X-Konsul-Node", "n1")
				h.Set("X-Konsul-Leader", "n2")
				reply(w, 200, tc.answer)
			})
			got, err := tc.call(testContext(t), to(t, d))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %#v, want %#v", got, tc.want)
			}
			sent := d.requests()
			if len(sent) != 1 {
				t.Fatalf("%d requests", len(sent))
			}
			if line := sent[0].Method + " " + sent[0].URI; line != tc.sent {
				t.Errorf("sent %s, want %s", line, tc.sent)
			}
			switch {
			case strings.HasPrefix(tc.body, "="):
				if sent[0].Body != tc.body[1:] || sent[0].Header.Get("Content-Type") != "application/octet-stream" {
					t.Errorf("sent %q as %s", sent[0].Body, sent[0].Header.Get("Content-Type"))
				}
			case tc.body != "":
				sameJSON(t, sent[0].Body, tc.body)
				if sent[0].Header.Get("Content-Type") != "application/json" {
					t.Errorf("content type %s", sent[0].Header.Get("Content-Type"))
				}
			case sent[0].Body != "":
				t.Errorf("sent a body: %q", sent[0].Body)
			}
		})
	}
}

func TestMetaTokenAndKeyOfARequest(t *testing.T) {
	d := newDouble(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		w.Header().Set("X-Konsul-Index", "5")
		w.Header().Set("X-Konsul-Staleness-Ms", "9223372036854775807")
		reply(w, 200, `{}`)
	})
	c := newClient(t, client.Config{Addresses: []string{d.URL}, Token: "secret"})
	var meta client.Meta
	if _, err := c.Put(testContext(t), "k", nil, client.IdempotencyKey("once"), client.WithMeta(&meta)); err != nil {
		t.Fatal(err)
	}
	if meta.Index != 5 || meta.Staleness < 1000*time.Hour {
		t.Errorf("meta %+v", meta)
	}
	h := d.requests()[0].Header
	if h.Get("Authorization") != "Bearer secret" || h.Get("Idempotency-Key") != "once" {
		t.Errorf("headers %v", h)
	}
}

// TestNotFoundHasAnIndex: a blocking read waits for an absent key from there.
func TestNotFoundHasAnIndex(t *testing.T) {
	d := newDouble(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		w.Header().Set("X-Konsul-Index", "5")
		reply(w, 404, `{"error":"key not found","code":"key_not_found"}`)
	})
	var meta client.Meta
	if _, err := to(t, d).Get(testContext(t), "k", client.WithMeta(&meta)); !client.IsNotFound(err) || meta.Index != 5 {
		t.Errorf("meta %+v, %v", meta, err)
	}
}

func TestListGoesThroughAllPages(t *testing.T) {
	d := newDouble(t, func(w http.ResponseWriter, r *http.Request, n int) {
		w.Header().Set("X-Konsul-Index", "50")
		reply(w, 200, []string{`{"keys":["a","b"],"next":"b"}`, `{"keys":["c"],"next":"c"}`, `{"keys":[],"next":null}`}[n])
	})
	var keys []string
	for key, err := range to(t, d).Keys(testContext(t), client.ListOptions{PageSize: 2, OneVersion: true}) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if strings.Join(keys, " ") != "a b c" {
		t.Errorf("keys %v", keys)
	}
	var uris []string
	for _, r := range d.requests() {
		uris = append(uris, r.URI)
	}
	want := []string{"/kv?limit=2", "/kv?after=b&at=50&limit=2", "/kv?after=c&at=50&limit=2"}
	if !reflect.DeepEqual(uris, want) {
		t.Errorf("asked %v, want %v", uris, want)
	}
}

func TestListEndsWithAnErrorOrABreak(t *testing.T) {
	d := newDouble(t, script(says(200, `{"entries":[{"key":"a"},{"key":"b"}],"next":"b"}`), failure(410, "compacted")))
	c := to(t, d)
	n := 0
	var last error
	for _, err := range c.List(testContext(t), client.ListOptions{}) {
		n++
		last = err
	}
	if n != 3 || !client.IsCompacted(last) {
		t.Errorf("%d steps, the last with %v", n, last)
	}
	for range to(t, newDouble(t, says(200, `{"keys":["a","b"],"next":"b"}`))).Keys(testContext(t), client.ListOptions{}) {
		break
	}
}

func TestUnhealthyIsAnAnswer(t *testing.T) {
	d := newDouble(t, says(503, `{"status":"unhealthy","persistence":{}}`))
	health, err := to(t, d).Health(testContext(t))
	if err != nil || health.Status != "unhealthy" {
		t.Errorf("%+v, %v", health, err)
	}
}
