package persistence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// damageLog takes what Options.Damaged is told.
type damageLog chan error

func (d damageLog) note(err error) { d <- err }

func (d damageLog) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-d:
		if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told of the damage")
	}
}

const (
	behindKeys  = 3000
	behindIndex = 2 * behindKeys
)

func behindKey(i int) []byte { return fmt.Appendf(nil, "kv:%06d", i) }

func behindValue(i int, index uint64) []byte { return randomBytes(uint64(i)*7+index, 200) }

// behindEngine makes an engine with keys of two versions each, some in tables and
// the last in a memtable's log, as a kill leaves it.
func behindEngine(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	db := openTest(t, Options{Dir: dir, Badger: small})
	index := uint64(0)
	round := func(keys int) {
		for i := range keys {
			index++
			put(t, db, index, string(behindKey(i)), string(behindValue(i, index)))
		}
	}
	round(behindKeys)
	if err := db.MakeDurable(context.Background(), index); err != nil {
		t.Fatal(err)
	}
	closeDB(t, db) // flushes
	db = openTest(t, Options{Dir: dir, Badger: small})
	db.Publish(index)
	round(behindKeys)
	if err := db.MakeDurable(context.Background(), index); err != nil {
		t.Fatal(err)
	}
	if index != behindIndex {
		t.Fatal(index)
	}
	killed := t.TempDir()
	copyEngine(t, dir, killed)
	return killed
}

func copyEngine(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func openBehind(dir string, told damageLog) (*DB, error) {
	// So slow that the background never gets there before the reads.
	return Open(Options{Dir: dir, Badger: small, VerifyBehind: true, VerifyRate: 1, Damaged: told.note}, nil)
}

// readAll reads every key, one by one in random order and in scans, and says whether all are right; an
// error is what a read gave.
func readAll(t *testing.T, db *DB, r *rand.Rand) error {
	t.Helper()
	v, err := db.View()
	if err != nil {
		return err
	}
	defer v.Close()
	if v.Index() != behindIndex {
		return fmt.Errorf("published is %d, not %d", v.Index(), behindIndex)
	}
	check := func(i int, value []byte, found bool) {
		if want := behindValue(i, uint64(behindKeys+i+1)); !found || !bytes.Equal(value, want) {
			t.Fatalf("key %d: wrong value, found %v", i, found)
		}
	}
	if r.IntN(2) == 0 {
		for _, i := range r.Perm(behindKeys)[:behindKeys/3] {
			value, found, err := v.Get(behindKey(i))
			if err != nil {
				return err
			}
			check(i, value, found)
		}
	}
	for from := 0; from < behindKeys; {
		n := 1 + r.IntN(behindKeys/4)
		next := from
		err := v.Scan([]byte("kv:"), behindKey(from), func(key, value []byte) error {
			if !bytes.Equal(key, behindKey(next)) {
				t.Fatalf("scan shows %q, not %q", key, behindKey(next))
			}
			check(next, value, true)
			if next++; next-from == n {
				return ErrStop
			}
			return nil
		})
		if err != nil {
			return err
		}
		if next == from {
			t.Fatalf("scan from %d shows nothing", from)
		}
		from = next
	}
	// The versions before, and history.
	seen := 0
	h, err := db.historyView(0, behindIndex)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.history(context.Background(), nil, 0, func(*badger.Item) error { seen++; return nil }); err != nil {
		return err
	}
	if seen != behindIndex {
		t.Fatalf("the history has %d changes, not %d", seen, behindIndex)
	}
	return nil
}

// TestDamageIsNeverShown flips bits anywhere in an engine's files: it opens and
// all that is read is right, or there is an error.
func TestDamageIsNeverShown(t *testing.T) {
	whole := behindEngine(t)
	var files []string
	for _, pattern := range []string{"*.sst", "*.mem", "*.vlog", "MANIFEST", "state.json", "KEYREGISTRY", "DISCARD"} {
		found, err := filepath.Glob(filepath.Join(whole, EngineDir, "1", pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	files = append(files, filepath.Join(whole, EngineDir, "CURRENT"))
	r := rand.New(rand.NewPCG(4, 4))
	refused, failed, unharmed := 0, 0, 0
	for _, path := range files {
		name, err := filepath.Rel(whole, path)
		if err != nil {
			t.Fatal(err)
		}
		rounds := 1
		if ext := filepath.Ext(name); ext == ".sst" || ext == ".mem" {
			rounds = 6
		}
		for range rounds {
			dir := t.TempDir()
			copyEngine(t, whole, dir)
			what := flipBit(t, filepath.Join(dir, name), r)
			told := make(damageLog, 1)
			db, err := openBehind(dir, told)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s: %v, not ErrCorrupt", what, err)
				}
				refused++
				continue
			}
			if db.DurableIndex() != behindIndex {
				t.Errorf("%s: the durable index is %d", what, db.DurableIndex())
			}
			t.Log(what)
			switch err := readAll(t, db, r); {
			case err == nil:
				unharmed++
			case !errors.Is(err, ErrCorrupt):
				t.Errorf("%s: %v, not ErrCorrupt", what, err)
			default:
				failed++
				told.wait(t)
				if err := readAll(t, db, r); !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s: read on: %v", what, err)
				}
			}
			closeDB(t, db)
			if len(told) == 0 {
				continue
			}
			if _, err := openBehind(dir, told); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: the next open: %v", what, err)
			}
		}
	}
	t.Logf("%d refused, %d failed, %d unharmed", refused, failed, unharmed)
	if refused == 0 || failed == 0 {
		t.Error("the test proves nothing")
	}
}

