package persistence

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// closedEngine makes an engine with n entries, durable, and closes it.
func closedEngine(t *testing.T, n uint64) (dir string, sum [32]byte) {
	t.Helper()
	dir = t.TempDir()
	db := filled(t, Options{Dir: dir, Badger: small}, n)
	sum = mustDigest(t, db, n)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, sum
}

func TestOpenSweepsLeftovers(t *testing.T) {
	dir, sum := closedEngine(t, 20)
	root := filepath.Join(dir, EngineDir)
	for _, name := range []string{"2", "17"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name, "000001.sst"), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "CURRENT.tmp"), []byte("17"), 0o600); err != nil {
		t.Fatal(err)
	}
	db := openTest(t, Options{Dir: dir, Badger: small})
	if got := strings.Join(engineFiles(t, dir), " "); got != "1 CURRENT LOCK" {
		t.Fatal(got)
	}
	if mustDigest(t, db, 20) != sum {
		t.Fatal("another state")
	}
}

func TestOpenFindsDamage(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, root string){
		"CURRENT lost":           func(t *testing.T, root string) { t.Helper(); removeFile(t, root, "CURRENT") },
		"CURRENT is nonsense":    func(t *testing.T, root string) { t.Helper(); writeText(t, root, "CURRENT", "../../etc") },
		"CURRENT names nothing":  func(t *testing.T, root string) { t.Helper(); writeText(t, root, "CURRENT", "9\n") },
		"state.json lost":        func(t *testing.T, root string) { t.Helper(); removeFile(t, root, "1/state.json") },
		"state.json is nonsense": func(t *testing.T, root string) { t.Helper(); writeText(t, root, "1/state.json", "{") },
		"MANIFEST is nonsense": func(t *testing.T, root string) {
			t.Helper()
			writeText(t, root, "1/MANIFEST", "hello, this is not one")
		},
		"MANIFEST lost": func(t *testing.T, root string) { t.Helper(); removeFile(t, root, "1/MANIFEST") },
		"MANIFEST and state.json lost": func(t *testing.T, root string) {
			t.Helper()
			removeFile(t, root, "1/MANIFEST")
			removeFile(t, root, "1/state.json")
		},
		"a table lost": func(t *testing.T, root string) { t.Helper(); removeFile(t, root, "1/000001.sst") },
		"a table cut off": func(t *testing.T, root string) {
			t.Helper()
			damageTable(t, root, func(b []byte) []byte { return b[:len(b)/2] })
		},
		"a table with one bit flipped": func(t *testing.T, root string) {
			t.Helper()
			damageTable(t, root, func(b []byte) []byte { b[len(b)/5] ^= 4; return b })
		},
		"a table of zeros": func(t *testing.T, root string) {
			t.Helper()
			damageTable(t, root, func(b []byte) []byte { clear(b); return b })
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := closedEngine(t, 200)
			damage(t, filepath.Join(dir, EngineDir))
			db, err := Open(Options{Dir: dir, Badger: small}, nil)
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), dir) {
				if err == nil {
					_ = db.Close()
				}
				t.Fatalf("%v, want ErrCorrupt with the path", err)
			}
			if err := Reset(dir); err != nil {
				t.Fatal(err)
			}
			db = openTest(t, Options{Dir: dir, Badger: small})
			if db.MaxVersion() != 0 || db.DurableIndex() != 0 || db.Floor() != 0 {
				t.Fatal("a reset engine is not empty")
			}
			put(t, db, 1, "kv:a", "1")
			if n := len(engineFiles(t, dir)); n != 3 {
				t.Fatal("the damaged engine is still there: ", engineFiles(t, dir))
			}
		})
	}
}

func removeFile(t *testing.T, root, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(root, name)); err != nil {
		t.Fatal(err)
	}
}

func writeText(t *testing.T, root, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func damageTable(t *testing.T, root string, change func([]byte) []byte) {
	t.Helper()
	path := filepath.Join(root, "1", "000001.sst")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, root, "1/000001.sst", string(change(b)))
}

// TestOpenTakesEmptyLogs: a crash between Badger's truncating a flushed log and
// removing it leaves a file of length 0, which Badger itself fails to open.
func TestOpenTakesEmptyLogs(t *testing.T) {
	dir, sum := closedEngine(t, 50)
	writeText(t, filepath.Join(dir, EngineDir), "1/00003.mem", "")
	writeText(t, filepath.Join(dir, EngineDir), "1/00009.mem", "")
	writeText(t, filepath.Join(dir, EngineDir), "1/000005.vlog", "")
	db := openTest(t, Options{Dir: dir, Badger: small})
	if mustDigest(t, db, 50) != sum {
		t.Fatal("another state")
	}
}

func TestFilesArePrivate(t *testing.T) {
	dir, _ := closedEngine(t, 5)
	for _, name := range []string{"", "1"} {
		info, err := os.Stat(filepath.Join(dir, EngineDir, name))
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%q: %v, %v", name, info.Mode(), err)
		}
	}
}

// TestCloseLeavesNothing: no goroutine, no file, no metric.
func TestCloseLeavesNothing(t *testing.T) {
	reg := prometheus.NewRegistry()
	dir := t.TempDir()
	life := func() {
		db, err := Open(Options{Dir: dir, Badger: small, Registerer: reg}, nil)
		if err != nil {
			t.Fatal(err)
		}
		put(t, db, db.MaxVersion()+1, "kv:a", "x")
		file := takeSnapshot(t, db, db.Published(), testSnapshotHeader)
		if _, err := db.Replace(context.Background(), strings.NewReader(string(file))); err != nil {
			t.Fatal(err)
		}
		if n, err := reg.Gather(); err != nil || len(n) == 0 {
			t.Fatal(n, err)
		}
		if err := errors.Join(db.Close(), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	life() // what is made once and kept
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 5 {
		life()
	}
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
	if n := openFiles(t); n > files {
		t.Fatalf("%d files open, before %d", n, files)
	}
	if n, err := reg.Gather(); err != nil || len(n) != 0 {
		t.Fatal(n, err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestCloseWaitsForViews: a reader on the way when the engine closes gets an
// answer or ErrClosed, never a fault.
func TestCloseWaitsForViews(t *testing.T) {
	db := filled(t, Options{Dir: t.TempDir(), Badger: small}, 20)
	view, err := db.View()
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() { closed <- db.Close() }()
	eventually(t, "it refuses new readers", func() bool {
		v, err := db.View()
		if err == nil {
			v.Close()
		}
		return errors.Is(err, ErrClosed)
	})
	if v, found, err := view.Get([]byte("kv:k1")); string(v) != "11" || !found || err != nil {
		t.Fatal(string(v), found, err)
	}
	select {
	case err := <-closed:
		t.Fatal("closed under a reader", err)
	default:
	}
	view.Close()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := db.MakeDurable(context.Background(), 20); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	u := db.NewUpdate(21)
	u.At(21).Set([]byte("kv:a"), nil)
	if _, err := u.Commit(21); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}
