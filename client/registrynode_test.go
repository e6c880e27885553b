package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/neogan74/konsul/client"
	"github.com/neogan74/konsul/test/harness"
)

// services is a service from its registration to its expiry, with two who follow it.
func services(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var start client.Meta
	if _, err := c.Put(ctx, "services", nil, client.WithMeta(&start)); err != nil {
		t.Fatal(err)
	}
	states := make(chan string, 100)
	go func() {
		defer close(states)
		for instances, err := range c.WatchService(ctx, "web", client.Healthy()) {
			if err != nil {
				return
			}
			line := ""
			for _, i := range instances {
				line += " " + i.ID
			}
			states <- line
		}
	}()
	next := func(want string, first ...string) {
		t.Helper()
		select {
		case got := <-states:
			if slices.Contains(first, got) {
				got = <-states
			}
			if got != want {
				t.Errorf("the healthy instances are%s, want%s", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no change of the healthy instances, want%s", want)
		}
	}
	next("")
	service := client.Service{Name: "web", Address: "10.0.0.7", Port: 80, Tags: []string{"a", "b"}, Meta: map[string]string{"z": "1"}, TTL: time.Hour,
		Checks: []client.CheckSpec{{TTL: time.Hour, Status: client.Passing}}}
	if r, err := c.Register(ctx, service); err != nil || r.ID != "web" {
		t.Fatalf("%+v, %v", r, err)
	}
	next(" web")
	service.ID, service.TTL, service.Checks, service.Meta = "web-2", time.Hour, nil, nil
	if _, err := c.Register(ctx, service); err != nil {
		t.Fatal(err)
	}
	next(" web web-2")
	got, err := c.Service(ctx, "web")
	if err != nil || len(got) != 2 || got[0].Name != "web" || got[0].Port != 80 || !slices.Equal(got[0].Tags, []string{"a", "b"}) || got[0].Meta["z"] != "1" ||
		got[0].TTL != time.Hour || got[0].ExpiresIn <= 0 || !got[0].Healthy || got[0].Node == "" || len(got[0].Checks) != 1 || got[0].Checks[0].Kind != "ttl" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := c.Heartbeat(ctx, "web", ""); err != nil {
		t.Error(err)
	}
	if err := c.UpdateCheck(ctx, "web", "", "ttl", client.Critical, "broken"); err != nil {
		t.Error(err)
	}
	next(" web-2")
	if checks, err := c.ServiceChecks(ctx, "web"); err != nil || len(checks) != 1 || checks[0].Status != client.Critical || checks[0].Output != "broken" || checks[0].Service != "web" {
		t.Errorf("%+v, %v", checks, err)
	}
	service.TTL = time.Second
	registered := time.Now()
	if _, err := c.Register(ctx, service); err != nil {
		t.Fatal(err)
	}
	next("", " web-2") // it has expired
	if took := time.Since(registered); took < time.Second {
		t.Errorf("expired after %v", took)
	}
	if err := c.Heartbeat(ctx, "web", "web-2"); !errors.Is(err, client.ErrServiceExpired) {
		t.Errorf("heartbeat: %v", err)
	}
	for name, tc := range map[string]struct {
		option client.ReadOption
		want   []string
	}{
		"tag": {client.Tag("b"), []string{"web"}}, "no such tag": {client.Tag("c"), nil},
		"meta": {client.ServiceMeta("z", "1"), []string{"web"}}, "healthy": {client.Healthy(), nil},
	} {
		names, err := c.Services(ctx, tc.option)
		all, err2 := c.Instances(ctx, tc.option)
		if err != nil || err2 != nil || !slices.Equal(names, tc.want) || len(all) != len(tc.want) {
			t.Errorf("%s: %q, %+v, %v, %v", name, names, all, err, err2)
		}
	}
	if err := c.Deregister(ctx, "web", "web"); err != nil {
		t.Error(err)
	}
	var events []string
	for event, err := range c.Watch(ctx, client.WatchOptions{Service: "web", From: start.Index}) {
		if err != nil {
			t.Fatal(err)
		}
		if events = append(events, fmt.Sprint(event.Type, " ", event.Key, " ", event.Instance.Healthy)); len(events) == 6 {
			break
		}
	}
	if want := []string{"put web/web true", "put web/web-2 true", "put web/web false", "put web/web-2 true", "delete web/web-2 false", "delete web/web false"}; !slices.Equal(events, want) {
		t.Errorf("events %q", events)
	}
	if err := c.Heartbeat(ctx, "web", "web"); !errors.Is(err, client.ErrServiceNotFound) {
		t.Errorf("heartbeat: %v", err)
	}
}

func nodeChecks(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	one, err := c.Node(c.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	status, err := one.Status(ctx)
	if err != nil || status.Incarnation == "" {
		t.Fatalf("%+v, %v", status, err)
	}
	if _, err := one.Register(ctx, client.Service{Name: "on-it", Address: "h"}); err != nil {
		t.Fatal(err)
	}
	if err := one.RegisterNodeCheck(ctx, "disk", client.CheckSpec{TTL: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if all, err := c.Instances(ctx, client.Healthy()); err != nil || len(all) != 0 {
		t.Errorf("while the node's check is critical: %+v, %v", all, err)
	}
	if err := one.UpdateNodeCheck(ctx, "disk", client.Passing, "ok"); err != nil {
		t.Error(err)
	}
	if all, err := c.Instances(ctx, client.Healthy()); err != nil || len(all) != 1 {
		t.Errorf("when it passes: %+v, %v", all, err)
	}
	if checks, err := c.NodeChecks(ctx, status.NodeID); err != nil || len(checks) != 1 || checks[0].Node != status.NodeID || checks[0].Output != "ok" {
		t.Errorf("%+v, %v", checks, err)
	}
	if err := c.DeregisterNodeCheck(ctx, status.NodeID, "disk"); err != nil {
		t.Error(err)
	}
	if err := one.UpdateNodeCheck(ctx, "disk", client.Passing, ""); !errors.Is(err, client.ErrCheckNotFound) {
		t.Errorf("afterwards: %v", err)
	}
	if err := c.Deregister(ctx, "on-it", ""); err != nil {
		t.Error(err)
	}
}

// sessionsAndLocks is who may hold a key, step by step.
func sessionsAndLocks(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	create := func(spec client.SessionSpec) string {
		t.Helper()
		s, err := c.CreateSession(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	a := create(client.SessionSpec{Name: "a", TTL: time.Hour, LockDelay: time.Hour})
	b := create(client.SessionSpec{Name: "b", LockDelay: -1, Behavior: client.DeleteKeys})
	first, err := c.Acquire(ctx, "lock", []byte("a"), a)
	if err != nil || first.LockIndex != first.ModifyIndex {
		t.Fatalf("%+v, %v", first, err)
	}
	var e *client.Error
	if _, err := c.Acquire(ctx, "lock", nil, b); !client.IsLockHeld(err) || !errors.As(err, &e) || e.Session != a || e.ModifyIndex != first.ModifyIndex {
		t.Errorf("by another: %v", err)
	}
	if again, err := c.Acquire(ctx, "lock", []byte("a"), a); err != nil || again.LockIndex != first.LockIndex || again.ModifyIndex <= first.ModifyIndex {
		t.Errorf("again: %+v, %v", again, err)
	}
	if err := c.Release(ctx, "lock", b); !errors.Is(err, client.ErrNotHolder) || !errors.As(err, &e) || e.Session != a {
		t.Errorf("release by another: %v", err)
	}
	if _, err := c.PutAndRelease(ctx, "lock", []byte("was a"), a); err != nil {
		t.Error(err)
	}
	if entry, err := c.Get(ctx, "lock"); err != nil || entry.Session != "" || entry.LockIndex != first.LockIndex || string(entry.Value) != "was a" {
		t.Errorf("%+v, %v", entry, err)
	}
	second, err := c.Txn().Then(client.OpAcquire("lock", nil, b), client.OpSet("soon", nil).WithTTL(time.Hour)).Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if entry, err := c.Get(ctx, "lock"); err != nil || entry.Session != b || entry.LockIndex != second.Index {
		t.Errorf("%+v, %v", entry, err)
	}
	if entry, err := c.Get(ctx, "soon"); err != nil || entry.ExpiresIn <= 0 || entry.ExpiresIn > time.Hour {
		t.Errorf("%+v, %v", entry, err)
	}
	if got, err := c.Session(ctx, b); err != nil || got.Held != 1 || got.Name != "b" || got.Behavior != client.DeleteKeys || got.TTL != 0 || got.LockDelay != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := c.DestroySession(ctx, b); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(ctx, "lock"); !client.IsNotFound(err) {
		t.Errorf("a key of a session that deletes: %v", err)
	}
	if _, err := c.Acquire(ctx, "lock", nil, b); !errors.Is(err, client.ErrSessionNotFound) {
		t.Errorf("by a session that has ended: %v", err)
	}
	if _, err := c.Acquire(ctx, "lock", nil, a); err != nil {
		t.Error(err)
	}
	if err := c.RenewSession(ctx, a); err != nil {
		t.Error(err)
	}
	if err := c.DestroySession(ctx, a); err != nil {
		t.Error(err)
	}
	_, err = c.Lock(ctx, "lock", client.LockOptions{NoWait: true})
	if !errors.Is(err, client.ErrLockDelay) || !errors.As(err, &e) || e.Wait <= 0 || e.Wait > time.Hour {
		t.Errorf("in the lock delay: %v", err)
	}
	if sessions, err := c.Sessions(ctx); err != nil || len(sessions) != 0 {
		t.Errorf("left: %+v, %v", sessions, err)
	}
}

// helpersOutlive a leader that is killed: the lock stays held, the service registered.
func helpersOutlive(ctx context.Context, t *testing.T, c *client.Client, cluster *harness.Cluster) {
	t.Helper()
	lock, err := c.Lock(ctx, "outlive", client.LockOptions{TTL: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := c.KeepAlive(ctx, client.Service{Name: "outlive", Address: "h", TTL: 20 * time.Second}, client.KeepAliveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	leader := cluster.Leader()
	leader.Kill9()
	if _, err := c.Put(ctx, "after the leader", nil); err != nil {
		t.Fatal(err)
	}
	if entry, err := c.Get(ctx, "outlive"); err != nil || entry.Session != lock.Session || !lock.Held() {
		t.Errorf("%+v, %v, %v", entry, err, lock.Err())
	}
	if _, err := c.Service(ctx, "outlive"); err != nil {
		t.Error(err)
	}
	if err := lock.Unlock(ctx); err != nil {
		t.Error(err)
	}
	if err := kept.Close(ctx); err != nil {
		t.Error(err)
	}
	leader.Start()
	cluster.WaitReady(60 * time.Second)
}
