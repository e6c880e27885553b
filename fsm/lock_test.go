package fsm_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/neogan74/konsul/fsm/command"
	. "github.com/neogan74/konsul/fsm/fsmtest"
	"github.com/neogan74/konsul/internal/persistence"
)

func acquire(key, session string) *command.Op {
	return &command.Op{Kind: command.Op_ACQUIRE, Key: []byte(key), Value: []byte("by " + session), Session: session}
}

func release(key, session string) *command.Op {
	return &command.Op{Kind: command.Op_RELEASE, Key: []byte(key), Session: session}
}

func session(m *Machine, at time.Duration, s *command.SessionCreate) *command.Result {
	return m.At(at, command.Type_TYPE_SESSION_CREATE, s)
}

func destroy(m *Machine, at time.Duration, id string) *command.Result {
	return m.At(at, command.Type_TYPE_SESSION_DESTROY, &command.SessionDestroy{Id: id})
}

// refusedWith checks a transaction that was undone.
func refusedWith(t *testing.T, res *command.Result, code command.Result_Code) *command.Result {
	t.Helper()
	if res.Code != code {
		t.Fatalf("answered %v, want %v", res, code)
	}
	return res
}

// The fencing token grows with each acquisition, whatever becomes of the key.
func TestLockIndexOnlyGrows(t *testing.T) {
	m := New(t)
	session(m, 1, &command.SessionCreate{Id: "a"})
	session(m, 1, &command.SessionCreate{Id: "b", Behavior: command.SessionCreate_DELETE})
	last := uint64(0)
	take := func(by string) {
		t.Helper()
		res := m.Txn(acquire("k", by))
		if res.Code != command.Result_OK || res.Results[0].LockIndex <= last || res.Results[0].Session != by || res.Results[0].LockIndex != res.Index {
			t.Fatalf("%v, the one before was %d", res, last)
		}
		last = res.Results[0].LockIndex
	}
	take("a")
	if res := m.Txn(acquire("k", "a")); res.Results[0].LockIndex != last || res.Results[0].ModifyIndex != res.Index {
		t.Fatalf("acquired again: %v", res)
	}
	if res := refusedWith(t, m.Txn(Set("x", "1"), acquire("k", "b")), command.Result_LOCK_HELD); res.Session != "a" || res.FailedOp != 1 || !res.Exists {
		t.Fatalf("%v", res)
	}
	if _, found := readKey(t, m, "x"); found {
		t.Fatal("a failed acquisition did not undo the entry")
	}
	if res := refusedWith(t, m.Txn(release("k", "b")), command.Result_NOT_HOLDER); res.Session != "a" {
		t.Fatalf("%v", res)
	}
	if res := m.Txn(Set("k", "a plain put keeps the holder")); res.Results[0].Session != "a" || res.Results[0].LockIndex != last {
		t.Fatalf("%v", res)
	}
	m.Txn(release("k", "a"))
	if kv, _ := readKey(t, m, "k"); kv.Session != "" || kv.Lock != last || kv.Value != "a plain put keeps the holder" {
		t.Fatalf("released: %v", kv)
	}
	refusedWith(t, m.Txn(release("k", "a")), command.Result_NOT_HOLDER)
	take("b")
	m.Txn(Delete("k"))
	take("a")
	m.Txn(DeletePrefix(""))
	m.Txn(Set("k", "again"))
	if kv, _ := readKey(t, m, "k"); kv.Session != "" {
		t.Fatalf("deleted, and still held: %v", kv)
	}
	take("b")
	destroy(m, 1, "b")
	if _, found := readKey(t, m, "k"); found {
		t.Fatal("the session was to delete it")
	}
	take("a")
	op := release("k", "a")
	op.HasValue, op.Value, op.Flags = true, []byte("bye"), 3
	if res := m.Txn(op, acquire("k", "a")); res.Results[0].Session != "" || res.Results[1].LockIndex <= last {
		t.Fatalf("%v", res)
	}
	destroy(m, 1, "a")
	refusedWith(t, m.Txn(acquire("k", "a")), command.Result_SESSION_NOT_FOUND)
	wantNothingLeft(t, m)
}

// When a session is lost nobody may have its locks before the lock delay is over.
func TestLockDelay(t *testing.T) {
	for _, behavior := range []command.SessionCreate_Behavior{command.SessionCreate_RELEASE, command.SessionCreate_DELETE} {
		t.Run(behavior.String(), func(t *testing.T) {
			m := New(t)
			const ttl, delay = 10 * time.Second, 15 * time.Second
			session(m, 1, &command.SessionCreate{Id: "a", Ttl: int64(ttl), LockDelay: int64(delay), Behavior: behavior})
			session(m, 1, &command.SessionCreate{Id: "b"})
			m.Txn(acquire("k", "a"))
			m.At(time.Second, command.Type_TYPE_SESSION_RENEW, &command.SessionRenew{Id: "a"})
			if n := m.Tick(time.Second + ttl - 1); n != 0 {
				t.Fatal("early")
			}
			if n := m.Tick(time.Second + ttl); n != 1 {
				t.Fatal("the session did not end")
			}
			lost := uint64(len(m.Log))
			kv, found := readKey(t, m, "k")
			if found != (behavior == command.SessionCreate_RELEASE) || kv.Session != "" || found && kv.Modify != lost {
				t.Fatalf("%v, %v", kv, found)
			}
			over := time.Second + ttl + delay
			if res := refusedWith(t, txnAt(m, over-7, acquire("k", "b")), command.Result_LOCK_DELAY); res.Wait != 7 {
				t.Fatalf("%v", res)
			}
			if res := txnAt(m, over-7, Set("k", "a put is not an acquisition")); res.Code != command.Result_OK {
				t.Fatalf("%v", res)
			}
			// The delay is over by the entry's own time, ticked or not.
			if res := txnAt(m, over, acquire("k", "b")); res.Code != command.Result_OK {
				t.Fatalf("%v", res)
			}
			m.Txn(Delete("k"))
			m.Tick(over)
			destroy(m, over, "b")
			wantNothingLeft(t, m)
		})
	}
}

