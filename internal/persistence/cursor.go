package persistence

import (
	"bytes"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// cursor is a Badger iterator that stops with an error where Badger's would end
// quietly: at a table that is damaged. It is used like Badger's; whoever comes to
// its end asks Err. Tables that nobody has read since the start are verified on
// the way, block by block; see guard.
type cursor struct {
	it    *badger.Iterator
	gen   *generation
	guard *guard
	opts  badger.IteratorOptions
	// clear is the first key that is not known to be covered; nil if all are.
	clear []byte
	err   error
}

// iterate opens a cursor in a view of g.
func (g *generation) iterate(view *badger.Txn, o badger.IteratorOptions) *cursor {
	return &cursor{it: view.NewIterator(o), gen: g, guard: g.guard.Load(), opts: o}
}

// iterateKey opens a cursor over the versions of one key.
func (g *generation) iterateKey(view *badger.Txn, key []byte, o badger.IteratorOptions) *cursor {
	it := view.NewKeyIterator(key, o)
	o.Prefix = key
	return &cursor{it: it, gen: g, guard: g.guard.Load(), opts: o}
}

// Rewind goes to the first key.
func (c *cursor) Rewind() { c.Seek(c.opts.Prefix) }

// Seek goes to the first key that is not below key.
func (c *cursor) Seek(key []byte) {
	if c.err = c.gen.sound(); c.err != nil {
		return
	}
	if c.guard == nil {
		c.it.Seek(key)
		return
	}
	if bytes.Compare(key, c.opts.Prefix) < 0 {
		key = c.opts.Prefix
	}
	c.clear = append([]byte{}, key...)
	if c.look(key) {
		c.move(func() { c.it.Seek(key) })
	}
}

// Next goes to the next key, or version.
func (c *cursor) Next() {
	if c.guard == nil {
		c.it.Next()
		return
	}
	c.move(c.it.Next)
}

// move moves Badger's iterator and then verifies what it came by.
func (c *cursor) move(step func()) {
	defer func() {
		// Badger looks into a block before it checks it.
		if p := recover(); p != nil {
			c.err = fmt.Errorf("%w: %s: %v", ErrCorrupt, c.gen.dir, p)
			c.guard.damage(c.err)
		}
	}()
	step()
	if c.it.Valid() {
		c.look(c.it.Item().Key())
		return
	}
	c.look(after(c.opts.Prefix)) // nil for no prefix: all there is
}

// look covers everything up to key; nil means to the end.
func (c *cursor) look(key []byte) bool {
	if c.clear == nil || (key != nil && bytes.Compare(key, c.clear) < 0) {
		return true
	}
	clear, err := c.guard.cover(c.clear, key, c.opts.SinceTs)
	c.clear, c.err = clear, err
	return err == nil
}

// Valid says whether there is an item.
func (c *cursor) Valid() bool { return c.err == nil && c.it.Valid() }

// Item is the item at the cursor.
func (c *cursor) Item() *badger.Item { return c.it.Item() }

// Err is why the cursor ended early: ErrCorrupt.
func (c *cursor) Err() error { return c.err }

// Close closes the iterator.
func (c *cursor) Close() { c.it.Close() }
