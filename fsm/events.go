package fsm

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// Event is one change of a key, as a watcher sees it. It is shared between
// watchers: do not modify it.
type Event struct {
	// Index is the Raft index of the entry that made the change; the events of
	// one index are ordered by key.
	Index uint64
	// Key is the key as users know it.
	Key     []byte
	Deleted bool
	// Record is the new record; nil if Deleted.
	Record *record.KV
}

// Filter says what to watch: one key, or every key with a prefix.
type Filter struct {
	// Key, if not nil, is the one key to watch, and Prefix is ignored.
	Key []byte
	// Prefix is the start of the keys to watch; empty means every key.
	Prefix []byte
}

// target is a Filter in terms of stored keys, which is what changes are in. A
// further kind of record to watch needs a further way to make a target, an
// entry in watched, and a field in Event.
type target struct {
	stored []byte
	exact  bool
}

func (f Filter) target() target {
	if f.Key != nil {
		return target{stored: persistence.KVKey(f.Key), exact: true}
	}
	return target{stored: persistence.KVKey(f.Prefix)}
}

func (t target) matches(stored []byte) bool {
	if t.exact {
		return bytes.Equal(stored, t.stored)
	}
	return bytes.HasPrefix(stored, t.stored)
}

// watched says whether changes of a stored key are events at all; the system's
// own records are not.
func watched(stored []byte) bool {
	return len(stored) >= len(persistence.KVPrefix) &&
		strings.HasPrefix(string(stored[:len(persistence.KVPrefix)]), persistence.KVPrefix)
}

// newEvent makes the event of a stored change.
func newEvent(c *persistence.Change) (*Event, error) {
	key, ok := persistence.UserKey(c.Key)
	if !ok {
		return nil, fmt.Errorf("change at %d: %q is not the key of a watched record", c.Index, c.Key)
	}
	ev := &Event{Index: c.Index, Key: key, Deleted: c.Deleted}
	if c.Deleted {
		return ev, nil
	}
	ev.Record = new(record.KV)
	if err := persistence.DecodeRecord(c.Value, ev.Record); err != nil {
		return nil, fmt.Errorf("change of %q at %d: %w", key, c.Index, err)
	}
	return ev, nil
}
