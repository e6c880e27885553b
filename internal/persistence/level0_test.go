package persistence

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/internal/snapshot"
)

// While Badger's first compaction out of level zero goes on, another may merge newer tables
// of level zero with each other. It drops deletions if no lower level has their keys' range:
// what they deleted is in the tables of the first.
func TestADeletionOutlivesAMergeOfLevelZero(t *testing.T) {
	for name, low := range map[string]bool{"no lower level": false, "a lower level with other keys": true} {
		t.Run(name, func(t *testing.T) { deletionOutlivesMerge(t, low) })
	}
}

func deletionOutlivesMerge(t *testing.T, low bool) {
	t.Helper()
	for range 20 { // either of two compactors may come first
		db, stop := firstCompaction(t, low)
		if db == nil {
			continue
		}
		index := db.Published() + 1
		put(t, db, index, "kv:key", "")
		for range 6 {
			index = fillMemtable(t, db, index)
		}
		if err := db.MakeDurable(t.Context(), index); err != nil {
			t.Fatal(err)
		}
		db.AdvanceFloor(index)
		g := db.gen.Load()
		deadline := time.Now().Add(30 * time.Second) // Badger merges tables that are 10 s old
		for !hasTable(g, func(t badger.TableInfo) bool { return t.Level == 0 && t.OnDiskSize > 3*minMemTableSize }) {
			if time.Now().After(deadline) {
				t.Fatal("no tables were merged")
			}
			time.Sleep(50 * time.Millisecond)
		}
		stop()
		eventually(t, "the first compaction ends", func() bool {
			return hasTable(g, func(t badger.TableInfo) bool { return t.Level > 0 && t.OnDiskSize > 1<<20 })
		})
		if value, found, err := db.mustView(t).Get([]byte("kv:key")); err != nil || found {
			t.Errorf("the key is back: %d bytes, %v", len(value), err)
		}
		return
	}
	t.Fatal("the compactor that merges was always first")
}

