package persistence

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/neogan74/konsul/internal/statefile"
)

const (
	stateFile   = "state.json"
	stateFormat = 1
)

// state is what an engine directory knows about itself. It stands in a file
// beside Badger's, not in the key space: it is this node's own, and what the key
// space holds must be equal on all nodes.
type state struct {
	// Durable: everything at or below this index survives a power cut.
	Durable uint64 `json:"durable_index"`
	// Floor is the oldest index that can be read. It is written before Badger is told
	// to forget, so that no start can promise what is gone.
	Floor uint64 `json:"floor"`
	// Logs says how many bytes of each memtable's log hold what Durable promises.
	Logs map[string]int64 `json:"logs,omitempty"`
	// Held: each log in Logs had a second name when it was noted there; see holdLog.
	Held bool `json:"held,omitempty"`
	// MemTableSize is the largest that a memtable with a log here may have been made with;
	// 0 if an older version wrote this. See drainLogs.
	MemTableSize int64 `json:"memtable_size,omitempty"`
	// Damaged, if not empty, is the damage that was found in this engine. Nobody may
	// use it any more.
	Damaged string `json:"damaged,omitempty"`
}

// readState reads dir's state; known is false if there is none.
func readState(dir string) (st state, known bool, err error) {
	path := filepath.Join(dir, stateFile)
	known, err = statefile.Read(path, stateFormat, &st)
	if errors.Is(err, statefile.ErrDamaged) {
		return state{}, false, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err == nil && st.Damaged != "" {
		err = fmt.Errorf("%w: %s: %s", ErrCorrupt, dir, st.Damaged)
	}
	return st, known, err
}

// writeState writes what state.json holds. Callers besides open hold stateMu.
func (g *generation) writeState() error {
	if g.dir == "" {
		return nil
	}
	st := state{Durable: g.durable.Load(), Floor: g.floor.Load(), Logs: g.marks, Held: g.held, MemTableSize: g.memTableSize}
	if err := g.broken.Load(); err != nil {
		st.Damaged = (*err).Error()
	}
	return st.write(g.dir)
}

func (st *state) write(dir string) error {
	if err := statefile.Write(filepath.Join(dir, stateFile), stateFormat, st); err != nil {
		return fmt.Errorf("writing engine state: %w", err)
	}
	return nil
}
