package persistence

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

const (
	// maxChangeBytes bounds what one page of a Backlog holds, beyond a single index.
	maxChangeBytes = 8 << 20
	// maxAhead and maxAheadBytes bound what a Backlog remembers: a scan goes over all that is newer
	// than its start, so the more one finds the fewer there are.
	maxAhead      = 64 << 10
	maxAheadBytes = 4 << 20
)

// Backlog reads what happened to the stored keys with a prefix, a page at a time, for one
// reader that goes on from index to index. It is for one goroutine, and holds nothing in the
// engine. Its memory is bounded however long the history is.
type Backlog struct {
	db     *DB
	prefix []byte
	// next are the changes behind after, without their values: all up to complete, of gen.
	next            []Change
	after, complete uint64
	gen             *generation
	// ahead is maxAhead, but for tests.
	ahead int
}

// Backlog makes one. It reads nothing yet.
func (db *DB) Backlog(prefix []byte) *Backlog {
	return &Backlog{db: db, prefix: bytes.Clone(prefix), ahead: maxAhead}
}

// Next returns changes after index after and up to upTo (or the published index, if that is
// lower), in order of index, then key: the first whole indexes that make at most limit, or one
// index if that alone makes more. complete is up to where they are all there are; ask again
// after it. It may have moved on without a change. CompactedError if the history does not
// reach back to after.
func (b *Backlog) Next(ctx context.Context, after, upTo uint64, limit int) (changes []Change, complete uint64, err error) {
	defer b.db.metrics.time(opChanges)(&err)
	v, err := b.db.historyView(after, upTo)
	if err != nil || v == nil {
		return nil, after, err
	}
	defer v.Close()
	limit = max(limit, 1)
	if b.gen != v.gen || b.after != after || b.complete <= after {
		whole, err := b.look(ctx, v, after, limit)
		if err != nil || whole != nil {
			return whole, b.complete, err
		}
	}
	return b.page(ctx, v, upTo, limit)
}

