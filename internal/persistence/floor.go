package persistence

import (
	"sync"
	"time"
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
	target := min(newestSnapshot, db.keepFrom(g.published.Load()))
	if !db.opts.standalone {
		// Above what is durable a power cut may leave holes for the replay to fill, and
		// the replay reads the state it starts from.
		target = min(target, g.durable.Load())
	}
	floor, moved := g.raiseFloor(target)
	if !moved {
		return
	}
	g.stateMu.Lock()
	err = g.writeState()
	g.stateMu.Unlock()
	if err != nil {
		// Readers are held to the new floor; Badger just keeps more than it must, and
		// the next call tries again.
		db.log.Error("history is not trimmed", "error", err)
		return
	}
	// Badger ends the process if this goes back; floorMu and raiseFloor see to it.
	g.bdb.SetDiscardTs(floor)
}

// raiseFloor moves the floor to target or to the oldest reader.
func (g *generation) raiseFloor(target uint64) (floor uint64, moved bool) {
	g.pinMu.Lock()
	defer g.pinMu.Unlock()
	target = min(target, g.published.Load())
	for index := range g.pins {
		target = min(target, index)
	}
	if target <= g.floor.Load() {
		return 0, false
	}
	g.floor.Store(target)
	return target, true
}

// keepFrom is the oldest index that the history rule wants kept.
func (db *DB) keepFrom(published uint64) uint64 {
	h := db.opts.History
	keep := back(published, h.MinIndexes)
	if h.MinAge >= ageStep { // less than a sample's distance is as good as none
		keep = min(keep, db.ages.indexAt(time.Now().Add(-h.MinAge)))
	}
	return max(keep, back(published, h.MaxIndexes))
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
}

// ageStep is how far samples are apart; maxAges how many are kept.
const (
	ageStep = 5 * time.Second
	maxAges = 1024
)

func (a *ages) note(now time.Time, index uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.samples = append(a.samples, ageSample{now, index})
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

func (a *ages) reset(now time.Time, index uint64) {
	a.mu.Lock()
	a.samples = a.samples[:0]
	a.mu.Unlock()
	a.note(now, index)
}
