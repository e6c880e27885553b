package persistence

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/neogan74/konsul/internal/persistence/record"
)

// View is the state at one index. It holds the history floor and the engine's
// files until Close, so keep it short. It is for one goroutine at a time.
type View struct {
	db    *DB
	gen   *generation
	txn   *badger.Txn
	index uint64
}

// View opens the published state.
func (db *DB) View() (*View, error) {
	g, err := db.acquire()
	if err != nil {
		return nil, err
	}
	if err := g.sound(); err != nil {
		g.release()
		return nil, err
	}
	return db.newView(g, g.pin()), nil
}

// ViewAt opens the state at index; CompactedError if the history does not reach
// back so far, FutureIndexError if it is not published yet.
func (db *DB) ViewAt(index uint64) (*View, error) {
	g, err := db.acquire()
	if err != nil {
		return nil, err
	}
	if err := g.sound(); err != nil {
		g.release()
		return nil, err
	}
	if err := g.pinAt(index); err != nil {
		g.release()
		return nil, err
	}
	return db.newView(g, index), nil
}

func (db *DB) newView(g *generation, index uint64) *View {
	return &View{db: db, gen: g, index: index, txn: g.bdb.NewTransactionAt(index, false)}
}

// Index is the index whose state this is.
func (v *View) Index() uint64 { return v.index }

// Close lets go of the state. It is safe to call more than once.
func (v *View) Close() {
	if v.gen == nil {
		return
	}
	v.txn.Discard()
	v.gen.unpin(v.index)
	v.gen.release()
	v.gen = nil
}

// Get reads a stored key. The value is the caller's.
func (v *View) Get(storedKey []byte) (value []byte, found bool, err error) {
	if v.gen == nil {
		return nil, false, ErrClosed
	}
	defer v.db.metrics.time(opGet)(&err)
	return v.gen.get(v.txn, storedKey)
}

// KV reads a user's key; ErrKeyNotFound if it is absent.
func (v *View) KV(key []byte) (*record.KV, error) {
	value, found, err := v.Get(KVKey(key))
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, ErrKeyNotFound
	}
	kv := new(record.KV)
	if err := DecodeRecord(value, kv); err != nil {
		return nil, fmt.Errorf("key %q: %w", key, err)
	}
	return kv, nil
}

// Scan calls fn for each stored key with prefix, from start on (nil = from the
// first), in byte order. The slices are valid during the call. ErrStop ends it
// without an error.
func (v *View) Scan(prefix, start []byte, fn func(key, value []byte) error) error {
	return v.scan(prefix, start, true, func(item *badger.Item) error {
		return item.Value(func(value []byte) error { return fn(item.Key(), value) })
	})
}

// ScanKeys is Scan without the values.
func (v *View) ScanKeys(prefix, start []byte, fn func(key []byte) error) error {
	return v.scan(prefix, start, false, func(item *badger.Item) error { return fn(item.Key()) })
}

func (v *View) scan(prefix, start []byte, values bool, fn func(*badger.Item) error) (err error) {
	if v.gen == nil {
		return ErrClosed
	}
	defer v.db.metrics.time(opScan)(&err)
	n := 0
	return endScan(v.gen.scan(v.txn, prefix, start, v.db.opts.Badger.PrefetchSize, values, func(item *badger.Item) error {
		if n++; n%scanCheckEvery == 0 && v.db.closed.Load() {
			return ErrClosed
		}
		return fn(item)
	}))
}

// scanCheckEvery is how many keys a scan reads before it looks whether it should
// end early.
const scanCheckEvery = 256

// scan walks a Badger view. Values are read in place unless prefetch asks for
// Badger's way, a goroutine for each.
func (g *generation) scan(view *badger.Txn, prefix, start []byte, prefetch int, values bool, fn func(*badger.Item) error) error {
	it := g.iterate(view, badger.IteratorOptions{
		Prefix: prefix, PrefetchValues: values && prefetch > 0, PrefetchSize: prefetch,
	})
	defer it.Close()
	if string(start) < string(prefix) {
		start = prefix
	}
	for it.Seek(start); it.Valid(); it.Next() {
		if err := fn(it.Item()); err != nil {
			return err
		}
	}
	return it.Err()
}

func endScan(err error) error {
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}
