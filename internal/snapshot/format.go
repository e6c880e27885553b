// Package snapshot is the one file format of Konsul's states: Raft snapshots,
// backups and snapshots over HTTP. It streams both ways in constant memory and
// knows nothing of the engine: it sees keys, versions and values. DESIGN.md
// draws the bytes.
package snapshot

import (
	"errors"
	"fmt"
)

// Limits of the format. A reader checks each of them before it allocates, so a
// hostile file costs at most about two blocks of memory.
const (
	// MaxKeyLen and MaxValueLen bound one record, in bytes of stored key and value.
	MaxKeyLen   = 8 << 10
	MaxValueLen = 2 << 20

	// blockTarget is the size at which the writer closes a block; large enough
	// for zstd to find its patterns, small enough to be cheap to hold.
	blockTarget = 256 << 10
	// incrementTarget is that of an increment, of which many are read at once (Merge).
	incrementTarget = 64 << 10
	// maxBlockLen bounds a block: one target and one record.
	maxBlockLen = blockTarget + MaxKeyLen + MaxValueLen + 64
	// maxPackedLen bounds it as it is stored, with what a frame adds to raw blocks.
	maxPackedLen = maxBlockLen + 16 + 3*(maxBlockLen/rawBlockLen+1)
	// maxHeaderLen bounds the header message.
	maxHeaderLen = 64 << 10

	fixedHeader = 14 // magic, version, length

	// MaxHeaderBytes is enough to see the whole header of any file.
	MaxHeaderBytes = fixedHeader + maxHeaderLen

	formatVersion = 1

	frameBlock  = 1
	frameFooter = 2

	flagDeleted = 1
)

var magic = [8]byte{'K', 'O', 'N', 'S', 'N', 'A', 'P', 0}

var (
	// ErrNotSnapshot means that the input does not begin like a snapshot.
	ErrNotSnapshot = errors.New("not a konsul snapshot")
	// ErrTooNew means that the format version is one this program does not know.
	ErrTooNew = errors.New("snapshot format is too new for this version")
	// ErrCorrupt means that the input is damaged or cut off. It is wrapped with where.
	ErrCorrupt = errors.New("snapshot is corrupt")
)

// Header says what a snapshot holds. It stands at its front; what is known only
// at the end is in Footer.
type Header struct {
	ClusterID string
	// Index is the version whose state the snapshot holds.
	Index uint64
	// Since, if not 0, makes the file an increment: the records that changed
	// after Since, deletions included.
	Since uint64
	// CreatedAt is in nanoseconds since 1970, by the writer's own clock.
	CreatedAt int64
	// Keys and Services count user keys and services at Index.
	Keys, Services uint64
}

// Record is one key at its newest version at or below Header.Index. Records
// come in strictly ascending order of Key.
type Record struct {
	Key, Value []byte
	Version    uint64
	// Deleted marks a deletion; only in increments.
	Deleted bool
}

// Footer is what the end of a snapshot says.
type Footer struct {
	// Records is how many records there were; Bytes their keys and values.
	Records, Bytes uint64
	// Sum is SHA-256 over every byte of the file before it.
	Sum [32]byte
	// Size is the size of the whole file in bytes.
	Size int64
}

func corrupt(where string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(where, args...))
}
