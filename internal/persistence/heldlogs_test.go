package persistence

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// killedEngine is a copy of an engine that is in use, as a kill would leave it: tables, one
// or more logs whose entries up to durable were promised, and some entries after them.
func killedEngine(t *testing.T, key []byte) (dir string, durable uint64) {
	t.Helper()
	live := t.TempDir()
	quiet := small // no compaction while the files are copied
	quiet.NumLevelZeroTables = 20
	db := openTest(t, Options{Dir: live, Badger: quiet, EncryptionKey: key})
	for durable = 1; durable <= 300; durable++ {
		put(t, db, durable, fmt.Sprintf("kv:%d", durable%70), string(randomBytes(durable, 60_000)))
	}
	durable--
	eventually(t, "full memtables are tables", func() bool { return len(logNames(t, live)) == 1 })
	if err := db.MakeDurable(context.Background(), durable); err != nil {
		t.Fatal(err)
	}
	put(t, db, durable+1, "kv:after", "1")
	dir = t.TempDir()
	copyEngine(t, live, dir)
	return dir, durable
}

func logNames(t *testing.T, dir string) []string {
	t.Helper()
	logs, err := logFiles(filepath.Join(dir, EngineDir, "1"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for id, size := range logs {
		if size > 0 {
			names = append(names, logName(id))
		}
	}
	slices.Sort(names)
	return names
}

// A log that was removed is damage, whoever did it and whether or not it was alone; one
// that was flushed is not.
func TestALostLogIsFound(t *testing.T) {
	for _, key := range [][]byte{nil, randomBytes(1, 32)} {
		dir, durable := killedEngine(t, key)
		names := logNames(t, dir)
		st, _, err := readState(filepath.Join(dir, EngineDir, "1"))
		if err != nil || !st.Held || len(names) == 0 {
			t.Fatal(err, st, names)
		}
		lost := func(what string, remove ...string) {
			t.Helper()
			copied := t.TempDir()
			copyEngine(t, dir, copied)
			for _, name := range remove {
				removeFile(t, filepath.Join(copied, EngineDir, "1"), name)
			}
			for range 2 { // the second time is no different
				db, err := Open(Options{Dir: copied, Badger: small, EncryptionKey: key, VerifyBehind: true}, nil)
				if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), filepath.Join(copied, EngineDir)) {
					if err == nil {
						closeDB(t, db)
					}
					t.Errorf("%s: %v, want ErrCorrupt with the path", what, err)
				}
			}
		}
		marked := false
		for _, name := range names {
			lost(name+" lost", name)
			if st.Logs[name] > logHeaderLen {
				marked = true
				lost(name+" and its second name lost", name, name+heldSuffix)
			}
		}
		if !marked {
			t.Error("no log held what was durable: the test proves nothing")
		}
		db := openTest(t, Options{Dir: dir, Badger: small, EncryptionKey: key})
		if got := db.MaxVersion(); got != durable+1 {
			t.Errorf("the whole engine has entries up to %d, want %d", got, durable+1)
		}
	}
}

