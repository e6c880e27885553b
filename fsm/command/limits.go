package command

import (
	"fmt"
	"time"

	"github.com/neogan74/konsul/internal/persistence"
)

// Limits of an entry. They are constants of the format, the same on every node
// of every version: an entry that one node accepts and another refuses would
// make replicas differ. So they are checked before the proposal and never when
// applying. What a stored record may hold is in persistence (limits.go); these
// names are the same numbers for callers that know only entries.
const (
	MaxKeyLen     = persistence.MaxKeyLen     // bytes of a key or prefix
	MaxValueLen   = persistence.MaxValueLen   // bytes of a value
	MaxOps        = persistence.MaxOps        // operations of a transaction, both branches together; also compares
	MaxEntryBytes = persistence.MaxEntryBytes // bytes of one log entry, header included

	// MaxIdempotencyKeyLen is in bytes.
	MaxIdempotencyKeyLen = 256
	// MaxNodeIDLen and MaxAddressLen are in bytes, for members.
	MaxNodeIDLen  = 128
	MaxAddressLen = 512

	// MaxResultBytes bounds the values that the GETs of one transaction return,
	// in bytes. 1,024 GETs of large values could otherwise make an answer of half a
	// gigabyte. With all else that is in a Result it stays below
	// persistence.MaxRecordLen, so that every answer can be remembered. It depends
	// on the state, so it is judged when applying: RESULT_TOO_LARGE.
	MaxResultBytes = 768 << 10
)

// Limits of the registry. Names and ids are 1 to MaxNameLen of A-Z a-z 0-9 . _ -
const (
	MaxNameLen      = persistence.MaxNameLen
	MaxServiceBytes = persistence.MaxServiceBytes // bytes of a ServiceSet
	MinTTL          = persistence.MinTTL
	MaxTTL          = persistence.MaxTTL

	MaxServiceAddressLen = 255
	MaxTags              = 64
	MaxTagLen            = 128
	MaxMeta              = 64
	MaxMetaKeyLen        = 128
	MaxMetaValueLen      = 1024
	// MaxChecks is how many checks an instance may have.
	MaxChecks    = 16
	MaxTargetLen = 2048
	// MaxCheckOutput is in bytes; see CutOutput.
	MaxCheckOutput = 4 << 10
	// MaxCheckThreshold bounds passing_after and critical_after.
	MaxCheckThreshold = 100
	MinCheckInterval  = time.Second
	MaxCheckInterval  = 24 * time.Hour
	MinCheckTimeout   = 100 * time.Millisecond
	MaxCheckTimeout   = time.Minute
	// MaxLockDelay bounds a session's lock delay.
	MaxLockDelay = time.Hour

	// MaxExpiriesPerTick is how many records one Tick goes over, so that no entry
	// takes long to apply; a session counts as one more for each key it holds. The
	// last one may be a session that passes the bound.
	MaxExpiriesPerTick = 1024
	// MaxSessionKeys is how many keys a session may hold. It depends on the state, so
	// it is judged when applying: LIMIT.
	MaxSessionKeys = 4096
)

// How much the state machine remembers of the answers given under an
// idempotency key. The oldest is forgotten first, as soon as either bound is
// passed. Constants of the format: every replica must forget at the same entry.
const (
	IdempotencyMaxAnswers = 65536
	// IdempotencyMaxBytes counts the keys and the encoded Results.
	IdempotencyMaxBytes = 64 << 20
)

// LimitError says that a part of a command is larger than the format allows.
type LimitError struct {
	// What names the part, for example "key" or "then[3].value".
	What string
	// Limit and Got are in bytes, or a number of operations.
	Limit, Got int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s too large: %d, at most %d", e.What, e.Got, e.Limit)
}

// InvalidError says that a part of a command makes no sense, whatever the state.
type InvalidError struct {
	// Field names the part, for example "then[3].key".
	Field string
	// Problem completes the sentence "Field ...".
	Problem string
}

func (e *InvalidError) Error() string { return e.Field + " " + e.Problem }
