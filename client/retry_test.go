package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/client"
)

const putOK = `{"modify_index":9,"create_index":9}`

// TestWhatIsSentAgain: how often a request arrives when the first answer is a failure
// and the second is fine.
func TestWhatIsSentAgain(t *testing.T) {
	put := func(ctx context.Context, c *client.Client) error { _, err := c.Put(ctx, "k", []byte("v")); return err }
	keyed := func(ctx context.Context, c *client.Client) error {
		_, err := c.Put(ctx, "k", []byte("v"), client.IdempotencyKey("once"))
		return err
	}
	get := func(ctx context.Context, c *client.Client) error { _, err := c.Get(ctx, "k"); return err }
	transfer := func(ctx context.Context, c *client.Client) error { _, err := c.Transfer(ctx, ""); return err }
	for name, tc := range map[string]struct {
		call  func(context.Context, *client.Client) error
		first answerFunc
		times int
		is    error // of the result, nil = success
	}{
		"put, overloaded":           {put, failure(429, "overloaded"), 2, nil},
		"put, no leader":            {put, failure(503, "no_leader"), 2, nil},
		"put, not ready":            {put, failure(503, "not_ready"), 2, nil},
		"put, shutting down":        {put, failure(503, "shutting_down"), 2, nil},
		"put, disk full":            {put, failure(503, "disk_full"), 2, nil},
		"put, outcome unknown":      {put, failure(504, "outcome_unknown"), 1, client.ErrOutcomeUnknown},
		"put, connection lost":      {put, hangUp, 1, client.ErrOutcomeUnknown},
		"put, internal error":       {put, failure(500, "internal"), 1, client.ErrOutcomeUnknown},
		"put, a proxy's 503":        {put, says(503, "<html>"), 1, client.ErrOutcomeUnknown},
		"put, a proxy's 502":        {put, says(502, "<html>"), 1, client.ErrOutcomeUnknown},
		"put, half an answer":       {put, half, 1, client.ErrOutcomeUnknown},
		"put, an answer of garbage": {put, says(200, "<html>"), 1, client.ErrOutcomeUnknown},
		"put, conflict":             {put, failure(409, "cas_conflict"), 1, client.ErrCASConflict},
		"put, exists":               {put, failure(409, "exists"), 1, client.ErrCASConflict},
		"put, too large":            {put, failure(413, "too_large"), 1, client.ErrTooLarge},
		"put, redirected":           {put, redirect, 1, errAny},
		"keyed put, unknown":        {keyed, failure(504, "outcome_unknown"), 2, nil},
		"keyed put, lost":           {keyed, hangUp, 2, nil},
		"keyed put, internal error": {keyed, failure(500, "internal"), 2, nil},
		"keyed put, conflict":       {keyed, failure(409, "cas_conflict"), 1, client.ErrCASConflict},
		"get, connection lost":      {get, hangUp, 2, nil},
		"get, half an answer":       {get, half, 2, nil},
		"get, no leader":            {get, failure(503, "no_leader"), 2, nil},
		"get, internal error":       {get, failure(500, "internal"), 2, nil},
		"get, not found":            {get, failure(404, "key_not_found"), 1, client.ErrNotFound},
		"get, compacted":            {get, failure(410, "compacted"), 1, client.ErrCompacted},
		"get, forbidden":            {get, failure(403, "forbidden"), 1, client.ErrForbidden},
		"transfer, lost":            {transfer, hangUp, 1, client.ErrOutcomeUnknown},
		"transfer, not formed":      {transfer, failure(503, "not_formed"), 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t, script(tc.first, says(200, putOK)))
			err := tc.call(testContext(t), to(t, d))
			if n := len(d.requests()); n != tc.times {
				t.Errorf("arrived %d times, want %d", n, tc.times)
			}
			switch {
			case tc.is == nil && err != nil, errors.Is(tc.is, errAny) && err == nil:
				t.Errorf("error %v", err)
			case tc.is != nil && !errors.Is(tc.is, errAny) && !errors.Is(err, tc.is):
				t.Errorf("error %v, want %v", err, tc.is)
			case errors.Is(err, client.ErrOutcomeUnknown) && errors.Is(err, client.ErrNotApplied):
				t.Errorf("%v is unknown and not applied at the same time", err)
			}
		})
	}
}

var errAny = errors.New("any error")

