package persistence

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Change is one key's change at one index: the stored key, and the stored value
// unless it was deleted.
type Change struct {
	Index      uint64
	Key, Value []byte
	Deleted    bool
}

// Update applies a run of entries. Each entry reads the state at its index minus
// one: the engine at first-1, which never changes, even if the engine is ahead
// because this is a replay, and on top what earlier entries of the run wrote. So
// applying an entry again reads and writes exactly what it did before.
//
// One Update at a time; it is dead after Commit.
type Update struct {
	db    *DB
	gen   *generation
	view  *badger.Txn
	first uint64
	tx    Tx
	cells map[string]*cell
	slab  []cell
	// writes are the net effects of finished entries, in order of index, then key.
	writes []write
	keys   int64
	svcs   int64
	bytes  int64
	err    error
}

// cell is what an Update knows about one key.
type cell struct {
	key []byte
	// value and found are the state after the last finished entry, if known.
	value        []byte
	known, found bool
	// written: an entry of this run wrote the key, so the view's value is old.
	written bool
	// tx is the number of the entry that the next two belong to.
	tx     uint64
	next   []byte
	exists bool
}

type write struct {
	index uint64
	key   []byte
	value []byte
	del   bool
}

// maxReusedCells bounds what a big Update leaves allocated for the next one.
const maxReusedCells = 4096

// NewUpdate begins applying entries from index first on.
func (db *DB) NewUpdate(first uint64) *Update {
	u := &db.update
	u.reset()
	u.db, u.first = db, first
	g, err := db.acquire()
	if err != nil {
		u.err = err
		return u
	}
	u.gen = g
	if err := g.sound(); err != nil {
		u.fail(err)
	}
	base := first - min(first, 1)
	if floor := g.floor.Load(); base < floor {
		// Some of what these entries read is gone: applying them would diverge.
		u.fail(fmt.Errorf("applying entry %d: %w", first, &CompactedError{Oldest: floor}))
	}
	u.view = g.bdb.NewTransactionAt(base, false)
	db.recent.begin(g, base)
	return u
}

func (u *Update) reset() {
	if u.cells == nil || len(u.cells) > maxReusedCells {
		u.cells = make(map[string]*cell, 64)
		u.slab = nil
	} else {
		clear(u.cells)
	}
	if cap(u.slab) > maxReusedCells {
		u.slab = nil
	}
	clear(u.slab[:cap(u.slab)])
	u.slab = u.slab[:0]
	if cap(u.writes) > maxReusedCells {
		u.writes = nil
	}
	clear(u.writes[:cap(u.writes)])
	u.writes = u.writes[:0]
	u.tx.prefixes.reset()
	u.tx = Tx{u: u, touched: u.tx.touched[:0], prefixes: u.tx.prefixes}
	u.gen, u.view, u.err = nil, nil, nil
	u.keys, u.svcs, u.bytes = 0, 0, 0
}

// At begins the next entry. Indexes must not go down; the Tx of the entry before
// is dead.
func (u *Update) At(index uint64) *Tx {
	u.tx.finish()
	if index < max(u.tx.index, u.first) {
		u.fail(fmt.Errorf("applying entry %d after %d", index, max(u.tx.index, u.first)))
	}
	u.tx.index = index
	u.tx.number++
	return &u.tx
}

func (u *Update) fail(err error) {
	if u.err == nil {
		u.err = err
	}
}

// cell returns what is known of key, nil if nothing is.
func (u *Update) cell(key []byte) *cell { return u.cells[string(key)] }

// newCell makes room for key. Cells live in slabs that are never moved.
func (u *Update) newCell(key []byte) *cell {
	if len(u.slab) == cap(u.slab) {
		u.slab = make([]cell, 0, 64)
	}
	u.slab = append(u.slab, cell{})
	c := &u.slab[len(u.slab)-1]
	name := string(key)
	c.key = []byte(name)
	u.cells[name] = c
	return c
}

// load makes a cell known, from the view if need be.
func (u *Update) load(c *cell) error {
	if c.known {
		return nil
	}
	if u.err != nil {
		return u.err
	}
	value, found := u.db.recent.get(c.key)
	if !found {
		var err error
		if value, found, err = u.gen.get(u.view, c.key); err != nil {
			u.fail(err)
			return err
		}
	}
	c.value, c.found, c.known = value, found, true
	return nil
}