// An engine without a cluster has nothing but its logs, and nobody makes it durable.
func TestALostLogOfAnEngineAlone(t *testing.T) {
	live, dir := t.TempDir(), t.TempDir()
	e, err := NewBadgerEngine(live, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := e.Set("a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	copyEngine(t, live, dir)
	for _, name := range logNames(t, dir) {
		removeFile(t, filepath.Join(dir, EngineDir, "1"), name)
	}
	if again, err := NewBadgerEngine(dir, true, nil); !errors.Is(err, ErrCorrupt) {
		if err == nil {
			_ = again.Close()
		}
		t.Fatalf("%v, want ErrCorrupt", err)
	}
}

// A start that follows a clean stop uses the names of logs again. What is written to
// them is not held against what the old ones had.
func TestALogsNameIsUsedAgain(t *testing.T) {
	dir, killed := t.TempDir(), t.TempDir()
	db := openTest(t, Options{Dir: dir, Badger: small})
	for i := uint64(1); i <= 40; i++ {
		put(t, db, i, fmt.Sprintf("kv:%d", i), string(randomBytes(i, 10_000)))
	}
	if err := db.MakeDurable(context.Background(), 40); err != nil {
		t.Fatal(err)
	}
	before := logNames(t, dir)
	closeDB(t, db)
	if left := logNames(t, dir); len(left) > 0 {
		t.Fatal("a clean stop left logs: ", left)
	}
	db = openTest(t, Options{Dir: dir, Badger: small})
	db.Publish(40)
	put(t, db, 41, "kv:41", "1")
	if again := logNames(t, dir); !slices.Equal(before, again) {
		t.Fatalf("logs %v, before %v: the test proves nothing", again, before)
	}
	copyEngine(t, dir, killed)
	again := openTest(t, Options{Dir: killed, Badger: small})
	if again.MaxVersion() != 41 || again.DurableIndex() != 40 {
		t.Fatal(again.MaxVersion(), again.DurableIndex())
	}
	// And from there on what is promised is kept as ever.
	if err := db.MakeDurable(context.Background(), 41); err != nil {
		t.Fatal(err)
	}
	killed = t.TempDir()
	copyEngine(t, dir, killed)
	st, _, err := readState(filepath.Join(killed, EngineDir, "1"))
	if err != nil || len(st.Logs) != 1 || st.Logs[before[0]] < logHeaderLen+20 {
		t.Fatal(st, err)
	}
	if again := openTest(t, Options{Dir: killed, Badger: small}); again.DurableIndex() != 41 {
		t.Fatal(again.DurableIndex())
	}
}

// A kill at any moment of a log's end is no damage: flushed, cut to nothing, removed, its
// mark forgotten, its second name removed. An older version has no second names.
func TestTheEndOfALogIsNoDamage(t *testing.T) {
	const log = "00004.mem"
	for name, c := range map[string]struct {
		files  map[string]string
		marked bool
		held   bool
	}{
		"cut to nothing":                  {map[string]string{log: "", log + heldSuffix: ""}, true, true},
		"removed":                         {map[string]string{log + heldSuffix: ""}, true, true},
		"its mark forgotten":              {map[string]string{log + heldSuffix: ""}, false, true},
		"its second name removed":         {nil, false, true},
		"allocated ahead":                 {map[string]string{log: "", log + heldSuffix: ""}, false, true},
		"allocated ahead, no second name": {map[string]string{log: ""}, false, true},
		"of an older version":             {nil, true, false},
		"of an older version, cut":        {map[string]string{log: ""}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, sum := closedEngine(t, 50)
			engine := filepath.Join(dir, EngineDir, "1")
			st := state{Durable: 50, Held: c.held}
			if c.marked {
				st.Logs = map[string]int64{log: 1000}
			}
			if err := st.write(engine); err != nil {
				t.Fatal(err)
			}
			for file, text := range c.files {
				writeText(t, engine, file, text)
			}
			for range 2 {
				db, err := Open(Options{Dir: dir, Badger: small}, nil)
				if err != nil {
					t.Fatal(err)
				}
				if mustDigest(t, db, 50) != sum {
					t.Error("another state")
				}
				closeDB(t, db)
			}
			if held, err := heldFiles(engine); err != nil || len(held) > 0 && slices.Contains(slices.Collect(maps.Keys(held)), log) {
				t.Error("left behind: ", held, err)
			}
		})
	}
}

// Second names go with their logs, also while the engine is in use.
func TestSecondNamesGo(t *testing.T) {
	db := openTest(t, Options{Dir: t.TempDir(), Badger: small})
	for i := uint64(1); i <= 1500; i++ {
		put(t, db, i, fmt.Sprintf("kv:%d", i%50), string(make([]byte, 60_000)))
		if i%100 == 0 {
			if err := db.MakeDurable(context.Background(), i); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "flushes end", func() bool {
		if err := db.MakeDurable(context.Background(), db.Published()); err != nil {
			t.Fatal(err)
		}
		db.gen.Load().tidyHeld()
		held, err := heldFiles(db.gen.Load().dir)
		if err != nil {
			t.Fatal(err)
		}
		for name := range held {
			if _, err := os.Stat(filepath.Join(db.gen.Load().dir, name)); err != nil {
				delete(held, name)
				return len(held) == 0
			}
		}
		return len(held) <= 4
	})
}

// An iterator held the logs of two memtables that are tables by now, and a compaction has
// dropped a value of the first and its deletion, of the second. The process ends when Badger
// has removed the second log and not yet the first: the value does not come back.
func TestAFlushedLogIsNotReplayed(t *testing.T) {
	for name, again := range map[string]bool{"at once": false, "and state.json was written meanwhile": true} {
		t.Run(name, func(t *testing.T) {
			live, dir := t.TempDir(), t.TempDir()
			db, g, ids := twoHeldLogs(t, live)
			index := db.Published()
			second := filepath.Join(g.dir, logName(ids[1]))
			if err := errors.Join(os.Truncate(second, 0), os.Remove(second)); err != nil { // as Badger does
				t.Fatal(err)
			}
			if again {
				index++
				put(t, db, index, "kv:again", "value")
				if err := db.MakeDurable(t.Context(), index); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "a copy between compactions", func() bool {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				before := g.bdb.Tables()
				return os.CopyFS(dir, os.DirFS(live)) == nil && sameTables(before, g.bdb.Tables())
			})
			sum, records := digestOf(t, db.mustView(t).eachThroughBadger)
			o := Options{Dir: dir, Badger: BadgerOptions{MemTableSize: minMemTableSize}}
			closeDB(t, openTest(t, o))
			db = openTest(t, o) // nor does a second start take the copy for damaged
			db.Publish(index)
			if got, n := digestOf(t, db.mustView(t).eachThroughBadger); got != sum {
				t.Errorf("%d records after the start, %d before", n, records)
			}
		})
	}
}
