package persistence

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// deleteByScan is DeletePrefix as it is meant: every key that Scan shows is deleted.
func deleteByScan(t *testing.T, tx *Tx, prefix []byte) uint64 {
	t.Helper()
	var keys [][]byte
	err := tx.Scan(prefix, func(key, _ []byte) error {
		keys = append(keys, bytes.Clone(key))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		tx.Delete(key)
	}
	return uint64(len(keys))
}

// Two engines are given the same random entries of few, nested keys; one deletes
// prefixes by the naive way.
func TestDeletePrefixIsAScanAndDeletes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 11))
	one := openTest(t, Options{InMemory: true, Badger: small})
	two := openTest(t, Options{InMemory: true, Badger: small})
	name := func() []byte {
		b := []byte("kv:")
		for range rnd.IntN(5) {
			b = append(b, "ab\xff"[rnd.IntN(3)])
		}
		return b
	}
	for index := uint64(1); index < 600; {
		u, v := one.NewUpdate(index), two.NewUpdate(index)
		for range 1 + rnd.IntN(3) {
			x, y := u.At(index), v.At(index)
			for range rnd.IntN(12) {
				key := name()
				switch rnd.IntN(8) {
				case 0, 1, 2:
					got, err := x.DeletePrefix(key, nil)
					if want := deleteByScan(t, y, key); err != nil || got != want {
						t.Fatalf("index %d, prefix %q: %d keys (%v), want %d", index, key, got, err, want)
					}
				case 3:
					x.Delete(key)
					y.Delete(key)
				case 4:
					if rnd.IntN(8) == 0 {
						x.Rollback()
						y.Rollback()
					}
				default:
					value := []byte(fmt.Sprint(rnd.IntN(100)))
					x.Set(key, value)
					y.Set(key, value)
				}
			}
			index++
		}
		got, err := u.Commit(index - 1)
		if err != nil {
			t.Fatal(err)
		}
		want, err := v.Commit(index - 1)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("up to index %d:\n%v\nwant\n%v", index-1, got, want)
		}
	}
}

// One entry that deletes the same many keys over and over, under ever other
// prefixes, must not cost their product: all nodes apply it, at each replay.
func TestManyPrefixesOfOneEntryAreCheap(t *testing.T) {
	const keys, ops = 20000, 1024
	db := openTest(t, Options{InMemory: true})
	deep := "kv:" + strings.Repeat("d", ops)
	u := db.NewUpdate(1)
	tx := u.At(1)
	for i := range keys {
		tx.Set(fmt.Appendf(nil, "%s%05d", deep, i), []byte("v"))
	}
	if _, err := u.Commit(1); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	u = db.NewUpdate(2)
	tx = u.At(2)
	var deleted uint64
	for i := range ops { // each prefix is wider than the one before
		n, err := tx.DeletePrefix([]byte(deep[:len(deep)-i]), nil)
		if err != nil {
			t.Fatal(err)
		}
		deleted += n
		tx.Set([]byte(deep), []byte("again"))
	}
	if deleted != keys+ops-1 {
		t.Errorf("%d keys deleted, want %d", deleted, keys+ops-1)
	}
	if _, err := u.Commit(2); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 5*time.Second { // milliseconds, where it was 10 s
		t.Errorf("it took %v", took)
	}
}
