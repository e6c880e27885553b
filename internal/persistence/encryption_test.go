package persistence

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// TestEncryptedEngine: nothing that was stored can be read in the engine's files,
// they open with the same key only, and damage is still found.
func TestEncryptedEngine(t *testing.T) {
	dir := t.TempDir()
	key := bytes.Repeat([]byte{7}, 32)
	open := func(key []byte) (*DB, error) {
		return Open(Options{Dir: dir, EncryptionKey: key, Badger: BadgerOptions{MemTableSize: minMemTableSize}}, hclog.NewNullLogger())
	}
	db, err := open(key)
	if err != nil {
		t.Fatal(err)
	}
	const n = 2000
	secret := []byte("the secret is out")
	value := bytes.Repeat(secret, 300) // 10 MB in all: more than one memtable
	for i := uint64(1); i <= n; i++ {
		u := db.NewUpdate(i)
		u.At(i).Set(KVKey(fmt.Appendf(nil, "secret key %d", i)), value)
		if _, err := u.Commit(i); err != nil {
			t.Fatal(err)
		}
	}
	digest, _, err := db.Digest(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.MakeDurable(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	closeDB(t, db)

	tables := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(b, []byte("secret key")) || bytes.Contains(b, secret) {
			t.Errorf("%s holds data in the clear", path)
		}
		if filepath.Ext(path) == ".sst" {
			tables++
		}
		return nil
	})
	if err != nil || tables == 0 {
		t.Fatalf("%d tables, %v", tables, err)
	}
	for name, wrong := range map[string][]byte{"no key": nil, "another key": bytes.Repeat([]byte{8}, 32)} {
		if db, err := open(wrong); err == nil {
			closeDB(t, db)
			t.Errorf("opened with %s", name)
		}
	}

	db, err = open(key)
	if err != nil {
		t.Fatal(err)
	}
	db.Publish(n)
	again, _, err := db.Digest(t.Context(), n)
	if err != nil || again != digest {
		t.Errorf("another digest after opening again: %v", err)
	}
	live := db.gen.Load().dir
	closeDB(t, db)

	sst, err := filepath.Glob(filepath.Join(live, "*.sst"))
	if err != nil || len(sst) == 0 {
		t.Fatal(sst, err)
	}
	b, err := os.ReadFile(sst[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/3] ^= 1
	if err := os.WriteFile(sst[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := verifyTables(t.Context(), live, key, false, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a flipped bit in a table: %v", err)
	}
}

func closeDB(t *testing.T, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