func half(w http.ResponseWriter, _ *http.Request, _ int) {
	w.Header().Set("Content-Length", "100")
	w.Write([]byte(`{"modify_index":`))
}

func redirect(w http.ResponseWriter, r *http.Request, _ int) {
	http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
}

// TestAutomaticKeys: one key for all attempts of a write, another for the next write,
// none for what the server does not remember.
func TestAutomaticKeys(t *testing.T) {
	d := newDouble(t, func(w http.ResponseWriter, r *http.Request, n int) {
		if n == 0 {
			hangUp(w, r, n)
			return
		}
		reply(w, 200, putOK)
	})
	c := newClient(t, client.Config{Addresses: []string{d.URL}, AutoIdempotency: true})
	ctx := testContext(t)
	for range 2 {
		if _, err := c.Put(ctx, "k", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Snapshot(ctx); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, r := range d.requests() {
		keys = append(keys, r.Header.Get("Idempotency-Key"))
	}
	if len(keys) != 4 || keys[0] == "" || keys[0] != keys[1] || keys[2] == "" || keys[2] == keys[1] || keys[3] != "" {
		t.Errorf("keys %q", keys)
	}
}

// TestUnknownStaysUnknown: an attempt that may have been applied is not made undone by
// a later one that was not.
func TestUnknownStaysUnknown(t *testing.T) {
	d := newDouble(t, script(hangUp, failure(503, "no_leader")))
	c := newClient(t, client.Config{Addresses: []string{d.URL}, RetryTimeout: 300 * time.Millisecond})
	_, err := c.Put(testContext(t), "k", nil, client.IdempotencyKey("once"))
	if len(d.requests()) < 2 {
		t.Fatalf("sent %d times", len(d.requests()))
	}
	if !client.IsUnknownOutcome(err) || client.IsNotApplied(err) {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(err.Error(), "it is no_leader") {
		t.Errorf("%q does not say what came last", err)
	}
}

func TestFailOverSticksToAWorkingAddress(t *testing.T) {
	good := newDouble(t, says(200, putOK))
	c := newClient(t, client.Config{Addresses: []string{refusing(t), refusing(t), good.URL}})
	for range 3 {
		if _, err := c.Put(testContext(t), "k", nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(good.requests()); n != 3 {
		t.Errorf("%d requests", n)
	}
	stuck, err := c.Node(good.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stuck.Status(testContext(t)); err != nil {
		t.Error(err)
	}
}

// TestFailOverLeavesANodeThatLostAnAnswer: the lost write is not sent again, but the
// next one goes elsewhere.
func TestFailOverLeavesANodeThatLostAnAnswer(t *testing.T) {
	bad, good := newDouble(t, hangUp), newDouble(t, says(200, putOK))
	c := to(t, bad, good)
	if _, err := c.Put(testContext(t), "k", nil); !client.IsUnknownOutcome(err) {
		t.Fatalf("error %v", err)
	}
	if _, err := c.Put(testContext(t), "k", nil); err != nil {
		t.Fatal(err)
	}
	if len(bad.requests()) != 1 || len(good.requests()) != 1 {
		t.Errorf("%d and %d requests", len(bad.requests()), len(good.requests()))
	}
}

func TestFailOverDoesNotSpreadOverload(t *testing.T) {
	first, second := newDouble(t, script(failure(429, "overloaded"), says(200, putOK))), newDouble(t, says(200, putOK))
	if _, err := to(t, first, second).Put(testContext(t), "k", nil); err != nil {
		t.Fatal(err)
	}
	if len(first.requests()) != 2 || len(second.requests()) != 0 {
		t.Errorf("%d and %d requests", len(first.requests()), len(second.requests()))
	}
}

func TestRetryAfterIsWaitedForWithinTheBudget(t *testing.T) {
	later := func(seconds string) answerFunc {
		return func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Retry-After", seconds)
			reply(w, 429, `{"error":"busy","code":"overloaded"}`)
		}
	}
	d := newDouble(t, script(later("1"), says(200, putOK)))
	begin := time.Now()
	if _, err := to(t, d).Put(testContext(t), "k", nil); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(begin); waited < time.Second {
		t.Errorf("waited only %v", waited)
	}
	d = newDouble(t, later("3600"))
	begin = time.Now()
	_, err := to(t, d).Put(testContext(t), "k", nil)
	var e *client.Error
	if !errors.As(err, &e) || e.RetryAfter != time.Hour || !client.IsNotApplied(err) {
		t.Errorf("error %v", err)
	}
	if len(d.requests()) != 1 || time.Since(begin) > 2*time.Second {
		t.Errorf("%d requests in %v", len(d.requests()), time.Since(begin))
	}
}

func TestTheBudgetAndTheContextEndIt(t *testing.T) {
	d := newDouble(t, failure(503, "no_leader"))
	c := newClient(t, client.Config{Addresses: []string{d.URL}, RetryTimeout: 200 * time.Millisecond})
	if _, err := c.Put(testContext(t), "k", nil); !errors.Is(err, client.ErrNoLeader) {
		t.Errorf("error %v", err)
	}
	if n := len(d.requests()); n < 2 || n > 20 {
		t.Errorf("%d requests within the budget", n)
	}
	never := newClient(t, client.Config{Addresses: []string{d.URL}, RetryTimeout: -1})
	before := len(d.requests())
	if _, err := never.Put(testContext(t), "k", nil); !client.IsNotApplied(err) {
		t.Errorf("error %v", err)
	}
	if n := len(d.requests()) - before; n != 1 {
		t.Errorf("%d requests without a budget", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Put(ctx, "k", nil); !errors.Is(err, context.Canceled) || !client.IsNotApplied(err) {
		t.Errorf("error %v", err)
	}
}

func TestACancelledWriteIsUnknown(t *testing.T) {
	release := make(chan struct{})
	d := newDouble(t, func(http.ResponseWriter, *http.Request, int) { <-release })
	defer close(release)
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		<-d.arrived
		cancel()
	}()
	_, err := to(t, d).Put(ctx, "k", nil)
	if !client.IsUnknownOutcome(err) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestAHungNodeIsLeftForReads(t *testing.T) {
	release := make(chan struct{})
	hung := newDouble(t, func(http.ResponseWriter, *http.Request, int) { <-release })
	defer close(release)
	good := newDouble(t, says(200, entryJSON))
	c := newClient(t, client.Config{Addresses: []string{hung.URL, good.URL}, Timeout: 100 * time.Millisecond})
	if _, err := c.Get(testContext(t), "k"); err != nil {
		t.Error(err)
	}
}

func TestFailFast(t *testing.T) {
	c := newClient(t, client.Config{Addresses: []string{refusing(t), refusing(t)}, FailFast: true, RetryTimeout: time.Hour})
	_, err := c.Put(testContext(t), "k", nil)
	var e *client.Error
	if !client.IsUnreachable(err) || !client.IsNotApplied(err) || !errors.As(err, &e) || e.Address == "" {
		t.Errorf("error %v", err)
	}
	patient := newClient(t, client.Config{Addresses: []string{refusing(t)}, RetryTimeout: 100 * time.Millisecond})
	if _, err := patient.Get(testContext(t), "k"); !client.IsUnreachable(err) {
		t.Errorf("error %v", err)
	}
}

// TestAStaleConnectionIsNoLostAnswer: the server closed the idle connection; the
// request goes out on a new one, and there is none: nothing was sent.
func TestAStaleConnectionIsNoLostAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, putOK) })}}
	server.Start()
	c := newClient(t, client.Config{Addresses: []string{server.URL}, FailFast: true})
	if _, err := c.Put(testContext(t), "k", nil); err != nil {
		t.Fatal(err)
	}
	server.Close()
	// The transport may hand the dead connection out once before it notices; then the
	// outcome is honestly unknown. Soon it must be unreachable.
	deadline := time.Now().Add(5 * time.Second)
	for {
		_, err := c.Put(testContext(t), "k", nil)
		if client.IsUnreachable(err) {
			return
		}
		if !client.IsUnknownOutcome(err) || time.Now().After(deadline) {
			t.Fatalf("error %v", err)
		}
	}
}

func TestErrorsCarryWhatHelps(t *testing.T) {
	for body, check := range map[string]func(*client.Error) bool{
		`{"error":"x","code":"cas_conflict","modify_index":12,"op":0}`: func(e *client.Error) bool { return e.ModifyIndex == 12 && e.Op == 0 },
		`{"error":"x","code":"too_large","limit":524288}`:              func(e *client.Error) bool { return e.Limit == 524288 && e.Op == -1 },
		`{"error":"x","code":"compacted","oldest_index":7}`:            func(e *client.Error) bool { return e.OldestIndex == 7 },
		`<html>not found</html>`:                                       func(e *client.Error) bool { return e.Code == "http_409" && e.Message == "Conflict" },
		``:                                                             func(e *client.Error) bool { return e.Code == "http_409" },
	} {
		d := newDouble(t, says(409, body))
		_, err := to(t, d).Put(testContext(t), "k", nil)
		var e *client.Error
		if !errors.As(err, &e) || !check(e) || e.Status != 409 || e.Address != strings.TrimPrefix(d.URL, "http://") {
			t.Errorf("%s gave %+v", body, e)
		}
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	for _, cfg := range []client.Config{
		{Addresses: []string{""}}, {Addresses: []string{"ftp://x"}}, {Addresses: []string{"http://"}},
		{Addresses: []string{"http://x/path"}}, {Addresses: []string{"http://user@x"}}, {Addresses: []string{"http://x?a=b"}},
		{Addresses: []string{"127.0.0.1:8500:8"}}, {Token: "a\nb"},
	} {
		if _, err := client.New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
	c, err := client.New(client.Config{Addresses: []string{"h:1", "https://[::1]:2/", " http://x "}})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Addresses(), " "); got != "http://h:1 https://[::1]:2 http://x" {
		t.Errorf("addresses %s", got)
	}
	if c, err := client.New(client.Config{}); err != nil || c.Addresses()[0] != client.DefaultAddress {
		t.Errorf("default: %v, %v", c, err)
	}
	if _, err := c.Node("ftp://x"); err == nil {
		t.Error("a bad address of a node was taken")
	}
}

// With FailFast a node that was removed from its cluster is not waited for; another address is.
func TestARemovedNodeIsNotWaitedFor(t *testing.T) {
	gone := newDouble(t, says(503, `{"error":"node was removed from the cluster","code":"not_ready"}`))
	told := 0
	cfg := client.Config{Addresses: []string{gone.URL}, FailFast: true, OnRetry: func(error) { told++ }}
	if _, err := newClient(t, cfg).Put(testContext(t), "k", nil); !errors.Is(err, client.ErrNotReady) || len(gone.requests()) != 1 {
		t.Errorf("%v after %d requests", err, len(gone.requests()))
	}
	cfg.Addresses = append(cfg.Addresses, newDouble(t, says(200, putOK)).URL)
	if _, err := newClient(t, cfg).Put(testContext(t), "k", nil); err != nil || told != 0 {
		t.Errorf("%v, told %d times", err, told)
	}
}

func TestWaitingIsTold(t *testing.T) {
	d := newDouble(t, script(failure(503, "no_leader"), says(200, putOK)))
	var told []error
	cfg := client.Config{Addresses: []string{d.URL}, OnRetry: func(err error) { told = append(told, err) }}
	if _, err := newClient(t, cfg).Put(testContext(t), "k", nil); err != nil || len(told) != 1 || !errors.Is(told[0], client.ErrNoLeader) {
		t.Errorf("%v, told %v", err, told)
	}
}

// The error says how long was waited, and is still one of a deadline.
func TestATimeoutSaysHowLong(t *testing.T) {
	d := newDouble(t, func(_ http.ResponseWriter, r *http.Request, _ int) { <-r.Context().Done() })
	cfg := client.Config{Addresses: []string{d.URL}, Timeout: 100 * time.Millisecond, RetryTimeout: -1}
	_, err := newClient(t, cfg).Get(testContext(t), "k")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "no answer from "+strings.TrimPrefix(d.URL, "http://")+" within 1") {
		t.Errorf("%v", err)
	}
}

func TestAnotherServerIsNotKonsul(t *testing.T) {
	for _, status := range []int{200, 404} {
		cfg := client.Config{Addresses: []string{newDouble(t, says(status, "<html>")).URL}, RetryTimeout: -1}
		if _, err := newClient(t, cfg).Get(testContext(t), "k"); !errors.Is(err, client.ErrNotKonsul) {
			t.Errorf("%d: %v", status, err)
		}
	}
	if _, err := to(t, newDouble(t, failure(404, "key_not_found"))).Get(testContext(t), "k"); errors.Is(err, client.ErrNotKonsul) {
		t.Error(err)
	}
}
