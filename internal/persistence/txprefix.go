package persistence

import (
	"bytes"
	"slices"
	"sort"

	"github.com/dgraph-io/badger/v4"
)

// prefixes is what an entry remembers of the prefixes it has deleted, so that one
// entry of many such operations visits each key of the state before it once: what
// the entry costs to apply is bounded by the state and by its own size, not by
// their product. Every node pays that cost, at every replay.
type prefixes struct {
	// gone are the prefixes deleted, in byte order; none is the beginning of another.
	gone [][]byte
	// set are the cells that the entry has written a value to.
	set []*cell
	// before are the cells that earlier entries of the run wrote, in byte order.
	before []*cell
	listed bool // before is complete
}

func (p *prefixes) reset() {
	clear(p.set)
	*p = prefixes{set: p.set[:0]}
}

// DeletePrefix removes every key with prefix that Get would find, and returns how
// many those were. seen, if not nil, is called for each with its value; the slices are
// valid during the call, in which the Tx must not be used.
func (t *Tx) DeletePrefix(prefix []byte, seen func(key, value []byte) error) (uint64, error) {
	if t.u.err != nil {
		return 0, t.u.err
	}
	n, err := t.deleteOwn(prefix, seen)
	if err != nil {
		return n, err
	}
	if g := t.prefixes.above(prefix); g != nil {
		return n, nil // nothing but its own writes can be left there
	}
	for _, del := range []func([]byte, func(key, value []byte) error) (uint64, error){t.deleteEarlier, t.deleteSeen} {
		more, err := del(prefix, seen)
		n += more
		if err != nil {
			return n, err
		}
	}
	t.prefixes.add(prefix)
	return n, nil
}

// deleteOwn deletes what this entry wrote.
func (t *Tx) deleteOwn(prefix []byte, seen func(key, value []byte) error) (n uint64, err error) {
	kept := t.prefixes.set[:0]
	for _, c := range t.prefixes.set {
		switch {
		case c.tx != t.number || !c.exists: // deleted since
		case !bytes.HasPrefix(c.key, prefix):
			kept = append(kept, c)
		default:
			if seen != nil && err == nil {
				err = seen(c.key, c.next)
			}
			t.Delete(c.key)
			n++
		}
	}
	t.prefixes.set = kept
	return n, err
}

// deleteEarlier deletes what earlier entries of the run wrote.
func (t *Tx) deleteEarlier(prefix []byte, seen func(key, value []byte) error) (n uint64, err error) {
	p := &t.prefixes
	if !p.listed {
		p.listed = true
		for _, c := range t.u.cells {
			if c.written {
				p.before = append(p.before, c)
			}
		}
		sortCells(p.before)
	}
	at := sort.Search(len(p.before), func(i int) bool { return bytes.Compare(p.before[i].key, prefix) >= 0 })
	for ; at < len(p.before) && bytes.HasPrefix(p.before[at].key, prefix); at++ {
		if c := p.before[at]; c.found && c.tx != t.number {
			if seen != nil {
				if err := seen(c.key, c.value); err != nil {
					return n, err
				}
			}
			t.Delete(c.key)
			n++
		}
	}
	return n, nil
}

// deleteSeen deletes what the view shows and nobody in this run wrote.
func (t *Tx) deleteSeen(prefix []byte, seen func(key, value []byte) error) (n uint64, err error) {
	it := t.u.gen.iterate(t.u.view, badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	for it.Seek(prefix); it.Valid(); {
		key := it.Item().Key()
		if g := t.prefixes.above(key); g != nil {
			next := after(g)
			if next == nil {
				break
			}
			it.Seek(next)
			continue
		}
		if c := t.u.cell(key); c == nil || (!c.written && c.tx != t.number) {
			if seen != nil {
				if err := it.Item().Value(func(value []byte) error { return seen(key, value) }); err != nil {
					return n, err
				}
			}
			t.Delete(key)
			n++
		}
		it.Next()
	}
	if err := it.Err(); err != nil {
		t.u.fail(err)
	}
	return n, t.u.err
}

// above returns the deleted prefix that key starts with, nil if there is none.
func (p *prefixes) above(key []byte) []byte {
	i := sort.Search(len(p.gone), func(i int) bool { return bytes.Compare(p.gone[i], key) > 0 })
	if i > 0 && bytes.HasPrefix(key, p.gone[i-1]) {
		return p.gone[i-1]
	}
	return nil
}

// add notes a prefix that above does not find; it takes the place of those below it.
func (p *prefixes) add(prefix []byte) {
	from, found := slices.BinarySearchFunc(p.gone, prefix, bytes.Compare)
	if found {
		return
	}
	to := from
	for to < len(p.gone) && bytes.HasPrefix(p.gone[to], prefix) {
		to++
	}
	p.gone = slices.Replace(p.gone, from, to, bytes.Clone(prefix))
}

// after is the first key behind all that start with prefix; nil if there is none.
func after(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			next := bytes.Clone(prefix[:i+1])
			next[i]++
			return next
		}
	}
	return nil
}
