package persistence

import (
	"errors"
	"syscall"
	"time"
)

const (
	// reserveEvery is how often space is reserved ahead of need.
	reserveEvery = 500 * time.Millisecond
)

// janitor does the background work until Close.
func (db *DB) janitor() {
	defer db.wg.Done()
	age, room := time.NewTicker(ageStep), time.NewTicker(reserveEvery)
	defer age.Stop()
	defer room.Stop()
	for {
		select {
		case <-db.closing:
			return
		case now := <-age.C:
			db.noteAge(now, db.Published())
			if snapshot := db.newestSnapshot.Load(); db.opts.standalone {
				db.AdvanceFloor(db.Published())
			} else if snapshot > 0 {
				db.AdvanceFloor(snapshot)
			}
		case <-room.C:
			db.reserveAhead()
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
		g.tidyHeld()
	}
}

// IsNoSpace says whether err is for want of space, inodes or quota on the disk.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, ErrNoSpace)
}
