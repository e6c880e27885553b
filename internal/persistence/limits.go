package persistence

import "fmt"

// Limits of the format, the same on every node and not options: if replicas
// disagreed about them they would diverge. They are checked before a proposal,
// never when an entry is applied.
const (
	// MaxKeyLen is the longest user key, in bytes. The shortest has one.
	MaxKeyLen = 4096
	// MaxValueLen is the largest user value, in bytes; empty ones are allowed.
	MaxValueLen = 524288
	// MaxOps is the most operations in one batch or transaction.
	MaxOps = 1024
	// MaxEntryBytes is the largest log entry, and so the largest batch.
	MaxEntryBytes = 1 << 20
	// MaxRecordLen is the largest stored value (the framed record). It keeps every
	// value inside Badger's tables, below ValueThreshold, so its value log, and that
	// log's garbage collection, never hold anything of ours.
	MaxRecordLen = valueThreshold - 1

	valueThreshold = 1 << 20
	// maxStoredKeyLen is MaxKeyLen and the longest prefix of keys.go.
	maxStoredKeyLen = MaxKeyLen + 64
)

// CheckKey checks a user key against the limits.
func CheckKey(key []byte) error {
	if len(key) == 0 {
		return ErrEmptyKey
	}
	if len(key) > MaxKeyLen {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrKeyTooLong, len(key), MaxKeyLen)
	}
	return nil
}

// CheckValue checks a user value against the limits.
func CheckValue(value []byte) error {
	if len(value) > MaxValueLen {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrValueTooLarge, len(value), MaxValueLen)
	}
	return nil
}
