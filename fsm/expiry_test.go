package fsm_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	. "github.com/neogan74/konsul/fsm/fsmtest"
	"github.com/neogan74/konsul/internal/persistence"
)

func setTTL(key, value string, ttl time.Duration) *command.Op {
	op := Set(key, value)
	op.Ttl = int64(ttl)
	return op
}

func txnAt(m *Machine, at time.Duration, ops ...*command.Op) *command.Result {
	return m.At(at, command.Type_TYPE_TXN, &command.Txn{Then: ops})
}

func readKey(t *testing.T, m *Machine, key string) (KV, bool) {
	t.Helper()
	res := m.Txn(Get(key)).Results[0]
	return KV{Value: string(res.Value), Create: res.CreateIndex, Modify: res.ModifyIndex, Lock: res.LockIndex, Session: res.Session}, res.Found
}

// A key expires when the time of its last put says so, as an ordinary deletion.
func TestKeyTTL(t *testing.T) {
	m := New(t)
	txnAt(m, time.Second, setTTL("a", "1", 10*time.Second), setTTL("b", "1", 10*time.Second), setTTL("c", "1", 10*time.Second))
	sub, err := m.Subscribe(fsm.Filter{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	txnAt(m, 5*time.Second, Set("b", "for ever"), setTTL("c", "longer", 10*time.Second))
	m.Tick(11*time.Second - 1)
	if _, found := readKey(t, m, "a"); !found {
		t.Fatal("early")
	}
	if n := m.Tick(11 * time.Second); n != 1 {
		t.Fatalf("%d ended", n)
	}
	at := uint64(len(m.Log))
	events, _, err := sub.Next(t.Context())
	if err != nil || len(events) != 3 || !events[2].Deleted || string(events[2].Key) != "a" || events[2].Index != at {
		t.Fatalf("%v, %v", events, err)
	}
	if n := m.Tick(time.Hour); n != 1 {
		t.Fatalf("%d ended", n)
	}
	if _, found := readKey(t, m, "b"); !found {
		t.Fatal("a put without a ttl did not end the deadline")
	}
	if got := m.DB.Counts().Keys; got != 1 {
		t.Fatalf("%d keys counted", got)
	}
	wantNothingLeft(t, m)
}

// A heartbeat moves nothing in the index: the tick does, when the entry comes up. A
// shorter time to live moves it at once.
func TestOneEntryForEachDeadline(t *testing.T) {
	m := New(t)
	web := &command.ServiceSet{Name: "web", Id: "web", Ttl: int64(10 * time.Second)}
	wantDue := func(at time.Duration) {
		t.Helper()
		var due []string
		for _, line := range Dump(t, m.DB, m.DB.Published()) {
			if strings.HasPrefix(line, "sys:due:") {
				due = append(due, line)
			}
		}
		if want := fmt.Sprintf("sys:due:%d svc:web/web", at); len(due) != 1 || due[0] != want {
			t.Fatalf("the index has %q, want %q", due, want)
		}
		if got, ok := nextDeadline(m); !ok || got != int64(at) {
			t.Fatalf("the next deadline is %d, %v, want %d", got, ok, at)
		}
	}
	setService(m, 1, web)
	for i := range 5 {
		heartbeat(m, time.Duration(i)*time.Second, "web", "web")
		wantDue(10*time.Second + 1)
	}
	m.Tick(10 * time.Second)
	wantDue(10*time.Second + 1)
	m.Tick(11 * time.Second)
	wantDue(14 * time.Second) // 4 s + 10 s
	web.Ttl = int64(time.Second)
	setService(m, 11*time.Second, web)
	wantDue(12 * time.Second)
	web.Ttl = int64(time.Minute)
	setService(m, 11*time.Second, web)
	wantDue(12 * time.Second)
	m.Tick(12 * time.Second)
	wantDue(71 * time.Second)
	web.Ttl = 0
	setService(m, 12*time.Second, web)
	wantNoDeadline(t, m)
}

func wantNoDeadline(t *testing.T, m *Machine) {
	t.Helper()
	if at, ok := nextDeadline(m); ok {
		t.Fatalf("the next deadline is %d, but there is none", at)
	}
}

// 10,000 services that expire at once do so in ticks of a bounded size.
func TestTicksAreBounded(t *testing.T) {
	const n = 10_000
	m := New(t)
	for i := range n {
		setService(m, 1, &command.ServiceSet{Name: fmt.Sprint("s", i%7), Id: fmt.Sprint(i), Ttl: int64(time.Second)})
	}
	for left := uint64(n); left > 0; {
		res := m.At(time.Minute, command.Type_TYPE_TICK, &command.Tick{})
		want := min(left, command.MaxExpiriesPerTick)
		if left -= want; res.Count != want || res.More != (left > 0) {
			t.Fatalf("a tick ended %d, more %v, with %d left", res.Count, res.More, left)
		}
		if at, ok := m.NextDeadline(); left > 0 && (!ok || at > int64(time.Minute)) {
			t.Fatalf("the next deadline is %d, %v", at, ok)
		}
	}
	if n := m.DB.Counts().Services; n != 0 {
		t.Fatalf("%d services are left", n)
	}
	if at, ok := nextDeadline(m); !ok || at != int64(time.Minute+persistence.GoneFor) {
		t.Fatalf("the next deadline is %d, %v: not that of the markers", at, ok)
	}
	m.Tick(time.Minute + persistence.GoneFor)
	wantNothingLeft(t, m)
}

// What has no stamp, or an older one than the state, happens at the state's time.
func TestTimeNeverGoesBack(t *testing.T) {
	m := New(t)
	txnAt(m, 10*time.Second, setTTL("a", "1", time.Second))
	txnAt(m, 0, setTTL("b", "1", time.Second))
	txnAt(m, 5*time.Second, setTTL("c", "1", time.Second))
	if n := m.Tick(5 * time.Second); n != 0 {
		t.Fatal("something expired in the past")
	}
	if n := m.Tick(0); n != 0 {
		t.Fatal("something expired at no time")
	}
	if at, _ := nextDeadline(m); at != int64(11*time.Second) {
		t.Fatalf("the next deadline is %d", at)
	}
	if n := m.Tick(11 * time.Second); n != 3 {
		t.Fatalf("%d ended", n)
	}
	// A put moves the time past a deadline, and a tick of an older leader finds it due.
	txnAt(m, 20*time.Second, setTTL("a", "1", time.Second))
	txnAt(m, 30*time.Second, setTTL("b", "1", time.Second))
	if n := m.Tick(15 * time.Second); n != 1 {
		t.Fatalf("%d ended", n)
	}
	if n := m.Tick(15 * time.Second); n != 0 {
		t.Fatal("it ended twice")
	}
	if stamp, _ := m.Clock(); stamp != int64(30*time.Second) {
		t.Fatalf("the clock says %d", stamp)
	}
	// A plain put does not use the time: it is in the clock, but not in the state.
	txnAt(m, 40*time.Second, Set("plain", "1"))
	view, err := m.DB.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	if now, err := view.Time(); err != nil || now != int64(30*time.Second) {
		t.Fatalf("the state's time is %d, %v", now, err)
	}
	if stamp, _ := m.Clock(); stamp != int64(40*time.Second) {
		t.Fatalf("the clock says %d", stamp)
	}
	if now := m.ClusterTime(); now < int64(40*time.Second) || now > int64(41*time.Second) {
		t.Fatalf("cluster time is %d", now)
	}
}

// Whatever happens, nothing ends before the stamps say that its time has passed, and
// when everything has gone nothing is left of it.
func TestNeverEarlyAndNothingLeft(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			const n = 1200
			h := newHistory(t, 50+seed, n)
			m := New(t)
			m.ApplyIn(h.logs, h.sizes(seed, 9))
			m.Log = h.logs
			h.checkNeverEarly(t, m)
			h.checkNextDeadline(t, m)
			removeEverything(m, h)
			wantNothingLeft(t, m)
		})
	}
}

