package persistence

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// Tx is one entry of an Update. It is for one goroutine and lives until the next
// At, or Commit.
type Tx struct {
	u       *Update
	index   uint64
	number  uint64  // counts entries; 0 = none begun
	touched []*cell // what this entry wrote, each once

	prefixes prefixes
}

// Index is the entry's index, the version of all it writes.
func (t *Tx) Index() uint64 { return t.index }

// Get reads a key: what this entry wrote, or the state before it. The value may
// be kept but not changed.
func (t *Tx) Get(key []byte) (value []byte, found bool, err error) {
	if t.u.err != nil {
		return nil, false, t.u.err
	}
	c := t.u.cell(key)
	if c == nil {
		c = t.u.newCell(key)
	}
	if c.tx == t.number {
		return c.next, c.exists, nil
	}
	if err := t.u.load(c); err != nil {
		return nil, false, err
	}
	return c.value, c.found, nil
}

// Set writes a key. It keeps value, which must not be changed afterwards, and at
// most MaxRecordLen long; key is copied.
func (t *Tx) Set(key, value []byte) {
	if len(value) > MaxRecordLen {
		t.u.fail(fmt.Errorf("entry %d: %w: record of %d bytes, at most %d", t.index, ErrValueTooLarge, len(value), MaxRecordLen))
		return
	}
	t.put(key, value, true)
}

// Delete removes a key; an absent key is no change.
func (t *Tx) Delete(key []byte) { t.put(key, nil, false) }

func (t *Tx) put(key, value []byte, exists bool) {
	if len(key) == 0 || len(key) > maxStoredKeyLen {
		t.u.fail(fmt.Errorf("entry %d: stored key of %d bytes", t.index, len(key)))
		return
	}
	c := t.u.cell(key)
	if c == nil {
		c = t.u.newCell(key)
	}
	if c.tx != t.number {
		c.tx = t.number
		t.touched = append(t.touched, c)
	}
	if exists {
		t.prefixes.set = append(t.prefixes.set, c)
	}
	c.next, c.exists = value, exists
}

// Rollback forgets what this entry wrote so far.
func (t *Tx) Rollback() {
	for _, c := range t.touched {
		c.tx, c.next = 0, nil
	}
	t.touched = t.touched[:0]
	t.prefixes.reset()
}

// finish turns what the entry wrote into its net effect, one write for each key,
// in byte order of the keys, and makes it the state that the next entry reads.
func (t *Tx) finish() {
	if len(t.touched) > 1 {
		sortCells(t.touched)
	}
	for _, c := range t.touched {
		t.u.settle(t.index, c)
	}
	t.touched = t.touched[:0]
	t.prefixes.reset()
}

func (u *Update) settle(index uint64, c *cell) {
	count := u.counter(c.key)
	if !c.known && (!c.exists || count != nil) {
		if u.load(c) != nil {
			return
		}
	}
	switch {
	case !c.exists && !c.found:
		c.next = nil
		return // deleted what was not there
	case count != nil && c.exists && !c.found:
		*count++
	case count != nil && !c.exists:
		*count--
	}
	c.value, c.found, c.known, c.written = c.next, c.exists, true, true
	c.next = nil
	u.bytes += int64(len(c.key) + len(c.value))
	u.writes = append(u.writes, write{index: index, key: c.key, value: c.value, del: !c.found})
}

// counter is the count that key belongs to, nil for none.
func (u *Update) counter(key []byte) *int64 {
	switch {
	case bytes.HasPrefix(key, []byte(KVPrefix)):
		return &u.keys
	case bytes.HasPrefix(key, []byte(ServicePrefix)):
		return &u.svcs
	}
	return nil
}

// Scan calls fn for each key with prefix, in byte order, with the state as Get
// sees it when Scan is called: fn may write, but Scan does not show it. The slices
// are valid during the call. ErrStop ends the scan without an error.
func (t *Tx) Scan(prefix []byte, fn func(key, value []byte) error) error {
	if t.u.err != nil {
		return t.u.err
	}
	mine := t.overlay(prefix)
	err := t.u.gen.scan(t.u.view, prefix, nil, t.u.db.opts.Badger.PrefetchSize, true, func(item *badger.Item) error {
		key := item.Key()
		for len(mine) > 0 && bytes.Compare(mine[0].key, key) < 0 {
			if err := mine[0].show(fn); err != nil {
				return err
			}
			mine = mine[1:]
		}
		if len(mine) > 0 && bytes.Equal(mine[0].key, key) {
			shown := mine[0]
			mine = mine[1:]
			return shown.show(fn)
		}
		return item.Value(func(v []byte) error { return fn(key, v) })
	})
	for ; err == nil && len(mine) > 0; mine = mine[1:] {
		err = mine[0].show(fn)
	}
	return endScan(err)
}

// shownCell is a key whose state differs from the view's.
type shownCell struct {
	key, value []byte
	found      bool
}

func (s shownCell) show(fn func(key, value []byte) error) error {
	if !s.found {
		return nil
	}
	return fn(s.key, s.value)
}

// overlay lists what this run changed under prefix, in byte order.
func (t *Tx) overlay(prefix []byte) []shownCell {
	var changed []*cell
	p := string(prefix)
	for key, c := range t.u.cells {
		if (c.written || c.tx == t.number) && strings.HasPrefix(key, p) {
			changed = append(changed, c)
		}
	}
	sortCells(changed)
	shown := make([]shownCell, len(changed))
	for i, c := range changed {
		shown[i] = shownCell{key: c.key, value: c.value, found: c.found}
		if c.tx == t.number {
			shown[i].value, shown[i].found = c.next, c.exists
		}
	}
	return shown
}
