package cluster

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/neogan74/konsul/internal/statefile"
)

const (
	stateFileName   = "cluster-state.json"
	stateFileFormat = 1
)

// stateFile is cluster-state.json in the data directory: what this node said
// while a cluster was being agreed on, which it must not forget, and where to
// find the others.
type stateFile struct {
	// Promised, Accepted, Value, Decided: see votes.
	Promised Ballot          `json:"promised"`
	Accepted Ballot          `json:"accepted"`
	Value    *BootstrapValue `json:"value,omitempty"`
	Decided  bool            `json:"decided"`
	// Others are API addresses of the other members, as last known: where to ask
	// after this node's own address changed and no leader reaches it. Its member
	// records are no help then, it may show none before a leader says what is committed.
	Others []string `json:"others,omitempty"`
}

// loadState reads the file in dir; dir "" keeps nothing.
func loadState(dir string) (stateFile, error) {
	var s stateFile
	if dir == "" {
		return s, nil
	}
	if _, err := statefile.Read(filepath.Join(dir, stateFileName), stateFileFormat, &s); err != nil {
		// It may hold a vote.
		return stateFile{}, fmt.Errorf("reading cluster state: %w: this node is not in a cluster yet: clear its data directory", err)
	}
	return s, nil
}

// save is durable when it returns: a vote that is given must survive a crash.
func (s stateFile) save(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("writing cluster state: %w", err)
	}
	if err := statefile.Write(filepath.Join(dir, stateFileName), stateFileFormat, s); err != nil {
		return fmt.Errorf("writing cluster state: %w", err)
	}
	return nil
}