// Commit writes what the entries wrote and publishes last, which must not be
// below the last entry's index. It returns the changes in order of index, then
// key. Nothing is durable yet; the Raft log is. After an error the engine may hold
// any part of the run, so the process must end; the replay at the next start heals
// it.
func (u *Update) Commit(last uint64) ([]Change, error) {
	begin := time.Now()
	u.tx.finish()
	if u.gen == nil {
		return nil, u.err
	}
	defer u.gen.release()
	defer u.view.Discard()
	if last < u.tx.index {
		u.fail(fmt.Errorf("committing up to %d after entry %d", last, u.tx.index))
	}
	if u.err != nil {
		return nil, fmt.Errorf("applying entries: %w", u.err)
	}
	if len(u.writes) > 0 {
		if err := u.write(); err != nil {
			u.db.recent.forget() // what of it was written is not known
			return nil, fmt.Errorf("committing entries up to %d: %w", last, err)
		}
		u.gen.written.Store(u.writes[len(u.writes)-1].index)
	}
	u.db.wrote(u.bytes, len(u.writes), last)
	u.gen.keys.Add(u.keys)
	u.gen.services.Add(u.svcs)
	u.remember(last)
	changes := u.changes()
	u.db.metrics.committed(begin, changes)
	u.db.Publish(last)
	return changes, nil
}

// remember keeps what this run read and wrote for the runs to come.
func (u *Update) remember(last uint64) {
	for _, c := range u.cells {
		switch {
		case c.known && c.found:
			u.db.recent.put(c.key, c.value)
		case c.known:
			u.db.recent.drop(c.key)
		}
	}
	u.db.recent.at = last
}

// write puts all writes into Badger.
func (u *Update) write() error {
	if err := u.db.space.wait(u.db, u.gen, u.bytes+int64(len(u.writes))*perWrite); err != nil {
		return err
	}
	if u.db.opts.standalone {
		return u.writeAtomically()
	}
	batch := u.gen.bdb.NewManagedWriteBatch()
	defer batch.Cancel()
	entries := make([]badger.Entry, len(u.writes))
	for i := range u.writes {
		w, e := &u.writes[i], &entries[i]
		// Badger copies key and value into its log and memtable before Flush returns.
		var err error
		if w.del {
			err = batch.DeleteAt(w.key, w.index)
		} else {
			e.Key, e.Value = w.key, w.value
			err = batch.SetEntryAt(e, w.index)
		}
		if err != nil {
			return err
		}
	}
	return batch.Flush()
}

// writeAtomically is for an engine without a Raft log behind it: no replay would
// heal half a batch, so all of it goes into one Badger transaction, which a crash
// keeps whole or not at all. The entries have one index.
func (u *Update) writeAtomically() error {
	txn := u.gen.bdb.NewTransactionAt(u.tx.index, true)
	defer txn.Discard()
	for i := range u.writes {
		w := &u.writes[i]
		var err error
		if w.del {
			err = txn.Delete(w.key)
		} else {
			err = txn.Set(w.key, w.value)
		}
		if err != nil {
			return err
		}
	}
	return txn.CommitAt(u.tx.index, nil)
}

func (u *Update) changes() []Change {
	if len(u.writes) == 0 {
		return nil
	}
	changes := make([]Change, len(u.writes))
	for i, w := range u.writes {
		changes[i] = Change{Index: w.index, Key: w.key, Value: w.value, Deleted: w.del}
	}
	return changes
}

// get reads one key of a Badger view. The value is the caller's.
func (g *generation) get(view *badger.Txn, key []byte) ([]byte, bool, error) {
	item, err := g.item(view, key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading %q: %w", key, err)
	}
	var value []byte
	// The slice given to the function is the item's own copy, and this item is ours.
	err = item.Value(func(v []byte) error { value = v; return nil })
	if err != nil {
		return nil, false, fmt.Errorf("reading %q: %w", key, err)
	}
	return value, true, nil
}

func sortCells(cells []*cell) {
	slices.SortFunc(cells, func(a, b *cell) int { return bytes.Compare(a.key, b.key) })
}
