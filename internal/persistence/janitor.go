package persistence

import (
	"errors"
	"syscall"
	"time"
)

const (
	// gcEvery is how often Badger's value log is collected, as the guide says. Ours
	// is empty, see MaxRecordLen, so it costs nothing.
	gcEvery = 5 * time.Minute
	// gcRatio is the share of garbage from which a value log file is rewritten.
	gcRatio = 0.5
	// reserveEvery is how often space is reserved ahead of need.
	reserveEvery = 500 * time.Millisecond
)

// janitor does the background work until Close.
func (db *DB) janitor() {
	defer db.wg.Done()
	gc, age, room := time.NewTicker(gcEvery), time.NewTicker(ageStep), time.NewTicker(reserveEvery)
	defer gc.Stop()
	defer age.Stop()
	defer room.Stop()
	for {
		select {
		case <-db.closing:
			return
		case now := <-age.C:
			db.ages.note(now, db.Published())
			if db.opts.standalone {
				db.AdvanceFloor(db.Published())
			}
		case <-gc.C:
			db.collectGarbage()
		case <-room.C:
			db.reserveAhead()
		}
	}
}

func (db *DB) collectGarbage() {
	g, err := db.acquire()
	if err != nil {
		return
	}
	defer g.release()
	if g.dir == "" {
		return
	}
	for g.bdb.RunValueLogGC(gcRatio) == nil { // an error means that there is nothing to do
		if db.closed.Load() {
			return
		}
	}
}

// reserveAhead keeps the state machine from ever having to allocate by itself.
func (db *DB) reserveAhead() {
	g, err := db.acquire()
	if err != nil {
		return
	}
	defer g.release()
	db.space.mu.Lock()
	low := db.space.gen != g || db.space.budget < db.opts.Badger.MemTableSize*3/4
	db.space.mu.Unlock()
	if low {
		db.space.reserve(g, db.opts.Badger)
	}
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, ErrNoSpace)
}
