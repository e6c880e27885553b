package persistence

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// overwrittenDB has keys that were written rounds times, each time all of them, in
// entries of 50, with a durable snapshot at the end.
func overwrittenDB(t *testing.T, o Options, keys, rounds, size int) (*DB, uint64) {
	t.Helper()
	o.Badger = small
	db := openTest(t, o)
	db.SetCounts(Counts{})
	index := uint64(0)
	for r := range rounds {
		for k := 0; k < keys; k += 50 {
			index++
			var pairs []string
			for j := k; j < k+50; j++ {
				pairs = append(pairs, fmt.Sprintf("kv:%06d", j), string(randomBytes(uint64(r*keys+j), size)))
			}
			put(t, db, index, pairs...)
		}
	}
	if err := db.MakeDurable(context.Background(), index); err != nil {
		t.Fatal(err)
	}
	db.AdvanceFloor(index)
	return db, index
}

var noHistoryAtAll = History{MinAge: 1, MinIndexes: 1, MaxIndexes: 1}

// Whoever does not wait for a compaction has it nevertheless, also if it had only just begun.
func TestCompactGoesOnByItself(t *testing.T) {
	const keys = 10000
	db, index := overwrittenDB(t, Options{Dir: t.TempDir(), History: noHistoryAtAll}, keys, 6, 1000)
	before := mustDigest(t, db, index)
	if _, versions := db.gen.Load().stored(); versions < keys*3/2 {
		t.Fatalf("%d versions: there is nothing to compact", versions)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.Compact(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	eventually(t, "the compaction is done", func() bool {
		_, versions := db.gen.Load().stored()
		return len(db.compacting) == 0 && versions <= keys+200
	})
	if mustDigest(t, db, index) != before {
		t.Fatal("the state is another one")
	}
}

// A compaction leaves what is alive, and of that every byte.
func TestCompactLeavesWhatIsAlive(t *testing.T) {
	const keys, size = 10000, 1000
	for name, o := range map[string]Options{"on disk": {Dir: t.TempDir()}, "in memory": {InMemory: true}} {
		t.Run(name, func(t *testing.T) {
			o.History = noHistoryAtAll
			db, index := overwrittenDB(t, o, keys, 6, size)
			before := mustDigest(t, db, index)
			m, err := db.Compact(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if mustDigest(t, db, index) != before {
				t.Fatal("the state is another one")
			}
			// One version of each key, and the last entry's again.
			if _, versions := db.gen.Load().stored(); versions < keys || versions > keys+200 {
				t.Errorf("%d versions in the tables, of %d keys", versions, keys)
			}
			if live := int64(keys * (size + 9)); !o.InMemory && (m.After.SST > live*11/10 || m.Before.SST < m.After.SST*3/2) {
				t.Errorf("%d bytes before and %d after, alive are %d", m.Before.SST, m.After.SST, live)
			}
			if changes, _, err := changesPage(context.Background(), db, nil, db.Floor(), index, 1000); err != nil || len(changes) > 50 {
				t.Errorf("%d changes, %v", len(changes), err)
			}
		})
	}
}

// What was deleted is gone from the disk, and does not come back.
func TestCompactForgetsWhatWasDeleted(t *testing.T) {
	dir := t.TempDir()
	db, index := overwrittenDB(t, Options{Dir: dir, History: noHistoryAtAll}, 5000, 2, 1000)
	if _, err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	for k := 0; k < 5000; k += 50 {
		index++
		var pairs []string
		for j := k; j < k+50; j++ {
			pairs = append(pairs, fmt.Sprintf("kv:%06d", j), "")
		}
		put(t, db, index, pairs...)
	}
	if err := db.MakeDurable(context.Background(), index); err != nil {
		t.Fatal(err)
	}
	db.AdvanceFloor(index)
	m, err := db.Compact(context.Background())
	if err != nil || m.After.SST > 64<<10 {
		t.Fatalf("%d bytes are left, %v", m.After.SST, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again := openTest(t, Options{Dir: dir, Badger: small})
	v, err := again.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if n, err := v.CountAt(); err != nil || n.Keys != 0 {
		t.Errorf("%d keys are back, %v", n.Keys, err)
	}
}

// Compactions beside writes, deletions and readers of the past change nothing that
// anybody sees.
func TestCompactBesideEverything(t *testing.T) {
	m := newMachine(t, 11, Options{Dir: t.TempDir(), Badger: small, History: History{MinAge: 1, MinIndexes: 200, MaxIndexes: 200}})
	done := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := m.db.Compact(context.Background()); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 40 {
		m.grow(50, 500)
		index := m.db.Published()
		if err := m.db.MakeDurable(context.Background(), index); err != nil {
			t.Fatal(err)
		}
		m.db.AdvanceFloor(index)
		if mustDigest(t, m.db, index) != m.model.digest(index) {
			t.Fatalf("at %d the state is not the model's", index)
		}
		if past := m.db.Floor(); past > 0 && mustDigest(t, m.db, past) != m.model.digest(past) {
			t.Fatalf("at %d, the floor, the state is not the model's", past)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// What stands in a memtable that is nearly empty is flushed as well.
func TestCompactFlushesAYoungMemtable(t *testing.T) {
	db := openTest(t, Options{Dir: t.TempDir(), Badger: BadgerOptions{MemTableSize: minMemTableSize},
		History: History{MinAge: 1, MinIndexes: 1, MaxIndexes: 1, MaxBytes: 1}})
	for i := range uint64(20) {
		put(t, db, i+1, "kv:a", fmt.Sprint(i))
	}
	if err := db.MakeDurable(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	db.AdvanceFloor(20)
	before := db.Floor()
	if _, err := db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	logs, err := logFiles(db.gen.Load().dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, there := logs[1]; there || before == 0 {
		t.Errorf("the first memtable's log is still there among %v; floor %d", logs, before)
	}
}

func TestOneCompactionAtATime(t *testing.T) {
	db := openTest(t, Options{Dir: t.TempDir(), Badger: small})
	db.compacting <- struct{}{}
	if _, err := db.Compact(context.Background()); !errors.Is(err, ErrMaintaining) {
		t.Errorf("%v", err)
	}
	if _, err := db.CollectGarbage(context.Background()); !errors.Is(err, ErrMaintaining) {
		t.Errorf("%v", err)
	}
	<-db.compacting
	if _, err := db.CollectGarbage(context.Background()); err != nil {
		t.Errorf("%v", err)
	}
}

// The schedule compacts a quiet engine that is mostly garbage, once.
func TestScheduledCompaction(t *testing.T) {
	db, _ := overwrittenDB(t, Options{Dir: t.TempDir(), History: noHistoryAtAll}, 10000, 12, 1000)
	g := db.gen.Load()
	now := time.Now()
	if db.worthCompacting(g, now) {
		t.Fatal("it is not quiet yet")
	}
	db.ages.reset()
	db.noteAge(now, db.Published())
	db.noteAge(now.Add(quietTime), db.Published())
	now = now.Add(2 * quietTime)
	stored, versions := g.stored()
	worth := db.worthCompacting(g, now)
	garbage := stored / max(versions, 1) * (versions - 10000)
	if worth != (garbage > garbageBytes && versions > 12500) {
		t.Fatalf("worth it: %v, with %d versions and %d bytes of garbage", worth, versions, garbage)
	}
	db.maintainOnce(context.Background())
	if _, err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if db.worthCompacting(g, now) {
		t.Fatal("it was just compacted")
	}
}
