package persistence

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// shortHistory keeps what a test needs and no more.
var shortHistory = History{MinAge: 1, MinIndexes: 10, MaxIndexes: 50}

// filled has entries 1 to n, durable; entry i writes kv:k<i mod 10>.
func filled(t *testing.T, o Options, n uint64) *DB {
	t.Helper()
	db := openTest(t, o)
	for i := uint64(1); i <= n; i++ {
		put(t, db, i, fmt.Sprintf("kv:k%d", i%10), fmt.Sprint(i))
	}
	if err := db.MakeDurable(context.Background(), n); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestFloorFollowsTheSnapshotAndTheHistoryRule(t *testing.T) {
	for _, c := range []struct {
		name     string
		history  History
		snapshot uint64
		want     uint64
	}{
		{"the snapshot is older than the history", History{MinAge: 1, MinIndexes: 10, MaxIndexes: 50}, 40, 40},
		{"the history reaches further back", History{MinAge: 1, MinIndexes: 30, MaxIndexes: 50}, 95, 70},
		{"there are not so many indexes", History{MinAge: 1, MinIndexes: 1000, MaxIndexes: 2000}, 95, 0},
		{"at most so many indexes", History{MinAge: time.Hour, MinIndexes: 10, MaxIndexes: 50}, 95, 50},
		{"by age: nothing is old yet", History{MinAge: time.Hour, MinIndexes: 10, MaxIndexes: 5000}, 95, 0},
		{"no snapshot", History{MinAge: 1, MinIndexes: 10, MaxIndexes: 50}, 0, 0},
		{"a snapshot of the future", History{MinAge: 1, MinIndexes: 1, MaxIndexes: 50}, 1000, 99},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := filled(t, Options{Dir: t.TempDir(), Badger: small, History: c.history}, 100)
			db.AdvanceFloor(c.snapshot)
			if got := db.Floor(); got != c.want {
				t.Fatalf("floor %d, want %d", got, c.want)
			}
			db.AdvanceFloor(c.snapshot / 2) // never back
			if got := db.Floor(); got != c.want {
				t.Fatalf("floor %d after an older snapshot, want %d", got, c.want)
			}
		})
	}
}

func TestAgesAnswerByTime(t *testing.T) {
	var a ages
	start := time.Now()
	for i := range 10 {
		a.note(ageSample{at: start.Add(time.Duration(i) * time.Minute), index: uint64(i * 100)})
	}
	for ago, want := range map[time.Duration]uint64{-time.Hour: 0, 0: 0, 90 * time.Second: 100, 5 * time.Minute: 500, time.Hour: 900} {
		if got := a.indexAt(start.Add(ago)); got != want {
			t.Errorf("after %v: %d, want %d", ago, got, want)
		}
	}
}

func TestOpenReadersHoldTheFloor(t *testing.T) {
	db := filled(t, Options{Dir: t.TempDir(), Badger: small, History: shortHistory}, 100)
	old := mustDigest(t, db, 30)
	view, err := db.ViewAt(30)
	if err != nil {
		t.Fatal(err)
	}
	second, err := db.ViewAt(30)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := db.Snapshot(60)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		close func()
		want  uint64
	}{{func() {}, 30}, {view.Close, 30}, {view.Close, 30}, {second.Close, 60}, {snap.Close, 90}} {
		step.close()
		db.AdvanceFloor(100)
		if err := db.gen.Load().bdb.Flatten(1); err != nil {
			t.Fatal(err)
		}
		if got := db.Floor(); got != step.want {
			t.Fatalf("floor %d, want %d", got, step.want)
		}
		if step.want == 30 && mustDigest(t, db, 30) != old {
			t.Fatal("a held state changed")
		}
	}
	var compacted *CompactedError
	if _, err := db.ViewAt(89); !errors.As(err, &compacted) || compacted.Oldest != 90 || !errors.Is(err, ErrCompacted) {
		t.Fatal(err)
	}
	if _, err := db.Snapshot(89); !errors.Is(err, ErrCompacted) {
		t.Fatal(err)
	}
	if _, _, err := db.Digest(context.Background(), 89); !errors.Is(err, ErrCompacted) {
		t.Fatal(err)
	}
}

