package persistence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"

	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/snapshot"
)

// Replace makes the state in snapshot r the engine's. It builds a new engine
// directory beside the live one, verifies the whole snapshot and makes the new
// files durable, and only then switches CURRENT: a crash anywhere leaves the old
// engine or the new one, whole. Open views go on reading the old one until they
// are closed, then its files go. Published, floor and durable index become the
// snapshot's index, the counts its header's.
//
// On an error the old engine stays live. No Update may be open.
func (db *DB) Replace(ctx context.Context, r io.Reader) (h snapshot.Header, err error) {
	defer db.metrics.time(opReplace)(&err)
	sr, err := snapshot.NewReader(r)
	if err != nil {
		return h, fmt.Errorf("replacing engine: %w", err)
	}
	return sr.Header(), db.replaceFrom(ctx, sr)
}

// build makes a generation from a snapshot: written, verified, durable, open, and
// not live.
func (db *DB) build(ctx context.Context, sr snapshot.Source) (*generation, error) {
	name, dir, err := db.newDir()
	if err != nil {
		return nil, err
	}
	failpoint.Hit("replace.after-mkdir")
	// In memory there is no closing and opening again: the one Badger is filled.
	if db.opts.InMemory {
		return db.buildInMemory(ctx, sr)
	}
	if err := db.fill(ctx, dir, sr); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	failpoint.Hit("replace.after-fill")
	index := sr.Header().Index
	seed := &generation{dir: dir, synced: map[string]bool{}}
	seed.durable.Store(index)
	seed.floor.Store(index)
	if err := errors.Join(seed.syncFiles(ctx), seed.writeState(), syncPath(db.root)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	failpoint.Hit("replace.after-sync")
	// Opening reads every table again and verifies its checksums.
	g, err := db.openGeneration(name, false)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return g, nil
}

func (db *DB) newDir() (name, dir string, err error) {
	if db.opts.InMemory {
		return "", "", nil
	}
	if name, err = nextName(db.root); err != nil {
		return "", "", err
	}
	dir = filepath.Join(db.root, name)
	return name, dir, os.Mkdir(dir, 0o700)
}

func (db *DB) buildInMemory(ctx context.Context, sr snapshot.Source) (*generation, error) {
	g, err := db.openGeneration("", false)
	if err != nil {
		return nil, err
	}
	if err := load(ctx, "", g.bdb, sr); err != nil {
		g.shut()
		return nil, err
	}
	index := sr.Header().Index
	g.durable.Store(index)
	g.floor.Store(index)
	g.published.Store(index)
	g.noted = index
	g.discard(index) // all of it is in tables
	return g, nil
}

// fill writes the snapshot's records into a new Badger in dir and closes it.
func (db *DB) fill(ctx context.Context, dir string, sr snapshot.Source) error {
	bdb, err := badger.OpenManaged(db.opts.badgerOptions(dir, db.log.Named("badger")))
	if err != nil {
		return err
	}
	return errors.Join(load(ctx, dir, bdb, sr), bdb.Close())
}

const (
	// loadChunk is how many bytes of records go to the StreamWriter at a time.
	loadChunk = 4 << 20
	// loadPending bounds what the StreamWriter has taken and not yet written: the
	// table it fills (64 MiB at the lowest level) and one on its way to the disk.
	loadPending = 160 << 20
)

// roomToLoad is an error if the disk of dir may not hold what is pending: tables
// are written through memory maps, where a full disk is a SIGBUS.
func roomToLoad(dir string, loaded int64) error {
	if dir == "" {
		return nil
	}
	free, err := freeBytes(dir)
	if err != nil {
		return err
	}
	if need := min(loaded+loaded/4, loadPending) + 2*loadChunk; free < need {
		return fmt.Errorf("%w: %s has %d bytes left, restoring needs %d", ErrNoSpace, dir, free, need)
	}
	return nil
}

// load streams the records into an empty Badger, at their own versions. They come
// in key order, so the StreamWriter can write finished tables straight to the
// lowest level: no log, no memtable, no compaction.
func load(ctx context.Context, dir string, bdb *badger.DB, sr snapshot.Source) (err error) {
	sw := bdb.NewStreamWriter()
	defer func() {
		if err != nil {
			sw.Cancel()
		}
	}()
	if err := sw.Prepare(); err != nil {
		return err
	}
	buf := z.NewBuffer(loadChunk+(1<<20), "persistence.load")
	defer func() { err = errors.Join(err, buf.Release()) }()
	loaded := int64(0)
	for {
		r, err := sr.Next()
		if errors.Is(err, io.EOF) {
			break // the footer was right
		}
		if err != nil {
			return err
		}
		if err := checkSize(r); err != nil {
			return err
		}
		badger.KVToBuffer(&pb.KV{Key: r.Key, Value: r.Value, Version: r.Version, StreamId: 1}, buf)
		if buf.LenNoPadding() < loadChunk {
			continue
		}
		loaded += int64(buf.LenNoPadding())
		if err := errors.Join(ctx.Err(), roomToLoad(dir, loaded)); err != nil {
			return err
		}
		if err := sw.Write(buf); err != nil {
			return err
		}
		buf.Reset()
	}
	if err := roomToLoad(dir, loaded+int64(buf.LenNoPadding())); err != nil {
		return err
	}
	if err := sw.Write(buf); err != nil {
		return err
	}
	return sw.Flush()
}

// switchTo makes g the live generation, on disk and then under the readers.
func (db *DB) switchTo(g *generation) error {
	if g.dir != "" {
		failpoint.Hit("replace.before-switch")
		if err := writeCurrent(db.root, g.name); err != nil {
			return db.undoSwitch(err)
		}
		failpoint.Hit("replace.after-switch")
		db.space.reserve(g, db.opts.Badger)
	}
	index := g.published.Load()
	old := db.gen.Swap(g)
	db.newestSnapshot.Store(0) // of another history
	db.ages.reset()
	db.noteAge(time.Now(), index)
	db.waiters.wake(index)
	old.superseded.Store(true)
	old.release()
	failpoint.Hit("replace.after-swap")
	return nil
}

// undoSwitch is for a CURRENT that could not be written: it may name either
// engine now, and must name the old one before the new one's files go.
func (db *DB) undoSwitch(cause error) error {
	old := db.gen.Load().name
	if err := writeCurrent(db.root, old); err != nil {
		if name, rerr := readCurrent(db.root); rerr != nil || name != old {
			return errors.Join(cause, fmt.Errorf("switching back to engine %s: %w", strconv.Quote(old), err))
		}
	}
	return cause
}

// discard throws away a generation that never went live, unless CURRENT names it.
func (db *DB) discard(g *generation) {
	if name, err := readCurrent(db.root); err == nil && name != g.name {
		g.superseded.Store(true)
	}
	g.release()
}
