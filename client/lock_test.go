package client_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neogan74/konsul/client"
)

func mustLock(t *testing.T, f *fakeLock, o client.LockOptions) *client.Lock {
	t.Helper()
	lock, err := newClient(t, client.Config{Addresses: []string{f.URL}}).Lock(testContext(t), "k", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Unlock(testContext(t)) })
	return lock
}

func waitLost(t *testing.T, lock *client.Lock, why string) {
	t.Helper()
	select {
	case <-lock.Lost():
	case <-testContext(t).Done():
		t.Fatal("the lock is not lost")
	}
	if err := lock.Err(); lock.Held() || !errors.Is(err, client.ErrLockLost) || !strings.Contains(err.Error(), why) {
		t.Errorf("held %v: %v, want %q", lock.Held(), err, why)
	}
}

func TestLock(t *testing.T) {
	f := newFakeLock(t)
	lock := mustLock(t, f, client.LockOptions{Value: []byte("me"), TTL: time.Hour})
	if lock.Session != "s1" || lock.Index != 11 || !lock.Held() || lock.Err() != nil {
		t.Errorf("%+v, %v", lock, lock.Err())
	}
	work := lock.Context(t.Context())
	if err := lock.Unlock(testContext(t)); err != nil {
		t.Fatal(err)
	}
	<-work.Done()
	if err := lock.Err(); !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrLockLost) {
		t.Errorf("after Unlock: %v", err)
	}
	if err := lock.Unlock(testContext(t)); err != nil || f.count("release") != 1 || f.count("destroy") != 1 {
		t.Errorf("again: %v", err)
	}
	f.nothingLeft(t)
}