// firstCompaction is an engine whose first compaction, which has kv:key, is held up until
// stop is called; nil if the compactor did it that merges tables of level zero.
func firstCompaction(t *testing.T, low bool) (*DB, func()) {
	t.Helper()
	hold := holdCompaction{hclog.NewNullLogger(), new(atomic.Bool), make(chan string, 1), make(chan struct{})}
	db, err := Open(Options{Dir: t.TempDir(), Badger: BadgerOptions{MemTableSize: minMemTableSize},
		History: History{MinAge: 1, MinIndexes: 1, MaxIndexes: 1, MaxBytes: 1}}, hold)
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() { close(hold.goOn) })
	t.Cleanup(func() {
		stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if low {
		put(t, db, 1, "sys:cluster", "id")
		replaceByItself(t, db)
	}
	put(t, db, 2, "kv:key", "value")
	for index := uint64(2); ; {
		index = fillMemtable(t, db, index)
		select {
		case line := <-hold.first:
			if strings.Contains(line, "[0] LOG") {
				stop()
				return nil, nil
			}
			return db, stop
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// holdCompaction is a log; whoever logs the first compaction there waits.
type holdCompaction struct {
	hclog.Logger
	held  *atomic.Bool
	first chan string
	goOn  chan struct{}
}

func (h holdCompaction) Named(string) hclog.Logger { return h }
func (h holdCompaction) IsTrace() bool             { return true }

func (h holdCompaction) Trace(msg string, _ ...any) {
	if strings.Contains(msg, "LOG Compact. Added") && h.held.CompareAndSwap(false, true) {
		h.first <- msg
		<-h.goOn
	}
}

// replaceByItself brings all that db has into the lowest level.
func replaceByItself(t *testing.T, db *DB) {
	t.Helper()
	v, err := db.Snapshot(db.Published())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	_, err = v.WriteTo(t.Context(), &b, snapshot.Header{ClusterID: "id"})
	v.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Replace(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if g := db.gen.Load(); !hasTable(g, func(t badger.TableInfo) bool { return t.Level > 0 }) {
		t.Fatal("there is no lower level")
	}
}

func fillMemtable(t *testing.T, db *DB, index uint64) uint64 {
	t.Helper()
	for range 9 {
		index++
		put(t, db, index, fmt.Sprint("kv:fill", index), string(randomBytes(index, 1_000_000)))
	}
	return index
}

func hasTable(g *generation, is func(badger.TableInfo) bool) bool {
	for _, t := range g.bdb.Tables() {
		if is(t) {
			return true
		}
	}
	return false
}

func TestTablesThatAStartPutsInTheWrongOrder(t *testing.T) {
	table := func(level int, id, version uint64) badger.TableInfo {
		return badger.TableInfo{Level: level, ID: id, MaxVersion: version}
	}
	from := func(t badger.TableInfo, left, right string) badger.TableInfo {
		version := string(make([]byte, 8))
		t.Left, t.Right = []byte(left+version), []byte(right+version)
		return t
	}
	for name, c := range map[string]struct {
		tables []badger.TableInfo
		want   bool
	}{
		"none":                              {nil, false},
		"by age":                            {[]badger.TableInfo{table(0, 2, 20), table(0, 1, 10), table(0, 3, 20)}, false},
		"lower levels do not count":         {[]badger.TableInfo{from(table(0, 2, 20), "c", "d"), from(table(6, 3, 10), "a", "d")}, false},
		"a merge that took its number last": {[]badger.TableInfo{table(0, 7, 60), table(0, 8, 70), table(0, 9, 50)}, true},
		"a newer one has gone down before":  {[]badger.TableInfo{from(table(0, 9, 50), "a", "z"), from(table(6, 10, 60), "b", "b")}, true},
		"a newer one beside it is below":    {[]badger.TableInfo{from(table(0, 9, 50), "a", "c"), from(table(6, 10, 60), "d", "e")}, false},
	} {
		if got := disordered(c.tables); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	g, low := new(generation), from(table(6, 1, 1), "a", "z")
	if !g.settled([]badger.TableInfo{from(table(0, 10, 50), "a", "z"), low}) {
		t.Error("not settled without them")
	}
	if g.settled([]badger.TableInfo{from(table(0, 10, 50), "zz", "zzz"), low}) {
		t.Error("settled with nothing below")
	}
}

// What Badger was told of the floor is taken back also while the floor cannot be written.
func TestTheFloorIsTakenBackWhenItCannotBeWritten(t *testing.T) {
	db, err := Open(Options{Dir: t.TempDir(), Badger: BadgerOptions{MemTableSize: minMemTableSize},
		History: History{MinAge: 1, MinIndexes: 1, MaxIndexes: 1, MaxBytes: 1}}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	put(t, db, 1, "sys:cluster", "id")
	put(t, db, 2, "kv:a", "value")
	replaceByItself(t, db)
	g := db.gen.Load()
	index := db.Published()
	eventually(t, "Badger is told of the floor", func() bool {
		index = fillMemtable(t, db, index)
		if err := db.MakeDurable(t.Context(), index); err != nil {
			t.Fatal(err)
		}
		db.AdvanceFloor(index)
		return g.discarded > 0
	})
	if err := os.Mkdir(filepath.Join(g.dir, "state.json.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	index = fillMemtable(t, db, index)
	if err := db.MakeDurable(t.Context(), index); err == nil {
		t.Fatal("the state was written")
	}
	g.durable.Store(index)
	g.compactions.mistrust()
	db.AdvanceFloor(index)
	if g.noted == g.floor.Load() {
		t.Fatal("the floor was written")
	}
	if g.discarded > 0 {
		t.Errorf("Badger may drop what is below %d", g.discarded)
	}
	if err := os.Remove(filepath.Join(g.dir, "state.json.tmp")); err != nil {
		t.Fatal(err)
	}
}
