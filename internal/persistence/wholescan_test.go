package persistence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// eachFunc is one of the ways to read the whole state.
type eachFunc func(context.Context, func(key, value []byte, version uint64) error) error

func digestOf(tb testing.TB, each eachFunc) (sum [32]byte, records int) {
	tb.Helper()
	h := sha256.New()
	err := each(tb.Context(), func(key, value []byte, version uint64) error {
		fmt.Fprintf(h, "%d %d %d|%s%s", len(key), len(value), version, key, value)
		records++
		return nil
	})
	if err != nil {
		tb.Error(err)
	}
	h.Sum(sum[:0])
	return sum, records
}

// sameBothWays compares what the files say at index with what Badger says; false if
// the files could not be read.
func sameBothWays(t *testing.T, db *DB, index uint64) bool {
	t.Helper()
	v, err := db.ViewAt(index)
	if err != nil {
		t.Error(err)
		return false
	}
	defer v.Close()
	s, err := v.openWhole()
	if err != nil || s == nil {
		if err != nil {
			t.Error(err)
		}
		return false
	}
	defer s.Close()
	got, n := digestOf(t, s.each)
	if want, records := digestOf(t, v.eachThroughBadger); got != want {
		t.Errorf("at %d the files have %d records, Badger %d, or other ones", index, n, records)
	}
	return true
}

// The files say what Badger says, at every index that can be read, while there are writes,
// flushes and compactions, whatever the files are like.
func TestTheFilesSayWhatBadgerSays(t *testing.T) {
	packed := small
	packed.BlockCacheSize = 0
	for name, o := range map[string]Options{
		"plain": {Badger: packed}, "packed": {Badger: small}, "encrypted": {Badger: small, EncryptionKey: bytes.Repeat([]byte{7}, 32)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.Dir = t.TempDir()
			o.History = History{MinAge: 1, MinIndexes: 500, MaxIndexes: 500}
			db := openTest(t, o)
			const entries = 4000
			var writing sync.WaitGroup
			defer writing.Wait()
			stop := make(chan struct{})
			defer close(stop)
			writing.Go(func() {
				r := rand.New(rand.NewPCG(1, 2))
				for i := uint64(1); i <= entries; i++ {
					select {
					case <-stop:
						return
					default:
					}
					u := db.NewUpdate(i)
					for range 8 {
						key := KVKey(fmt.Appendf(nil, "%s%d", []string{"", "long/common/prefix/"}[r.IntN(2)], r.IntN(2000)))
						if r.IntN(4) == 0 {
							u.At(i).Delete(key)
						} else {
							u.At(i).Set(key, randomBytes(r.Uint64(), r.IntN(8000)))
						}
					}
					if _, err := u.Commit(i); err != nil {
						t.Error(err)
						return
					}
				}
			})
			read, tries, levels := 0, 0, map[int]bool{}
			for db.Published() < entries && !t.Failed() {
				newest := db.Published()
				index := newest
				if tries++; tries%2 == 0 {
					index = max(db.Floor(), newest-min(newest, 20))
				}
				if sameBothWays(t, db, index) {
					read++
				}
				for _, table := range db.gen.Load().bdb.Tables() {
					levels[table.Level] = true
				}
			}
			if len(levels) < 2 || read < tries/2 || read < 3 {
				t.Errorf("read %d of %d times, tables on %d levels: the test proves little", read, tries, len(levels))
			}
		})
	}
}

