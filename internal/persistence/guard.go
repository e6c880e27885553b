package persistence

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// guard lets an engine be used before its tables have been read, without ever
// showing what is damaged. Of each table only the index and the last block are
// verified at the start, which Badger reads when it opens it. A read first verifies
// the blocks that it can touch (cover), once each, and the rest is read in the
// background, at a bounded rate (run). So the start takes as long as the indexes,
// about 2 % of the data.
//
// Badger would not tell: to it a block that it cannot read is one that has
// nothing, in a get, in an iterator, and in a compaction, which would make the
// loss permanent and invisible. So no compaction is put in place before all tables
// that were there at the start are verified (gate).
type guard struct {
	tables []*guardedTable
	total  int64        // bytes
	left   atomic.Int64 // bytes that the background has yet to read
	// hurried is closed when somebody waits for the rest: it is not paced any more.
	hurried chan struct{}
	hurry   sync.Once
	done    atomic.Bool
	// damage takes the first damage that was found.
	damage func(error)
	// Until calm a compaction waits for the background, unless the engine is closing.
	calm    time.Time
	closing <-chan struct{}
}

// defaultVerifyRate is how fast tables are read in the background, in bytes a
// second: a GB in 10 s, for about a fifth of a processor.
const defaultVerifyRate = 100 << 20

// verifyDelay leaves the machine to the start.
const verifyDelay = 2 * time.Second

// gatePatience is how long after the start a compaction leaves the machine to it. Writes
// go on meanwhile: there is room for ten more tables on level zero.
const gatePatience = 5 * time.Second

// newGuard opens all tables of dir that the MANIFEST names.
func newGuard(dir string, key []byte, damage func(error)) (*guard, error) {
	files, err := manifestTables(dir)
	if err != nil {
		return nil, err
	}
	keys, err := newTableKeys(dir, key)
	if err != nil {
		return nil, err
	}
	gd := &guard{tables: make([]*guardedTable, len(files)), hurried: make(chan struct{}), damage: damage, calm: time.Now().Add(gatePatience)}
	errs := make([]error, len(files))
	places := make(chan struct{}, 2)
	var wg sync.WaitGroup
	for i, t := range files {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			if gd.tables[i], errs[i] = openGuarded(t, keys); errs[i] != nil && !outOfFiles(errs[i]) {
				errs[i] = fmt.Errorf("%w: %s: %w", ErrCorrupt, t.path, errs[i])
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		gd.close()
		return nil, err
	}
	for _, t := range gd.tables {
		gd.total += t.size
	}
	gd.left.Store(gd.total)
	return gd, nil
}

// close lets go of what was not verified. Nobody may use the guard afterwards.
func (gd *guard) close() {
	for _, t := range gd.tables {
		if t != nil && !t.done.Load() {
			_ = t.f.Close() // only read
		}
	}
}

// cover makes sure that Badger can read every version newer than since of the
// stored keys in from..to; to nil means to the end. Keys below clear are covered,
// too; nil means all. An error is ErrCorrupt, and has been told to damage.
func (gd *guard) cover(from, to []byte, since uint64) (clear []byte, err error) {
	if gd.done.Load() {
		return nil, nil
	}
	for _, t := range gd.tables {
		if t.done.Load() || t.maxVersion <= since {
			continue
		}
		next, err := t.cover(from, to)
		if err != nil {
			gd.damage(err)
			return nil, err
		}
		if next != nil && (clear == nil || string(next) < string(clear)) {
			clear = next
		}
	}
	return clear, nil
}

// run verifies all tables, at most rate bytes a second unless somebody waits for
// it, until stop is closed.
func (gd *guard) run(rate int64, stop <-chan struct{}) error {
	select {
	case <-stop:
		return ErrClosed
	case <-gd.hurried:
	case <-time.After(verifyDelay):
	}
	return gd.verify(func(n int64) error {
		gd.left.Add(-n)
		select {
		case <-stop:
			return ErrClosed
		case <-gd.hurried:
		case <-time.After(time.Duration(float64(n) / float64(rate) * float64(time.Second))):
		}
		return nil
	})
}

func (gd *guard) verify(pace func(int64) error) error {
	for _, t := range gd.tables {
		if err := t.verifyAll(pace); err != nil {
			if !errors.Is(err, ErrClosed) {
				gd.damage(err)
			}
			return err
		}
	}
	gd.done.Store(true)
	gd.left.Store(0)
	return nil
}

// gate returns when all tables are verified, and helps with it. A compaction goes
// through it before it is put in place. If there is damage it returns, too: then the
// engine is condemned, and what becomes of its files does not matter.
func (gd *guard) gate() {
	if gd.done.Load() {
		return
	}
	t := time.NewTimer(time.Until(gd.calm))
	defer t.Stop()
	select {
	case <-t.C:
	case <-gd.hurried:
	case <-gd.closing:
	}
	gd.hurry.Do(func() { close(gd.hurried) })
	_ = gd.verify(func(int64) error { return nil }) // told to damage
}
