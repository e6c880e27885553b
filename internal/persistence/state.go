package persistence

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const stateFile = "state.json"

// state is what an engine directory knows about itself. It stands in a file
// beside Badger's, not in the key space: it is this node's own, and what the key
// space holds must be equal on all nodes.
type state struct {
	Format int `json:"format"`
	// Durable: everything at or below this index survives a power cut.
	Durable uint64 `json:"durable_index"`
	// Floor is the oldest index that can be read. It is written before Badger is told
	// to forget, so that no start can promise what is gone.
	Floor uint64 `json:"floor"`
}

// readState reads dir's state; known is false if there is none.
func readState(dir string) (st state, known bool, err error) {
	path := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, false, nil
	}
	if err != nil {
		return state{}, false, err
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return state{}, false, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	}
	if st.Format != 1 {
		return state{}, false, fmt.Errorf("%s: format %d, this version knows 1", path, st.Format)
	}
	return st, true, nil
}

// writeState writes the generation's durable index and floor. Callers besides
// open hold stateMu.
func (g *generation) writeState() error {
	if g.dir == "" {
		return nil
	}
	b, err := json.Marshal(state{Format: 1, Durable: g.durable.Load(), Floor: g.floor.Load()})
	if err != nil {
		return err
	}
	if err := writeFileDurably(filepath.Join(g.dir, stateFile), append(b, '\n')); err != nil {
		return fmt.Errorf("writing engine state: %w", err)
	}
	return nil
}
