package persistence

import (
	"fmt"
	"time"
)

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
	// maxStoredKeyLen is MaxKeyLen and the longest prefix of keys.go, that of a
	// held key, which has a session's id in it.
	maxStoredKeyLen = MaxKeyLen + 64 + MaxNameLen

	// MaxNameLen is the longest name or id of a service, instance, check, session or
	// node, in bytes.
	MaxNameLen = 128
	// MaxServiceBytes bounds an instance of a service as it is registered, data included.
	MaxServiceBytes = 64 << 10
	// MinTTL and MaxTTL bound how long something lives that does not live for ever.
	MinTTL = 100 * time.Millisecond
	MaxTTL = 10 * 365 * 24 * time.Hour
	// GoneFor is how long an instance that has expired is told from one that never was.
	GoneFor = time.Hour
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

// CheckName checks a name or id of the registry: 1 to MaxNameLen of A-Z a-z 0-9 . _ -
func CheckName(name string) error {
	if name == "" || len(name) > MaxNameLen {
		return fmt.Errorf("%w: %d bytes, must be 1 to %d", ErrBadName, len(name), MaxNameLen)
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("%w: %q may only have A-Z a-z 0-9 . _ - in it", ErrBadName, name)
		}
	}
	return nil
}

// CheckTTL checks a time to live; 0 is for ever.
func CheckTTL(ttl time.Duration) error {
	if ttl != 0 && (ttl < MinTTL || ttl > MaxTTL) {
		return fmt.Errorf("%w: %v, must be 0 or %v to %v", ErrBadTTL, ttl, MinTTL, MaxTTL)
	}
	return nil
}
