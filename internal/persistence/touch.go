package persistence

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// touchLen is the length of the keys that touch deletes: longer than a key may be, so
// that nobody can have them.
const touchLen = maxStoredKeyLen + 16

// touch makes Badger rewrite tables that it would never touch again: a compaction goes
// through a table only if something from a level above overlaps it. So something must
// stand above every table, and what the memtable holds must be flushed. It is deletions of
// keys that nobody can have, at the floor, where nobody who reads the history sees them;
// the compaction drops them. (To write existing records again would not do: one that is
// deleted meanwhile could come back.) flushed says that all that was written before is in tables.
func (db *DB) touch(ctx context.Context, g *generation, floor uint64) (flushed bool, err error) {
	mark, err := g.nextTouchMark()
	if err != nil {
		return false, err
	}
	w := toucher{db: db, g: g, floor: floor, places: g.places()}
	// One round over all places, and the mark: when the memtable with the mark is flushed,
	// all before it are.
	if err := w.write(ctx, len(w.places), mark); err != nil {
		return false, err
	}
	// Then as many as it takes to fill a memtable, so that Badger flushes that one. The
	// last few only if it comes to it: they could fill another one, which would be flushed
	// in the midst of the compaction.
	fill := int(db.opts.Badger.MemTableSize/touchLen) + 64
	if err := w.write(ctx, fill-fill/16, nil); err != nil {
		return false, err
	}
	if done, err := g.awaitFlush(ctx, db, mark, flushSoon); done || err != nil {
		return done, err
	}
	// Badger looks whether a memtable is full before it writes, so it takes one more.
	for _, n := range []int{fill / 16, 1} {
		if err := w.write(ctx, n, nil); err != nil {
			return false, err
		}
	}
	return g.awaitFlush(ctx, db, mark, flushPatience)
}

// places are where something must be written so that it stands above every table.
func (g *generation) places() (places [][]byte) {
	for _, t := range g.bdb.Tables() {
		if left := tableKey(t.Left); t.Level > 0 && len(left) > 0 && !bytes.HasPrefix(left, []byte(badgersPrefix)) {
			places = append(places, left)
		}
	}
	if len(places) == 0 {
		places = append(places, []byte(KVPrefix))
	}
	return places
}

// tableKey is a bound of a table without the version, which stands behind the key.
func tableKey(bound []byte) []byte { return bound[:max(len(bound)-8, 0)] }

// toucher writes deletions at places, one after the other, round and round.
type toucher struct {
	db     *DB
	g      *generation
	floor  uint64
	places [][]byte
	n      int
}

// write writes count of them, and after them the deletion of last, if there is one.
func (w *toucher) write(ctx context.Context, count int, last []byte) error {
	for end := w.n + count; w.n < end || last != nil; {
		if err := w.db.interrupted(ctx); err != nil {
			return err
		}
		chunk := min(end-w.n, 256)
		if err := w.db.space.wait(w.db, w.g, int64(chunk+1)*(touchLen+perWrite)); err != nil {
			return err
		}
		batch := w.g.bdb.NewManagedWriteBatch()
		defer batch.Cancel()
		for range chunk {
			key := make([]byte, touchLen)
			copy(key, w.places[w.n%len(w.places)])
			binary.BigEndian.PutUint64(key[touchLen-8:], uint64(w.n))
			w.n++
			if err := batch.DeleteAt(key, w.floor); err != nil {
				return err
			}
		}
		if w.n == end && last != nil {
			if err := batch.DeleteAt(last, w.floor); err != nil {
				return err
			}
			last = nil
		}
		if err := batch.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// A touch mark is a deleted key like the others, but above all that the engine can hold:
// touchMarkPrefix, a number (8, BE), zeros. A table that holds the mark with the highest
// number ends with it.
const touchMarkPrefix = "\xff\xff\xff\xff"

// nextTouchMark is above those of earlier compactions that are still there.
func (g *generation) nextTouchMark() ([]byte, error) {
	newest, err := g.newestTouchMark()
	if err != nil {
		return nil, err
	}
	number := uint64(1)
	if newest != nil {
		number += binary.BigEndian.Uint64(newest[len(touchMarkPrefix):])
	}
	mark := make([]byte, touchLen)
	binary.BigEndian.PutUint64(mark[copy(mark, touchMarkPrefix):], number)
	return mark, nil
}

// newestTouchMark is the highest mark in the engine, memtables included; nil if there is
// none.
func (g *generation) newestTouchMark() (mark []byte, err error) {
	view := g.bdb.NewTransactionAt(g.floor.Load(), false)
	defer view.Discard()
	it := g.iterate(view, badger.IteratorOptions{Prefix: []byte(touchMarkPrefix), AllVersions: true})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		mark = it.Item().KeyCopy(mark)
	}
	return mark, it.Err()
}

// flushed says whether the memtable with mark, the highest, is a table by now. Badger
// does not tell, so it is looked for: it is in a table, or a compaction that came
// meanwhile has dropped it already.
func (g *generation) flushed(mark []byte) (bool, error) {
	newest, err := g.newestTouchMark()
	if err != nil {
		return false, err
	}
	if !bytes.Equal(newest, mark) {
		return true, nil
	}
	for _, t := range g.bdb.Tables() {
		if bytes.Equal(tableKey(t.Right), mark) {
			return true, nil
		}
	}
	return false, nil
}

const (
	flushPoll = 20 * time.Millisecond
	// flushSoon is what the flush of a memtable takes, many times over.
	flushSoon = time.Second
	// flushPatience is for a flush under heavy writes, behind those of other memtables.
	flushPatience = 15 * time.Second
)

// awaitFlush waits until the memtable with mark is flushed, for a while.
func (g *generation) awaitFlush(ctx context.Context, db *DB, mark []byte, patience time.Duration) (bool, error) {
	for deadline := time.Now().Add(patience); ; {
		done, err := g.flushed(mark)
		if done || err != nil || time.Now().After(deadline) {
			return done, err
		}
		select {
		case <-time.After(flushPoll):
		case <-db.closing:
			return false, ErrClosed
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}
