package persistence

import (
	"bytes"

	"github.com/dgraph-io/badger/v4"
)

// The index of deadlines is a queue on disk: entries go in at the far end and out at
// the near one, and what has gone out stays there as tombstones for as long as the
// history. So every search says where it begins, and ends by itself: Badger's own
// iterator would walk over all tombstones up to the next live entry.

// NextDue looks for the earliest entry of the index of deadlines at or after a stored
// key (see DueKey), over at most budget entries, deleted ones included. It returns the
// one it found; or nil, and where the search may go on; or nil twice: there is none.
func (v *View) NextDue(from []byte, budget int) (found, goOn []byte, err error) {
	if v.gen == nil {
		return nil, nil, ErrClosed
	}
	defer v.db.metrics.time(opScan)(&err)
	err = endScan(v.gen.queue(v.txn, from, func(item *badger.Item) error {
		if !item.IsDeletedOrExpired() {
			found = item.KeyCopy(nil)
			return ErrStop
		}
		if budget--; budget <= 0 {
			goOn = append(item.KeyCopy(nil), 0) // the next key there can be
			return ErrStop
		}
		return nil
	}))
	return found, goOn, err
}

// Due is an entry of the index of deadlines.
type Due struct {
	Deadline int64
	// Subject is the stored key that it is about; see ParseSubject.
	Subject []byte
}

// Due lists what is in the index of deadlines from one time to another, both
// inclusive, as Get sees it: at most limit entries, the earliest first.
func (t *Tx) Due(from, to int64, limit int) ([]Due, error) {
	if t.u.err != nil {
		return nil, t.u.err
	}
	var due []Due
	mine := t.overlay([]byte(duePrefix))
	for len(mine) > 0 && bytes.Compare(mine[0].key, DueKey(from, nil)) < 0 {
		mine = mine[1:]
	}
	add := func(key []byte) error {
		deadline, subject, ok := DueAt(key)
		if !ok || deadline > to || len(due) == limit {
			return ErrStop
		}
		due = append(due, Due{deadline, bytes.Clone(subject)})
		return nil
	}
	// own shows what this run wrote before key, and whether it wrote key itself.
	own := func(key []byte) (bool, error) {
		for len(mine) > 0 && (key == nil || bytes.Compare(mine[0].key, key) <= 0) {
			c := mine[0]
			mine = mine[1:]
			if c.found {
				if err := add(c.key); err != nil {
					return false, err
				}
			}
			if bytes.Equal(c.key, key) {
				return true, nil
			}
		}
		return false, nil
	}
	err := t.u.gen.queue(t.u.view, DueKey(from, nil), func(item *badger.Item) error {
		if deadline, _, ok := DueAt(item.Key()); !ok || deadline > to || len(due) == limit {
			return ErrStop
		}
		shown, err := own(item.Key())
		if err != nil || shown || item.IsDeletedOrExpired() {
			return err
		}
		return add(item.Key())
	})
	if err := endScan(err); err != nil {
		return nil, err
	}
	_, err = own(nil) // what is later than the last that the view showed
	return due, endScan(err)
}

// queue calls fn for the newest version of each entry of the index of deadlines from a
// stored key on, deleted ones included.
func (g *generation) queue(view *badger.Txn, from []byte, fn func(item *badger.Item) error) error {
	it := g.iterate(view, badger.IteratorOptions{Prefix: []byte(duePrefix), AllVersions: true})
	defer it.Close()
	var last []byte
	for it.Seek(from); it.Valid(); it.Next() {
		item := it.Item()
		if last != nil && bytes.Equal(last, item.Key()) {
			continue // an older version
		}
		last = append(last[:0], item.Key()...)
		if err := fn(item); err != nil {
			return err
		}
	}
	return it.Err()
}
