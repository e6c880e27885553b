// Package persistence is Konsul's engine: the Engine of the users' guide on top
// of DB, a store of versions in Badger's managed mode. The version of everything
// an entry of the Raft log writes is the entry's index; DESIGN.md says what
// follows from that. It is the only package that knows Badger.
package persistence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// DB is the versioned face of the engine. Reading is for any goroutine; an
// Update, Publish and Replace are for one at a time: the state machine.
type DB struct {
	opts Options
	log  hclog.Logger
	root string // Dir/engine; empty in memory
	lock *dirLock

	gen     atomic.Pointer[generation]
	waiters waiters
	metrics *metrics

	// update is the one Update in use, kept to reuse its memory.
	update Update
	recent recent
	// floorMu orders AdvanceFloor: the discard version must never go back.
	floorMu sync.Mutex
	ages    ages
	written written
	// newestSnapshot is what AdvanceFloor was told last: the floor follows the history
	// rule between snapshots, too.
	newestSnapshot atomic.Uint64
	// compacting has a token while a compaction or a garbage collection runs.
	compacting chan struct{}
	// others is how many versions a compaction left that are neither keys nor services
	// nor history.
	others atomic.Int64
	// scans bounds how many scans of the history run at a time.
	scans chan struct{}

	space   space
	closing chan struct{}
	closed  atomic.Bool
	wg      sync.WaitGroup
}

// closeTimeout is how long Close waits for open views.
const closeTimeout = 10 * time.Second

// Open opens the engine that Dir/engine/CURRENT names, making an empty one if
// there is none, and removes what an interrupted Replace left behind. A damaged
// engine gives ErrCorrupt, a directory in use ErrLocked.
func Open(o Options, log hclog.Logger) (*DB, error) {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	if err := o.Badger.Validate(); err != nil {
		return nil, fmt.Errorf("opening engine: %w", err)
	}
	o.Badger, o.History = o.Badger.withDefaults(), o.History.withDefaults()
	db := &DB{opts: o, log: log, closing: make(chan struct{}), scans: make(chan struct{}, 2), compacting: make(chan struct{}, 1)}
	db.waiters.init()
	if err := db.open(); err != nil {
		return nil, fmt.Errorf("opening engine: %w", err)
	}
	db.noteAge(time.Now(), db.Published())
	db.wg.Add(2)
	go db.janitor()
	go db.maintenance()
	db.verifyBehind()
	return db, nil
}

func (db *DB) open() (err error) {
	name := ""
	if !db.opts.InMemory {
		db.root = filepath.Join(db.opts.Dir, EngineDir)
		if err := os.MkdirAll(db.root, 0o700); err != nil {
			return err
		}
		if db.lock, err = lockDir(db.root); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, db.lock.release())
			}
		}()
		if name, err = currentOrNew(db.root); err != nil {
			return err
		}
		if err := sweep(db.root, name, db.log); err != nil {
			return err
		}
	}
	g, err := db.openGeneration(name, db.opts.VerifyBehind)
	if err != nil {
		return err
	}
	db.gen.Store(g)
	if db.metrics, err = newMetrics(db); err != nil {
		g.shut()
		return err
	}
	db.space.reserve(g, db.opts.Badger)
	return nil
}

// Close ends the background work, wakes waiters with ErrClosed, waits a while
// for open views, and closes the files. It makes nothing durable that was not;
// later calls return nil.
func (db *DB) Close() error {
	if db.closed.Swap(true) {
		return nil
	}
	close(db.closing)
	db.waiters.close()
	db.wg.Wait()
	db.metrics.unregister()
	g := db.gen.Load()
	g.release()
	var err error
	select {
	case <-g.done:
		err = g.closeErr
	case <-time.After(closeTimeout):
		err = fmt.Errorf("closing engine: %d views are still open", g.refs.Load())
	}
	if db.lock != nil {
		err = errors.Join(err, db.lock.release())
	}
	return err
}

// acquire takes a reference on the live generation; release it.
func (db *DB) acquire() (*generation, error) {
	for {
		if db.closed.Load() {
			return nil, ErrClosed
		}
		// A generation that Replace has just taken away cannot be retained: look again.
		if g := db.gen.Load(); g.retain() {
			return g, nil
		}
	}
}

// MaxVersion is the newest version in the engine, published or not. It proves
// nothing about the versions below it: after a power cut there may be holes.
func (db *DB) MaxVersion() uint64 {
	g, err := db.acquire()
	if err != nil {
		return 0
	}
	defer g.release()
	return g.bdb.MaxVersion()
}
