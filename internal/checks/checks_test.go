package checks

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/raftstore"
)

const patience = 20 * time.Second

func eventually(t *testing.T, fn func() bool, what string) {
	t.Helper()
	require.Eventually(t, fn, patience, time.Millisecond, what)
}

// fakeNode books what is proposed; answer may refuse it.
type fakeNode struct {
	mu     sync.Mutex
	told   []*command.CheckUpdate
	answer func(u *command.CheckUpdate) (*command.Result, error)
}

func (n *fakeNode) NodeID() string                           { return "n1" }
func (n *fakeNode) FSM() *fsm.FSM                            { return nil }
func (n *fakeNode) Ready(context.Context) error              { return nil }
func (n *fakeNode) IsLeader() bool                           { return false }
func (n *fakeNode) LeaderChanges() <-chan struct{}           { return nil }
func (n *fakeNode) Servers() ([]raftstore.Server, error)     { return nil, nil }
func (n *fakeNode) PeerContact(string) (time.Duration, bool) { return 0, false }
func (n *fakeNode) DB() *persistence.DB                      { return nil }

func (n *fakeNode) Apply(_ context.Context, _ command.Type, m proto.Message, _ string) (*command.Result, error) {
	u := m.(*command.CheckUpdate)
	n.mu.Lock()
	n.told = append(n.told, u)
	n.mu.Unlock()
	if n.answer != nil {
		return n.answer(u)
	}
	return &command.Result{}, nil
}

func (n *fakeNode) updates() []*command.CheckUpdate {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]*command.CheckUpdate(nil), n.told...)
}

// script is a probe that finds what it is told to.
type script struct {
	status atomic.Int32
	runs   atomic.Int64
}

func (s *script) run(context.Context, *record.Check) result {
	s.runs.Add(1)
	return result{status: command.Check_Status(s.status.Load()), output: "as told"}
}

func httpCheck(id string, status command.Check_Status) *record.Check {
	return &record.Check{Id: id, Kind: uint32(command.Check_HTTP), Target: "http://x/", CreateIndex: 7,
		Interval: int64(time.Millisecond), Timeout: int64(time.Second), Status: uint32(status)}
}

func newTestRunner(t *testing.T, n *fakeNode, probe func(context.Context, *record.Check) result) *Runner {
	t.Helper()
	r := newRunner(n, hclog.NewNullLogger(), probe)
	t.Cleanup(r.Close)
	return r
}

var web = owner{service: "web", instance: "web-1"}

func TestOnlyChangesAreTold(t *testing.T) {
	node, s := &fakeNode{}, &script{}
	s.status.Store(int32(command.Check_PASSING))
	r := newTestRunner(t, node, s.run)
	r.set(web, []*record.Check{httpCheck("http", command.Check_CRITICAL)}, 0)
	eventually(t, func() bool { return len(node.updates()) > 0 }, "the first result")
	u := node.updates()[0]
	require.True(t, proto.Equal(u, &command.CheckUpdate{Service: "web", Instance: "web-1", Id: "http",
		Status: command.Check_PASSING, Output: "as told", CreateIndex: 7}), "%v", u)

	passing := httpCheck("http", command.Check_PASSING)
	passing.Output = "as told"
	r.set(web, []*record.Check{passing}, 0) // the state has it
	told, runs := len(node.updates()), s.runs.Load()
	eventually(t, func() bool { return s.runs.Load() > runs+50 }, "more runs")
	require.LessOrEqual(t, len(node.updates()), told+1, "a status that had not changed was told (one may have been on its way)")

	s.status.Store(int32(command.Check_WARNING))
	eventually(t, func() bool { l := node.updates(); return l[len(l)-1].Status == command.Check_WARNING }, "the change")
}

// A check begins as critical. One that fails from the start has to say why, once.
func TestTheFirstResultIsToldAlsoIfItChangesNothing(t *testing.T) {
	node, s := &fakeNode{}, &script{}
	s.status.Store(int32(command.Check_CRITICAL))
	r := newTestRunner(t, node, s.run)
	c := httpCheck("http", command.Check_CRITICAL)
	c.CriticalAfter = 1000
	r.set(web, []*record.Check{c}, 0)
	eventually(t, func() bool { return len(node.updates()) > 0 }, "the first result")
	u := node.updates()[0]
	require.True(t, proto.Equal(u, &command.CheckUpdate{Service: "web", Instance: "web-1", Id: "http",
		Status: command.Check_CRITICAL, Output: "as told", CreateIndex: 7}), "%v", u)

	said := httpCheck("http", command.Check_CRITICAL)
	said.CriticalAfter, said.Output = 1000, "as told" // the state has it
	r.set(web, []*record.Check{said}, 0)
	told, runs := len(node.updates()), s.runs.Load()
	eventually(t, func() bool { return s.runs.Load() > runs+50 }, "more runs")
	require.LessOrEqual(t, len(node.updates()), told+1, "the same was told again (one may have been on its way)")
}

