package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/neogan74/konsul/internal/persistence"
)

func testBatchSet(t *testing.T, e persistence.Engine) {
	t.Helper()
	mustSet(t, e, "a", "old")
	if err := e.BatchSet(map[string][]byte{"a": []byte("1"), "b": nil, "c\x00": []byte("3")}); err != nil {
		t.Fatal(err)
	}
	wantValue(t, e, "a", "1")
	wantValue(t, e, "b", "")
	wantValue(t, e, "c\x00", "3")
	for _, empty := range []map[string][]byte{nil, {}} {
		if err := e.BatchSet(empty); err != nil {
			t.Fatalf("an empty batch: %v", err)
		}
	}
	wantList(t, e, "", "a", "b", "c\x00")
}

func testBatchDelete(t *testing.T, e persistence.Engine) {
	t.Helper()
	for _, key := range []string{"a", "b", "c"} {
		mustSet(t, e, key, "x")
	}
	if err := e.BatchDelete([]string{"a", "nobody", "c", "a"}); err != nil {
		t.Fatal(err)
	}
	wantList(t, e, "", "b")
	if err := e.BatchDelete(nil); err != nil {
		t.Fatalf("an empty batch: %v", err)
	}
}

func testBatchLimits(t *testing.T, e persistence.Engine) {
	t.Helper()
	many := make(map[string][]byte)
	var keys []string
	for i := range persistence.MaxOps {
		key := fmt.Sprintf("k%04d", i)
		many[key], keys = []byte("x"), append(keys, key)
	}
	if err := e.BatchSet(many); err != nil {
		t.Fatalf("a batch of MaxOps: %v", err)
	}
	wantList(t, e, "", keys...)
	if err := e.BatchDelete(append(keys[:len(keys):len(keys)], "one more")); err == nil {
		t.Fatal("deleting more than MaxOps was taken")
	}
	wantList(t, e, "", keys...)
	if err := e.BatchDelete(keys); err != nil {
		t.Fatalf("deleting MaxOps: %v", err)
	}
	wantList(t, e, "")
	many["one more"] = nil
	if err := e.BatchSet(many); err == nil {
		t.Fatal("setting more than MaxOps was taken")
	}
	value := make([]byte, persistence.MaxValueLen)
	if err := e.BatchSet(map[string][]byte{"a": value, "b": value, "c": value}); err == nil {
		t.Fatal("a batch of 1.5 MiB was taken")
	}
	wantList(t, e, "")
}

// testBatchAtomic writes the same value to ten keys again and again; whoever
// lists and reads backwards must never find a later key older than an earlier one.
func testBatchAtomic(t *testing.T, e persistence.Engine) {
	t.Helper()
	const keys, rounds = 10, 30
	set := func(round int) error {
		items := make(map[string][]byte)
		for i := range keys {
			items[fmt.Sprintf("k%d", i)] = fmt.Appendf(nil, "%06d", round)
		}
		return e.BatchSet(items)
	}
	if err := set(0); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			var last []byte
			for i := range keys {
				value, err := e.Get(fmt.Sprintf("k%d", i))
				if err != nil || bytes.Compare(value, last) < 0 {
					t.Errorf("key %d is at %q (%v), the one before was at %q", i, value, err, last)
					return
				}
				last = value
			}
		}
	})
	for round := range rounds {
		if err := set(round + 1); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

func testConcurrent(t *testing.T, e persistence.Engine) {
	t.Helper()
	const writers, each = 8, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				key := fmt.Sprintf("w%d/%03d", w, i)
				if err := e.Set(key, []byte(key)); err != nil {
					t.Errorf("Set(%q): %v", key, err)
				}
				if value, err := e.Get(key); err != nil || string(value) != key {
					t.Errorf("Get(%q) after Set = %q, %v", key, value, err)
				}
			}
		})
	}
	wg.Wait()
	keys, err := e.List("w")
	if err != nil || len(keys) != writers*each {
		t.Fatalf("%d keys, %v, want %d", len(keys), err, writers*each)
	}
}

func testConcurrentKey(t *testing.T, e persistence.Engine) {
	t.Helper()
	const writers, each = 4, 15
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				var err error
				if i%3 == 2 {
					err = e.Delete("k")
				} else {
					err = e.Set("k", fmt.Appendf(nil, "%d/%d", w, i))
				}
				if err != nil {
					t.Error(err)
				}
				if _, err := e.Get("k"); err != nil && !errors.Is(err, persistence.ErrKeyNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	mustSet(t, e, "k", "last")
	wantValue(t, e, "k", "last")
}
