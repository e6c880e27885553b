package persistence

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// A memtable's log is read whatever size memtables were when it was written: a node that
// crashed may be started with other settings, or by a version with other defaults. Badger
// would end the process at one that does not fit.
func TestLogsOfLargerMemtables(t *testing.T) {
	const entries, each = 90, 1000
	live := t.TempDir()
	db := openTest(t, Options{Dir: live, Badger: BadgerOptions{MemTableSize: 16 << 20}})
	key := func(i, k int) string { return fmt.Sprintf("k%02d-%04d", i, k) }
	for i := 1; i <= entries; i++ { // 12 MiB, in small records, which take more of a memtable than of its log
		pairs := make([]string, 0, 2*each)
		for k := range each {
			pairs = append(pairs, key(i, k), fmt.Sprintf("%0100d", i*k))
		}
		put(t, db, uint64(i), pairs...)
	}
	copied := func(t *testing.T, old bool) string {
		t.Helper()
		dir := t.TempDir()
		copyEngine(t, live, dir)
		if old { // as a version wrote it that did not know of the size
			sub := filepath.Join(dir, EngineDir, "1")
			st, known, err := readState(sub)
			if err != nil || !known || st.MemTableSize != 16<<20 {
				t.Fatalf("%+v, %v, %v", st, known, err)
			}
			st.MemTableSize = 0
			if err := st.write(sub); err != nil {
				t.Fatal(err)
			}
		}
		if logs, err := logFiles(filepath.Join(dir, EngineDir, "1")); err != nil || len(logs) == 0 {
			t.Fatalf("logs %v, %v: the test proves nothing", logs, err)
		}
		return dir
	}
	for name, old := range map[string]bool{"noted": false, "by an older version": true} {
		t.Run(name, func(t *testing.T) {
			dir := copied(t, old)
			for _, size := range []int64{8 << 20, 32 << 20} {
				db := openTest(t, Options{Dir: dir, Badger: BadgerOptions{MemTableSize: size}, VerifyBehind: true})
				if got := db.MaxVersion(); got != entries {
					t.Fatalf("entries up to %d, want %d", got, entries)
				}
				st, _, err := readState(filepath.Join(dir, EngineDir, "1"))
				if err != nil || st.MemTableSize != size {
					t.Fatalf("noted %d, %v, want %d", st.MemTableSize, err, size)
				}
				db.Publish(entries)
				v, err := db.View()
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				err = v.Scan([]byte("k"), nil, func(_, _ []byte) error { n++; return nil })
				v.Close()
				if err != nil || n != entries*each {
					t.Fatalf("%d keys, %v", n, err)
				}
				closeDB(t, db)
			}
		})
	}
}

// Damage that a compaction meets (gate) while logs of larger memtables are drained is noted
// in state.json, and the drain writes state.json anew without it.
func TestDamageFoundInADrainStays(t *testing.T) {
	live, dir := t.TempDir(), t.TempDir()
	db := openTest(t, Options{Dir: live, Badger: BadgerOptions{MemTableSize: 16 << 20}})
	for i := uint64(1); i <= 20; i++ {
		put(t, db, i, fmt.Sprintf("kv:%d", i), "v")
	}
	copyEngine(t, live, dir)
	o := Options{Dir: dir, Badger: BadgerOptions{MemTableSize: 8 << 20}.withDefaults()}
	other := &DB{opts: o, log: hclog.NewNullLogger(), closing: make(chan struct{})}
	g := &generation{name: "1", dir: filepath.Join(dir, EngineDir, "1"), done: make(chan struct{}), synced: map[string]bool{}}
	st, known, err := readState(g.dir)
	if err != nil || !known {
		t.Fatal(known, err)
	}
	if err := g.settleLogs(&st); err != nil {
		t.Fatal(err)
	}
	other.damaged(g, fmt.Errorf("%w: found by the gate of a compaction", ErrCorrupt))
	if _, _, err := readState(g.dir); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("not noted: %v", err)
	}
	err = g.drainLogs(other, &st, known, true)
	if gd := g.guard.Load(); gd != nil {
		gd.close()
	}
	if _, _, serr := readState(g.dir); err == nil || !errors.Is(serr, ErrCorrupt) {
		t.Errorf("drained: %v; noted: %v", err, serr)
	}
}