// The one that waits gets the lock when it is free, with a larger token, and asks once.
func TestLockWaits(t *testing.T) {
	f := newFakeLock(t)
	first := mustLock(t, f, client.LockOptions{TTL: time.Hour})
	waiting := make(chan error, 1)
	got := make(chan *client.Lock, 1)
	go func() {
		lock, err := newClient(t, client.Config{Addresses: []string{f.URL}}).Lock(testContext(t), "k",
			client.LockOptions{TTL: time.Hour, OnWait: func(err error) { waiting <- err }})
		if err != nil {
			t.Error(err)
		}
		got <- lock
	}()
	var held *client.Error
	if err := <-waiting; !errors.Is(err, client.ErrLockHeld) || !errors.As(err, &held) || held.Session != first.Session {
		t.Errorf("waits for %v", err)
	}
	if !first.Held() {
		t.Error("two hold it")
	}
	if err := first.Unlock(testContext(t)); err != nil {
		t.Fatal(err)
	}
	second := <-got
	if second.Index <= first.Index || !second.Held() || f.count("acquire") != 3 {
		t.Errorf("%d after %d, %d acquisitions", second.Index, first.Index, f.count("acquire"))
	}
	if err := second.Unlock(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func TestLockIsTaken(t *testing.T) {
	f := newFakeLock(t)
	first := mustLock(t, f, client.LockOptions{TTL: time.Hour})
	c := newClient(t, client.Config{Addresses: []string{f.URL}})
	if _, err := c.Lock(testContext(t), "k", client.LockOptions{NoWait: true}); !client.IsLockHeld(err) {
		t.Errorf("without waiting: %v", err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	_, err := c.Lock(ctx, "k", client.LockOptions{OnWait: func(error) { cancel() }})
	if !client.IsLockHeld(err) || !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "cancel") {
		t.Errorf("after waiting: %v", err)
	}
	f.change(func() {
		if len(f.sessions) != 1 || !f.sessions[first.Session] {
			t.Errorf("sessions are left behind: %v", f.sessions)
		}
	})
}

func TestLockDelay(t *testing.T) {
	f := newFakeLock(t)
	f.delay = time.Now().Add(time.Hour)
	c := newClient(t, client.Config{Addresses: []string{f.URL}})
	_, err := c.Lock(testContext(t), "k", client.LockOptions{NoWait: true})
	var delayed *client.Error
	if !errors.Is(err, client.ErrLockDelay) || !errors.As(err, &delayed) || delayed.Wait <= 0 || delayed.Wait > time.Hour {
		t.Errorf("without waiting: %v", err)
	}
	f.change(func() { f.delay = time.Now().Add(150 * time.Millisecond) })
	lock := mustLock(t, f, client.LockOptions{})
	if time.Now().Before(f.delay) || !lock.Held() {
		t.Error("it did not wait")
	}
}

// Answers that get lost leave neither a second session nor a lock nobody knows of.
func TestLockWithLostAnswers(t *testing.T) {
	f := newFakeLock(t)
	dropped := map[string]bool{}
	f.before = func(call string) string {
		if call == "create" || call == "read" || dropped[call] { // a create would need the server's memory
			return ""
		}
		dropped[call] = true
		return "drop"
	}
	var troubles atomic.Int32
	lock := mustLock(t, f, client.LockOptions{TTL: 900 * time.Millisecond, OnTrouble: func(error) { troubles.Add(1) }})
	eventually(t, "a renewal after the lost one", func() bool { return f.count("renew") >= 2 })
	if !lock.Held() {
		t.Error(lock.Err())
	}
	if err := lock.Unlock(testContext(t)); err != nil {
		t.Error(err)
	}
	if troubles.Load() == 0 {
		t.Error("nobody heard of it")
	}
	f.nothingLeft(t)
}

func TestLockIsLost(t *testing.T) {
	for name, tc := range map[string]struct {
		do  func(f *fakeLock)
		why string
	}{
		"the session is destroyed": {func(f *fakeLock) { f.end(f.holder) }, "destroyed or has expired"},
		"somebody else took it":    {func(f *fakeLock) { f.end(f.holder); f.lock = 99; f.set("other") }, "session other holds it now"},
		"the key is deleted":       {func(f *fakeLock) { f.exists = false; f.set("") }, "its key was deleted"},
		"taken again in between":   {func(f *fakeLock) { f.lock = 99; f.set(f.holder) }, "holds it now"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeLock(t)
			lock := mustLock(t, f, client.LockOptions{TTL: time.Hour}) // so it is no renewal that notices
			work := lock.Context(t.Context())
			f.change(func() { tc.do(f) })
			waitLost(t, lock, tc.why)
			<-work.Done()
			if err := context.Cause(work); !errors.Is(err, client.ErrLockLost) {
				t.Errorf("the work ends with %v", err)
			}
			if err := lock.Unlock(testContext(t)); !errors.Is(err, client.ErrLockLost) {
				t.Errorf("Unlock: %v", err)
			}
		})
	}
}

// A renewal says that the session is gone, and no read does.
func TestRenewalFindsTheSessionGone(t *testing.T) {
	f := newFakeLock(t)
	f.before = func(call string) string {
		if call == "read" {
			return "503"
		}
		return ""
	}
	lock := mustLock(t, f, client.LockOptions{TTL: 300 * time.Millisecond})
	f.change(func() { delete(f.sessions, lock.Session) })
	waitLost(t, lock, "session not found")
}

// Nobody answers: the lock ends when its TTL has passed since the last renewal was
// sent, not when the last request gave up, and not before.
func TestLockEndsByItsOwnClock(t *testing.T) {
	const ttl = 600 * time.Millisecond
	f := newFakeLock(t)
	begin := time.Now()
	lock := mustLock(t, f, client.LockOptions{TTL: ttl})
	f.change(func() { f.silent = true })
	waitLost(t, lock, "could not be renewed in time")
	if took := time.Since(begin); took < ttl || took > 10*time.Second {
		t.Errorf("lost after %v", took)
	}
	f.change(func() { f.silent = false })
	if err := lock.Unlock(testContext(t)); !errors.Is(err, client.ErrLockLost) {
		t.Errorf("Unlock: %v", err)
	}
	f.nothingLeft(t)
}

// As long as renewals succeed, the lock lasts over many TTLs, whatever else fails.
func TestLockIsRenewed(t *testing.T) {
	f := newFakeLock(t)
	n := 0
	f.before = func(call string) string {
		if n++; call == "read" || call == "renew" && n%2 == 0 {
			return "503"
		}
		return ""
	}
	begin := time.Now()
	lock := mustLock(t, f, client.LockOptions{TTL: time.Second})
	eventually(t, "one TTL after the other", func() bool { return f.count("renew") > 6 && time.Since(begin) > 1500*time.Millisecond })
	if !lock.Held() {
		t.Error(lock.Err())
	}
}

// The session ends while its lock is waited for: another one takes its place.
func TestWaitingSurvivesItsSession(t *testing.T) {
	f := newFakeLock(t)
	first := mustLock(t, f, client.LockOptions{TTL: time.Hour})
	waiting := make(chan error, 1)
	got := make(chan *client.Lock, 1)
	go func() {
		lock, err := newClient(t, client.Config{Addresses: []string{f.URL}}).Lock(testContext(t), "k",
			client.LockOptions{TTL: 900 * time.Millisecond, OnWait: func(err error) { waiting <- err }})
		if err != nil {
			t.Error(err)
		}
		got <- lock
	}()
	<-waiting
	f.change(func() { delete(f.sessions, "s2") })
	eventually(t, "another session", func() bool { return f.count("create") == 3 })
	if err := first.Unlock(testContext(t)); err != nil {
		t.Fatal(err)
	}
	second := <-got
	if second.Session != "s3" || !second.Held() {
		t.Errorf("%+v", second)
	}
	if err := second.Unlock(testContext(t)); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for ctx := testContext(t); !done(); {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}
