// Package enginetest is the conformance suite of persistence.Engine. The memory
// engine, the Badger engine and the replicated store, on the leader and through a
// follower, run the same one.
package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/neogan74/konsul/internal/persistence"
)

// Open returns an empty engine, and sees to it that it is closed at the end of t.
type Open func(t *testing.T) persistence.Engine

// Run runs the suite. open is called once for each test.
func Run(t *testing.T, open func(t *testing.T) persistence.Engine) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, persistence.Engine)
	}{
		{"a value comes back", testRoundTrip},
		{"an absent key is not found", testNotFound},
		{"odd keys", testOddKeys},
		{"odd values", testOddValues},
		{"limits are refused and change nothing", testLimits},
		{"delete", testDelete},
		{"list is in byte order", testListOrder},
		{"list by prefix", testListPrefix},
		{"slices belong to the caller", testSlices},
		{"batch set", testBatchSet},
		{"batch delete", testBatchDelete},
		{"batches are all or nothing", testBatchLimits},
		{"readers see all of a batch or nothing", testBatchAtomic},
		{"a transaction commits in order", testTxCommit},
		{"a transaction is invisible until commit", testTxIsolated},
		{"rollback", testTxRollback},
		{"a finished transaction is finished", testTxDone},
		{"a transaction checks limits", testTxLimits},
		{"an empty transaction", testTxEmpty},
		{"concurrent writers", testConcurrent},
		{"concurrent readers and writers of one key", testConcurrentKey},
		{"a service comes back", testService},
		{"services are listed in byte order", testListServices},
		{"a service lives as long as its ttl", testServiceTTL},
		{"a service that is set again lives on", testServiceRenewed},
		{"a service is checked against limits", testServiceLimits},
		{"export and import keep everything", testExport},
		{"an import is checked first", testImport},
		{"backup and restore", testBackup},
		{"a backup while others write", testBackupBusy},
		{"a damaged backup changes nothing", testBackupDamaged},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func mustSet(t *testing.T, e persistence.Engine, key, value string) {
	t.Helper()
	if err := e.Set(key, []byte(value)); err != nil {
		t.Fatalf("Set(%.40q): %v", key, err)
	}
}

func wantValue(t *testing.T, e persistence.Engine, key, value string) {
	t.Helper()
	got, err := e.Get(key)
	if err != nil {
		t.Fatalf("Get(%.40q): %v", key, err)
	}
	if got == nil || !bytes.Equal(got, []byte(value)) {
		t.Fatalf("Get(%.40q) = %.40q (nil: %v), want %.40q", key, got, got == nil, value)
	}
}

func wantAbsent(t *testing.T, e persistence.Engine, key string) {
	t.Helper()
	value, err := e.Get(key)
	if !errors.Is(err, persistence.ErrKeyNotFound) {
		t.Fatalf("Get(%.40q) = %.40q, %v, want ErrKeyNotFound", key, value, err)
	}
}

func wantList(t *testing.T, e persistence.Engine, prefix string, want ...string) {
	t.Helper()
	got, err := e.List(prefix)
	if err != nil {
		t.Fatalf("List(%.40q): %v", prefix, err)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("List(%.40q) = %q, want %q", prefix, got, want)
	}
}

func testRoundTrip(t *testing.T, e persistence.Engine) {
	t.Helper()
	mustSet(t, e, "config/host", "10.0.0.1")
	wantValue(t, e, "config/host", "10.0.0.1")
	mustSet(t, e, "config/host", "10.0.0.2")
	wantValue(t, e, "config/host", "10.0.0.2")
}

func testNotFound(t *testing.T, e persistence.Engine) {
	t.Helper()
	wantAbsent(t, e, "nobody")
	if _, err := e.Get("nobody"); err == nil || err.Error() != "key not found" {
		t.Fatalf("the error's text is %q, want %q", err, "key not found")
	}
	mustSet(t, e, "some", "x")
	wantAbsent(t, e, "som")
	wantAbsent(t, e, "some/")
	wantList(t, e, "nobody")
}

// OddKeys are keys that must survive every path unchanged.
func OddKeys() []string {
	return []string{
		"a", " ", "a//b", "/a", "a/", "//", "../x", ".", "..", "%2F", "a%2Fb", "a b", "+", "?x=1#y", "\\", "kv:", "svc:x", "sys:cluster",
		"\x00", "a\x00", "a\x00b", "\xff", "\xff\xff", "\xfe\xff\x00", "é", "日本語", "😀", "\n\r\t", "\"'`", "!badger!", "{}", "null",
		strings.Repeat("k", persistence.MaxKeyLen), strings.Repeat("\x00", persistence.MaxKeyLen), strings.Repeat("\xff", persistence.MaxKeyLen),
	}
}

func testOddKeys(t *testing.T, e persistence.Engine) {
	t.Helper()
	keys := OddKeys()
	for i, key := range keys {
		mustSet(t, e, key, fmt.Sprint(i))
	}
	for i, key := range keys {
		wantValue(t, e, key, fmt.Sprint(i))
	}
	slices.Sort(keys)
	wantList(t, e, "", keys...)
	for _, key := range keys {
		if err := e.Delete(key); err != nil {
			t.Fatalf("Delete(%.40q): %v", key, err)
		}
		wantAbsent(t, e, key)
	}
	wantList(t, e, "")
}

func testOddValues(t *testing.T, e persistence.Engine) {
	t.Helper()
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for i, value := range []string{
		"", "\x00", string(every), "\xff\xfe\xfd", "{\"json\":true}",
		strings.Repeat("v", persistence.MaxValueLen), strings.Repeat("\x00", persistence.MaxValueLen),
	} {
		key := fmt.Sprint("value", i)
		mustSet(t, e, key, value)
		wantValue(t, e, key, value)
	}
	if err := e.Set("nil", nil); err != nil {
		t.Fatalf("Set of nil: %v", err)
	}
	wantValue(t, e, "nil", "")
	wantList(t, e, "nil", "nil")
}

func testLimits(t *testing.T, e persistence.Engine) {
	t.Helper()
	long := strings.Repeat("k", persistence.MaxKeyLen+1)
	large := make([]byte, persistence.MaxValueLen+1)
	mustSet(t, e, "a", "before")
	for name, err := range map[string]error{
		"Set of an empty key":         e.Set("", []byte("x")),
		"Set of a long key":           e.Set(long, []byte("x")),
		"Set of a large value":        e.Set("a", large),
		"Delete of an empty key":      e.Delete(""),
		"Delete of a long key":        e.Delete(long),
		"BatchSet of an empty key":    e.BatchSet(map[string][]byte{"b": nil, "": nil}),
		"BatchSet of a large value":   e.BatchSet(map[string][]byte{"b": nil, "c": large}),
		"BatchDelete of an empty key": e.BatchDelete([]string{"a", ""}),
		"Get of an empty key":         second(e.Get("")),
	} {
		if err == nil || errors.Is(err, persistence.ErrKeyNotFound) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
	wantValue(t, e, "a", "before")
	wantList(t, e, "", "a")
}

func second[T any](_ T, err error) error { return err }

func testDelete(t *testing.T, e persistence.Engine) {
	t.Helper()
	mustSet(t, e, "a", "1")
	mustSet(t, e, "b", "2")
	for range 2 { // deleting what is absent is no error
		if err := e.Delete("a"); err != nil {
			t.Fatal(err)
		}
		wantAbsent(t, e, "a")
	}
	wantValue(t, e, "b", "2")
	mustSet(t, e, "a", "3")
	wantValue(t, e, "a", "3")
}

func testListOrder(t *testing.T, e persistence.Engine) {
	t.Helper()
	want := []string{"A", "Z", "a", "a\x00", "a\x00a", "a!", "a/", "a/b", "aa", "b", "\xc3\xa9", "\xff"}
	for _, i := range []int{5, 2, 11, 0, 7, 3, 9, 1, 10, 4, 8, 6} {
		mustSet(t, e, want[i], "x")
	}
	wantList(t, e, "", want...)
	wantList(t, e, "a", want[2:9]...)
}

func testListPrefix(t *testing.T, e persistence.Engine) {
	t.Helper()
	for _, key := range []string{"config/db", "config/host", "config", "configs", "other", "config\xff"} {
		mustSet(t, e, key, "x")
	}
	wantList(t, e, "config/", "config/db", "config/host")
	wantList(t, e, "config", "config", "config/db", "config/host", "configs", "config\xff")
	wantList(t, e, "config/host", "config/host")
	wantList(t, e, "config/host/")
	wantList(t, e, "config\xff", "config\xff")
	if err := e.Delete("config/db"); err != nil {
		t.Fatal(err)
	}
	wantList(t, e, "config/", "config/host")
}

func testSlices(t *testing.T, e persistence.Engine) {
	t.Helper()
	value := []byte("mine")
	if err := e.Set("a", value); err != nil {
		t.Fatal(err)
	}
	copy(value, "yours")
	wantValue(t, e, "a", "mine")
	got, err := e.Get("a")
	if err != nil {
		t.Fatal(err)
	}
	copy(got, "xxxx")
	_ = append(got, "yyyy"...)
	wantValue(t, e, "a", "mine")

	batch := map[string][]byte{"b": []byte("mine")}
	if err := e.BatchSet(batch); err != nil {
		t.Fatal(err)
	}
	copy(batch["b"], "xxxx")
	wantValue(t, e, "b", "mine")

	tx := mustBegin(t, e)
	value = []byte("mine")
	if err := tx.Set("c", value); err != nil {
		t.Fatal(err)
	}
	copy(value, "xxxx")
	mustCommit(t, tx)
	wantValue(t, e, "c", "mine")
}
