package fsm_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
	. "github.com/neogan74/konsul/fsm/fsmtest"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

func once(key string, ops ...*command.Op) Command {
	return Command{Type: command.Type_TYPE_TXN, Message: &command.Txn{Then: ops}, Key: key}
}

func TestARetryGetsTheFirstAnswer(t *testing.T) {
	m := New(t)
	first := m.Do(once("i", Set("k", "1")))
	m.Txn(Set("k", "2"))
	before := m.MustDigest(2)
	equal(t, m.Do(once("i", Set("k", "1"))), first)
	if first.Index != 1 {
		t.Errorf("index %d, want 1", first.Index)
	}
	equal(t, m.Do(once("i", Set("k", "other"))), &command.Result{Code: command.Result_KEY_REUSED, Index: 4})
	if m.MustDigest(4) != before {
		t.Error("something was written")
	}
}

func TestARefusalIsRememberedToo(t *testing.T) {
	m := New(t)
	c := once("i", CAS(Set("k", "1"), 9))
	first := m.Do(c)
	if first.Code != command.Result_CAS_CONFLICT {
		t.Fatalf("got %v", first)
	}
	for i := range 8 {
		m.Txn(Set("k", fmt.Sprint(i))) // the last one makes the condition hold
	}
	equal(t, m.Do(c), first)
}

func TestAKeyIsForAnyKindOfCommand(t *testing.T) {
	m := New(t)
	c := Command{Type: command.Type_TYPE_CLUSTER_INIT, Message: &command.ClusterInit{ClusterId: "a"}, Key: "i"}
	first := m.Do(c)
	equal(t, m.Do(c), first)
	if got := m.Do(once("i", Set("a", "b"))).Code; got != command.Result_KEY_REUSED {
		t.Errorf("got %v", got)
	}
}

func window(t *testing.T, m *Machine) *record.IdempotencyWindow {
	t.Helper()
	view, err := m.DB.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	b, found, err := view.Get(persistence.IdempotencyWindowKey())
	if err != nil || !found {
		t.Fatalf("window: %v %v", found, err)
	}
	w := new(record.IdempotencyWindow)
	if err := persistence.DecodeRecord(b, w); err != nil {
		t.Fatal(err)
	}
	if n := countStored(t, view, persistence.SysPrefix+"idem:"); n != int(w.Count) {
		t.Errorf("%d answers stored, the window says %d", n, w.Count)
	}
	if n := countStored(t, view, persistence.SysPrefix+"idem-queue:"); n != int(w.Count) {
		t.Errorf("%d queued, the window says %d", n, w.Count)
	}
	return w
}

func countStored(t *testing.T, view *persistence.View, prefix string) (n int) {
	t.Helper()
	err := view.Scan([]byte(prefix), nil, func(_, _ []byte) error { n++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTheWindowIsBoundedByCount(t *testing.T) {
	const over = 10
	m := New(t)
	for i := range command.IdempotencyMaxAnswers + over {
		m.Entry(once(fmt.Sprint(i), Get("k")))
	}
	m.ApplyIn(m.Log, func() int { return 512 })
	w := window(t, m)
	if w.Count != command.IdempotencyMaxAnswers || w.First != over {
		t.Errorf("window %v", w)
	}
	forgotten := m.Do(once(fmt.Sprint(over-1), Get("k")))
	if forgotten.Index != uint64(len(m.Log)) {
		t.Errorf("the oldest answer was not forgotten: index %d", forgotten.Index)
	}
	kept := m.Do(once(fmt.Sprint(over+1), Get("k")))
	if kept.Index != over+2 {
		t.Errorf("an answer within the window was forgotten: index %d", kept.Index)
	}
}

func TestTheWindowIsBoundedByBytes(t *testing.T) {
	m := New(t)
	size := persistence.MaxValueLen
	m.Txn(Set("k", strings.Repeat("x", size)))
	n := command.IdempotencyMaxBytes/size + 10
	for i := range n {
		m.Do(once(fmt.Sprint(i), Get("k")))
	}
	w := window(t, m)
	if w.Bytes > command.IdempotencyMaxBytes || w.Bytes < command.IdempotencyMaxBytes-uint64(size)-1024 {
		t.Errorf("window %v", w)
	}
	if w.First+w.Count != uint64(n) {
		t.Errorf("window %v ends elsewhere than at %d", w, n)
	}
}

// A client that got no answer tries again on another node, which puts itself into the
// command: it is the same request all the same. What else is in it counts.
func TestTheNodeThatIsAskedDoesNotCount(t *testing.T) {
	m := New(t)
	for i, c := range []struct {
		kind command.Type
		make func(node, address string) proto.Message
	}{
		{command.Type_TYPE_SERVICE_SET, func(node, address string) proto.Message {
			return &command.ServiceSet{Name: "web", Id: "web", Node: node, Address: address, Tags: []string{"t"}}
		}},
		{command.Type_TYPE_SESSION_CREATE, func(node, address string) proto.Message {
			return &command.SessionCreate{Id: "s", Node: node, Name: address, Ttl: int64(time.Second)}
		}},
	} {
		do := func(node, address string) *command.Result {
			return m.Do(Command{Type: c.kind, Message: c.make(node, address), Key: fmt.Sprint("again-", i)})
		}
		first, again, other := do("n1", "a"), do("n2", "a"), do("n1", "b")
		if first.Code != command.Result_OK || !proto.Equal(first, again) {
			t.Errorf("%v: first %v, again on another node %v", c.kind, first, again)
		}
		if other.Code != command.Result_KEY_REUSED {
			t.Errorf("%v: something else under the same key: %v", c.kind, other)
		}
	}
}