// No delay after a release, a deletion, or the end of a key's own time.
func TestNoLockDelay(t *testing.T) {
	m := New(t)
	session(m, 1, &command.SessionCreate{Id: "a", LockDelay: int64(time.Minute)})
	session(m, 1, &command.SessionCreate{Id: "b"})
	for _, end := range []func(){
		func() { m.Txn(release("k", "a")) },
		func() { m.Txn(Delete("k")) },
		func() { m.Txn(DeletePrefix("k")) },
		func() {
			op := acquire("k", "a")
			op.Ttl = int64(time.Second)
			txnAt(m, time.Second, op)
			m.Tick(2 * time.Second)
		},
	} {
		m.Txn(acquire("k", "a"))
		end()
		if res := m.Txn(acquire("k", "b")); res.Code != command.Result_OK {
			t.Fatalf("%v", res)
		}
		m.Txn(release("k", "b"))
	}
	destroy(m, 1, "a")
	destroy(m, 1, "b")
	wantNothingLeft(t, m)
}

// A session holds at most so many keys; they all go with it in one entry, and those it
// let go do not count.
func TestSessionKeys(t *testing.T) {
	m := New(t)
	session(m, 1, &command.SessionCreate{Id: "a", Ttl: int64(time.Second)})
	for i := 0; i < command.MaxSessionKeys; i += 512 {
		var ops []*command.Op
		for j := range 512 {
			ops = append(ops, acquire(fmt.Sprintf("k%04d", i+j), "a"))
		}
		if res := m.Txn(ops...); res.Code != command.Result_OK {
			t.Fatalf("%v", res)
		}
	}
	if res := refusedWith(t, m.Txn(acquire("one more", "a")), command.Result_LIMIT); res.Limit != command.MaxSessionKeys {
		t.Fatalf("%v", res)
	}
	m.Txn(DeletePrefix("k00"), release("k0100", "a"))
	view, err := m.DB.View()
	if err != nil {
		t.Fatal(err)
	}
	s, deadline, err := view.Session("a")
	view.Close()
	if err != nil || s.Held != command.MaxSessionKeys-101 || deadline != int64(time.Second)+1 {
		t.Fatalf("%v until %d, %v", s, deadline, err)
	}
	if res := m.Txn(acquire("one more", "a")); res.Code != command.Result_OK {
		t.Fatalf("%v", res)
	}
	// A tick does not stop in the middle of a session, but after it.
	session(m, 1, &command.SessionCreate{Id: "b", Ttl: int64(time.Second)})
	if res := m.At(time.Minute, command.Type_TYPE_TICK, &command.Tick{}); res.Count != 1 || !res.More {
		t.Fatalf("%v", res)
	}
	if n := m.Tick(time.Minute); n != 1 {
		t.Fatalf("%d ended", n)
	}
	wantNothingLeft(t, m)
}

// A key that expires and its holder that is lost in the same tick: each is ended once,
// whichever is first.
func TestKeyAndSessionEndTogether(t *testing.T) {
	for _, ttl := range []time.Duration{9 * time.Second, 10 * time.Second, 11 * time.Second} {
		for _, behavior := range []command.SessionCreate_Behavior{command.SessionCreate_RELEASE, command.SessionCreate_DELETE} {
			m := New(t)
			session(m, 1, &command.SessionCreate{Id: "a", Ttl: int64(10 * time.Second), Behavior: behavior})
			op := acquire("k", "a")
			op.Ttl = int64(ttl)
			txnAt(m, 1, op)
			m.Tick(time.Minute)
			if _, found := readKey(t, m, "k"); found {
				t.Fatal("the key is left")
			}
			wantNothingLeft(t, m)
		}
	}
}

func TestSessions(t *testing.T) {
	m := New(t)
	if res := wantCode(t, session(m, 1, &command.SessionCreate{Id: "a", Name: "n", Node: "n1", Ttl: int64(time.Second)}), command.Result_OK); res.CreateIndex != 1 {
		t.Fatalf("%v", res)
	}
	wantCode(t, session(m, 1, &command.SessionCreate{Id: "a"}), command.Result_EXISTS)
	session(m, 1, &command.SessionCreate{Id: "b"})
	view, err := m.DB.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	if _, _, err := view.Session("c"); !errors.Is(err, persistence.ErrSessionNotFound) {
		t.Fatal(err)
	}
	wantCode(t, m.At(1, command.Type_TYPE_SESSION_RENEW, &command.SessionRenew{Id: "c"}), command.Result_SESSION_NOT_FOUND)
	wantCode(t, m.At(1, command.Type_TYPE_SESSION_RENEW, &command.SessionRenew{Id: "b"}), command.Result_OK)
	wantCode(t, destroy(m, 1, "c"), command.Result_SESSION_NOT_FOUND)
	wantCode(t, destroy(m, 1, "a"), command.Result_OK)
	wantCode(t, destroy(m, 1, "b"), command.Result_OK)
	wantNothingLeft(t, m)
}
