package client_test

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/neogan74/konsul/client"
)

const instanceJSON = `{"id":"web-1","address":"10.0.0.7","port":80,"tags":["a"],"meta":{"z":"b"},"ttl":"30s","expires_in":"12.5s",
	"create_index":3,"modify_index":9,"node":"n1","healthy":true,"checks":[{"id":"http","name":"","kind":"http","status":"warning","output":"429",
	"create_index":3,"modify_index":8,"http":"http://10.0.0.7/","interval":"10s","timeout":"5s","passing_after":2}]}`

var instance1 = client.Instance{Name: "web", ID: "web-1", Node: "n1", Address: "10.0.0.7", Port: 80, Tags: []string{"a"},
	Meta: map[string]string{"z": "b"}, TTL: 30 * time.Second, ExpiresIn: 12500 * time.Millisecond, Healthy: true, CreateIndex: 3, ModifyIndex: 9,
	Checks: []client.Check{{CheckSpec: client.CheckSpec{ID: "http", HTTP: "http://10.0.0.7/", Interval: 10 * time.Second, Timeout: 5 * time.Second,
		PassingAfter: 2, Status: client.Warning}, Kind: "http", Output: "429", CreateIndex: 3, ModifyIndex: 8}}}

// TestRegistryRequests: what the methods for services, checks and sessions send, and
// what they make of the answer.
func TestRegistryRequests(t *testing.T) {
	type call = func(ctx context.Context, c *client.Client) (any, error)
	only := func(do func(ctx context.Context, c *client.Client) error) call {
		return func(ctx context.Context, c *client.Client) (any, error) { return nil, do(ctx, c) }
	}
	const checkAnswer = `{"checks":[{"node":"n1","id":"disk","name":"Disk","kind":"ttl","status":"passing","output":"ok","create_index":1,"modify_index":4,"ttl":"30s"}]}`
	const sessionAnswer = `{"id":"s-1","name":"job","node":"n1","ttl":"15s","expires_in":"9s","behavior":"delete","lock_delay":"5s","held":2,"create_index":3,"modify_index":4}`
	checks := []client.Check{{Node: "n1", CheckSpec: client.CheckSpec{ID: "disk", Name: "Disk", TTL: 30 * time.Second, Status: client.Passing},
		Kind: "ttl", Output: "ok", CreateIndex: 1, ModifyIndex: 4}}
	session := client.Session{ID: "s-1", Name: "job", Node: "n1", TTL: 15 * time.Second, ExpiresIn: 9 * time.Second, Behavior: client.DeleteKeys,
		LockDelay: 5 * time.Second, Held: 2, CreateIndex: 3, ModifyIndex: 4}
	for name, tc := range map[string]struct {
		call                 call
		sent, body, answered string
		want                 any
	}{
		"register": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.Register(ctx, client.Service{Name: "web", ID: "web-1", Address: "a<b", Port: 80, Tags: []string{"a"},
					Meta: map[string]string{"z": "b"}, TTL: 30 * time.Second, Checks: []client.CheckSpec{
						{HTTP: "http://h/", Interval: 5 * time.Second, Timeout: time.Second, PassingAfter: 2, CriticalAfter: 3},
						{ID: "t", Name: "T", TTL: time.Minute, Status: client.Passing}, {TCP: "h:1"}}})
			},
			sent: "PUT /services/web", body: `{"id":"web-1","address":"a<b","port":80,"tags":["a"],"meta":{"z":"b"},"ttl":"30s","checks":[
				{"http":"http://h/","interval":"5s","timeout":"1s","passing_after":2,"critical_after":3},
				{"id":"t","name":"T","ttl":"1m0s","status":"passing"},{"tcp":"h:1"}]}`,
			answered: `{"message":"service registered","name":"web","id":"web-1","modify_index":9}`,
			want:     client.RegisterResult{Name: "web", ID: "web-1", ModifyIndex: 9},
		},
		"heartbeat": {
			call: only(func(ctx context.Context, c *client.Client) error { return c.Heartbeat(ctx, "we/b", "web-1") }),
			sent: "PUT /services/we%2Fb/heartbeat?id=web-1",
		},
		"deregister": {
			call: only(func(ctx context.Context, c *client.Client) error { return c.Deregister(ctx, "web", "") }),
			sent: "DELETE /services/web",
		},
		"service": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.Service(ctx, "web", client.Healthy(), client.Wait(9, time.Minute))
			},
			sent: "GET /services/web?healthy=true&index=9&wait=1m0s", answered: `{"name":"web","id":"web-1","instances":[` + instanceJSON + `]}`,
			want: []client.Instance{instance1},
		},
		"services": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.Services(ctx, client.Tag("a"), client.Tag("b"), client.ServiceMeta("z", "b:c"))
			},
			sent: "GET /services?meta=z%3Ab%3Ac&tag=a&tag=b", answered: `{"services":["api","web"]}`, want: []string{"api", "web"},
		},
		"instances": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Instances(ctx, client.Stale()) },
			sent: "GET /services?consistency=stale&detail=true", answered: `{"services":[{"name":"web","id":"web-1","instances":[` + instanceJSON + `]}]}`,
			want: []client.Instance{instance1},
		},
		"update a check": {
			call: only(func(ctx context.Context, c *client.Client) error {
				return c.UpdateCheck(ctx, "web", "web-1", "ttl", client.Warning, "slow")
			}),
			sent: "PUT /services/web/checks/ttl?id=web-1", body: `{"status":"warning","output":"slow"}`,
		},
		"checks of a service": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.ServiceChecks(ctx, "web") },
			sent: "GET /services/web/checks", answered: checkAnswer, want: checks,
		},
		"register a check of a node": {
			call: only(func(ctx context.Context, c *client.Client) error {
				return c.RegisterNodeCheck(ctx, "disk", client.CheckSpec{ID: "other", TTL: time.Minute})
			}),
			sent: "PUT /checks/disk", body: `{"ttl":"1m0s"}`,
		},
		"update a check of a node": {
			call: only(func(ctx context.Context, c *client.Client) error {
				return c.UpdateNodeCheck(ctx, "disk", client.Critical, "")
			}),
			sent: "PUT /checks/disk/status", body: `{"status":"critical"}`,
		},
		"checks of a node": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.NodeChecks(ctx, "n1") },
			sent: "GET /checks?node=n1", answered: checkAnswer, want: checks,
		},
		"remove a check of a node": {
			call: only(func(ctx context.Context, c *client.Client) error { return c.DeregisterNodeCheck(ctx, "n1", "disk") }),
			sent: "DELETE /checks/disk?node=n1",
		},
		"create a session": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.CreateSession(ctx, client.SessionSpec{Name: "job", TTL: 15 * time.Second, Behavior: client.DeleteKeys, LockDelay: -1})
			},
			sent: "POST /sessions", body: `{"ttl":"15s","behavior":"delete","lock_delay":"0s","name":"job"}`,
			answered: `{"id":"s-1","ttl":"15s","modify_index":4}`, want: client.Session{ID: "s-1", TTL: 15 * time.Second, ModifyIndex: 4},
		},
		"create a plain session": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.CreateSession(ctx, client.SessionSpec{})
			},
			sent: "POST /sessions", body: `{}`, answered: `{"id":"s-1","ttl":"0s","modify_index":4}`, want: client.Session{ID: "s-1", ModifyIndex: 4},
		},
		"renew a session": {
			call: only(func(ctx context.Context, c *client.Client) error { return c.RenewSession(ctx, "s-1") }),
			sent: "PUT /sessions/s-1/renew",
		},
		"destroy a session": {
			call: only(func(ctx context.Context, c *client.Client) error { return c.DestroySession(ctx, "s-1") }),
			sent: "DELETE /sessions/s-1",
		},
		"session": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Session(ctx, "s-1") },
			sent: "GET /sessions/s-1", answered: sessionAnswer, want: session,
		},
		"sessions": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Sessions(ctx) },
			sent: "GET /sessions", answered: `{"sessions":[` + sessionAnswer + `]}`, want: []client.Session{session},
		},
		"put with a TTL": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.Put(ctx, "k", []byte("v"), client.TTL(90*time.Second))
			},
			sent: "PUT /kv/k?ttl=1m30s", body: "=v", answered: `{"modify_index":9,"create_index":9}`, want: client.PutResult{ModifyIndex: 9, CreateIndex: 9},
		},
		"acquire": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.Acquire(ctx, "k", nil, "s-1", client.Flags(3))
			},
			sent: "PUT /kv/k?acquire=s-1&flags=3", body: "=", answered: `{"modify_index":9,"create_index":3,"lock_index":9,"session":"s-1"}`,
			want: client.PutResult{ModifyIndex: 9, CreateIndex: 3, LockIndex: 9},
		},
		"release": {
			call: only(func(ctx context.Context, c *client.Client) error { return c.Release(ctx, "k", "s-1") }),
			sent: "PUT /kv/k?release=s-1",
		},
		"release with a value": {
			call: func(ctx context.Context, c *client.Client) (any, error) {
				return c.PutAndRelease(ctx, "k", []byte("v"), "s-1")
			},
			sent: "PUT /kv/k?release=s-1", body: "=v", answered: `{"modify_index":9,"create_index":3,"lock_index":4}`,
			want: client.PutResult{ModifyIndex: 9, CreateIndex: 3, LockIndex: 4},
		},
		"an entry that expires": {
			call:     func(ctx context.Context, c *client.Client) (any, error) { return c.Get(ctx, "k") },
			sent:     "GET /kv/k",
			answered: `{"key":"k","value":"v","create_index":3,"modify_index":9,"flags":0,"lock_index":5,"session":"s-1","expires_in":"1m2.5s"}`,
			want: client.Entry{Key: "k", Value: []byte("v"), CreateIndex: 3, ModifyIndex: 9, LockIndex: 5, Session: "s-1",
				ExpiresIn: 62500 * time.Millisecond},
		},
		"a transaction with locks": {
			call: only(func(ctx context.Context, c *client.Client) error {
				_, err := c.Txn().Then(client.OpAcquire("k", nil, "s-1"), client.OpRelease("l", "s-1"),
					client.OpSet("m", []byte("v")).WithTTL(time.Minute)).Commit(ctx)
				return err
			}),
			sent: "POST /txn", body: `{"then":[{"op":"acquire","key":"k","value":"","session":"s-1"},{"op":"release","key":"l","session":"s-1"},
				{"op":"set","key":"m","value":"v","ttl":"1m0s"}]}`,
		},
		"status": {
			call: func(ctx context.Context, c *client.Client) (any, error) { return c.Status(ctx) },
			sent: "GET /cluster/status", answered: `{"node_id":"n1","incarnation":"i-1"}`, want: client.Status{NodeID: "n1", Incarnation: "i-1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.answered == "" {
				tc.answered = `{"message":"done"}`
			}
			d := newDouble(t, says(200, tc.answered))
			got, err := tc.call(testContext(t), to(t, d))
			if err != nil {
				t.Fatal(err)
			}
			if tc.want != nil && !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %+v\nwant %+v", got, tc.want)
			}
			sent := d.requests()[0]
			if line := sent.Method + " " + sent.URI; len(d.requests()) != 1 || line != tc.sent {
				t.Errorf("sent %s, want %s", line, tc.sent)
			}
			switch {
			case tc.body != "" && tc.body[0] == '=':
				if sent.Body != tc.body[1:] {
					t.Errorf("sent %q", sent.Body)
				}
			case tc.body != "":
				sameJSON(t, sent.Body, tc.body)
			case sent.Body != "" || sent.Header.Get("Content-Type") != "":
				t.Errorf("sent a body: %q", sent.Body)
			}
		})
	}
}

