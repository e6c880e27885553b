package persistence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/statefile"
)

// generation is one engine directory, open. Replace swaps it for another under
// the readers: each view holds a reference, and the last one out of a generation
// that was replaced closes and removes it.
type generation struct {
	bdb  *badger.DB
	name string
	dir  string // empty in memory

	refs       atomic.Int64 // the DB's own and one for each reader
	superseded atomic.Bool
	done       chan struct{} // closed when Badger is
	closeErr   error

	// ahead is the newest version that was there when the engine was opened.
	ahead uint64

	published atomic.Uint64
	// written is the newest version that was put into Badger since it was opened; 0 if none was.
	written atomic.Uint64
	// pinMu guards pins (open readers by index) and every change of floor, so that
	// no reader can be admitted below a floor that is about to move.
	pinMu sync.Mutex
	pins  map[uint64]int
	floor atomic.Uint64
	// noted is the floor in state.json, and discarded what Badger was told of it. They are
	// guarded by the DB's floorMu, as all that moves the floor.
	noted, discarded uint64
	// stateMu guards durable and the writing of state.json.
	stateMu sync.Mutex
	durable atomic.Uint64
	synced  map[string]bool // tables known to be on disk
	// marks says up to where logs hold what durable promises; see markLogs.
	marks map[string]int64
	// ownLogs is the first number of a log that was not there at the start.
	ownLogs uint64
	// held: all logs in marks have a second name; see holdLog.
	held bool
	// memTableSize is what state.json says of it; see drainLogs.
	memTableSize int64

	// guard stands before tables that were not read yet; nil when all were.
	guard atomic.Pointer[guard]
	// compactions and pace are nil in memory.
	compactions *compactions
	pace        *compactionPace
	// broken is the damage that was found; nothing is read from then on.
	broken atomic.Pointer[error]

	keys, services atomic.Int64
	// counted: somebody said what keys and services begin with.
	counted atomic.Bool
}

// openGeneration opens engine directory name and reads its state.json. behind says
// that its tables may be read later.
func (db *DB) openGeneration(name string, behind bool) (*generation, error) {
	g := &generation{name: name, done: make(chan struct{}), pins: map[uint64]int{}, synced: map[string]bool{}}
	g.refs.Store(1)
	var st state
	known := false
	if !db.opts.InMemory {
		g.dir = filepath.Join(db.root, name)
		var err error
		if st, known, err = readState(g.dir); err != nil {
			return nil, err
		}
		if err := statefile.Sweep(g.dir); err != nil {
			return nil, err
		}
		if err := checkManifest(g.dir, known); err != nil {
			return nil, err
		}
		if err := g.settleLogs(&st); err != nil {
			return nil, err
		}
		if err := verifyLogs(g.dir, g.marks); err != nil {
			return nil, err
		}
		if err := db.verifyOrGuard(g, behind); err != nil {
			return nil, err
		}
		err = checkRoom(g.dir, db.opts.Badger)
		if err == nil {
			err = g.drainLogs(db, &st, known, behind)
		}
		if err != nil {
			g.unwatch()
			return nil, err
		}
	}
	if err := g.openBadger(db, db.opts.Badger.MemTableSize); err != nil {
		return nil, err
	}
	failpoint.Hit("engine.after-open")
	g.ahead = g.bdb.MaxVersion()
	if !known && g.ahead > 0 {
		g.shut()
		return nil, fmt.Errorf("%w: %s: state.json is missing", ErrCorrupt, g.dir)
	}
	g.durable.Store(st.Durable)
	g.floor.Store(st.Floor)
	g.published.Store(max(st.Durable, st.Floor))
	g.noted = st.Floor // Badger is told when the replay is over
	if g.compactions != nil && disordered(g.bdb.Tables()) {
		g.compactions.mistrust()
	}
	if !known {
		if err := g.writeState(); err != nil {
			g.shut()
			return nil, err
		}
	}
	return g, nil
}

// openBadger turns whatever Badger makes of damaged files, panics included, into
// ErrCorrupt. After an error the guard is closed.
func (g *generation) openBadger(db *DB, memTableSize int64) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %s: %v", ErrCorrupt, g.dir, p)
		}
		if err != nil {
			g.unwatch()
		}
	}()
	opts := db.opts.badgerOptions(g.dir, db.log.Named("badger")).WithMemTableSize(memTableSize)
	if db.opts.InMemory {
		g.bdb, err = badger.OpenManaged(opts)
		return err
	}
	g.compactions = newCompactions(g.dir, func(err error) { db.damaged(g, err) })
	if err := g.compactions.open(); err != nil {
		return err
	}
	g.pace = &compactionPace{published: &g.published, closing: db.closing, slack: compactionSlackOf(opts.NumLevelZeroTables)}
	opts.Logger = engineLogger{opts.Logger, g.compactions, g.pace, g.guard.Load()}
	if g.bdb, err = badger.OpenManaged(opts); err != nil {
		return classifyOpen(g.dir, err)
	}
	g.pace.bdb.Store(g.bdb)
	if err := g.compactions.open(); err != nil {
		return errors.Join(err, g.bdb.Close())
	}
	return nil
}

// unwatch closes the files of those who watch over Badger. It may be called again.
func (g *generation) unwatch() {
	if gd := g.guard.Load(); gd != nil {
		gd.close()
	}
	if g.compactions != nil {
		g.compactions.close()
	}
}

// retain takes a reference; false if the last one is gone.
func (g *generation) retain() bool {
	for {
		n := g.refs.Load()
		if n <= 0 {
			return false
		}
		if g.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives a reference back; the last one closes the files.
func (g *generation) release() {
	if g.refs.Add(-1) == 0 {
		g.shut()
	}
}

func (g *generation) shut() {
	g.closeErr = g.bdb.Close()
	g.unwatch()
	if g.superseded.Load() && g.dir != "" {
		// What cannot be removed now is swept at the next Open.
		_ = os.RemoveAll(g.dir)
	}
	close(g.done)
}

// pin admits a reader at the published index.
func (g *generation) pin() uint64 {
	g.pinMu.Lock()
	defer g.pinMu.Unlock()
	index := g.published.Load()
	g.pins[index]++
	return index
}

// pinAt admits a reader at index, if the history still holds it.
func (g *generation) pinAt(index uint64) error {
	g.pinMu.Lock()
	defer g.pinMu.Unlock()
	if floor := g.floor.Load(); index < floor {
		return &CompactedError{Oldest: floor}
	}
	if newest := g.published.Load(); index > newest {
		return &FutureIndexError{Newest: newest}
	}
	g.pins[index]++
	return nil
}

func (g *generation) unpin(index uint64) {
	g.pinMu.Lock()
	defer g.pinMu.Unlock()
	if g.pins[index]--; g.pins[index] <= 0 {
		delete(g.pins, index)
	}
}
