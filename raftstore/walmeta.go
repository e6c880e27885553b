package raftstore

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft-wal/types"

	"github.com/neogan74/konsul/internal/statefile"
)

const (
	walMetaFile   = "state.json"
	walMetaFormat = 1
)

// walMeta is raft-wal's record of its segments, and raft's term and vote: one small
// file with a checksum, where raft-wal itself would use bbolt, which has none over
// its data. A term or a vote that changed unnoticed would let this node vote twice.
type walMeta struct {
	mu   sync.Mutex
	path string
	rec  walRecord
}

type walRecord struct {
	State  types.PersistentState `json:"segments"`
	Stable map[string][]byte     `json:"stable,omitempty"`
}

var _ types.MetaStore = (*walMeta)(nil)

// Load implements types.MetaStore.
func (m *walMeta) Load(dir string) (types.PersistentState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.path = filepath.Join(dir, walMetaFile)
	if err := statefile.Sweep(dir); err != nil {
		return types.PersistentState{}, err
	}
	found, err := statefile.Read(m.path, walMetaFormat, &m.rec)
	if err != nil {
		return types.PersistentState{}, err
	}
	if !found {
		// Raft-wal would take them for leftovers, and remove them.
		segments, err := filepath.Glob(filepath.Join(dir, "*.wal"))
		if err != nil {
			return types.PersistentState{}, err
		}
		if len(segments) > 0 {
			return types.PersistentState{}, fmt.Errorf("%w: %s is missing, but %s is there", statefile.ErrDamaged, m.path, segments[0])
		}
	}
	return m.rec.State, nil
}

// CommitState implements types.MetaStore; durable on return.
func (m *walMeta) CommitState(s types.PersistentState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.rec
	next.State = s
	return m.write(next)
}

// GetStable implements types.MetaStore; nil for a key that is absent.
func (m *walMeta) GetStable(key []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.path == "" {
		return nil, errNotLoaded
	}
	v, ok := m.rec.Stable[string(key)]
	if !ok {
		return nil, nil
	}
	return append([]byte{}, v...), nil
}

// SetStable implements types.MetaStore; durable on return.
func (m *walMeta) SetStable(key, value []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.rec
	next.Stable = maps.Clone(m.rec.Stable)
	if next.Stable == nil {
		next.Stable = map[string][]byte{}
	}
	if value == nil {
		delete(next.Stable, string(key))
	} else {
		next.Stable[string(key)] = append([]byte{}, value...)
	}
	return m.write(next)
}

var errNotLoaded = errors.New("the log's state was not loaded")

func (m *walMeta) write(next walRecord) error {
	if m.path == "" {
		return errNotLoaded
	}
	if err := statefile.Write(m.path, walMetaFormat, next); err != nil {
		return err
	}
	m.rec = next
	return nil
}

// Close implements types.MetaStore.
func (m *walMeta) Close() error { return nil }
