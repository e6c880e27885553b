package enginetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/neogan74/konsul/internal/persistence"
)

func mustBegin(t *testing.T, e persistence.Engine) persistence.Transaction {
	t.Helper()
	tx, err := e.BeginTx()
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func mustCommit(t *testing.T, tx persistence.Transaction) {
	t.Helper()
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func testTxCommit(t *testing.T, e persistence.Engine) {
	t.Helper()
	mustSet(t, e, "old_key", "x")
	mustSet(t, e, "kept", "x")
	tx := mustBegin(t, e)
	must(t, tx.Set("key1", []byte("1")), tx.Set("key1", []byte("2")), tx.Delete("old_key"))
	must(t, tx.Set("gone", []byte("x")), tx.Delete("gone"))
	must(t, tx.Delete("kept"), tx.Set("kept", []byte("again")))
	must(t, tx.Delete("nobody"), tx.Set("empty", nil))
	mustCommit(t, tx)
	wantValue(t, e, "key1", "2")
	wantValue(t, e, "kept", "again")
	wantValue(t, e, "empty", "")
	wantList(t, e, "", "empty", "kept", "key1")
}

func testTxIsolated(t *testing.T, e persistence.Engine) {
	t.Helper()
	mustSet(t, e, "b", "before")
	tx := mustBegin(t, e)
	must(t, tx.Set("a", []byte("x")), tx.Delete("b"))
	wantAbsent(t, e, "a")
	wantValue(t, e, "b", "before")
	mustSet(t, e, "c", "meanwhile") // it locks nothing
	mustCommit(t, tx)
	wantList(t, e, "", "a", "c")
}

func testTxRollback(t *testing.T, e persistence.Engine) {
	t.Helper()
	mustSet(t, e, "a", "before")
	tx := mustBegin(t, e)
	must(t, tx.Set("a", []byte("after")), tx.Set("b", []byte("x")))
	for range 3 {
		must(t, tx.Rollback())
	}
	wantList(t, e, "", "a")
	wantValue(t, e, "a", "before")
	if err := tx.Commit(); !errors.Is(err, persistence.ErrTxDone) {
		t.Fatalf("Commit after Rollback: %v, want ErrTxDone", err)
	}
	wantValue(t, e, "a", "before")
}

func testTxDone(t *testing.T, e persistence.Engine) {
	t.Helper()
	tx := mustBegin(t, e)
	must(t, tx.Set("a", []byte("x")))
	mustCommit(t, tx)
	for name, err := range map[string]error{
		"Set": tx.Set("b", nil), "Delete": tx.Delete("a"), "Commit": tx.Commit(),
	} {
		if !errors.Is(err, persistence.ErrTxDone) {
			t.Errorf("%s after Commit: %v, want ErrTxDone", name, err)
		}
	}
	must(t, tx.Rollback(), tx.Rollback()) // as a deferred one does
	wantList(t, e, "", "a")
}

func testTxLimits(t *testing.T, e persistence.Engine) {
	t.Helper()
	tx := mustBegin(t, e)
	for i := range persistence.MaxOps {
		must(t, tx.Set(fmt.Sprintf("k%04d", i), nil))
	}
	mustCommit(t, tx)

	tx = mustBegin(t, e)
	// Refused at once or at Commit, but never done in part.
	if err := errors.Join(tx.Set("", nil), tx.Commit()); err == nil {
		t.Fatal("an empty key was taken")
	}
	tx = mustBegin(t, e)
	if err := errors.Join(tx.Set(strings.Repeat("k", persistence.MaxKeyLen+1), nil), tx.Commit()); err == nil {
		t.Fatal("a long key was taken")
	}
	tx = mustBegin(t, e)
	var err error
	for i := range persistence.MaxOps + 1 {
		err = errors.Join(err, tx.Set(fmt.Sprintf("l%04d", i), nil))
	}
	if errors.Join(err, tx.Commit()) == nil {
		t.Fatal("more than MaxOps were taken")
	}
	_ = tx.Rollback()
}

func testTxEmpty(t *testing.T, e persistence.Engine) {
	t.Helper()
	mustCommit(t, mustBegin(t, e))
	must(t, mustBegin(t, e).Rollback())
	wantList(t, e, "")
}
