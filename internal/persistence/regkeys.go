package persistence

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
)

// The stored keys of the registry; keys.go has the whole list.

// path joins names, which have no slash, to a stored key.
func path(prefix string, names ...string) []byte {
	n := len(prefix)
	for _, name := range names {
		n += len(name) + 1
	}
	b := append(make([]byte, 0, n), prefix...)
	for i, name := range names {
		if i > 0 {
			b = append(b, '/')
		}
		b = append(b, name...)
	}
	return b
}

// ServiceKey is the stored key of an instance of a service.
func ServiceKey(name, id string) []byte { return path(ServicePrefix, name, id) }

// ServiceInstances is the prefix of the stored keys of a service's instances.
func ServiceInstances(name string) []byte { return path(ServicePrefix, name, "") }

// ServiceName is the inverse of ServiceKey.
func ServiceName(stored []byte) (name, id string, ok bool) { return cutPath(stored, ServicePrefix) }

// InstanceCheckSubject is the subject of the TTL check of an instance.
func InstanceCheckSubject(name, id, check string) []byte {
	return path(ServicePrefix, name, id, check)
}

// NodeCheckKey is the stored key of a check of a node.
func NodeCheckKey(node, id string) []byte { return path(CheckPrefix, node, id) }

// NodeChecks is the prefix of the stored keys of a node's checks; with "" of all.
func NodeChecks(node string) []byte {
	if node == "" {
		return []byte(CheckPrefix)
	}
	return path(CheckPrefix, node, "")
}

// NodeCheckName is the inverse of NodeCheckKey.
func NodeCheckName(stored []byte) (node, id string, ok bool) { return cutPath(stored, CheckPrefix) }

// SessionKey is the stored key of a session.
func SessionKey(id string) []byte { return path(SessionPrefix, id) }

// SessionID is the inverse of SessionKey.
func SessionID(stored []byte) (string, bool) {
	id, ok := bytes.CutPrefix(stored, []byte(SessionPrefix))
	return string(id), ok
}

// TimeKey is the stored key of the cluster's time.
func TimeKey() []byte { return []byte(timeKey) }

// GoneKey marks an instance that has expired.
func GoneKey(name, id string) []byte { return path(gonePrefix, name, id) }

// GoneInstances is the prefix of the markers of a service's expired instances.
func GoneInstances(name string) []byte { return path(gonePrefix, name, "") }

// DelayKey marks a user's key that is under a lock delay.
func DelayKey(key []byte) []byte { return join(delayPrefix, key) }

// HeldKey says that a session holds a user's key.
func HeldKey(session string, key []byte) []byte { return append(HeldKeys(session), key...) }

// HeldKeys is the prefix of HeldKey for all keys of a session.
func HeldKeys(session string) []byte { return path(heldPrefix, session, "") }

// LeaseKey is the stored key of the lease of a subject. The markers are their own.
func LeaseKey(subject []byte) []byte {
	if isMarker(subject) {
		return subject
	}
	return join(leasePrefix, subject)
}

// isMarker says whether a subject is nothing but its lease.
func isMarker(subject []byte) bool {
	return bytes.HasPrefix(subject, []byte(gonePrefix)) || bytes.HasPrefix(subject, []byte(delayPrefix))
}

// DueKey is the place of a subject in the index of deadlines.
func DueKey(deadline int64, subject []byte) []byte {
	b := make([]byte, 0, len(duePrefix)+8+len(subject))
	b = binary.BigEndian.AppendUint64(append(b, duePrefix...), uint64(max(deadline, 0)))
	return append(b, subject...)
}

// DueAt is the inverse of DueKey. The subject shares memory with stored.
func DueAt(stored []byte) (deadline int64, subject []byte, ok bool) {
	rest, ok := bytes.CutPrefix(stored, []byte(duePrefix))
	if !ok || len(rest) < 8 {
		return 0, nil, false
	}
	return int64(min(binary.BigEndian.Uint64(rest), math.MaxInt64)), rest[8:], true
}

// cutPath takes prefix<first>/<second> apart.
func cutPath(stored []byte, prefix string) (first, second string, ok bool) {
	rest, ok := strings.CutPrefix(string(stored), prefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "/")
}

// Subject says what a deadline is about; exactly one part of it is set besides the
// names that go with it.
type Subject struct {
	// Key is a user's key.
	Key []byte
	// Service and Instance name an instance; with Check, one of its checks.
	Service, Instance, Check string
	// Node and Check name a check of a node.
	Node string
	// Session is a session's id.
	Session string
	// Marker: the subject is a marker and nothing but its lease.
	Marker bool
}

// ParseSubject takes the subject of a deadline apart. The key shares memory with it.
func ParseSubject(subject []byte) (Subject, bool) {
	if key, ok := UserKey(subject); ok {
		return Subject{Key: key}, true
	}
	if name, id, ok := ServiceName(subject); ok {
		id, check, _ := strings.Cut(id, "/")
		return Subject{Service: name, Instance: id, Check: check}, true
	}
	if node, id, ok := NodeCheckName(subject); ok {
		return Subject{Node: node, Check: id}, true
	}
	if id, ok := SessionID(subject); ok {
		return Subject{Session: id}, true
	}
	return Subject{Marker: true}, isMarker(subject)
}
