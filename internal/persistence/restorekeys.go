package persistence

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/internal/snapshot"
)

const (
	restoreKey         = SysPrefix + "restore"
	restoreChunkPrefix = SysPrefix + "restore-chunk:"
	resetKey           = SysPrefix + "reset"
)

// RestoreKey is the stored key of the restore under way.
func RestoreKey() []byte { return []byte(restoreKey) }

// RestoreChunkPrefix is the prefix of the pieces of a restore under way.
func RestoreChunkPrefix() []byte { return []byte(restoreChunkPrefix) }

// RestoreChunkKey is the stored key of piece seq.
func RestoreChunkKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(restoreChunkPrefix), seq)
}

// ResetKey is the stored key of the last restore.
func ResetKey() []byte { return []byte(resetKey) }

// OfRestore says whether a stored key belongs to a restore under way: nobody watches it.
func OfRestore(stored []byte) bool { return bytes.HasPrefix(stored, []byte(restoreKey)) }

// OfCluster says whether a stored key belongs to the cluster that holds it and not to
// its data: its id, its members, and its restores. A backup's are left behind.
func OfCluster(stored []byte) bool {
	return string(stored) == clusterKey || string(stored) == resetKey ||
		bytes.HasPrefix(stored, []byte(memberPrefix)) || OfRestore(stored)
}

// Restoring reads the restore under way; nil if there is none.
func (v *View) Restoring() (*record.Restore, error) {
	b, found, err := v.Get(RestoreKey())
	if err != nil || !found {
		return nil, err
	}
	rec := new(record.Restore)
	if err := DecodeRecord(b, rec); err != nil {
		return nil, fmt.Errorf("reading the restore under way: %w", err)
	}
	return rec, nil
}

// LastReset reads the last restore; a zero record if there was none.
func (v *View) LastReset() (*record.Reset, error) {
	rec := new(record.Reset)
	b, found, err := v.Get(ResetKey())
	if err != nil || !found {
		return rec, err
	}
	if err := DecodeRecord(b, rec); err != nil {
		return nil, fmt.Errorf("reading the last restore: %w", err)
	}
	return rec, nil
}

// ReplaceFrom is Replace with records that are not read from one file. src ends with
// io.EOF only when everything it gave is verified.
func (db *DB) ReplaceFrom(ctx context.Context, src snapshot.Source) (err error) {
	defer db.metrics.time(opReplace)(&err)
	return db.replaceFrom(ctx, src)
}

func (db *DB) replaceFrom(ctx context.Context, src snapshot.Source) error {
	h := src.Header()
	if h.Since != 0 {
		return fmt.Errorf("replacing engine: the snapshot is an increment since %d", h.Since)
	}
	db.floorMu.Lock() // nobody trims history meanwhile
	defer db.floorMu.Unlock()
	g, err := db.build(ctx, src)
	if err != nil {
		return fmt.Errorf("replacing engine: %w", err)
	}
	g.setCounts(Counts{Keys: h.Keys, Services: h.Services})
	if err := db.switchTo(g); err != nil {
		db.discard(g)
		return fmt.Errorf("replacing engine: %w", err)
	}
	return nil
}

// VersionOf is the version of a key that is there.
func (v *View) VersionOf(storedKey []byte) (uint64, error) {
	if v.gen == nil {
		return 0, ErrClosed
	}
	item, err := v.txn.Get(storedKey)
	if err != nil {
		return 0, fmt.Errorf("reading the version of %q: %w", storedKey, err)
	}
	return item.Version(), nil
}
