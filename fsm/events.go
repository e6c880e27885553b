package fsm

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// Event is one change of a key, an instance of a service or a check of a node, as a watcher sees it.
// It is shared between watchers: do not modify it.
type Event struct {
	// Index is the Raft index of the entry that made the change; the events of
	// one index are ordered by key, keys of users first.
	Index uint64
	// Key is the key as users know it; nil for a service.
	Key     []byte
	Deleted bool
	// Record is the new record of a key; nil if Deleted.
	Record *record.KV

	// Name and ID say which instance of a service it is; empty for a key.
	Name, ID string
	// Service is the new record of the instance; nil if Deleted.
	Service *record.Service

	// Node says whose check it is, with its ID; empty for what is none of a node.
	Node string
	// Check is the new record of a node's check; nil if Deleted.
	Check *record.Check
}

// Filter says what to watch: one key, every key with a prefix, the instances of one
// service, or of all; the checks of one node, or of all. The first field that is set
// counts.
type Filter struct {
	// NodeChecks: the checks of all nodes; those of instances are in these.
	NodeChecks bool
	// Node, if not empty, is the node whose checks to watch.
	Node string
	// Services: the instances of all services.
	Services bool
	// Service, if not empty, is the service whose instances to watch.
	Service string
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
	switch {
	case f.NodeChecks:
		return target{stored: persistence.NodeChecks("")}
	case f.Node != "":
		return target{stored: persistence.NodeChecks(f.Node)}
	case f.Services:
		return target{stored: []byte(persistence.ServicePrefix)}
	case f.Service != "":
		return target{stored: persistence.ServiceInstances(f.Service)}
	case f.Key != nil:
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
	return hasPrefix(stored, persistence.KVPrefix) || hasPrefix(stored, persistence.ServicePrefix) ||
		hasPrefix(stored, persistence.CheckPrefix)
}

func hasPrefix(stored []byte, prefix string) bool {
	return len(stored) >= len(prefix) && string(stored[:len(prefix)]) == prefix
}

// newEvent makes the event of a stored change.
func newEvent(c *persistence.Change) (*Event, error) {
	ev := &Event{Index: c.Index, Deleted: c.Deleted}
	if key, ok := persistence.UserKey(c.Key); ok {
		ev.Key = key
		if !c.Deleted {
			ev.Record = new(record.KV)
			return ev, decodeChange(c, ev.Record)
		}
		return ev, nil
	}
	if node, id, ok := persistence.NodeCheckName(c.Key); ok {
		ev.Node, ev.ID = node, id
		if !c.Deleted {
			ev.Check = new(record.Check)
			return ev, decodeChange(c, ev.Check)
		}
		return ev, nil
	}
	name, id, ok := persistence.ServiceName(c.Key)
	if !ok {
		return nil, fmt.Errorf("change at %d: %q is not the key of a watched record", c.Index, c.Key)
	}
	ev.Name, ev.ID = name, id
	if !c.Deleted {
		ev.Service = new(record.Service)
		return ev, decodeChange(c, ev.Service)
	}
	return ev, nil
}

func decodeChange(c *persistence.Change, m proto.Message) error {
	if err := persistence.DecodeRecord(c.Value, m); err != nil {
		return fmt.Errorf("change of %q at %d: %w", c.Key, c.Index, err)
	}
	return nil
}
