package persistence

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/internal/persistence/record"
)

// write applies fn as the next entry.
func writeAt(t *testing.T, db *DB, index uint64, fn func(tx *Tx)) {
	t.Helper()
	u := db.NewUpdate(index)
	fn(u.At(index))
	if _, err := u.Commit(index); err != nil {
		t.Fatal(err)
	}
}

func setRecord(t *testing.T, tx *Tx, key []byte, m proto.Message) {
	t.Helper()
	b, err := EncodeRecord(m)
	if err != nil {
		t.Fatal(err)
	}
	tx.Set(key, b)
}

func memoryDB(t *testing.T) *DB {
	t.Helper()
	db, err := Open(Options{InMemory: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func openView(t *testing.T, db *DB) *View {
	t.Helper()
	v, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// Names and ids that are beginnings of each other, and checks with a lease between the
// instances', do not mix up order, deadlines and health.
func TestInstances(t *testing.T) {
	db := memoryDB(t)
	critical := []*record.Check{{Id: "x", Status: statusCritical}}
	warning := []*record.Check{{Id: "x", Status: statusCritical - 1}}
	writeAt(t, db, 1, func(tx *Tx) {
		for _, s := range []*record.Service{
			{Name: "a", Id: "i", Ttl: 1, Node: "n"}, {Name: "a", Id: "i-b", Ttl: 1, Checks: critical}, {Name: "a", Id: "i.b"},
			{Name: "a-b", Id: "i", Ttl: 1, Node: "n-1"}, {Name: "a.b", Id: "z", Node: "m", Checks: warning}, {Name: "a0", Id: "z", Ttl: 1},
		} {
			setRecord(t, tx, ServiceKey(s.Name, s.Id), s)
			if s.Ttl > 0 {
				if err := tx.SetLease(ServiceKey(s.Name, s.Id), int64(len(s.Name)*100+len(s.Id))); err != nil {
					t.Fatal(err)
				}
			}
			if err := tx.SetLease(InstanceCheckSubject(s.Name, s.Id, "x"), 7); err != nil {
				t.Fatal(err)
			}
		}
		setRecord(t, tx, NodeCheckKey("n-1", "disk"), &record.Check{Id: "disk", Status: statusCritical})
		setRecord(t, tx, NodeCheckKey("n", "disk"), &record.Check{Id: "disk", Status: 1})
		if err := tx.SetLease(GoneKey("gone", "i"), 9); err != nil {
			t.Fatal(err)
		}
	})
	v := openView(t, db)
	show := func(in Instance) string { return fmt.Sprintf("%s/%s %d %v", in.Name, in.Id, in.Deadline, in.Healthy) }
	var got []string
	if err := v.Services(func(in Instance) error { got = append(got, show(in)); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []string{"a/i 101 true", "a/i-b 103 false", "a/i.b 0 true", "a-b/i 301 false", "a.b/z 0 true", "a0/z 201 true"}
	if !slices.Equal(got, want) {
		t.Fatalf("services %q, want %q", got, want)
	}
	got = nil
	for _, name := range []string{"a", "a-b", "a.b", "a0", "gone", ""} {
		all, err := v.Instances(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range all {
			got = append(got, show(in))
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("instances %q, want %q", got, want)
	}
	calls := 0
	if err := v.Services(func(Instance) error { calls++; return ErrStop }); err != nil || calls != 1 {
		t.Fatalf("%d calls, %v", calls, err)
	}
	for name, want := range map[string]bool{"gone": true, "a": false, "gon": false, "gone-b": false} {
		if gone, err := v.ServiceGone(name); err != nil || gone != want {
			t.Errorf("%s: gone %v, %v", name, gone, err)
		}
	}
	var checks []string
	err := v.NodeChecks("n", func(node string, c *record.Check) error { checks = append(checks, node+" "+c.Id); return nil })
	if err != nil || !slices.Equal(checks, []string{"n disk"}) {
		t.Fatalf("%q, %v", checks, err)
	}
}

// What the index of deadlines shows inside a run of entries is what one sees who
// applies them one by one, from any time to any other.
func TestDue(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		db := memoryDB(t)
		live := map[string]bool{}
		var u *Update
		for index := uint64(1); index <= 40; index++ {
			if u == nil {
				u = db.NewUpdate(index)
			}
			tx := u.At(index)
			for range r.IntN(4) {
				at, subject := r.Int64N(20), []byte(fmt.Sprint("ses:", r.IntN(3)))
				if r.IntN(3) > 0 {
					tx.SetDue(at, subject)
					live[string(DueKey(at, subject))] = true
				} else {
					tx.DropDue(at, subject)
					delete(live, string(DueKey(at, subject)))
				}
			}
			from, to, limit := r.Int64N(20), r.Int64N(22), 1+r.IntN(8)
			var want []string
			for key := range live {
				if at, subject, _ := DueAt([]byte(key)); at >= from && at <= to {
					want = append(want, fmt.Sprintf("%04d %s", at, subject))
				}
			}
			slices.Sort(want)
			want = want[:min(len(want), limit)]
			due, err := tx.Due(from, to, limit)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range due {
				got = append(got, fmt.Sprintf("%04d %s", d.Deadline, d.Subject))
			}
			if !slices.Equal(got, want) {
				t.Fatalf("round %d, index %d: due %q, want %q", round, index, got, want)
			}
			if r.IntN(3) == 0 {
				if _, err := u.Commit(index); err != nil {
					t.Fatal(err)
				}
				u = nil
			}
		}
		if u != nil {
			if _, err := u.Commit(40); err != nil {
				t.Fatal(err)
			}
		}
		checkNextDue(t, db, live)
	}
}

// checkNextDue searches with a small budget, as often as it takes.
func checkNextDue(t *testing.T, db *DB, live map[string]bool) {
	t.Helper()
	v := openView(t, db)
	want := ""
	for key := range live {
		if want == "" || key < want {
			want = key
		}
	}
	for from := DueKey(0, nil); ; {
		found, goOn, err := v.NextDue(from, 2)
		if err != nil {
			t.Fatal(err)
		}
		if found != nil || goOn == nil {
			if string(found) != want {
				t.Fatalf("the next is %q, want %q", found, want)
			}
			return
		}
		if string(goOn) <= string(from) {
			t.Fatalf("no progress from %q", from)
		}
		from = goOn
	}
}

// The look at the bounds of a key says what decoding its record says.
func FuzzKVBounds(f *testing.F) {
	for _, kv := range []*record.KV{{}, {Value: []byte("v"), Flags: 7, CreateIndex: 1, ModifyIndex: 2}, {Session: "s", LockIndex: 9, Deadline: 1 << 60}, {Deadline: -1}} {
		b, err := EncodeRecord(kv)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		kv := new(record.KV)
		if DecodeRecord(b, kv) != nil {
			return
		}
		if deadline, session, err := KVBounds(b); err != nil || deadline != kv.Deadline || session != kv.Session {
			t.Fatalf("%d, %q, %v of %v", deadline, session, err, kv)
		}
	})
}

func TestCheckService(t *testing.T) {
	if err := CheckService("web", nil, 0); err != nil {
		t.Fatal(err)
	}
	for want, err := range map[error]error{
		ErrBadName:       CheckService("a/b", nil, 0),
		ErrBadTTL:        CheckService("a", nil, 1),
		ErrValueTooLarge: CheckService("a", make([]byte, MaxServiceBytes), 0),
	} {
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if err := CheckName(strings.Repeat("x", MaxNameLen+1)); !errors.Is(err, ErrBadName) {
		t.Error(err)
	}
}
