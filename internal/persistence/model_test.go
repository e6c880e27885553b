package persistence

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// model is what the engine must behave like: a map from key to its versions.
type model struct {
	last     uint64
	versions map[string][]Change
	changes  []Change // in order of index, then key
}

func newModel() *model { return &model{versions: map[string][]Change{}} }

// at is the state at index.
func (m *model) at(index uint64) map[string]Change {
	state := map[string]Change{}
	for key, versions := range m.versions {
		for _, v := range slices.Backward(versions) {
			if v.Index <= index {
				if !v.Deleted {
					state[key] = v
				}
				break
			}
		}
	}
	return state
}

// digest is DB.Digest, written a second time.
func (m *model) digest(index uint64) (sum [32]byte) {
	state := m.at(index)
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(state)) {
		v := state[key]
		var n [8]byte
		binary.BigEndian.PutUint32(n[:4], uint32(len(key)))
		h.Write(append(n[:4:4], key...))
		binary.BigEndian.PutUint64(n[:], v.Index)
		h.Write(n[:])
		binary.BigEndian.PutUint32(n[:4], uint32(len(v.Value)))
		h.Write(append(n[:4:4], v.Value...))
	}
	h.Sum(sum[:0])
	return sum
}

func (m *model) counts(index uint64) (c Counts) {
	for key := range m.at(index) {
		switch {
		case strings.HasPrefix(key, KVPrefix):
			c.Keys++
		case strings.HasPrefix(key, ServicePrefix):
			c.Services++
		}
	}
	return c
}

// between lists the changes under prefix with after < index <= upTo.
func (m *model) between(prefix string, after, upTo uint64) []Change {
	var found []Change
	for _, c := range m.changes {
		if c.Index > after && c.Index <= upTo && bytes.HasPrefix(c.Key, []byte(prefix)) {
			found = append(found, c)
		}
	}
	return found
}

// apply applies one entry to the model and returns its changes.
func (m *model) apply(index uint64, e entry) []Change {
	tx := &modelTx{before: m.at(index - 1), next: map[string]Change{}}
	e.run(tx)
	var changes []Change
	for _, key := range slices.Sorted(maps.Keys(tx.next)) {
		c := tx.next[key]
		if _, was := tx.before[key]; c.Deleted && !was {
			continue
		}
		c.Index, c.Key = index, []byte(key)
		m.versions[key] = append(m.versions[key], c)
		changes = append(changes, c)
	}
	m.changes = append(m.changes, changes...)
	m.last = index
	return changes
}

// txn is what an entry of the test needs of a Tx.
type txn interface {
	Get(key []byte) ([]byte, bool, error)
	Set(key, value []byte)
	Delete(key []byte)
	Scan(prefix []byte, fn func(key, value []byte) error) error
	Rollback()
}

type modelTx struct{ before, next map[string]Change }

func (t *modelTx) Get(key []byte) ([]byte, bool, error) {
	c, ok := t.next[string(key)]
	if !ok {
		c, ok = t.before[string(key)]
	}
	if !ok || c.Deleted {
		return nil, false, nil
	}
	return c.Value, true, nil
}

func (t *modelTx) Set(key, value []byte) { t.next[string(key)] = Change{Value: value} }
func (t *modelTx) Delete(key []byte)     { t.next[string(key)] = Change{Deleted: true} }
func (t *modelTx) Rollback()             { clear(t.next) }

func (t *modelTx) Scan(prefix []byte, fn func(key, value []byte) error) error {
	all := maps.Clone(t.before)
	maps.Copy(all, t.next)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if c := all[key]; !c.Deleted && strings.HasPrefix(key, string(prefix)) {
			if err := fn([]byte(key), c.Value); err != nil {
				return endScan(err)
			}
		}
	}
	return nil
}

// entry is one log entry of the test: steps that depend on what they read.
type entry []step

type step struct {
	kind       string
	key, other string
	value      []byte
}

func (e entry) run(tx txn) {
	for _, s := range e {
		if err := s.run(tx); err != nil {
			panic(err) // the view is in memory or on a sound disk
		}
	}
}

func (s step) run(tx txn) error {
	switch s.kind {
	case "put":
		tx.Set([]byte(s.key), s.value)
	case "delete":
		tx.Delete([]byte(s.key))
	case "delete prefix":
		return tx.Scan([]byte(s.key), func(key, _ []byte) error { tx.Delete(key); return nil })
	case "rollback":
		tx.Rollback()
	case "count": // a value that depends on everything under a prefix
		h := sha256.New()
		err := tx.Scan([]byte(s.other), func(key, value []byte) error {
			h.Write(key)
			h.Write(value)
			return nil
		})
		tx.Set([]byte(s.key), h.Sum(nil))
		return err
	default: // those that read one key
		value, found, err := tx.Get([]byte(s.other))
		switch {
		case err != nil:
			return err
		case s.kind == "copy" && found:
			tx.Set([]byte(s.key), bytes.Clone(value))
		case s.kind == "swap if even" && (!found || len(value)%2 == 0):
			tx.Set([]byte(s.other), s.value)
		case s.kind == "delete if there" && found:
			tx.Delete([]byte(s.other))
		}
	}
	return nil
}

// randomEntry makes entries over few keys, so that they meet.
func randomEntry(r *rand.Rand, maxValue int) entry {
	prefixes := []string{"kv:a/", "kv:b/", "kv:a/b/", "svc:", "sys:"}
	key := func() string { return prefixes[r.IntN(len(prefixes))] + fmt.Sprint(r.IntN(12)) }
	kinds := []string{"put", "put", "put", "put", "delete", "copy", "swap if even", "delete if there", "put", "put", "copy", "count"}
	e := make(entry, 1+r.IntN(4)*r.IntN(2))
	for i := range e {
		value := make([]byte, r.IntN(1+r.IntN(maxValue)))
		for j := range value {
			value[j] = byte(r.Uint32())
		}
		e[i] = step{kind: kinds[r.IntN(len(kinds))], key: key(), other: key(), value: value}
		switch {
		case e[i].kind == "count":
			e[i].other = prefixes[r.IntN(len(prefixes))]
		case r.IntN(60) == 0:
			e[i].kind, e[i].key = "delete prefix", prefixes[r.IntN(len(prefixes))]
		case r.IntN(40) == 0:
			e[i].kind = "rollback"
		}
	}
	return e
}
