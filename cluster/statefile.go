package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	stateFileName   = "cluster-state.json"
	stateFileFormat = 1
)

// stateFile is cluster-state.json in the data directory: what this node said
// while a cluster was being agreed on, which it must not forget, and where to
// find the others.
type stateFile struct {
	Format int `json:"format"`
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
	s := stateFile{Format: stateFileFormat}
	if dir == "" {
		return s, nil
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFileName))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("reading cluster state: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("reading %s: %w", filepath.Join(dir, stateFileName), err)
	}
	if s.Format != stateFileFormat {
		return s, fmt.Errorf("%s has format %d, this version knows %d", filepath.Join(dir, stateFileName), s.Format, stateFileFormat)
	}
	return s, nil
}

// save is durable when it returns: a vote that is given must survive a crash.
func (s stateFile) save(dir string) error {
	if dir == "" {
		return nil
	}
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("writing cluster state: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("writing cluster state: %w", err)
	}
	if err := replaceFile(dir, stateFileName, append(b, '\n')); err != nil {
		return fmt.Errorf("writing cluster state: %w", err)
	}
	return nil
}

// replaceFile makes dir/name hold b, whole or not at all.
func replaceFile(dir, name string, b []byte) error {
	f, err := os.OpenFile(filepath.Join(dir, name+".tmp"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