// What the package prints as JSON is what the API says.
func TestRegistryJSON(t *testing.T) {
	for _, v := range []any{&instance1, &client.Session{ID: "s", Behavior: client.ReleaseKeys, LockDelay: time.Second},
		&client.Entry{Key: "k", Value: []byte("<"), ExpiresIn: time.Second}} {
		encoded, err := v.(interface{ MarshalJSON() ([]byte, error) }).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		back := reflect.New(reflect.TypeOf(v).Elem()).Interface()
		if err := back.(interface{ UnmarshalJSON([]byte) error }).UnmarshalJSON(encoded); err != nil || !reflect.DeepEqual(v, back) {
			t.Errorf("%s: %+v, %v", encoded, back, err)
		}
	}
	var none client.Instance
	if encoded, _ := none.MarshalJSON(); string(encoded) == "" || !reflect.DeepEqual(none.Tags, []string(nil)) {
		t.Errorf("%s", encoded)
	}
}

func TestRegistryErrors(t *testing.T) {
	for code, tc := range map[string]struct {
		status   int
		is       error
		notFound bool
	}{
		"service_not_found": {404, client.ErrServiceNotFound, true},
		"service_expired":   {410, client.ErrServiceExpired, true},
		"session_not_found": {404, client.ErrSessionNotFound, true},
		"check_not_found":   {404, client.ErrCheckNotFound, true},
		"lock_held":         {409, client.ErrLockHeld, false},
		"lock_delay":        {409, client.ErrLockDelay, false},
		"not_holder":        {409, client.ErrNotHolder, false},
		"limit_reached":     {409, client.ErrLimitReached, false},
	} {
		d := newDouble(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("X-Konsul-Index", "5")
			reply(w, tc.status, `{"error":"no","code":"`+code+`","modify_index":7,"session":"s-2","wait":"1.5s","limit":4096}`)
		})
		var meta client.Meta
		_, err := to(t, d).Service(testContext(t), "web", client.WithMeta(&meta))
		var e *client.Error
		if !errors.Is(err, tc.is) || client.IsNotFound(err) != tc.notFound || client.IsNotApplied(err) || !errors.As(err, &e) {
			t.Fatalf("%s: %v", code, err)
		}
		if e.Session != "s-2" || e.Wait != 1500*time.Millisecond || e.ModifyIndex != 7 || e.Limit != 4096 {
			t.Errorf("%s: %+v", code, e)
		}
		if tc.notFound != (meta.Index == 5) {
			t.Errorf("%s: meta %+v", code, meta)
		}
		if len(d.requests()) != 1 {
			t.Errorf("%s is sent again", code)
		}
	}
	d := newDouble(t, says(409, `{"error":"no","code":"lock_delay","wait":{"of":"another shape"}}`))
	if _, err := to(t, d).Acquire(testContext(t), "k", nil, "s"); !errors.Is(err, client.ErrLockDelay) {
		t.Errorf("a wait of another shape: %v", err)
	}
	c := to(t, newDouble(t, says(500, `{}`)))
	ctx := testContext(t)
	_, register := c.Register(ctx, client.Service{})
	_, acquire := c.Acquire(ctx, "k", nil, "")
	_, release := c.PutAndRelease(ctx, "k", nil, "s")
	for _, err := range []error{register, acquire, release, c.Heartbeat(ctx, "", ""), c.RenewSession(ctx, ""), c.Release(ctx, "k", ""),
		c.UpdateCheck(ctx, "web", "", "", client.Passing, ""), c.UpdateNodeCheck(ctx, "", client.Passing, "")} {
		if !errors.Is(err, client.ErrBadRequest) {
			t.Errorf("%v", err)
		}
	}
}
