package persistence

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/dgraph-io/badger/v4"

	"github.com/neogan74/konsul/internal/snapshot"
)

// SnapshotView is the state at one index, held for streaming.
type SnapshotView struct{ v *View }

// Snapshot pins the state at index and returns at once; writes go on. Close it.
func (db *DB) Snapshot(index uint64) (*SnapshotView, error) {
	v, err := db.ViewAt(index)
	if err != nil {
		return nil, err
	}
	return &SnapshotView{v}, nil
}

// Index is the pinned index.
func (s *SnapshotView) Index() uint64 { return s.v.Index() }

// Close lets go of the state. It is safe to call more than once.
func (s *SnapshotView) Close() { s.v.Close() }

// WriteTo streams the state to w, in key order. It sets h.Index; an h.Since
// makes an increment, CompactedError if the history does not reach back to it.
// Nothing is durable on return. An item that cannot be read is an error.
func (s *SnapshotView) WriteTo(ctx context.Context, w io.Writer, h snapshot.Header) (f snapshot.Footer, err error) {
	if s.v.gen == nil {
		return f, ErrClosed
	}
	defer s.v.db.metrics.time(opSnapshot)(&err)
	h.Index = s.v.Index()
	sw, err := snapshot.NewWriter(w, h)
	if err != nil {
		return f, err
	}
	defer sw.Abort()
	if h.Since > 0 {
		err = s.v.increment(ctx, h.Since, sw)
	} else {
		err = s.v.each(ctx, func(key, value []byte, version uint64) error {
			return sw.Write(snapshot.Record{Key: key, Value: value, Version: version})
		})
	}
	if err != nil {
		return f, fmt.Errorf("streaming state at %d: %w", h.Index, err)
	}
	return sw.Close()
}

// increment writes the newest version of every key that changed after since.
func (v *View) increment(ctx context.Context, since uint64, sw *snapshot.Writer) error {
	if since > v.index {
		return &FutureIndexError{Newest: v.index}
	}
	if err := v.gen.pinAt(since); err != nil {
		return err
	}
	defer v.gen.unpin(since)
	h := historyView{*v, v.index}
	var last []byte
	err := h.history(ctx, nil, since, func(item *badger.Item) error {
		if last != nil && string(item.Key()) == string(last) {
			return nil // versions come newest first
		}
		last = item.KeyCopy(last)
		r := snapshot.Record{Key: last, Version: item.Version(), Deleted: item.IsDeletedOrExpired()}
		if r.Deleted {
			return sw.Write(r)
		}
		return item.Value(func(value []byte) error {
			r.Value = value
			return sw.Write(r)
		})
	})
	if err != nil {
		return err
	}
	return v.checkTables(ctx, nil)
}

// each walks the whole state, in key order. The slices are valid during the call.
func (v *View) each(ctx context.Context, fn func(key, value []byte, version uint64) error) error {
	if v.gen == nil {
		return ErrClosed
	}
	if pace := v.gen.pace; pace != nil {
		pace.scans.Add(1)
		defer pace.scans.Add(-1)
	}
	s, err := v.openWhole()
	if err != nil {
		return err
	}
	if s == nil {
		return v.eachThroughBadger(ctx, fn)
	}
	defer s.Close()
	if err := s.each(ctx, fn); err != nil {
		return err
	}
	return v.gen.sound()
}

// eachThroughBadger is each with one of Badger's iterators at one version, and not its
// Stream, which logs what it cannot read and goes on.
func (v *View) eachThroughBadger(ctx context.Context, fn func(key, value []byte, version uint64) error) error {
	n := 0
	err := v.gen.scan(v.txn, nil, nil, 0, true, func(item *badger.Item) error {
		if n%scanCheckEvery == 0 {
			if err := v.db.interrupted(ctx); err != nil {
				return err
			}
		}
		n++
		return item.Value(func(value []byte) error { return fn(item.Key(), value, item.Version()) })
	})
	if err != nil {
		return err
	}
	return v.checkTables(ctx, nil)
}

// Whole reads what the engine's tables have of the stored keys with prefix, and is
// ErrCorrupt if a table is damaged there: a scan may then have ended early without an
// error. To be asked after a scan that must not leave anything out. Without a prefix it
// costs about a second for each GB of the engine; with one, that for what has the prefix,
// and the indexes of all tables, which are about 2 % of the engine.
func (v *View) Whole(ctx context.Context, prefix []byte) error {
	if v.gen == nil {
		return ErrClosed
	}
	return v.checkTables(ctx, prefix)
}

// checkTables reads all tables, or their part with prefix. A Badger iterator ends
// quietly at a block that it cannot read, so whoever needs all there is asks here,
// afterwards, whether it can have been that.
func (v *View) checkTables(ctx context.Context, prefix []byte) error {
	if v.gen.dir == "" {
		return nil
	}
	if err := v.gen.sound(); err != nil {
		return err
	}
	err := verifyTables(ctx, v.gen.dir, v.db.opts.EncryptionKey, true, prefix)
	if errors.Is(err, ErrCorrupt) {
		v.db.damaged(v.gen, err)
	}
	return err
}

// Digest is SHA-256 over the state at index: for each record, in key order,
//
//	key length (4, BE) | key | version (8, BE) | value length (4, BE) | value
//
// Two nodes with the same state at index have the same digest, whatever their
// history, tables or options.
func (db *DB) Digest(ctx context.Context, index uint64) (sum [32]byte, records uint64, err error) {
	defer db.metrics.time(opDigest)(&err)
	v, err := db.ViewAt(index)
	if err != nil {
		return sum, 0, err
	}
	defer v.Close()
	h := sha256.New()
	var buf []byte
	err = v.each(ctx, func(key, value []byte, version uint64) error {
		buf = binary.BigEndian.AppendUint32(buf[:0], uint32(len(key)))
		buf = append(buf, key...)
		buf = binary.BigEndian.AppendUint64(buf, version)
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(value)))
		h.Write(append(buf, value...))
		records++
		return nil
	})
	if err != nil {
		return sum, 0, fmt.Errorf("digesting state at %d: %w", index, err)
	}
	h.Sum(sum[:0])
	return sum, records, nil
}
