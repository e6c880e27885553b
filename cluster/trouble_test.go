package cluster

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/raftstore"
)

func TestWhoIsTheMemberItSaysItIs(t *testing.T) {
	voter, nonvoter := &raftstore.Server{ID: "b", Voter: true}, &raftstore.Server{ID: "b"}
	known, unknown := &record.Member{Id: "b", Incarnation: "1"}, &record.Member{Id: "b"}
	for _, c := range []struct {
		name        string
		self        *raftstore.Server
		have        *record.Member
		incarnation string
		rejoin, ok  bool
	}{
		{"a new id", nil, nil, "2", false, true},
		{"a record that outlived its member", nil, known, "2", false, true},
		{"the member again", voter, known, "1", false, true},
		{"another directory", voter, known, "2", false, false},
		{"another directory, with state", voter, known, "2", true, false},
		{"another directory of a member without a vote", nonvoter, known, "2", false, false},
		{"a person", voter, known, "", false, true},
		{"a directory of before there were incarnations", voter, unknown, "2", true, true},
		{"an empty one in its place", voter, unknown, "2", false, false},
		{"a member that a person announced", nonvoter, unknown, "2", false, true},
		{"a founder that missed the decision", voter, nil, "0", false, true},
		{"a founder whose directory was cleared", voter, nil, "2", false, false},
		{"a founder whose record says more", voter, known, "0", false, false},
	} {
		m := newManager(Config{NodeID: "a"}, &simStore{id: "a", clusterID: "x"}, nil)
		value := &BootstrapValue{ClusterID: "x", Members: []BootstrapMember{{ID: "b", Address: "b:1", Incarnation: "0"}}}
		if err := m.votes.decide(value); err != nil {
			t.Fatal(err)
		}
		err := m.checkIncarnation(JoinRequest{NodeID: "b", Incarnation: c.incarnation, Rejoin: c.rejoin}, c.self, c.have)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrMemberExists) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// lines collects log lines.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(words ...string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
next:
	for line := range strings.Lines(l.text.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		n++
	}
	return n
}

// answers is a network where every host gives the same answer.
type answers func(*http.Request) (*http.Response, error)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

func TestAWaitingNodeNamesTheAddressesWhereNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		silence := answers(func(*http.Request) (*http.Response, error) { return nil, errLost })
		n := &simNode{store: &simStore{id: "a"}, config: Config{
			NodeID: "a", RaftAddr: "a:1", Join: []string{"b:1", "c:1"}, HTTP: silence, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})}}
		n.start(t)
		_ = pause(t.Context(), 35*time.Second)
		n.kill()
		for _, a := range n.config.Join {
			if got := log.count("[WARN]", "address="+a, "error", errLost.Error()); got < 3 || got > 4 {
				t.Errorf("%s: %d warnings in 35 s", a, got)
			}
		}
	})
}

func TestANodeOfAnotherClusterSaysSoAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		there := answers(func(*http.Request) (*http.Response, error) {
			rec := httptest.NewRecorder()
			fmt.Fprint(rec, `{"node_id":"b","cluster_id":"theirs","has_state":true}`)
			return rec.Result(), nil
		})
		n := &simNode{store: &simStore{id: "a", clusterID: "ours", state: true}, config: Config{
			NodeID: "a", RaftAddr: "a:1", Join: []string{"b:1"}, HTTP: there, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})}}
		n.start(t)
		_ = pause(t.Context(), 65*time.Second)
		if err := n.m.Trouble(); !errors.Is(err, raftstore.ErrWrongCluster) {
			t.Errorf("trouble %v", err)
		}
		n.kill()
		if got := log.count("[ERROR]", "ours", "theirs", "clear its data directory"); got < 2 || got > 3 {
			t.Errorf("said %d times in 65 s:\n%s", got, log.text.String())
		}
	})
}
