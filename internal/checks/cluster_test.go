package checks

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/raftstore"
	"github.com/neogan74/konsul/raftstore/raftstoretest"
)

// runOn runs checks on a node of a cluster until the test ends, before the node does.
func runOn(t *testing.T, n *raftstoretest.Node) *Runner {
	t.Helper()
	r := newRunner(n.Store, hclog.NewNullLogger(), newProber().run)
	r.absentAfter, r.absentEvery = time.Second, 50*time.Millisecond
	r.start()
	t.Cleanup(r.Close)
	return r
}

func register(t *testing.T, n *raftstoretest.Node, id string, checks ...*command.Check) *command.Result {
	t.Helper()
	res, err := n.Store.Apply(t.Context(), command.Type_TYPE_SERVICE_SET,
		&command.ServiceSet{Name: "web", Id: id, Node: n.ID, Checks: checks}, "")
	require.NoError(t, err)
	require.Equal(t, command.Result_OK, res.Code)
	return res
}

func check(id string, kind command.Check_Kind, target string) *command.Check {
	return &command.Check{Id: id, Kind: kind, Target: target, Interval: int64(time.Second), Timeout: int64(time.Second)}
}

// statusOf is the status of an instance's check as the node sees it.
func statusOf(t *testing.T, n *raftstoretest.Node, id, check string) command.Check_Status {
	t.Helper()
	c := checkOf(t, n, id, check)
	return command.Check_Status(c.GetStatus())
}

func checkOf(t *testing.T, n *raftstoretest.Node, id, check string) (found *record.Check) {
	t.Helper()
	v, _, err := n.Store.View(t.Context(), raftstore.ReadOptions{})
	require.NoError(t, err)
	defer v.Close()
	all, err := v.Instances("web")
	require.NoError(t, err)
	for _, in := range all {
		for _, c := range in.Checks {
			if in.Id == id && c.Id == check {
				found = c
			}
		}
	}
	return found
}

func TestChecksOfACluster(t *testing.T) {
	c := raftstoretest.New(t, 3)
	var code, asked atomic.Int64
	code.Store(200)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(int(code.Load()))
		fmt.Fprint(w, "as told")
	}))
	defer srv.Close()
	home := c.Followers()[0]
	// What is registered before the runner begins is read, what comes later is told.
	register(t, home, "early", check("http", command.Check_HTTP, srv.URL))
	runners := map[string]*Runner{}
	for _, n := range c.Nodes {
		runners[n.ID] = runOn(t, n)
	}
	register(t, home, "late", check("http", command.Check_HTTP, srv.URL), check("tcp", command.Check_TCP, srv.Listener.Addr().String()))
	_, err := home.Store.Apply(t.Context(), command.Type_TYPE_CHECK_SET, &command.CheckSet{Node: home.ID,
		Check: check("own", command.Check_TCP, srv.Listener.Addr().String())}, "")
	require.NoError(t, err)
	wait := func(id, check string, want command.Check_Status) {
		t.Helper()
		require.Eventually(t, func() bool { return statusOf(t, c.Nodes[0], id, check) == want }, patience, 5*time.Millisecond, id+" "+check)
	}
	wait("early", "http", command.Check_PASSING)
	wait("late", "http", command.Check_PASSING)
	wait("late", "tcp", command.Check_PASSING)
	require.Eventually(t, func() bool { return nodeCheck(t, home, home.ID, "own") == command.Check_PASSING }, patience, 5*time.Millisecond)
	require.Contains(t, checkOf(t, home, "late", "http").Output, "200 OK: as told")
	require.Equal(t, 4, runners[home.ID].Count())
	for _, n := range c.Nodes {
		if n != home {
			require.Zero(t, runners[n.ID].Count(), "another node runs them")
		}
	}

	// Nothing is written while nothing changes.
	before := checkOf(t, home, "early", "http").ModifyIndex
	runs := asked.Load()
	require.Eventually(t, func() bool { return asked.Load() > runs+4 }, patience, 5*time.Millisecond)
	require.Equal(t, before, checkOf(t, home, "early", "http").ModifyIndex)

	code.Store(http.StatusTooManyRequests)
	wait("early", "http", command.Check_WARNING)
	code.Store(http.StatusInternalServerError)
	wait("early", "http", command.Check_CRITICAL)

	_, err = home.Store.Apply(t.Context(), command.Type_TYPE_SERVICE_DELETE, &command.ServiceDelete{Name: "web"}, "")
	require.NoError(t, err)
	_, err = home.Store.Apply(t.Context(), command.Type_TYPE_CHECK_DELETE, &command.CheckDelete{Node: home.ID, Id: "own"}, "")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return runners[home.ID].Count() == 0 }, patience, 5*time.Millisecond)
}

func nodeCheck(t *testing.T, n *raftstoretest.Node, node, id string) (status command.Check_Status) {
	t.Helper()
	v, _, err := n.Store.View(t.Context(), raftstore.ReadOptions{})
	require.NoError(t, err)
	defer v.Close()
	require.NoError(t, v.NodeChecks(node, func(_ string, c *record.Check) error {
		if c.Id == id {
			status = command.Check_Status(c.Status)
			return persistence.ErrStop
		}
		return nil
	}))
	return status
}

// The checks of a node that is down become critical, and what they are when it is back.
func TestChecksOfAnAbsentNode(t *testing.T) {
	c := raftstoretest.New(t, 3)
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	target := srv.Listener.Addr().String()
	home, leader := c.Followers()[0], c.Leader()
	for _, n := range c.Nodes {
		if n != home {
			runOn(t, n)
		}
	}
	r := newRunner(home.Store, hclog.NewNullLogger(), newProber().run)
	r.start()
	register(t, home, "a", check("tcp", command.Check_TCP, target))
	register(t, leader, "b", check("tcp", command.Check_TCP, target))
	is := func(id string, want command.Check_Status) func() bool {
		return func() bool { return statusOf(t, leader, id, "tcp") == want }
	}
	require.Eventually(t, is("a", command.Check_PASSING), patience, 5*time.Millisecond)
	require.Eventually(t, is("b", command.Check_PASSING), patience, 5*time.Millisecond)
	r.Close()
	home.Stop()
	require.Eventually(t, is("a", command.Check_CRITICAL), patience, 5*time.Millisecond)
	require.Contains(t, checkOf(t, leader, "a", "tcp").Output, "node "+home.ID)
	require.True(t, is("b", command.Check_PASSING)(), "the check of a node that is there was marked")

	home.Start()
	runOn(t, home)
	require.Eventually(t, is("a", command.Check_PASSING), patience, 5*time.Millisecond)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, leader.Store.RemoveServer(ctx, home.ID))
	require.Eventually(t, is("a", command.Check_CRITICAL), patience, 5*time.Millisecond)
}
