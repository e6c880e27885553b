package persistence

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/neogan74/konsul/internal/snapshot"
)

func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(Options{Dir: dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 100; i++ {
		u := db.NewUpdate(i)
		tx := u.At(i)
		tx.Set(KVKey([]byte(fmt.Sprint(i%10))), []byte{1, byte(i)})
		if _, err := u.Commit(i); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	if err := db.MakeDurable(ctx, 100); err != nil {
		t.Fatal(err)
	}
	a, n, err := db.Digest(ctx, 100)
	if err != nil || n != 10 {
		t.Fatal(n, err)
	}
	s, _ := db.Snapshot(100)
	var buf bytes.Buffer
	if _, err := s.WriteTo(ctx, &buf, snapshot.Header{Keys: 10}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := db.Replace(ctx, bytes.NewReader(buf.Bytes())); err != nil {
		t.Fatal(err)
	}
	b, _, err := db.Digest(ctx, 100)
	if err != nil || a != b {
		t.Fatal("digest differs", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, err = Open(Options{Dir: dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _, err = db.Digest(ctx, 100)
	if err != nil || a != b {
		t.Fatal("digest differs", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
