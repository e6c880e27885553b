package persistence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/neogan74/konsul/internal/snapshot"
)

// endsAfter is a context that is cancelled when it was asked n times.
type endsAfter struct {
	context.Context
	n atomic.Int64
}

func (c *endsAfter) Err() error {
	if c.n.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

// A backup or a snapshot that is called off while the tables are verified says nothing about
// them: the engine must not be condemned for it.
func TestACancelledCheckIsNoDamage(t *testing.T) {
	db := openTest(t, Options{Dir: t.TempDir(), Badger: small})
	for i := uint64(1); i <= 120; i++ {
		put(t, db, i, fmt.Sprint("kv:", i), string(randomBytes(i, 300_000)))
	}
	eventually(t, "a memtable is a table", func() bool { return len(db.gen.Load().bdb.Tables()) > 0 })
	v, err := db.ViewAt(db.Published())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	cancelled := 0
	for n := range int64(20) {
		ctx := &endsAfter{Context: t.Context()}
		ctx.n.Store(n)
		err := v.Whole(ctx, nil)
		if err != nil && (!errors.Is(err, context.Canceled) || errors.Is(err, ErrCorrupt)) {
			t.Fatalf("asked %d times: %v", n, err)
		}
		if err != nil {
			cancelled++
		}
	}
	if cancelled < 2 {
		t.Errorf("cancelled %d times: the test proves nothing", cancelled)
	}
	s, err := db.Snapshot(db.Published())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.WriteTo(t.Context(), new(memFile), snapshot.Header{}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A process that is out of files cannot open KEYREGISTRY; that says nothing of the engine.
// checkTables condemns it: snapshots, digests and backups of an encrypted engine come here.
func TestOutOfFilesIsNoDamageOfTheKeys(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	db := openTest(t, Options{Dir: t.TempDir(), Badger: small, EncryptionKey: key})
	put(t, db, 1, "kv:a", "v")
	dir := db.gen.Load().dir
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	_, err := newTableKeys(dir, key)
	if rerr := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); rerr != nil {
		t.Fatal(rerr)
	}
	if err == nil || errors.Is(err, ErrCorrupt) {
		t.Errorf("%v (corrupt: %v)", err, errors.Is(err, ErrCorrupt))
	}
}

// Damage in a table that was sound when it was first read: a scan of what it is in ends there without an
// error, and whoever asks afterwards hears of it; who scanned something else is not made to read it.
func TestDamageWithinAPrefix(t *testing.T) {
	db := openTest(t, Options{Dir: t.TempDir(), Badger: small})
	for i := uint64(1); i <= 120; i++ {
		put(t, db, i, fmt.Sprintf("kv:%c/%d", 'a'+i%3, i), string(randomBytes(i, 300_000)))
	}
	if _, err := db.Compact(t.Context()); err != nil { // and after that by itself no more
		t.Fatal(err)
	}
	v, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	damageBlock(t, db.gen.Load().dir, []byte("kv:b/"))
	for _, prefix := range []string{"kv:a/", "kv:c/", "kv:none", "svc:"} {
		if err := v.Whole(t.Context(), []byte(prefix)); err != nil {
			t.Fatalf("%s: %v", prefix, err)
		}
	}
	if err := v.Whole(t.Context(), []byte("kv:b/")); !errors.Is(err, ErrCorrupt) {
		t.Fatal("kv:b/: ", err)
	}
	if _, err := db.View(); !errors.Is(err, ErrCorrupt) {
		t.Fatal("the engine is still used: ", err)
	}
}

// damageBlock changes a byte of a block that begins with a key with prefix.
func damageBlock(t *testing.T, dir string, prefix []byte) {
	t.Helper()
	tables, err := manifestTables(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range tables {
		g, err := openGuarded(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer g.f.Close()
		for i := range g.blocks() - 1 { // the last one belongs to every reading
			if !bytes.HasPrefix(firstKey(g.index.Load(), i), prefix) {
				continue
			}
			f, err := os.OpenFile(file.path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			at, size := g.place(i)
			b := make([]byte, 1)
			if _, err := f.ReadAt(b, at+size/2); err != nil {
				t.Fatal(err)
			}
			b[0] ^= 1
			if _, err := f.WriteAt(b, at+size/2); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no block with %q", prefix)
}
