package persistence

import (
	"errors"
	"fmt"
)

// The one home of this package's errors. The texts of the first ones are part
// of the contract with users; compare with errors.Is all the same.
var (
	// ErrKeyNotFound: the key is absent.
	ErrKeyNotFound = errors.New("key not found")
	// ErrServiceNotFound: the service was never registered, or was deregistered.
	ErrServiceNotFound = errors.New("service not found")
	// ErrServiceExpired: the service's TTL has passed.
	ErrServiceExpired = errors.New("service expired")
	// ErrSessionNotFound: there is no such session, or there is none any more.
	ErrSessionNotFound = errors.New("session not found")
	// ErrNotImplemented: the operation is part of the interface but not built yet.
	ErrNotImplemented = errors.New("not implemented yet")
	// ErrClosed: the engine is closed or closing.
	ErrClosed = errors.New("engine is closed")
	// ErrTxDone: the transaction was committed or rolled back.
	ErrTxDone = errors.New("transaction is already committed or rolled back")

	// ErrEmptyKey, ErrKeyTooLong, ErrValueTooLarge, ErrTooManyOps and
	// ErrEntryTooLarge: a limit of limits.go; nothing was changed.
	ErrEmptyKey      = errors.New("key is empty")
	ErrKeyTooLong    = errors.New("key is too long")
	ErrValueTooLarge = errors.New("value is too large")
	ErrTooManyOps    = errors.New("too many operations")
	ErrEntryTooLarge = errors.New("batch is too large")
	// ErrBadName and ErrBadTTL: of a service; nothing was changed.
	ErrBadName = errors.New("bad name")
	ErrBadTTL  = errors.New("bad ttl")

	// ErrCompacted: the index asked for is older than the history. See CompactedError.
	ErrCompacted = errors.New("index is older than the history")
	// ErrFutureIndex: the index asked for is not there yet. See FutureIndexError.
	ErrFutureIndex = errors.New("index is newer than the newest")
	// ErrNoSpace: the disk is too full to go on safely.
	ErrNoSpace = errors.New("no space left for the engine")
	// ErrCorrupt: the engine's files are damaged. It is wrapped with the path; a
	// replicated node rebuilds with Reset and its snapshot.
	ErrCorrupt = errors.New("engine is corrupt")
	// ErrLocked: another process has the directory open. It is wrapped with the path.
	ErrLocked = errors.New("failed to open BadgerDB: Cannot acquire directory lock")
	// ErrStop, returned by the function given to a scan, ends it without an error.
	ErrStop = errors.New("stop")
	// ErrMaintaining: a compaction or a garbage collection is running already.
	ErrMaintaining = errors.New("a compaction or garbage collection is running already")
	// ErrBadData: what ImportData was given is not in the shape of ExportData.
	ErrBadData = errors.New("bad data to import")
	// ErrBadConfig: a Config that cannot be honoured.
	ErrBadConfig = errors.New("bad persistence configuration")
)

// CompactedError says which index is the oldest that can still be read.
type CompactedError struct{ Oldest uint64 }

func (e *CompactedError) Error() string {
	return fmt.Sprintf("%v: the oldest is %d", ErrCompacted, e.Oldest)
}

// Is makes errors.Is(err, ErrCompacted) hold.
func (e *CompactedError) Is(target error) bool { return target == ErrCompacted }

// FutureIndexError says which index is the newest that can be read.
type FutureIndexError struct{ Newest uint64 }

func (e *FutureIndexError) Error() string {
	return fmt.Sprintf("%v: %d", ErrFutureIndex, e.Newest)
}

// Is makes errors.Is(err, ErrFutureIndex) hold.
func (e *FutureIndexError) Is(target error) bool { return target == ErrFutureIndex }
