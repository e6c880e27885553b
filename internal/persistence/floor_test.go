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
		{"the snapshot is older than the history", History{1, 10, 50}, 40, 40},
		{"the history reaches further back", History{1, 30, 50}, 95, 70},
		{"there are not so many indexes", History{1, 1000, 2000}, 95, 0},
		{"at most so many indexes", History{time.Hour, 10, 50}, 95, 50},
		{"by age: nothing is old yet", History{time.Hour, 10, 5000}, 95, 0},
		{"no snapshot", History{1, 10, 50}, 0, 0},
		{"a snapshot of the future", History{1, 1, 50}, 1000, 99},
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
		a.note(start.Add(time.Duration(i)*time.Minute), uint64(i*100))
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
		if err := db.gen.Load().bdb.Flatten(2); err != nil {
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
