package cluster

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neogan74/konsul/raftstore"
)

func TestVotesSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	v, err := openVotes(dir)
	if err != nil {
		t.Fatal(err)
	}
	low, high := Ballot{Round: 1, Node: "a"}, Ballot{Round: 1, Node: "b"}
	value := &BootstrapValue{ClusterID: "x", Members: []BootstrapMember{{ID: "a", Address: "a:1"}}}
	if r, err := v.prepare(high); err != nil || !r.OK {
		t.Fatalf("prepare: %+v, %v", r, err)
	}
	if v, err = openVotes(dir); err != nil {
		t.Fatal(err)
	}
	if r, _ := v.prepare(low); r.OK || r.Promised != high {
		t.Errorf("promised to a lower ballot: %+v", r)
	}
	if r, _ := v.accept(low, value); r.OK {
		t.Errorf("voted below the promise: %+v", r)
	}
	if r, err := v.accept(high, value); err != nil || !r.OK {
		t.Fatalf("accept: %+v, %v", r, err)
	}
	if v, err = openVotes(dir); err != nil {
		t.Fatal(err)
	}
	if r, _ := v.prepare(Ballot{Round: 2, Node: "a"}); !r.OK || r.Accepted != high || r.Value == nil || r.Value.ClusterID != "x" {
		t.Errorf("forgot its vote: %+v", r)
	}
	if err := v.decide(value); err != nil {
		t.Fatal(err)
	}
	if err := v.decide(&BootstrapValue{ClusterID: "y"}); err == nil {
		t.Error("decided twice")
	}
}

func TestADamagedStateFileStopsTheNode(t *testing.T) {
	for _, content := range []string{"{", `{"format":2}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, stateFileName), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		m := newManager(Config{NodeID: "a", DataDir: dir}, &simStore{id: "a"}, nil)
		if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), stateFileName) {
			t.Errorf("%s: %v", content, err)
		}
	}
}

func TestJoinAddresses(t *testing.T) {
	for addr, want := range map[string]string{
		"h:1": "http://h:1", " http://h:1/ ": "http://h:1", "https://h": "https://h", "[::1]:8500": "http://[::1]:8500",
		"": "", "ftp://h": "", "http://": "", "::": "",
	} {
		if got, err := baseURL(addr); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", addr, got, err)
		}
	}
}

// Whatever answers at a join address, nothing worse than an error comes of it.
func TestStrangersAtAJoinAddress(t *testing.T) {
	big := strings.Repeat(" ", 2*maxBody) + `{"node_id":"x"}`
	for name, h := range map[string]http.HandlerFunc{
		"not JSON":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"too long":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(big)) },
		"not a node": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"an error":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) },
	} {
		s := httptest.NewServer(h)
		m := newManager(Config{NodeID: "a"}, &simStore{id: "a"}, nil)
		if got, err := m.askStatus(context.Background(), s.URL); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
		if _, err := m.SendJoin(context.Background(), s.URL); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: told to join it: %v", name, err)
		}
		s.Close()
		if _, err := m.SendJoin(context.Background(), s.URL); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "check that a node runs there") {
			t.Errorf("%s: told to join where nobody listens: %v", name, err)
		}
	}
}

func TestErrorsKeepTheirMeaningOnTheWire(t *testing.T) {
	for _, c := range codes {
		w := toWire(c.err)
		if err := fromCode(w.Code, w.Field, w.Text); !errors.Is(err, c.err) || Code(err) != c.code {
			t.Errorf("%s: became %v (%s)", c.code, err, Code(err))
		}
	}
	w := toWire(&InvalidError{Field: "address", Why: "is empty"})
	var got *InvalidError
	if err := fromCode(w.Code, w.Field, w.Text); !errors.As(err, &got) || got.Field != "address" {
		t.Errorf("became %v", err)
	}
	if err := fromCode("", "", "something"); err.Error() != "something" || errors.Is(err, raftstore.ErrNoLeader) {
		t.Errorf("became %v", err)
	}
}
