package fsm_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	. "github.com/neogan74/konsul/fsm/fsmtest"
	"github.com/neogan74/konsul/internal/persistence"
)

func instances(t *testing.T, m *Machine, name string) []persistence.Instance {
	t.Helper()
	view, err := m.DB.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	all, err := view.Instances(name)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func wantCode(t *testing.T, res *command.Result, code command.Result_Code) *command.Result {
	t.Helper()
	if res.Code != code || res.Succeeded != (code == command.Result_OK) {
		t.Fatalf("answered %v, want %v", res, code)
	}
	return res
}

func setService(m *Machine, at time.Duration, s *command.ServiceSet) *command.Result {
	return m.At(at, command.Type_TYPE_SERVICE_SET, s)
}

func heartbeat(m *Machine, at time.Duration, name, id string) *command.Result {
	return m.At(at, command.Type_TYPE_HEARTBEAT, &command.Heartbeat{Name: name, Id: id})
}

// A service lives as long as it is renewed, then is expired for an hour, then unknown.
func TestServiceLife(t *testing.T) {
	m := New(t)
	web := &command.ServiceSet{Name: "web", Id: "web-1", Address: "10.0.0.1", Port: 80, Ttl: int64(10 * time.Second)}
	wantCode(t, heartbeat(m, time.Second, "web", "web-1"), command.Result_SERVICE_NOT_FOUND)
	res := wantCode(t, setService(m, time.Second, web), command.Result_OK)
	all := instances(t, m, "web")
	if len(all) != 1 || all[0].Deadline != int64(11*time.Second) || all[0].CreateIndex != res.Index || !all[0].Healthy || all[0].Address != web.Address {
		t.Fatalf("registered %v", all)
	}
	sub, err := m.Subscribe(fsm.Filter{Service: "web"}, res.Index)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for at := 9 * time.Second; at < 50*time.Second; at += 9 * time.Second {
		if res := wantCode(t, heartbeat(m, at, "web", "web-1"), command.Result_OK); res.Ttl != web.Ttl {
			t.Fatalf("a heartbeat for %v", time.Duration(res.Ttl))
		}
		if n := m.Tick(at + 9*time.Second); n != 0 {
			t.Fatalf("%d records ended", n)
		}
	}
	last := instances(t, m, "web")[0]
	if last.ModifyIndex != res.Index {
		t.Fatalf("a heartbeat modified it: %v", last)
	}
	deadline := time.Duration(last.Deadline)
	if n := m.Tick(deadline - 1); n != 0 {
		t.Fatal("it expired early")
	}
	if n := m.Tick(deadline); n != 1 {
		t.Fatal("it did not expire")
	}
	expired := uint64(len(m.Log))
	events, _, err := sub.Next(t.Context())
	if err != nil || len(events) != 1 || !events[0].Deleted || events[0].Index != expired || events[0].Name != "web" || events[0].ID != "web-1" {
		t.Fatalf("watched %v, %v", events, err)
	}
	wantCode(t, heartbeat(m, deadline, "web", "web-1"), command.Result_SERVICE_EXPIRED)
	m.Tick(deadline + persistence.GoneFor - 1)
	wantCode(t, heartbeat(m, 0, "web", "web-1"), command.Result_SERVICE_EXPIRED)
	m.Tick(deadline + persistence.GoneFor)
	wantCode(t, heartbeat(m, 0, "web", "web-1"), command.Result_SERVICE_NOT_FOUND)
	wantNothingLeft(t, m)
}

// Registering again forgets that the instance had expired, and keeps what has to stay.
func TestServiceAgain(t *testing.T) {
	m := New(t)
	web := &command.ServiceSet{Name: "web", Id: "web", Ttl: int64(time.Second), Checks: []*command.Check{
		{Id: "a", Kind: command.Check_TTL, Ttl: int64(time.Minute), Status: command.Check_PASSING},
		{Id: "b", Kind: command.Check_TCP, Target: "h:1", Interval: int64(time.Second), Timeout: int64(time.Second)},
	}}
	first := wantCode(t, setService(m, 1, web), command.Result_OK)
	m.At(1, command.Type_TYPE_CHECK_UPDATE, &command.CheckUpdate{Service: "web", Instance: "web", Id: "b", Status: command.Check_WARNING, Output: "slow"})
	again := proto.CloneOf(web)
	again.Checks[0].Ttl++
	again.Ttl = 0
	if res := wantCode(t, setService(m, 2, again), command.Result_OK); res.CreateIndex != first.Index {
		t.Fatalf("create index %d", res.CreateIndex)
	}
	in := instances(t, m, "web")[0]
	if in.Deadline != 0 || in.CreateIndex != first.Index || in.ModifyIndex != 3 {
		t.Fatalf("%v", in)
	}
	if a := in.Checks[0]; a.CreateIndex != 3 || a.Status != uint32(command.Check_PASSING) {
		t.Fatalf("a check that is another now: %v", a)
	}
	if b := in.Checks[1]; b.CreateIndex != 1 || b.ModifyIndex != 2 || b.Output != "slow" || b.Status != uint32(command.Check_WARNING) {
		t.Fatalf("a check that is the same: %v", b)
	}
	setService(m, 3, web)
	m.Tick(2 * time.Second)
	wantCode(t, heartbeat(m, 0, "web", "web"), command.Result_SERVICE_EXPIRED)
	if res := setService(m, 0, web); res.CreateIndex != res.Index {
		t.Fatalf("created at %d", res.CreateIndex)
	}
	m.Tick(4 * time.Second)
	if res := m.At(0, command.Type_TYPE_SERVICE_DELETE, &command.ServiceDelete{Name: "web"}); res.Code != command.Result_SERVICE_NOT_FOUND {
		t.Fatalf("deleting what has expired: %v", res)
	}
	wantCode(t, heartbeat(m, 0, "web", "web"), command.Result_SERVICE_NOT_FOUND)
	wantNothingLeft(t, m)
}

// wantNothingLeft checks that the registry and its indexes are empty.
func wantNothingLeft(t *testing.T, m *Machine) {
	t.Helper()
	if left := Dump(t, m.DB, m.DB.Published()); len(left) != 0 {
		t.Fatalf("left behind: %q", left)
	}
	if at, ok := nextDeadline(m); ok {
		t.Fatalf("the next deadline is %d, but there is none", at)
	}
}

// nextDeadline asks until the search is through: until then it is a time before.
func nextDeadline(m *Machine) (at int64, ok bool) {
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(time.Millisecond) {
		if at, ok = m.NextDeadline(); m.DeadlineFound() {
			break
		}
	}
	return at, ok
}
