package persistence

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/neogan74/konsul/internal/snapshot"
)

// small makes flushes and compactions happen early.
var small = BadgerOptions{MemTableSize: minMemTableSize, NumMemtables: 2, NumLevelZeroTables: 2, BlockCacheSize: 8 << 20}

// openTest opens an engine and closes it at the end of the test.
func openTest(tb testing.TB, o Options) *DB {
	tb.Helper()
	db, err := Open(o, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Errorf("closing: %v", err)
		}
	})
	return db
}

// put applies one entry that writes pairs of stored key and value; an empty value
// deletes.
func put(tb testing.TB, db *DB, index uint64, pairs ...string) []Change {
	tb.Helper()
	u := db.NewUpdate(index)
	tx := u.At(index)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			tx.Delete([]byte(pairs[i]))
		} else {
			tx.Set([]byte(pairs[i]), []byte(pairs[i+1]))
		}
	}
	changes, err := u.Commit(index)
	if err != nil {
		tb.Fatal(err)
	}
	return changes
}

func mustDigest(tb testing.TB, db *DB, index uint64) [32]byte {
	tb.Helper()
	sum, _, err := db.Digest(context.Background(), index)
	if err != nil {
		tb.Fatal(err)
	}
	return sum
}

// takeSnapshot streams the state at index into memory.
func takeSnapshot(tb testing.TB, db *DB, index uint64, h snapshot.Header) []byte {
	tb.Helper()
	s, err := db.Snapshot(index)
	if err != nil {
		tb.Fatal(err)
	}
	defer s.Close()
	var buf bytes.Buffer
	if _, err := s.WriteTo(context.Background(), &buf, h); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// memFile is written once and read many times.
type memFile struct{ bytes.Buffer }

func (m *memFile) reader() io.Reader { return bytes.NewReader(m.Bytes()) }

var testSnapshotHeader = snapshot.Header{ClusterID: "test"}

// randomBytes are bytes that do not compress, the same for the same seed.
func randomBytes(seed uint64, n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return b
}

// changesPage is the first page of the changes behind after; more says that there are others up to upTo.
func changesPage(ctx context.Context, db *DB, prefix []byte, after, upTo uint64, limit int) (changes []Change, more bool, err error) {
	changes, complete, err := db.Backlog(prefix).Next(ctx, after, upTo, limit)
	return changes, complete < min(upTo, db.Published()), err
}
