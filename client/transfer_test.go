package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/neogan74/konsul/client"
)

// streams is a server whose handler reads the body itself.
func streams(t *testing.T, fn http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(fn)
	t.Cleanup(s.Close)
	return s.URL
}

func transferClient(t *testing.T, timeout time.Duration, addresses ...string) *client.Client {
	t.Helper()
	return newClient(t, client.Config{Addresses: addresses, Timeout: timeout, RetryTimeout: time.Second})
}

func TestExportIsWhole(t *testing.T) {
	doc := `{"kv":{"a":"` + strings.Repeat("x", 1<<20) + `"}}`
	tries := 0
	url := streams(t, func(w http.ResponseWriter, r *http.Request) {
		if tries++; tries == 1 {
			http.Error(w, `{"error":"no leader","code":"no_leader"}`, http.StatusServiceUnavailable)
			return
		}
		if r.RequestURI != "/export?consistency=stale&prefix=a%2F" {
			t.Errorf("asked %s", r.RequestURI)
		}
		w.Header().Set("X-Konsul-Index", "42")
		io.WriteString(w, doc)
	})
	var out bytes.Buffer
	var meta client.Meta
	n, err := transferClient(t, 5*time.Second, url).Export(context.Background(), &out, client.ExportOptions{Prefix: "a/"}, client.Stale(), client.WithMeta(&meta))
	if err != nil || n != int64(len(doc)) || out.String() != doc || meta.Index != 42 || tries != 2 {
		t.Errorf("%d bytes, %v, %+v, %d tries", n, err, meta, tries)
	}
}

