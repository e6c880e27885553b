package persistence

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/neogan74/konsul/internal/failpoint"
)

// Floor is the oldest index that can be read. It never goes back, except that
// Replace begins a new history at the snapshot's index.
func (db *DB) Floor() uint64 { return db.gen.Load().floor.Load() }

// AdvanceFloor lets go of history: up to the newest durable snapshot (a start
// replays from there and reads what it read before), but not past an open
// reader, nor past what the history rule keeps. The floor is on disk before
// Badger may drop anything. Any goroutine may call it.
func (db *DB) AdvanceFloor(newestSnapshot uint64) {
	db.floorMu.Lock()
	defer db.floorMu.Unlock()
	g, err := db.acquire()
	if err != nil {
		return
	}
	defer g.release()
	db.newestSnapshot.Store(max(newestSnapshot, db.newestSnapshot.Load()))
	target := min(newestSnapshot, db.keepFrom(g))
	if !db.opts.standalone {
		// Above what is durable a power cut may leave holes for the replay to fill, and
		// the replay reads the state it starts from.
		target = min(target, g.durable.Load())
	}
	if g.raiseFloor(target) || g.floor.Load() > g.noted {
		failpoint.Hit("floor.after-raise")
		g.stateMu.Lock()
		err = g.writeState()
		g.stateMu.Unlock()
		if err != nil {
			// Readers are held to the new floor; Badger just keeps more than it must, and
			// the next call tries again.
			db.log.Error("history is not trimmed", "error", err)
		} else {
			g.noted = g.floor.Load()
			failpoint.Hit("floor.after-state")
		}
	}
	g.discard(0)
	failpoint.Hit("floor.after-discard")
}

// discard lets Badger drop what is below the floor that is on disk, as far as that is safe
// now, and says whether that is all. flushed is up to where all is known to be in tables, 0 if
// that is to be found out. Callers hold floorMu, or are alone.
//
// A compaction drops deletions that no reader needs if no lower level has its keys' range
// (checkOverlap in levels.go, Badger 4.9.6). One that takes some tables of level zero leaves
// out others, old ones that are large already or are being compacted, which may hold what was
// deleted. So there must be a table below each of them, and deletions in memory, of which
// nobody can tell, must not count. At a start Badger orders them by their numbers, which a
// merge has not in the order of their age: it may take a deletion down before what it deletes.
func (g *generation) discard(flushed uint64) (all bool) {
	if g.noted == 0 {
		return true
	}
	tables := g.bdb.Tables()
	if !g.settled(tables) {
		if g.discarded > 0 {
			g.discarded = 0
			g.bdb.SetDiscardTs(0)
		}
		return false
	}
	for _, t := range tables {
		// Memtables are flushed in order; the newest version may be in two of them. What was there
		// at the start says nothing: a replay writes it once more.
		if t.MaxVersion > g.ahead {
			flushed = max(flushed, t.MaxVersion-1)
		}
	}
	if to := min(g.noted, flushed); to > g.discarded {
		g.discarded = to
		g.bdb.SetDiscardTs(to)
	}
	return g.discarded == g.noted
}

// settled says whether each table of level zero has one of a lower level below it, and none
// is there of those that a start put in the wrong order.
func (g *generation) settled(tables []badger.TableInfo) bool {
	for i, t := range tables {
		if t.Level == 0 && !slices.ContainsFunc(tables, func(low badger.TableInfo) bool { return low.Level > 0 && overlap(tables[i], low) }) {
			return false
		}
	}
	return g.compactions == nil || !g.compactions.mistrusted()
}

// disordered says whether a table of level zero may be older than one before it, which the
// numbers do not show, or than one below it, which has gone down before it.
func disordered(tables []badger.TableInfo) bool {
	zero := slices.DeleteFunc(slices.Clone(tables), func(t badger.TableInfo) bool { return t.Level > 0 })
	slices.SortFunc(zero, func(a, b badger.TableInfo) int { return cmp.Compare(a.ID, b.ID) })
	if !slices.IsSortedFunc(zero, func(a, b badger.TableInfo) int { return cmp.Compare(a.MaxVersion, b.MaxVersion) }) {
		return true
	}
	return slices.ContainsFunc(zero, func(t badger.TableInfo) bool {
		return slices.ContainsFunc(tables, func(low badger.TableInfo) bool {
			return low.Level > 0 && low.MaxVersion > t.MaxVersion && overlap(t, low)
		})
	})
}