// look finds what comes behind after. An index that is larger than what may be remembered is
// returned whole.
func (b *Backlog) look(ctx context.Context, v *historyView, after uint64, limit int) (whole []Change, err error) {
	leave, err := b.db.enterHistory(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	b.next, b.gen, b.after, b.complete = nil, v.gen, after, after
	w := window{limit: max(b.ahead, limit)}
	if err := v.history(ctx, b.prefix, after, w.add); err != nil {
		return nil, err
	}
	b.next, b.complete = w.whole(), v.upTo
	if !w.cut {
		return nil, nil
	}
	b.complete = w.cutAt - 1
	if len(b.next) > 0 || b.complete > after {
		return nil, nil
	}
	if whole, err = v.oneIndex(ctx, b.prefix, w.cutAt); err == nil {
		b.after, b.complete = w.cutAt, w.cutAt
	}
	return whole, err
}

// page reads the values of the next whole indexes.
func (b *Backlog) page(ctx context.Context, v *historyView, upTo uint64, limit int) (page []Change, complete uint64, err error) {
	bytes, n := 0, 0 // n changes of whole indexes are in the page for certain
	for i, c := range b.next {
		if i > 0 && c.Index != b.next[i-1].Index {
			n = i
		}
		if c.Index > upTo || n > 0 && (i >= limit || bytes > maxChangeBytes) {
			break
		}
		if i%scanCheckEvery == 0 {
			if err := b.db.interrupted(ctx); err != nil {
				return nil, 0, err
			}
		}
		if !c.Deleted {
			if c.Value, err = v.valueAt(c.Key, c.Index); err != nil {
				return nil, 0, err
			}
		}
		page = append(page, c)
		bytes += changeSize(c)
	}
	complete = min(b.complete, upTo)
	if len(page) < len(b.next) {
		if b.next[len(page)].Index <= upTo {
			page = page[:n]
		}
		complete = min(complete, b.next[len(page)].Index-1)
	}
	b.next, b.after = b.next[len(page):], complete
	if len(b.next) == 0 {
		b.next = nil
	}
	return page, complete, nil
}

// valueAt is the value that a key got at index.
func (v *historyView) valueAt(key []byte, index uint64) ([]byte, error) {
	txn := v.gen.bdb.NewTransactionAt(index, false)
	defer txn.Discard()
	item, err := v.gen.item(txn, key)
	if err == nil && item.Version() != index {
		err = badger.ErrKeyNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading the value of index %d: %w", index, err)
	}
	return item.ValueCopy(nil)
}

// enterHistory waits for one of the few places for scans of the history, which
// read every table that has something newer.
func (db *DB) enterHistory(ctx context.Context) (leave func(), err error) {
	select {
	case db.scans <- struct{}{}:
		return func() { <-db.scans }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-db.closing:
		return nil, ErrClosed
	}
}

// historyView opens a view at upTo that also holds the floor at after; nil if
// there is nothing between the two.
func (db *DB) historyView(after, upTo uint64) (*historyView, error) {
	g, err := db.acquire()
	if err != nil {
		return nil, err
	}
	upTo = min(upTo, g.published.Load())
	if err := g.pinAt(after); err != nil {
		g.release()
		if errors.Is(err, ErrFutureIndex) {
			return nil, nil // nothing can have happened after what is yet to come
		}
		return nil, err
	}
	v := &historyView{View: View{db: db, gen: g, index: after, txn: g.bdb.NewTransactionAt(upTo, false)}, upTo: upTo}
	if upTo <= after {
		v.Close()
		return nil, nil
	}
	return v, nil
}

// historyView reads at one index, upTo, and pins another: View.index is the pinned one.
type historyView struct {
	View
	upTo uint64
}

// history walks every version under prefix above after and up to the view's. The
// item is valid during the call.
func (v *historyView) history(ctx context.Context, prefix []byte, after uint64, fn func(*badger.Item) error) error {
	// SinceTs skips whole tables without newer versions.
	it := v.gen.iterate(v.txn, badger.IteratorOptions{Prefix: prefix, AllVersions: true, SinceTs: after})
	defer it.Close()
	n := 0
	for it.Rewind(); it.Valid(); it.Next() {
		if n%scanCheckEvery == 0 {
			if err := v.db.interrupted(ctx); err != nil {
				return err
			}
		}
		n++
		if it.Item().Version() <= after {
			continue // after 0 means no lower bound to Badger
		}
		if err := fn(it.Item()); err != nil {
			return err
		}
	}
	return it.Err()
}

func (db *DB) interrupted(ctx context.Context) error {
	if db.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

// oneIndex lists all changes of one index.
func (v *historyView) oneIndex(ctx context.Context, prefix []byte, index uint64) ([]Change, error) {
	var changes []Change
	err := v.history(ctx, prefix, index-1, func(item *badger.Item) error {
		if item.Version() != index {
			return nil
		}
		c := changeOf(item)
		if !c.Deleted {
			var err error
			if c.Value, err = item.ValueCopy(nil); err != nil {
				return err
			}
		}
		changes = append(changes, c)
		return nil
	})
	return changes, err
}

// changeOf is a change without its value.
func changeOf(item *badger.Item) Change {
	return Change{Index: item.Version(), Key: item.KeyCopy(nil), Deleted: item.IsDeletedOrExpired()}
}

// window keeps the first changes of those it is shown, in any order: a heap with
// the last one on top, which goes when there is no more room. Of the index cut at,
// and of later ones, something is missing.
type window struct {
	limit   int
	changes []Change
	bytes   int
	cut     bool
	cutAt   uint64
}

func (w *window) add(item *badger.Item) error {
	if w.cut && item.Version() >= w.cutAt {
		return nil
	}
	c := changeOf(item)
	w.bytes += changeSize(c)
	heap.Push(w, c)
	for len(w.changes) > w.limit || (w.bytes > maxAheadBytes && len(w.changes) > 1) {
		w.drop()
	}
	return nil
}

// drop throws out the last change, and with it all of its index.
func (w *window) drop() {
	index := w.changes[0].Index
	w.cut, w.cutAt = true, index
	for len(w.changes) > 0 && w.changes[0].Index == index {
		w.bytes -= changeSize(heap.Pop(w).(Change))
	}
}

// whole returns what was kept, in order.
func (w *window) whole() []Change {
	slices.SortFunc(w.changes, compareChanges)
	return w.changes
}

func changeSize(c Change) int { return len(c.Key) + len(c.Value) + 64 }

func compareChanges(a, b Change) int {
	if a.Index != b.Index {
		if a.Index < b.Index {
			return -1
		}
		return 1
	}
	return bytes.Compare(a.Key, b.Key)
}

func (w *window) Len() int           { return len(w.changes) }
func (w *window) Less(i, j int) bool { return compareChanges(w.changes[i], w.changes[j]) > 0 }
func (w *window) Swap(i, j int)      { w.changes[i], w.changes[j] = w.changes[j], w.changes[i] }

// Push implements heap.Interface.
func (w *window) Push(x any) { w.changes = append(w.changes, x.(Change)) }

// Pop implements heap.Interface.
func (w *window) Pop() any {
	c := w.changes[len(w.changes)-1]
	w.changes[len(w.changes)-1] = Change{}
	w.changes = w.changes[:len(w.changes)-1]
	return c
}

// ChangedSince says whether anything published touched the stored keys with
// prefix (or, if exact, that one key) after index after; deletions count. If the
// history does not reach back so far and what is left cannot tell, it is a
// CompactedError; an exact key that exists can always tell, by its version.
func (db *DB) ChangedSince(ctx context.Context, prefix []byte, exact bool, after uint64) (changed bool, err error) {
	defer db.metrics.time(opChanges)(&err)
	v, err := db.View()
	if err != nil {
		return false, err
	}
	defer v.Close()
	if v.index <= after {
		return false, nil
	}
	if exact {
		item, err := v.gen.item(v.txn, prefix)
		if err == nil {
			return item.Version() > after, nil
		}
		if !errors.Is(err, badger.ErrKeyNotFound) {
			return false, err
		}
	}
	leave, err := db.enterHistory(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	return v.touched(ctx, prefix, exact, after)
}

func (v *View) touched(ctx context.Context, prefix []byte, exact bool, after uint64) (bool, error) {
	floor := v.gen.floor.Load() // before the look: what goes meanwhile is at or below a later one
	o := badger.IteratorOptions{AllVersions: true, SinceTs: after}
	var it *cursor
	if exact {
		it = v.gen.iterateKey(v.txn, prefix, o)
	} else {
		o.Prefix = prefix
		it = v.gen.iterate(v.txn, o)
	}
	defer it.Close()
	n := 0
	for it.Rewind(); it.Valid(); it.Next() {
		if it.Item().Version() > after {
			return true, nil
		}
		if n++; n%scanCheckEvery == 0 {
			if err := v.db.interrupted(ctx); err != nil {
				return false, err
			}
		}
	}
	if err := it.Err(); err != nil {
		return false, err
	}
	if after < max(floor, v.gen.floor.Load()) {
		return false, &CompactedError{Oldest: v.gen.floor.Load()}
	}
	return false, nil
}