// A part is never taken for the whole, and never sent for again into the same writer.
func TestExportThatBreaksOff(t *testing.T) {
	tries := 0
	url := streams(t, func(w http.ResponseWriter, _ *http.Request) {
		tries++
		io.WriteString(w, strings.Repeat("x", 100000))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	var out bytes.Buffer
	n, err := transferClient(t, 5*time.Second, url).Export(context.Background(), &out, client.ExportOptions{})
	if err == nil || tries != 1 || n != int64(out.Len()) || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("%d bytes, %v, %d tries", n, err, tries)
	}
	_, err = transferClient(t, 5*time.Second, streams(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") })).
		Export(context.Background(), &full{}, client.ExportOptions{})
	if err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("%v", err)
	}
}

type full struct{}

func (*full) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestTransfersThatStandStillEnd(t *testing.T) {
	hang := make(chan struct{})
	url := streams(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.WriteString(w, "{")
			w.(http.Flusher).Flush()
		}
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	defer close(hang)
	c := transferClient(t, 100*time.Millisecond, url)
	if _, err := c.Export(context.Background(), io.Discard, client.ExportOptions{}); err == nil || !strings.Contains(err.Error(), "nothing moved for 100ms") {
		t.Errorf("export: %v", err)
	}
	if err := c.ReadBackup(context.Background(), io.Discard, client.BackupOptions{}); err == nil || !strings.Contains(err.Error(), "nothing moved for 100ms") {
		t.Errorf("backup: %v", err)
	}
	_, err := c.Import(context.Background(), endless{}, client.ImportOptions{})
	if !client.IsUnknownOutcome(err) || !strings.Contains(err.Error(), "nothing moved for 100ms") {
		t.Errorf("import: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestImportSendsOnce(t *testing.T) {
	var asked []string
	answer := func(status int, body string) string {
		return streams(t, func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			asked = append(asked, r.Method+" "+r.RequestURI+" "+string(text))
			w.WriteHeader(status)
			io.WriteString(w, body)
		})
	}
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	ok := answer(200, `{"message":"m","kv":3,"services":2,"skipped":1}`)
	result, err := transferClient(t, 5*time.Second, down.URL, ok).Import(context.Background(), strings.NewReader(`{"kv":{}}`),
		client.ImportOptions{DryRun: true, OnConflict: client.Skip, Prefix: "a b"})
	if err != nil || result != (client.ImportResult{Keys: 3, Services: 2, Skipped: 1}) {
		t.Errorf("%+v, %v", result, err)
	}
	if want := `[POST /import?dry_run=true&on_conflict=skip&prefix=a+b {"kv":{}}]`; fmt.Sprint(asked) != want {
		t.Errorf("asked %v, want %s", asked, want)
	}

	// A part was done: the code alone would say that nothing was.
	asked = nil
	part := answer(503, `{"error":"no leader","code":"no_leader","kv":2048,"services":0,"skipped":0}`)
	result, err = transferClient(t, 5*time.Second, part, ok).Import(context.Background(), strings.NewReader("{}"), client.ImportOptions{})
	if result.Keys != 2048 || !errors.Is(err, client.ErrNoLeader) || client.IsNotApplied(err) || len(asked) != 1 {
		t.Errorf("%+v, %v, %v", result, err, asked)
	}
	bad := answer(400, `{"error":"line 3","code":"bad_request","kv":7}`)
	result, err = transferClient(t, 5*time.Second, bad).Import(context.Background(), strings.NewReader("{}"), client.ImportOptions{})
	if result.Keys != 7 || !errors.Is(err, client.ErrBadRequest) {
		t.Errorf("%+v, %v", result, err)
	}
	broken := errors.New("the disk is broken")
	_, err = transferClient(t, 5*time.Second, ok).Import(context.Background(), iotest.ErrReader(broken), client.ImportOptions{})
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// A restore goes to the first node that can be reached, once, and waits for it however long
// that works. What was not sent as a whole has not happened.
func TestWriteBackupSendsOnce(t *testing.T) {
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	const timeout = 500 * time.Millisecond
	var bodies []string
	works := streams(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		bodies = append(bodies, r.Method+" "+r.RequestURI+" "+r.Header.Get("Content-Type")+" "+string(body))
		time.Sleep(3 * timeout) // restores
		io.WriteString(w, `{"index":7}`)
	})
	result, err := transferClient(t, timeout, down.URL, works).WriteBackup(t.Context(), strings.NewReader("all of it"))
	if err != nil || result.Index != 7 {
		t.Errorf("%+v, %v", result, err)
	}
	if want := "[PUT /snapshot application/octet-stream all of it]"; fmt.Sprint(bodies) != want {
		t.Errorf("got %v, want %s", bodies, want)
	}
	_, err = transferClient(t, timeout, down.URL).WriteBackup(t.Context(), strings.NewReader("all of it"))
	if !client.IsUnreachable(err) || client.IsUnknownOutcome(err) {
		t.Errorf("no node: %v", err)
	}
	broken := errors.New("the disk is broken")
	_, err = transferClient(t, 10*time.Second, works).WriteBackup(t.Context(), io.MultiReader(strings.NewReader("a part"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || client.IsUnknownOutcome(err) {
		t.Errorf("what was to be sent cannot be read: %v", err)
	}
	hang := make(chan struct{})
	stands := streams(t, func(http.ResponseWriter, *http.Request) { <-hang })
	defer close(hang)
	_, err = transferClient(t, timeout, stands).WriteBackup(t.Context(), endless{})
	if err == nil || !strings.Contains(err.Error(), "nothing moved for 500ms") {
		t.Errorf("a node that takes nothing: %v", err)
	}
	lost := streams(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	})
	_, err = transferClient(t, timeout, lost, works).WriteBackup(t.Context(), strings.NewReader("all of it"))
	if !client.IsUnknownOutcome(err) || len(bodies) != 1 {
		t.Errorf("no answer: %v, sent %d times", err, len(bodies))
	}
}

// An answer that comes before all is sent is heard.
func TestImportHearsAnEarlyAnswer(t *testing.T) {
	url := streams(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1000)
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":"line 1: it is no JSON","code":"bad_request"}`)
	})
	_, err := transferClient(t, 5*time.Second, url).Import(context.Background(), io.LimitReader(endless{}, 1<<30), client.ImportOptions{})
	if !errors.Is(err, client.ErrBadRequest) || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("%v", err)
	}
}