func TestNodesOwnChecksAreToldForTheNode(t *testing.T) {
	node, s := &fakeNode{}, &script{}
	s.status.Store(int32(command.Check_PASSING))
	r := newTestRunner(t, node, s.run)
	r.set(owner{instance: "disk"}, []*record.Check{httpCheck("disk", command.Check_CRITICAL)}, 0)
	eventually(t, func() bool { return len(node.updates()) > 0 }, "the first result")
	u := node.updates()[0]
	require.Equal(t, []string{"n1", "disk", "", ""}, []string{u.Node, u.Id, u.Service, u.Instance})
}

func TestAFailedProposalIsTriedAgain(t *testing.T) {
	var fail atomic.Int64
	node := &fakeNode{answer: func(*command.CheckUpdate) (*command.Result, error) {
		if fail.Add(1) <= 3 {
			return nil, errors.New("no leader")
		}
		return &command.Result{}, nil
	}}
	s := &script{}
	s.status.Store(int32(command.Check_PASSING))
	r := newTestRunner(t, node, s.run)
	c := httpCheck("http", command.Check_CRITICAL)
	r.set(web, []*record.Check{c}, 0)
	eventually(t, func() bool { return fail.Load() > 3 }, "a proposal that succeeds")
}

func TestRegisteredAnewAndRemoved(t *testing.T) {
	node, s := &fakeNode{}, &script{}
	s.status.Store(int32(command.Check_PASSING))
	r := newTestRunner(t, node, s.run)
	r.set(web, []*record.Check{httpCheck("http", command.Check_CRITICAL)}, 0)
	eventually(t, func() bool { return len(node.updates()) > 0 }, "the first result")

	anew := httpCheck("http", command.Check_CRITICAL)
	anew.CreateIndex = 9
	r.set(web, []*record.Check{anew, {Id: "ttl", Kind: uint32(command.Check_TTL), Ttl: int64(time.Second)}}, 0)
	require.Equal(t, 1, r.Count(), "a TTL check is not ours to run")
	eventually(t, func() bool { l := node.updates(); return l[len(l)-1].CreateIndex == 9 }, "a result for the new one")

	r.keep(map[owner]bool{})
	require.Zero(t, r.Count())
	eventually(t, func() bool { return len(r.run) == 0 }, "the end of runs under way")
}

func TestAtMostSoManyAtOnce(t *testing.T) {
	var now, most atomic.Int64
	release := make(chan struct{})
	r := newTestRunner(t, &fakeNode{}, func(ctx context.Context, _ *record.Check) result {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		select {
		case <-release:
		case <-ctx.Done():
		}
		return result{status: command.Check_CRITICAL}
	})
	for i := range 5 * atOnce {
		r.set(owner{service: "web", instance: fmt.Sprint(i)}, []*record.Check{httpCheck("http", command.Check_CRITICAL)}, 0)
	}
	eventually(t, func() bool { return now.Load() == atOnce }, "a full house")
	close(release)
	eventually(t, func() bool { return now.Load() < atOnce }, "the end of some")
	require.LessOrEqual(t, most.Load(), int64(atOnce))
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	r := newRunner(&fakeNode{}, hclog.NewNullLogger(), func(ctx context.Context, _ *record.Check) result {
		<-ctx.Done() // a service that does not answer
		return critical("")
	})
	for i := range 300 {
		c := httpCheck("http", command.Check_PASSING)
		c.Timeout = int64(time.Hour)
		r.set(owner{service: "web", instance: fmt.Sprint(i)}, []*record.Check{c}, 0)
	}
	eventually(t, func() bool { return len(r.run) == atOnce }, "a full house")
	r.Close()
	eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, "the end of all goroutines")
	r.set(web, []*record.Check{httpCheck("http", command.Check_PASSING)}, 0)
	require.Zero(t, r.Count(), "a closed runner took a check")
}

func TestStreaks(t *testing.T) {
	const (
		P = command.Check_PASSING
		W = command.Check_WARNING
		C = command.Check_CRITICAL
	)
	for _, c := range []struct {
		name       string
		have       command.Check_Status
		pass, crit uint32
		results    []command.Check_Status
		flipAt     int // the result that flips, from 1; 0 = none
	}{
		{"zero means one", C, 0, 0, []command.Check_Status{P}, 1},
		{"three to pass", C, 3, 0, []command.Check_Status{P, P, P}, 3},
		{"a failure begins anew", C, 3, 0, []command.Check_Status{P, P, C, P, P}, 0},
		{"two to fail", P, 0, 2, []command.Check_Status{C, P, C, C}, 4},
		{"a warning is told at once", P, 5, 5, []command.Check_Status{W}, 1},
		{"critical serves again after enough", C, 2, 0, []command.Check_Status{W, W}, 2},
		{"and passing in between does not count less", C, 3, 0, []command.Check_Status{P, P, W}, 3},
		{"from warning to passing takes enough passing", W, 2, 0, []command.Check_Status{P, W, P, P}, 4},
		{"the same is no change", P, 1, 1, []command.Check_Status{P, P}, 0},
	} {
		var s streak
		flipped := 0
		for i, got := range c.results {
			s.add(got)
			if s.flips(c.have, got, c.pass, c.crit) {
				flipped = i + 1
				break
			}
		}
		require.Equal(t, c.flipAt, flipped, c.name)
	}
}