// checkNeverEarly knows nothing but stamps, answers and the expiries that watchers see.
func (h history) checkNeverEarly(t *testing.T, m *Machine) {
	t.Helper()
	type life struct{ begun, ttl int64 }
	services, newest, expired := map[string]life{}, int64(0), 0
	events := map[uint64][]fsm.Event{}
	sub, err := m.Subscribe(fsm.Filter{Services: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	for complete := uint64(0); complete < h.lastServiceChange(); {
		var some []fsm.Event
		if some, complete, err = sub.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, ev := range some {
			events[ev.Index] = append(events[ev.Index], ev)
		}
	}
	for i, l := range h.logs {
		stamp, _ := command.DecodeStamp(l.Extensions)
		newest = max(newest, stamp)
		if h.want[i].GetCode() != command.Result_OK || h.want[i].GetIndex() != l.Index {
			continue
		}
		entry, err := command.Decode(l.Data)
		if err != nil {
			t.Fatal(err)
		}
		switch entry.Type {
		case command.Type_TYPE_SERVICE_SET:
			var s command.ServiceSet
			if err := command.Unmarshal(entry.Payload, &s); err != nil {
				t.Fatal(err)
			}
			services[s.Name+"/"+s.Id] = life{stamp, s.Ttl}
		case command.Type_TYPE_HEARTBEAT:
			var s command.Heartbeat
			if err := command.Unmarshal(entry.Payload, &s); err != nil {
				t.Fatal(err)
			}
			services[s.Name+"/"+s.Id] = life{stamp, services[s.Name+"/"+s.Id].ttl}
		case command.Type_TYPE_TICK:
			for _, ev := range events[l.Index] {
				lived := services[ev.Name+"/"+ev.ID]
				if ev.Deleted && (lived.ttl == 0 || newest < lived.begun+lived.ttl) {
					t.Fatalf("%s/%s ended at %d, renewed at %d for %d", ev.Name, ev.ID, newest, lived.begun, lived.ttl)
				}
				if ev.Deleted {
					expired++
				}
			}
		}
	}
	if expired < 10 {
		t.Fatalf("only %d services expired", expired)
	}
}

func (h history) lastServiceChange() (last uint64) {
	for _, c := range h.model.Changes {
		if c.Service != "" {
			last = c.Index
		}
	}
	return last
}

// checkNextDeadline compares it with the whole index.
func (h history) checkNextDeadline(t *testing.T, m *Machine) {
	t.Helper()
	want, found := int64(0), false
	for _, line := range Dump(t, m.DB, m.DB.Published()) {
		var at int64
		if _, err := fmt.Sscanf(line, "sys:due:%d ", &at); err == nil && (!found || at < want) {
			want, found = at, true
		}
	}
	if at, ok := nextDeadline(m); ok != found || at != want {
		t.Fatalf("the next deadline is %d, %v, want %d, %v", at, ok, want, found)
	}
}

// removeEverything deletes all there is, and lets the markers' time pass.
func removeEverything(m *Machine, h history) {
	m.Txn(DeletePrefix(""))
	for _, s := range h.model.Registry.Services {
		m.Do(Command{Type: command.Type_TYPE_SERVICE_DELETE, Message: &command.ServiceDelete{Name: s.Name, Id: s.Id}})
	}
	for name := range h.model.Registry.Checks {
		node, id, _ := strings.Cut(name, "/")
		m.Do(Command{Type: command.Type_TYPE_CHECK_DELETE, Message: &command.CheckDelete{Node: node, Id: id}})
	}
	for id := range h.model.Registry.Sessions {
		m.Do(Command{Type: command.Type_TYPE_SESSION_DESTROY, Message: &command.SessionDestroy{Id: id}})
	}
	stamp, _ := m.Clock()
	m.Tick(time.Duration(stamp) + 2*persistence.GoneFor)
}

// At every index the earliest deadline that is told is the earliest, or one before.
func TestNextDeadlineIsNeverLate(t *testing.T) {
	const n = 800
	h := newHistory(t, 71, n)
	m := New(t)
	for _, l := range h.logs {
		m.ApplyBatch([]*raft.Log{l})
		want, found := earliest(t, m)
		if at, ok := m.NextDeadline(); found && (!ok || at > want) {
			t.Fatalf("at %d the next deadline is %d, %v, want %d", l.Index, at, ok, want)
		}
	}
	h.checkNextDeadline(t, m)
	m.ApplyIn(h.logs[300:], h.sizes(1, 5)) // a replay tells of deadlines that have gone
	h.checkNextDeadline(t, m)
}

func earliest(t *testing.T, m *Machine) (at int64, found bool) {
	t.Helper()
	view, err := m.DB.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	key, goOn, err := view.NextDue(persistence.DueKey(0, nil), 1<<30)
	if err != nil || goOn != nil {
		t.Fatal(goOn, err)
	}
	at, _, found = persistence.DueAt(key)
	return at, found
}

// A backup from before takes the place of a state whose time is later: what is due by
// then ends, once, and time does not go back.
func TestRestoreOfAnOlderBackup(t *testing.T) {
	m := New(t)
	txnAt(m, time.Second, setTTL("short", "1", 10*time.Second), setTTL("long", "1", time.Hour))
	m.At(time.Second, command.Type_TYPE_SESSION_CREATE, &command.SessionCreate{Id: "s", Ttl: int64(10 * time.Second)})
	txnAt(m, time.Second, acquire("lock", "s"))
	backup := snapshotOf(t, m)
	txnAt(m, 5*time.Minute, setTTL("later", "1", time.Second))
	m.Tick(6 * time.Minute)
	if err := m.Restore(backup.Reader()); err != nil {
		t.Fatal(err)
	}
	m.Log = m.Log[:3] // the indexes go on from the backup's here, unlike in a cluster
	if stamp, _ := m.Clock(); stamp != int64(6*time.Minute) {
		t.Fatalf("the clock went back to %d", stamp)
	}
	if at, ok := nextDeadline(m); !ok || at != int64(11*time.Second) {
		t.Fatalf("the next deadline is %d, %v", at, ok)
	}
	if n := m.Tick(6 * time.Minute); n != 2 {
		t.Fatalf("%d ended", n)
	}
	if kv, found := readKey(t, m, "lock"); !found || kv.Session != "" {
		t.Fatalf("%v, %v", kv, found)
	}
	if _, found := readKey(t, m, "long"); !found {
		t.Fatal("early")
	}
	// In another cluster, whose time is before the backup's, time goes on from the backup.
	other := New(t)
	txnAt(other, time.Millisecond, Set("x", "1"))
	late := snapshotOf(t, m)
	if err := other.Restore(late.Reader()); err != nil {
		t.Fatal(err)
	}
	if stamp, _ := other.Clock(); stamp != int64(6*time.Minute) {
		t.Fatalf("the clock says %d", stamp)
	}
}

func snapshotOf(t *testing.T, m *Machine) *Sink {
	t.Helper()
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Release()
	sink := &Sink{}
	if err := snap.Persist(sink); err != nil {
		t.Fatal(err)
	}
	return sink
}

// A search that is not through yet does not pass over what comes to stand before the
// place it has got to.
func TestNextDeadlineWhileSearching(t *testing.T) {
	m := New(t)
	for i := range 10 { // more that went than one search goes over
		var ops []*command.Op
		for j := range 500 {
			ops = append(ops, setTTL(fmt.Sprintf("k%d/%03d", i, j), "", time.Hour))
		}
		txnAt(m, time.Duration(1+i), ops...)
	}
	m.Txn(DeletePrefix("k"))
	if at, ok := m.NextDeadline(); !ok || at < int64(time.Hour) {
		t.Fatalf("the search begins with %d, %v", at, ok)
	}
	txnAt(m, time.Second, setTTL("first", "", 10*time.Second))
	txnAt(m, time.Second, setTTL("second", "", 20*time.Second))
	m.Txn(Delete("first"))
	if at, ok := nextDeadline(m); !ok || at != int64(21*time.Second) {
		t.Fatalf("the next deadline is %d, %v, want that of the second key", at, ok)
	}
	m.Txn(Delete("second"))
	wantNothingLeft(t, m)
}