func TestFloorSurvivesReopening(t *testing.T) {
	dir := t.TempDir()
	db := filled(t, Options{Dir: dir, Badger: small, History: shortHistory}, 100)
	put(t, db, 101, "kv:a", "1")
	db.AdvanceFloor(100)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, Options{Dir: dir, Badger: small, History: shortHistory})
	if db.Floor() != 91 || db.DurableIndex() != 100 || db.Published() != 100 || db.MaxVersion() != 101 {
		t.Fatal(db.Floor(), db.DurableIndex(), db.Published(), db.MaxVersion())
	}
	// What these entries read may be gone: refuse rather than diverge.
	u := db.NewUpdate(91)
	u.At(91)
	if _, err := u.Commit(91); !errors.Is(err, ErrCompacted) {
		t.Fatal(err)
	}
}

func TestChangedSinceBelowTheFloor(t *testing.T) {
	db := filled(t, Options{Dir: t.TempDir(), Badger: small, History: shortHistory}, 100)
	put(t, db, 101, "kv:gone", "x")
	put(t, db, 102, "kv:gone", "")
	for i := uint64(103); i <= 130; i++ {
		put(t, db, i, "kv:other", "x")
	}
	db.AdvanceFloor(130) // not past what is durable
	if db.Floor() != 100 {
		t.Fatal(db.Floor())
	}
	if err := db.MakeDurable(context.Background(), 130); err != nil {
		t.Fatal(err)
	}
	db.AdvanceFloor(130)
	if db.Floor() != 120 {
		t.Fatal(db.Floor())
	}
	for _, c := range []struct {
		key   string
		exact bool
		after uint64
		want  bool
		err   error
	}{
		{"kv:k5", true, 50, true, nil},  // written at 95
		{"kv:k5", true, 95, false, nil}, // it exists, and its version says all
		{"kv:other", true, 10, true, nil},
		{"kv:gone", true, 110, false, ErrCompacted}, // who knows
		{"kv:nobody", true, 119, false, ErrCompacted},
		{"kv:nobody", true, 120, false, nil},
		{"kv:k", false, 119, false, ErrCompacted},
		{"kv:k", false, 120, false, nil},
		{"kv:", false, 125, true, nil},
		{"kv:", false, 130, false, nil},
		{"kv:", false, 1 << 40, false, nil},
	} {
		got, err := db.ChangedSince(context.Background(), []byte(c.key), c.exact, c.after)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
}

func TestAgesAnswerByBytes(t *testing.T) {
	var a ages
	if got := a.indexWithin(100, 1); got != 0 {
		t.Errorf("knowing nothing: %d", got)
	}
	for i := range 10 {
		a.note(ageSample{index: uint64(i * 100), bytes: int64(i * 1000), versions: int64(i * 10)})
	}
	for budget, want := range map[int64]uint64{0: 900, 499: 900, 500: 900, 1500: 800, 2000: 800, 9499: 100, 9500: 0, 1 << 40: 0} {
		if got := a.indexWithin(9500, budget); got != want {
			t.Errorf("%d bytes: %d, want %d", budget, got, want)
		}
	}
	if s, known := a.since(250); !known || s.versions != 20 {
		t.Errorf("since 250: %+v", s)
	}
}

// The history of a store that is overwritten ends where there is more of it than of
// the store, whatever the rule by age and number says.
func TestHistoryIsBoundedInBytes(t *testing.T) {
	db := openTest(t, Options{Dir: t.TempDir(), Badger: small, History: History{MinAge: time.Hour, MinIndexes: 1 << 40, MaxIndexes: 1 << 40, MaxBytes: 20 << 20}})
	const size, total = 1 << 18, 120 << 20
	index := uint64(0)
	for n := 0; n < total; n += size {
		index++
		put(t, db, index, "kv:"+string(rune('a'+index%8)), string(randomBytes(index, size)))
	}
	if err := db.MakeDurable(context.Background(), index); err != nil {
		t.Fatal(err)
	}
	db.AdvanceFloor(index)
	stored, _ := db.gen.Load().stored()
	budget := max(20<<20, stored/historyShare)
	if kept := int64(index-db.Floor()) * size; kept > budget || kept < budget-2*noteEvery {
		t.Errorf("%d bytes of history are kept, of at most %d", kept, budget)
	}
}
