package persistence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/statefile"
)

// The data directory's part that is ours:
//
//	engine/LOCK      flock: one process at a time
//	engine/CURRENT   the name of the live engine directory, and a newline
//	engine/<n>/      Badger's files and state.json; n counts up
const (
	// EngineDir is the engine's part of a data directory.
	EngineDir   = "engine"
	currentFile = "CURRENT"
	lockFile    = "LOCK"
)

type dirLock struct{ f *os.File }

// lockDir keeps other processes out of dir until release.
func lockDir(dir string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w on %q: another instance of Konsul is running on this data directory", ErrLocked, dir)
		}
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return &dirLock{f}, nil
}

func (l *dirLock) release() error { return l.f.Close() }

// currentOrNew returns the name of the live engine directory, and makes the
// first one if the engine is new.
func currentOrNew(root string) (string, error) {
	name, err := readCurrent(root)
	if err == nil {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			return "", fmt.Errorf("%w: %s names %s: %w", ErrCorrupt, filepath.Join(root, currentFile), name, err)
		}
		return name, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	// state.json is written after CURRENT, so one without CURRENT means that
	// CURRENT was lost, not that a first start was interrupted.
	if found, err := filepath.Glob(filepath.Join(root, "*", stateFile)); err != nil {
		return "", err
	} else if len(found) > 0 {
		return "", fmt.Errorf("%w: %s is missing, but %s is there", ErrCorrupt, filepath.Join(root, currentFile), found[0])
	}
	return freshDir(root)
}

// freshDir makes the next engine directory, empty, and makes it the live one.
func freshDir(root string) (string, error) {
	name, err := nextName(root)
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(filepath.Join(root, name), 0o700); err != nil {
		return "", err
	}
	failpoint.Hit("engine.after-mkdir")
	return name, writeCurrent(root, name)
}

func readCurrent(root string) (string, error) {
	path := filepath.Join(root, currentFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	name := strings.TrimSpace(string(b))
	if _, err := strconv.ParseUint(name, 10, 63); err != nil {
		return "", fmt.Errorf("%w: %s holds %q", ErrCorrupt, path, b)
	}
	return name, nil
}

// writeCurrent switches the live engine, atomically and durably.
func writeCurrent(root, name string) error {
	return statefile.Replace(filepath.Join(root, currentFile), []byte(name+"\n"))
}

// nextName is one more than the highest number in use.
func nextName(root string) (string, error) {
	names, err := engineNames(root)
	if err != nil {
		return "", err
	}
	var highest uint64
	for _, name := range names {
		n, _ := strconv.ParseUint(name, 10, 63)
		highest = max(highest, n)
	}
	return strconv.FormatUint(highest+1, 10), nil
}

func engineNames(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, err := strconv.ParseUint(e.Name(), 10, 63); err == nil && e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// sweep removes every engine directory but the live one: what a crash inside
// Replace left. The lock is held, so nobody else is building one.
func sweep(root, live string, log hclog.Logger) error {
	names, err := engineNames(root)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == live {
			continue
		}
		log.Info("removing an engine directory that is not in use", "dir", filepath.Join(root, name))
		if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
			return fmt.Errorf("removing leftover engine: %w", err)
		}
	}
	return statefile.Sweep(root)
}

// Reset makes an empty engine the live one of data directory dir, for a node
// whose engine is corrupt and that rebuilds from its snapshot. The old engine's
// files go at the next Open. Nobody may have the engine open.
func Reset(dir string) error {
	root := filepath.Join(dir, EngineDir)
	if err := os.MkdirAll(root, 0o700); err != nil {
		return fmt.Errorf("resetting engine: %w", err)
	}
	lock, err := lockDir(root)
	if err != nil {
		return fmt.Errorf("resetting engine: %w", err)
	}
	_, err = freshDir(root)
	if err = errors.Join(err, lock.release()); err != nil {
		return fmt.Errorf("resetting engine: %w", err)
	}
	return nil
}

// syncPath fsyncs a file or a directory.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
