package enginetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/internal/backup"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/snapshot"
)

func testBackup(t *testing.T, e persistence.Engine) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made", "on the way", "backup.db")
	mustSet(t, e, "stays", "1")
	mustSet(t, e, "changes", "before")
	if err := e.SetService("web", []byte("data"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := e.Backup(path); err != nil {
		t.Fatal(err)
	}
	mustSet(t, e, "changes", "after")
	mustSet(t, e, "comes", "x")
	for _, err := range []error{e.Delete("stays"), e.DeleteService("web")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Restore(path); err != nil {
		t.Fatal(err)
	}
	wantValue(t, e, "stays", "1")
	wantValue(t, e, "changes", "before")
	wantAbsent(t, e, "comes")
	if b, err := e.GetService("web"); err != nil || string(b) != "data" {
		t.Fatalf("service: %q, %v", b, err)
	}
	mustSet(t, e, "changes", "again") // it goes on
	wantValue(t, e, "changes", "again")
	if err := e.Backup(path); err != nil { // in place of the old one
		t.Fatal(err)
	}
	mustSet(t, e, "changes", "once more")
	if err := e.Restore(path); err != nil {
		t.Fatal(err)
	}
	wantValue(t, e, "changes", "again")
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || len(left) > 0 {
		t.Fatalf("left over: %v, %v", left, err)
	}
}

func testBackupBusy(t *testing.T, e persistence.Engine) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup.db")
	stop := make(chan struct{})
	written := make([]int, 4)
	var wg sync.WaitGroup
	for w := range written {
		wg.Go(func() {
			for ; ; written[w]++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := e.Set(fmt.Sprintf("%d/%06d", w, written[w]), []byte("v")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 3 {
		if err := e.Backup(path); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	if err := e.Restore(path); err != nil {
		t.Fatal(err)
	}
	for w, n := range written {
		keys, err := e.List(fmt.Sprintf("%d/", w))
		if err != nil || len(keys) > n {
			t.Fatalf("writer %d: %d keys of %d, %v", w, len(keys), n, err)
		}
		for i, key := range keys { // what came first is there first
			if key != fmt.Sprintf("%d/%06d", w, i) {
				t.Fatalf("writer %d: key %d is %s", w, i, key)
			}
		}
	}
}

func testBackupDamaged(t *testing.T, e persistence.Engine) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup.db")
	mustSet(t, e, "a", "saved")
	if err := e.Backup(path); err != nil {
		t.Fatal(err)
	}
	mustSet(t, e, "a", "now")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte{}, whole...)
	damaged[len(damaged)/2] ^= 1
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"damaged": {damaged, snapshot.ErrCorrupt}, "cut off": {whole[:len(whole)-1], snapshot.ErrCorrupt},
		"something else": {[]byte("hello"), snapshot.ErrNotSnapshot}, "empty": {nil, snapshot.ErrNotSnapshot},
	} {
		if err := os.WriteFile(path, c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := e.Restore(path); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := e.Restore(path + "-that-is-not-there"); !errors.Is(err, backup.ErrNotFound) {
		t.Errorf("a missing file: %v", err)
	}
	wantValue(t, e, "a", "now")
}
