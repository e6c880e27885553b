package persistence

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestEntriesOfOneUpdateSeeEachOther(t *testing.T) {
	db := openTest(t, Options{InMemory: true, Badger: small})
	put(t, db, 1, "kv:a", "1", "kv:b", "1")
	u := db.NewUpdate(2)
	tx := u.At(2)
	tx.Set([]byte("kv:a"), []byte("2"))
	tx.Delete([]byte("kv:b"))
	tx = u.At(3)
	if v, found, err := tx.Get([]byte("kv:a")); string(v) != "2" || !found || err != nil {
		t.Fatal(v, found, err)
	}
	if _, found, _ := tx.Get([]byte("kv:b")); found {
		t.Fatal("entry 3 sees what entry 2 deleted")
	}
	tx.Set([]byte("kv:c"), []byte("3"))
	tx.Set([]byte("kv:a"), []byte("3"))
	tx.Rollback()
	if v, _, _ := tx.Get([]byte("kv:a")); string(v) != "2" {
		t.Fatalf("after the rollback: %q", v)
	}
	var seen []string
	err := tx.Scan([]byte("kv:"), func(k, v []byte) error { seen = append(seen, string(k)+"="+string(v)); return nil })
	if err != nil || strings.Join(seen, " ") != "kv:a=2" {
		t.Fatal(seen, err)
	}
	tx.Delete([]byte("kv:nobody"))
	tx.Set([]byte("kv:d"), []byte("x"))
	tx.Delete([]byte("kv:d"))
	changes, err := u.Commit(7) // 4 to 7 wrote nothing
	if err != nil || len(changes) != 2 || db.Published() != 7 || db.MaxVersion() != 2 {
		t.Fatal(changes, err, db.Published(), db.MaxVersion())
	}
}

func TestReadersSeeNothingUnpublished(t *testing.T) {
	db := openTest(t, Options{InMemory: true, Badger: small})
	put(t, db, 1, "kv:a", "1")
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	put(t, db, 2, "kv:a", "2")
	if v, _, _ := view.Get([]byte("kv:a")); string(v) != "1" || view.Index() != 1 {
		t.Fatalf("a view of index %d shows %q", view.Index(), v)
	}
	if _, err := db.ViewAt(3); !errors.Is(err, ErrFutureIndex) {
		t.Fatal(err)
	}
}

func TestUpdateRefusesWhatCannotBeApplied(t *testing.T) {
	db := openTest(t, Options{InMemory: true, Badger: small})
	put(t, db, 5, "kv:a", "1")
	for name, apply := range map[string]func(u *Update){
		"an index that goes down":    func(u *Update) { u.At(8); u.At(7) },
		"an index before the first":  func(u *Update) { u.At(5) },
		"an index after the last":    func(u *Update) { u.At(11) },
		"a record that is too large": func(u *Update) { u.At(6).Set([]byte("kv:b"), make([]byte, MaxRecordLen+1)) },
		"an empty stored key":        func(u *Update) { u.At(6).Set(nil, nil) },
	} {
		u := db.NewUpdate(6)
		apply(u)
		if _, err := u.Commit(10); err == nil {
			t.Errorf("%s was committed", name)
		}
		if db.Published() != 5 {
			t.Fatalf("%s: published is %d", name, db.Published())
		}
	}
	put(t, db, 6, "kv:largest", strings.Repeat("v", MaxRecordLen))
}

// TestLargeUpdate: more than fits one Badger batch is written all the same, and
// deleted again.
func TestLargeUpdate(t *testing.T) {
	db := openTest(t, Options{Dir: t.TempDir(), Badger: small})
	u := db.NewUpdate(1)
	for i := uint64(1); i <= 30; i++ {
		tx := u.At(i)
		for j := range 1000 {
			tx.Set(fmt.Appendf(nil, "kv:%02d/%04d", i, j), make([]byte, 200))
		}
	}
	if _, err := u.Commit(30); err != nil {
		t.Fatal(err)
	}
	if c := db.Counts(); c.Keys != 30_000 {
		t.Fatal(c)
	}
	u = db.NewUpdate(31)
	tx := u.At(31)
	if err := tx.Scan([]byte("kv:"), func(k, _ []byte) error { tx.Delete(k); return nil }); err != nil {
		t.Fatal(err)
	}
	changes, err := u.Commit(31)
	if err != nil || len(changes) != 30_000 || db.Counts().Keys != 0 {
		t.Fatal(len(changes), err, db.Counts())
	}
	if _, n, err := db.Digest(t.Context(), 31); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	if _, n, err := db.Digest(t.Context(), 30); n != 30_000 || err != nil {
		t.Fatal(n, err)
	}
}

func TestScanStartsAndStops(t *testing.T) {
	db := openTest(t, Options{InMemory: true, Badger: small})
	put(t, db, 1, "kv:a", "1", "kv:b", "2", "kv:c", "3", "svc:x", "4", "kv", "5")
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	boom := errors.New("boom")
	for _, c := range []struct {
		prefix, start, stopAt string
		with                  error
		want                  string
		err                   error
	}{
		{"kv:", "", "", nil, "kv:a=1 kv:b=2 kv:c=3", nil},
		{"kv:", "kv:b", "", nil, "kv:b=2 kv:c=3", nil},
		{"kv:", "kv:b\x00", "", nil, "kv:c=3", nil},
		{"kv:", "a", "", nil, "kv:a=1 kv:b=2 kv:c=3", nil},
		{"kv:", "z", "", nil, "", nil},
		{"", "", "", nil, "kv=5 kv:a=1 kv:b=2 kv:c=3 svc:x=4", nil},
		{"kv:", "", "kv:b", ErrStop, "kv:a=1 kv:b=2", nil},
		{"kv:", "", "kv:b", boom, "kv:a=1 kv:b=2", boom},
	} {
		var seen []string
		err := view.Scan([]byte(c.prefix), []byte(c.start), func(k, v []byte) error {
			seen = append(seen, string(k)+"="+string(v))
			if c.stopAt == string(k) {
				return c.with
			}
			return nil
		})
		if got := strings.Join(seen, " "); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
	counts, err := view.CountAt()
	if err != nil || counts != (Counts{3, 1}) {
		t.Fatal(counts, err)
	}
}
