package persistence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// verifyOrGuard reads all tables of g, or puts a guard before them.
func (db *DB) verifyOrGuard(g *generation, behind bool) error {
	if !behind {
		return verifyTables(context.Background(), g.dir, db.opts.EncryptionKey, false, nil)
	}
	gd, err := newGuard(g.dir, db.opts.EncryptionKey, func(err error) { db.damaged(g, err) })
	if err != nil {
		return err
	}
	gd.closing = db.closing
	if len(gd.tables) > 0 {
		g.guard.Store(gd)
	}
	return nil
}

// verifyBehind reads what was not read at the start, in the background.
func (db *DB) verifyBehind() {
	g, err := db.acquire()
	if err != nil {
		return
	}
	gd := g.guard.Load()
	if gd == nil {
		g.release()
		return
	}
	rate := db.opts.VerifyRate
	if rate <= 0 {
		rate = defaultVerifyRate
	}
	db.wg.Add(1)
	go func() {
		defer db.wg.Done()
		defer g.release()
		begin := time.Now()
		if err := gd.run(rate, db.closing); err != nil {
			return // closing, or told to damaged
		}
		g.guard.Store(nil)
		db.log.Info("all tables were read and are whole", "tables", len(gd.tables), "bytes", gd.total, "took", time.Since(begin))
	}()
}

// Unverified is how many bytes of tables have not been read since the start.
func (db *DB) Unverified() int64 {
	g, err := db.acquire()
	if err != nil {
		return 0
	}
	defer g.release()
	if gd := g.guard.Load(); gd != nil {
		return gd.left.Load()
	}
	return 0
}

// damaged condemns g: nothing is read from it any more, and no later start takes it.
func (db *DB) damaged(g *generation, err error) {
	if !g.broken.CompareAndSwap(nil, &err) {
		return
	}
	db.log.Error("the engine is damaged", "error", err)
	g.stateMu.Lock()
	werr := g.writeState()
	g.stateMu.Unlock()
	if werr != nil {
		db.log.Error("the damage could not be noted down", "error", werr)
	}
	if db.opts.Damaged != nil && !g.superseded.Load() {
		go db.opts.Damaged(err)
	}
}

// sound is the damage that was found in g, if any.
func (g *generation) sound() error {
	if err := g.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// item is Badger's Get, of what was verified.
func (g *generation) item(view *badger.Txn, key []byte) (item *badger.Item, err error) {
	if err := g.sound(); err != nil {
		return nil, err
	}
	gd := g.guard.Load()
	if gd == nil {
		return view.Get(key)
	}
	defer func() {
		// Badger looks into a block before it checks it.
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %s: %v", ErrCorrupt, g.dir, p)
			gd.damage(err)
		}
	}()
	if _, err := gd.cover(key, key, 0); err != nil {
		return nil, err
	}
	return view.Get(key)
}

// engineLogger is where Badger's compactions meet us; it has no other place.
type engineLogger struct {
	badger.Logger
	compactions *compactions
	pace        *compactionPace
	// guard, if not nil, is met by each part of a compaction, which logs compactionRead after it
	// has read its tables and before it puts new ones in their place. TestCompactionWaits
	// notices if that changes.
	guard *guard
}

const compactionRead = "Discard stats"

// Debugf implements badger.Logger.
func (l engineLogger) Debugf(format string, args ...any) {
	if l.guard != nil && strings.HasPrefix(format, compactionRead) {
		l.guard.gate()
	}
	l.compactions.debug(format, args)
	if strings.HasPrefix(format, compactionTable) && len(args) > 3 {
		id, _ := args[0].(int)
		if took, ok := args[3].(time.Duration); ok {
			l.pace.made(id, took)
		}
	}
	l.Logger.Debugf(format, args...)
}

// Warningf implements badger.Logger.
func (l engineLogger) Warningf(format string, args ...any) {
	l.compactions.warning(format, args)
	l.Logger.Warningf(format, args...)
}

// outOfFiles: it is this process that cannot open a file; nothing is wrong with it.
func outOfFiles(err error) bool {
	return err != nil && slices.ContainsFunc(notOfTheFile, func(e syscall.Errno) bool {
		// Badger's own errors have nothing but the text of what they wrap.
		return errors.Is(err, e) || strings.HasSuffix(err.Error(), ": "+e.Error())
	})
}

var notOfTheFile = []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EACCES, syscall.ENOMEM}
