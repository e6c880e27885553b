package persistence

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// maxChangeBytes bounds what one call of Changes gathers, beyond a single index.
const maxChangeBytes = 8 << 20

// Changes lists what happened to stored keys with prefix after index after and
// up to upTo (or the published index, if that is lower), in order of index, then
// key: the first whole indexes that make at most limit changes, or one index if
// that alone makes more. more says that later ones were left out; ask again after
// the last one's index. CompactedError if the history does not reach back to
// after. Memory is bounded by limit and maxChangeBytes however long the history.
func (db *DB) Changes(ctx context.Context, prefix []byte, after, upTo uint64, limit int) (changes []Change, more bool, err error) {
	defer db.metrics.time(opChanges)(&err)
	leave, err := db.enterHistory(ctx)
	if err != nil {
		return nil, false, err
	}
	defer leave()
	v, err := db.historyView(after, upTo)
	if err != nil || v == nil {
		return nil, false, err
	}
	defer v.Close()
	w := window{limit: max(limit, 1)}
	if err := v.history(ctx, prefix, after, w.add); err != nil {
		return nil, false, err
	}
	if changes := w.whole(); len(changes) > 0 || !w.cut {
		return changes, w.cut, nil
	}
	// The first index alone is larger than the window: fetch all of it.
	return v.oneIndex(ctx, prefix, w.cutAt)
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
	v := &historyView{View: View{db: db, gen: g, index: after, txn: g.bdb.NewTransactionAt(upTo, false)}}
	if upTo <= after {
		v.Close()
		return nil, nil
	}
	return v, nil
}

// historyView reads at one index and pins another: View.index is the pinned one.
type historyView struct{ View }

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
func (v *historyView) oneIndex(ctx context.Context, prefix []byte, index uint64) ([]Change, bool, error) {
	var changes []Change
	more := false
	err := v.history(ctx, prefix, index-1, func(item *badger.Item) error {
		if item.Version() != index {
			more = true
			return nil
		}
		c, err := copyChange(item)
		changes = append(changes, c)
		return err
	})
	return changes, more, err
}

func copyChange(item *badger.Item) (Change, error) {
	c := Change{Index: item.Version(), Key: item.KeyCopy(nil), Deleted: item.IsDeletedOrExpired()}
	if c.Deleted {
		return c, nil
	}
	var err error
	c.Value, err = item.ValueCopy(nil)
	return c, err
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
	c, err := copyChange(item)
	if err != nil {
		return err
	}
	w.bytes += changeSize(c)
	heap.Push(w, c)
	for len(w.changes) > w.limit || (w.bytes > maxChangeBytes && len(w.changes) > 1) {
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