// The files of a scan stay until it is closed, whatever Badger does meanwhile.
func TestAScanHoldsItsFiles(t *testing.T) {
	db := openTest(t, Options{Dir: t.TempDir(), Badger: small, History: History{MinAge: 1, MinIndexes: 1, MaxIndexes: 1, MaxBytes: 1}})
	index := uint64(0)
	write := func() {
		for range 300 {
			index++
			put(t, db, index, fmt.Sprint("kv:", index%100), string(randomBytes(index, 100_000)))
		}
	}
	write()
	v, err := db.ViewAt(index)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	want, _ := digestOf(t, v.eachThroughBadger)
	s, err := v.openWhole()
	if err != nil || s == nil {
		t.Fatal(s, err)
	}
	defer s.Close()
	before := db.gen.Load().bdb.Tables()
	for range 3 {
		write()
		if _, err := db.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ids := map[uint64]bool{}
	for _, table := range db.gen.Load().bdb.Tables() {
		ids[table.ID] = true
	}
	for _, table := range before {
		if ids[table.ID] {
			t.Errorf("table %d is still in use: the test proves less", table.ID)
		}
	}
	if got, n := digestOf(t, s.each); got != want {
		t.Errorf("%d records, or other ones", n)
	}
	if err := v.gen.sound(); err != nil {
		t.Error(err)
	}
}

// A log that ends before what is in the memtable is not believed.
func TestALogThatEndsTooEarlyIsNotRead(t *testing.T) {
	for name, harm := range map[string]func(b []byte){
		"zeros in it":   func(b []byte) { clear(b[len(b)/2 : len(b)/2+64]) },
		"a flipped bit": func(b []byte) { b[len(b)/2] ^= 1 },
	} {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", in a full log: ", old), func(t *testing.T) {
				db := openTest(t, Options{Dir: t.TempDir(), Badger: small})
				g := db.gen.Load()
				for i := uint64(1); i <= 50; i++ {
					put(t, db, i, fmt.Sprint("kv:", i), string(randomBytes(i, 1000)))
				}
				if !sameBothWays(t, db, 50) {
					t.Fatal("the files are not read")
				}
				logs, err := logFiles(g.dir)
				if err != nil {
					t.Fatal(err)
				}
				if old { // as if Badger were at the next one
					next := filepath.Join(g.dir, logName(newestUsed(logs)+1))
					if err := os.WriteFile(next, make([]byte, 4096), 0o600); err != nil {
						t.Fatal(err)
					}
					defer os.Remove(next)
				}
				for id, size := range logs {
					if size > 0 {
						harmLog(t, filepath.Join(g.dir, logName(id)), harm)
					}
				}
				if sameBothWays(t, db, 50) {
					t.Error("read from the files")
				}
				if _, n, err := db.Digest(t.Context(), 50); n != 50 || err != nil {
					t.Errorf("%d records, %v", n, err)
				}
			})
		}
	}
}

// Logs that were flushed stay while an iterator holds them, and a compaction may have dropped
// both what is in them and its deletion. Nothing of that comes back, whichever of them goes first.
func TestFlushedLogsBringNothingBack(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, dir string, ids []uint64){
		"all are there": func(*testing.T, string, []uint64) {},
		"the later one is gone": func(t *testing.T, dir string, ids []uint64) {
			t.Helper()
			if err := os.Remove(filepath.Join(dir, logName(ids[1]))); err != nil {
				t.Fatal(err)
			}
		},
		"the later one is cut to nothing": func(t *testing.T, dir string, ids []uint64) {
			t.Helper()
			if err := os.Truncate(filepath.Join(dir, logName(ids[1])), 0); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, g, ids := twoHeldLogs(t, t.TempDir())
			index := db.Published()
			harm(t, g.dir, ids)
			sum, records := digestOf(t, db.mustView(t).eachThroughBadger)
			if got, n := digestOf(t, db.mustView(t).each); got != sum {
				t.Errorf("%d records, Badger has %d", n, records)
			}
			_, err := readLogs(g.dir, map[uint64]int64{ids[0]: 1, ids[1]: 1}, nil, nil, index) // as they were listed
			if gone := name != "all are there"; gone != errors.Is(err, errMoved) || !gone && err != nil {
				t.Errorf("a log that went while it was read: %v", err)
			}
		})
	}
}

