package persistence

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestMakeDurable(t *testing.T) {
	db := openTest(t, Options{Dir: t.TempDir(), Badger: small})
	for i := uint64(1); i <= 50; i++ {
		put(t, db, i, "kv:a", "1")
	}
	ctx, cancel := context.WithCancel(context.Background())
	for _, step := range []struct{ index, want uint64 }{{30, 30}, {20, 30}, {30, 30}, {50, 50}} {
		if err := db.MakeDurable(ctx, step.index); err != nil || db.DurableIndex() != step.want {
			t.Fatal(err, db.DurableIndex())
		}
	}
	if err := db.MakeDurable(ctx, 51); !errors.Is(err, ErrFutureIndex) {
		t.Fatal(err)
	}
	put(t, db, 51, "kv:a", "1")
	cancel()
	if err := db.MakeDurable(ctx, 51); !errors.Is(err, context.Canceled) || db.DurableIndex() != 50 {
		t.Fatal(err, db.DurableIndex())
	}
}

// TestMakeDurableWhileFilesComeAndGo: flushes and compactions make and remove
// files all the time; that is no error.
func TestMakeDurableWhileFilesComeAndGo(t *testing.T) {
	db := openTest(t, Options{Dir: t.TempDir(), Badger: small, History: shortHistory})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			index := db.Published()
			if err := db.MakeDurable(context.Background(), index); err != nil {
				t.Error(err)
			}
			db.AdvanceFloor(index)
		}
	})
	for i := uint64(1); i <= 1500; i++ {
		put(t, db, i, fmt.Sprintf("kv:%d", i%50), string(make([]byte, 60_000)))
	}
	close(stop)
	wg.Wait()
	u, err := db.Usage()
	if err != nil || u.SST == 0 || u.Mem == 0 || u.Total() != u.SST+u.Mem+u.VLog {
		t.Fatal(u, err)
	}
}

// TestLogsAreAllocatedAhead: Badger's next log has its blocks before Badger knows
// of it, and the active one too.
func TestLogsAreAllocatedAhead(t *testing.T) {
	dir := t.TempDir()
	db := openTest(t, Options{Dir: dir, Badger: small})
	for i := uint64(1); i <= 700; i++ {
		put(t, db, i, fmt.Sprintf("kv:%d", i%50), string(make([]byte, 60_000)))
		if i%50 != 0 {
			continue
		}
		engine := filepath.Join(dir, EngineDir, "1")
		newest, err := newestLog(engine)
		if err != nil {
			t.Fatal(err)
		}
		for id := newest; id <= newest+1; id++ {
			info, err := os.Stat(filepath.Join(engine, logName(id)))
			if errors.Is(err, os.ErrNotExist) && id == newest {
				continue // flushed meanwhile
			}
			// The one after the newest may be in the making by the janitor; but then
			// the newest was the one allocated ahead.
			if err != nil && db.space.budget > 0 && id == newest {
				t.Fatal(err)
			}
			if err == nil && onDisk(info) < logBytes(small.withDefaults()) {
				t.Fatalf("log %d has %d bytes on disk", id, onDisk(info))
			}
		}
	}
}

// TestTablesAreVerifiedWhileTheyGo: compactions remove tables under the check,
// cutting them to nothing first.
func TestTablesAreVerifiedWhileTheyGo(t *testing.T) {
	db := openTest(t, Options{Dir: t.TempDir(), Badger: small, History: shortHistory})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := verifyTables(t.Context(), db.gen.Load().dir, nil, true, nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := uint64(1); i <= 2000; i++ {
		put(t, db, i, fmt.Sprintf("kv:%d", i%50), string(randomBytes(i, 30_000)))
		if i%200 == 0 {
			if err := errors.Join(db.MakeDurable(context.Background(), i), db.gen.Load().bdb.Flatten(1)); err != nil {
				t.Error(err)
			}
			db.AdvanceFloor(i)
		}
	}
	close(stop)
	wg.Wait()
}