func overlap(a, b badger.TableInfo) bool {
	return bytes.Compare(tableKey(a.Left), tableKey(b.Right)) <= 0 && bytes.Compare(tableKey(b.Left), tableKey(a.Right)) <= 0
}

// raiseFloor moves the floor to target or to the oldest reader.
func (g *generation) raiseFloor(target uint64) (moved bool) {
	g.pinMu.Lock()
	defer g.pinMu.Unlock()
	target = min(target, g.published.Load())
	for index := range g.pins {
		target = min(target, index)
	}
	if target <= g.floor.Load() {
		return false
	}
	g.floor.Store(target)
	return true
}

// keepFrom is the oldest index that the history rule wants kept.
func (db *DB) keepFrom(g *generation) uint64 {
	h, published := db.opts.History, g.published.Load()
	if failpoint.On("floor.no-history") {
		return published
	}
	keep := back(published, h.MinIndexes)
	if h.MinAge >= ageStep { // less than a sample's distance is as good as none
		keep = min(keep, db.ages.indexAt(time.Now().Add(-h.MinAge)))
	}
	keep = max(keep, back(published, h.MaxIndexes))
	stored, _ := g.stored()
	return min(max(keep, db.ages.indexWithin(db.written.bytes.Load(), max(h.MaxBytes, stored/historyShare))), published)
}

// stored is how many bytes and versions the tables hold, uncompressed.
func (g *generation) stored() (bytes, versions int64) {
	for _, t := range g.bdb.Tables() {
		bytes += int64(t.UncompressedSize)
		versions += int64(t.KeyCount)
	}
	return bytes, versions
}

// written counts what was written since the engine was opened: keys and values, in
// bytes, and versions.
type written struct{ bytes, versions atomic.Int64 }

// noteEvery is after how many written bytes an age is noted, besides every ageStep.
const noteEvery = 16 << 20

// wrote counts a committed run.
func (db *DB) wrote(bytes int64, versions int, published uint64) {
	db.written.versions.Add(int64(versions))
	if now := db.written.bytes.Add(bytes); now/noteEvery != (now-bytes)/noteEvery {
		db.noteAge(time.Now(), published)
	}
}

func (db *DB) noteAge(now time.Time, published uint64) {
	db.ages.note(ageSample{now, published, db.written.bytes.Load(), db.written.versions.Load()})
}

func back(index, by uint64) uint64 { return index - min(index, by) }

// ages remembers which index was published when, by this node's own clock: the
// history rule is about disk space here, not about replicated state.
type ages struct {
	mu      sync.Mutex
	samples []ageSample
}

type ageSample struct {
	at    time.Time
	index uint64
	// bytes and versions that had been written then.
	bytes, versions int64
}

// ageStep is how far samples are apart; maxAges how many are kept.
const (
	ageStep = 5 * time.Second
	maxAges = 1024
)

func (a *ages) note(s ageSample) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.samples = append(a.samples, s)
	if len(a.samples) > maxAges {
		a.samples = append(a.samples[:0], a.samples[len(a.samples)-maxAges:]...)
	}
}

// indexAt is the index published at time t, rounded down; for a time before the
// first sample that one's, for all that is known.
func (a *ages) indexAt(t time.Time) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	var index uint64
	for i, s := range a.samples {
		if i > 0 && s.at.After(t) {
			break
		}
		index = s.index
	}
	return index
}

// indexWithin is the oldest index since which at most budget bytes were written, as far
// as is known; 0 if all that is known is within it. now is what has been written.
func (a *ages) indexWithin(now, budget int64) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, s := range a.samples {
		if now-s.bytes > budget {
			continue
		}
		if i == 0 {
			return 0
		}
		return s.index
	}
	if n := len(a.samples); n > 0 {
		return a.samples[n-1].index // the last step alone is larger
	}
	return 0
}

// since is what was written after index, as far as is known, rounded up; and since when
// that is known.
func (a *ages) since(index uint64) (s ageSample, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, sample := range a.samples {
		if i > 0 && sample.index > index {
			break
		}
		s, known = sample, true
	}
	return s, known
}

// before is the newest sample that is at least d old.
func (a *ages) before(now time.Time, d time.Duration) (s ageSample, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, sample := range a.samples {
		if now.Sub(sample.at) < d {
			break
		}
		s, known = sample, true
	}
	return s, known
}

func (a *ages) reset() {
	a.mu.Lock()
	a.samples = a.samples[:0]
	a.mu.Unlock()
}