// flipBit flips a bit of the file's part that is in use.
func flipBit(t *testing.T, path string, r *rand.Rand) (what string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(b, "\x00"))
	if used == 0 {
		return path + ": empty"
	}
	at := r.IntN(used)
	b[at] ^= 1 << r.IntN(8)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s: byte %d of %d", filepath.Base(path), at, used)
}

// TestWholeEngineBehind: without damage all is read, the background comes to its
// end, and nothing is left of the guard.
func TestWholeEngineBehind(t *testing.T) {
	dir := behindEngine(t)
	told := make(damageLog, 1)
	db, err := Open(Options{Dir: dir, Badger: small, VerifyBehind: true, VerifyRate: 1 << 30, Damaged: told.note}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeDB(t, db)
	if err := readAll(t, db, rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all tables are verified", func() bool { return db.Unverified() == 0 && db.gen.Load().guard.Load() == nil })
	if err := readAll(t, db, rand.New(rand.NewPCG(1, 2))); err != nil {
		t.Fatal(err)
	}
}

// TestBackgroundFindsDamage: nobody reads the damaged block.
func TestBackgroundFindsDamage(t *testing.T) {
	dir := behindEngine(t)
	tables, err := filepath.Glob(filepath.Join(dir, EngineDir, "1", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	b, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(tables[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	told := make(damageLog, 1)
	db, err := Open(Options{Dir: dir, Badger: small, VerifyBehind: true, Damaged: told.note}, nil)
	if err != nil {
		t.Fatal(err)
	}
	told.wait(t)
	if _, err := db.View(); !errors.Is(err, ErrCorrupt) {
		t.Fatal("reading a damaged engine: ", err)
	}
	closeDB(t, db)
	if _, err := openBehind(dir, told); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

// TestCompactionWaits: a compaction of tables that were not read since the start is
// not put in place before they are, nor when the engine closes meanwhile.
func TestCompactionWaits(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, Options{Dir: dir, Badger: small})
	for i := uint64(1); i <= 400; i++ {
		put(t, db, i, fmt.Sprintf("kv:%03d", i), string(randomBytes(i, 100_000)))
	}
	if err := db.MakeDurable(context.Background(), 400); err != nil {
		t.Fatal(err)
	}
	closeDB(t, db)
	db, err := openBehind(dir, make(damageLog, 1))
	if err != nil {
		t.Fatal(err)
	}
	g := db.gen.Load()
	gd := g.guard.Load()
	if gd == nil || gd.done.Load() {
		t.Fatal("nothing is guarded")
	}
	if err := g.bdb.Flatten(1); err != nil {
		t.Fatal(err)
	}
	if !gd.done.Load() {
		t.Error("a compaction was put in place before its tables were verified")
	}
	closeDB(t, db)
}
