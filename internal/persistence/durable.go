package persistence

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/neogan74/konsul/internal/failpoint"
)

// DurableIndex is the index up to which everything survives a power cut,
// according to state.json.
func (db *DB) DurableIndex() uint64 { return db.gen.Load().durable.Load() }

// MakeDurable makes everything at or below index survive a power cut, and then
// writes index to state.json. index must be published. A Raft snapshot may only
// be finished after it: the log is cut behind a snapshot. It never goes back.
func (db *DB) MakeDurable(ctx context.Context, index uint64) (err error) {
	defer db.metrics.time(opMakeDurable)(&err)
	g, err := db.acquire()
	if err != nil {
		return err
	}
	defer g.release()
	if newest := g.published.Load(); index > newest {
		return fmt.Errorf("making %d durable: %w", index, &FutureIndexError{Newest: newest})
	}
	g.stateMu.Lock()
	defer g.stateMu.Unlock()
	if index <= g.durable.Load() {
		return nil
	}
	if err := g.syncFiles(ctx); err != nil {
		return fmt.Errorf("making %d durable: %w", index, err)
	}
	failpoint.Hit("durable.after-sync")
	marks, held, err := g.markLogs(index, db.opts.EncryptionKey)
	if err != nil {
		return fmt.Errorf("making %d durable: %w", index, err)
	}
	failpoint.Hit("durable.after-marks")
	before, marksBefore, heldBefore := g.durable.Load(), g.marks, g.held
	g.durable.Store(index)
	g.marks, g.held = marks, held
	if err := g.writeState(); err != nil {
		g.durable.Store(before)
		// The file may hold either; what both name must stay to be told from what is lost.
		maps.Copy(marks, marksBefore)
		g.held = held && heldBefore
		return fmt.Errorf("making %d durable: %w", index, err)
	}
	failpoint.Hit("durable.after-state")
	if g.dir != "" {
		_ = g.dropHeld() // the next time, or at the next start
	}
	return nil
}

// syncFiles fsyncs what Badger's own Sync leaves out: that covers the active
// memtable's log only, not those of full memtables that wait for their flush. What
// was written before the call is, during it, in a log (*.mem) that stands in the
// directory, or in a table. A log vanishes only after its table was written,
// msynced (table.CreateTable) and entered in the fsynced MANIFEST
// (levelsController.addLevel0Table before memTable.DecrRef, db.go flushMemtable);
// compactions keep the same order. So a log that is gone when we come to it is no
// loss. Tables get an fsync of ours all the same, once each: their names must be
// durable too, and the directory comes last.
func (g *generation) syncFiles(ctx context.Context) error {
	if g.dir == "" || failpoint.On("engine.skip-fsync") {
		return nil
	}
	// New files may appear while we go through the list, with newer versions that
	// nobody asked for, or as the tables of logs that vanished: look again until a
	// round has nothing new.
	seen := map[string]bool{}
	for {
		names, err := g.unsynced(seen)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			return syncPath(g.dir)
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := syncPath(filepath.Join(g.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			seen[name] = true
			if filepath.Ext(name) == ".sst" { // never written again
				g.synced[name] = true
			}
		}
	}
}

// unsynced lists the files that syncFiles has yet to do, and forgets tables that
// are gone.
func (g *generation) unsynced(seen map[string]bool) ([]string, error) {
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	tables := make(map[string]bool, len(g.synced))
	for _, e := range entries {
		name := e.Name()
		switch filepath.Ext(name) {
		case ".sst":
			if g.synced[name] {
				tables[name] = true
				continue
			}
		case ".mem", ".vlog":
		default:
			if name != "MANIFEST" && name != "KEYREGISTRY" && name != "DISCARD" {
				continue
			}
		}
		if !seen[name] {
			names = append(names, name)
		}
	}
	g.synced = tables
	return names, nil
}