// twoHeldLogs makes an engine in dir with two logs, ids, of memtables that are tables; the
// first has a value, the second its deletion, and a compaction has dropped both.
func twoHeldLogs(t *testing.T, dir string) (db *DB, g *generation, ids []uint64) {
	t.Helper()
	o := Options{Dir: dir, Badger: BadgerOptions{MemTableSize: minMemTableSize, NumLevelZeroTables: 3}}
	o.History = History{MinAge: 1, MinIndexes: 1, MaxIndexes: 1, MaxBytes: 1}
	index := uint64(0)
	write := func(key, value string) {
		index++
		put(t, db, index, key, value)
	}
	fill := func() { // more than a memtable
		for i := range 9 {
			write(fmt.Sprint("kv:fill", i), string(randomBytes(index, 1_000_000)))
		}
	}
	db = openTest(t, o)
	for range 3 {
		fill()
	}
	closeDB(t, db) // what is left of these logs is a number
	db = openTest(t, o)
	db.Publish(index)
	g = db.gen.Load()
	write("kv:key", "value")
	fill() // the second memtable is the current one
	write("kv:key", "")
	reader, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Close)
	held := reader.txn.NewIterator(badger.IteratorOptions{})
	t.Cleanup(held.Close)
	fill()
	write("kv:more", "value")
	if err := db.MakeDurable(t.Context(), index); err != nil {
		t.Fatal(err)
	}
	db.AdvanceFloor(index)
	if _, err := db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	fill()
	fill()
	all := g.bdb.NewTransactionAt(index, false)
	defer all.Discard()
	it := all.NewIterator(badger.IteratorOptions{AllVersions: true, Prefix: []byte("kv:key")})
	defer it.Close()
	if it.Rewind(); it.Valid() {
		t.Fatalf("version %d is still there", it.Item().Version())
	}
	logs, err := logFiles(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(logs, func(_ uint64, size int64) bool { return size == 0 })
	ids = slices.Sorted(maps.Keys(logs))
	if len(ids) < 3 || ids[1] != ids[0]+1 {
		t.Fatalf("logs %v: the reader does not hold two", ids)
	}
	return db, g, ids
}

// mustView is a view until the end of the test.
func (db *DB) mustView(t *testing.T) *View {
	t.Helper()
	v, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func newestUsed(logs map[uint64]int64) (newest uint64) {
	for id, size := range logs {
		if size > 0 {
			newest = max(newest, id)
		}
	}
	return newest
}

// harmLog changes the part of a log that has records.
func harmLog(t *testing.T, path string, harm func(b []byte)) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := newLogReader(f, logHeaderLen)
	for err == nil {
		_, err = r.record()
	}
	b := make([]byte, r.at)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	harm(b)
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

// A table that is damaged on disk ends a scan with an error, and condemns the engine.
func TestAScanFindsDamage(t *testing.T) {
	db := openTest(t, Options{Dir: t.TempDir(), Badger: BadgerOptions{MemTableSize: minMemTableSize}})
	for i := uint64(1); i <= 120; i++ {
		put(t, db, i, fmt.Sprint("kv:", i), string(randomBytes(i, 300_000)))
	}
	eventually(t, "a memtable is a table", func() bool { return len(db.gen.Load().bdb.Tables()) > 0 })
	v, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	s, err := v.openWhole() // the files stay from here on
	if err != nil || s == nil {
		t.Fatal(s, err)
	}
	defer s.Close()
	for _, r := range s.runs {
		if tables, ok := r.scanSource.(*tableSource); ok {
			harmFile(t, tables.files[0].path)
		}
	}
	err = s.each(t.Context(), func([]byte, []byte, uint64) error { return nil })
	if !errors.Is(err, ErrCorrupt) || v.gen.sound() == nil {
		t.Errorf("%v; %v", err, v.gen.sound())
	}
}

func harmFile(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{b[len(b)/2] ^ 1}, int64(len(b)/2)); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkEach compares the two ways to read all of 200,000 records.
func BenchmarkEach(b *testing.B) {
	db := benchDB(b, 200_000)
	v, err := db.View()
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	for name, each := range map[string]eachFunc{"files": v.each, "badger": v.eachThroughBadger} {
		b.Run(name, func(b *testing.B) {
			before := cpuTime(b)
			for range b.N {
				size := 0
				err := each(b.Context(), func(key, value []byte, _ uint64) error {
					size += len(key) + len(value)
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(size))
			}
			b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N)/200_000, "cpu-ns/record")
		})
	}
}
