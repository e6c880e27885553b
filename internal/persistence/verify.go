package persistence

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
)

// Badger must not be the first to meet a damaged table. It reads tables in
// goroutines of its own, where a flipped bit is a nil dereference
// (table.VerifyChecksum uses the block that it could not read, for its message), a
// short file a log.Fatal (readNoFail), and a bad index a table that is left out with
// a line in the log (levels.go, "Ignoring table"). And its iterators end quietly at
// a block that they cannot read. So all tables are read through here, in our goroutines,
// before Badger opens an engine or behind a guard, and by whoever needs the whole state
// afterwards.

// verifyTables reads every table in dir that the MANIFEST names, or what it has of the
// stored keys with prefix. live says that the engine is open and may remove tables
// meanwhile. Errors are ErrCorrupt with the path, or ctx's. key is the engine's
// EncryptionKey, nil for none.
func verifyTables(ctx context.Context, dir string, key []byte, live bool, prefix []byte) error {
	tables, err := manifestTables(dir)
	if err != nil {
		return err
	}
	keys, err := newTableKeys(dir, key) // after the MANIFEST: it has every key named there
	if err != nil {
		return err
	}
	// Two at a time at the start, one beside other work.
	places := make(chan struct{}, 2)
	if live {
		places = make(chan struct{}, 1)
	}
	var wg sync.WaitGroup
	errs := make([]error, len(tables))
	for i, t := range tables {
		places <- struct{}{}
		if errs[i] = ctx.Err(); errs[i] != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-places }()
			err := t.verify(ctx, keys, prefix)
			if err == nil || (live && t.removed(dir)) {
				return
			}
			if ended := ctx.Err(); ended != nil && errors.Is(err, ended) {
				errs[i] = err // nobody waits any more; that says nothing of the table
				return
			}
			errs[i] = fmt.Errorf("%w: %s: %w", ErrCorrupt, t.path, err)
			if outOfFiles(err) {
				errs[i] = fmt.Errorf("reading %s: %w", t.path, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// removed says that the MANIFEST no longer names the table: Badger takes it out
// there, then cuts the file to nothing, then removes it.
func (t tableFile) removed(dir string) bool {
	tables, err := manifestTables(dir)
	return err == nil && !slices.Contains(tables, t)
}

type tableFile struct {
	id          uint64
	level       uint8
	path        string
	keyID       uint64 // of its data key; 0 = not encrypted
	compression options.CompressionType
}

// tableKeys are the keys of an engine's tables, which the engine's own key protects.
// Nil for an engine that is not encrypted.
type tableKeys struct{ registry *badger.KeyRegistry }

func newTableKeys(dir string, key []byte) (*tableKeys, error) {
	if key == nil {
		return nil, nil
	}
	registry, err := badger.OpenKeyRegistry(badger.KeyRegistryOptions{Dir: dir, ReadOnly: true, EncryptionKey: key})
	path := filepath.Join(dir, badger.KeyRegistryFileName)
	switch {
	case outOfFiles(err):
		return nil, fmt.Errorf("reading %s: %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	}
	return &tableKeys{registry}, nil
}

// checkManifest finds that the MANIFEST is lost. Without it Badger would begin anew: with
// no tables, and it removes those that are there. known says that dir has a state.json,
// which is written after the MANIFEST, as tables and logs are.
func checkManifest(dir string, known bool) error {
	path := filepath.Join(dir, badger.ManifestFilename)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	beside := ""
	if known {
		beside = stateFile
	}
	for _, pattern := range []string{"*.sst", "*.mem"} {
		if found, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil {
			return err
		} else if len(found) > 0 {
			beside = filepath.Base(found[0])
		}
	}
	if beside == "" {
		return nil // the first start
	}
	return fmt.Errorf("%w: %s is missing, but %s is there", ErrCorrupt, path, beside)
}

// manifestTables lists the tables of dir's MANIFEST; none if there is no MANIFEST
// yet. Badger may be appending to it: what looks damaged is read again before it is
// believed.
func manifestTables(dir string) (files []tableFile, err error) {
	for range manifestTries {
		if files, err = readManifest(dir); !errors.Is(err, ErrCorrupt) {
			break
		}
		time.Sleep(manifestPause)
	}
	return files, err
}

const (
	manifestTries = 5
	manifestPause = 20 * time.Millisecond
)

func readManifest(dir string) (files []tableFile, err error) {
	path := filepath.Join(dir, "MANIFEST")
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat() // before it is read: it may grow
	if err != nil {
		return nil, err
	}
	m, end, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	}
	// Badger takes a length that leads beyond the file's end for what a crash tore, and
	// forgets all that follows.
	if end < info.Size() {
		return nil, fmt.Errorf("%w: %s: what follows byte %d of %d cannot be read", ErrCorrupt, path, end, info.Size())
	}
	for id, t := range m.Tables {
		files = append(files, tableFile{id, t.Level, table.NewFilename(id, dir), t.KeyID, t.Compression})
	}
	return files, nil
}

// verify reads the whole table: every block's checksum, and that it has as many
// keys as it says; or the blocks in which stored keys with prefix can be. The file is
// read, not mapped: Badger cuts a table to nothing before it removes it, and a page of
// a map beyond the end is a SIGBUS.
func (t tableFile) verify(ctx context.Context, keys *tableKeys, prefix []byte) error {
	g, err := openGuarded(t, keys)
	if err != nil {
		return err
	}
	if len(prefix) > 0 {
		_, err := g.cover(prefix, after(prefix))
		return errors.Join(err, g.f.Close())
	}
	if err := g.verifyAll(func(int64) error { return ctx.Err() }); err != nil {
		return errors.Join(err, g.f.Close())
	}
	return nil
}
