package persistence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2"
)

// Badger must not be the first to meet a damaged table. It reads tables in
// goroutines of its own, where a flipped bit is a nil dereference
// (table.VerifyChecksum uses the block that it could not read, for its message), a
// short file a log.Fatal (readNoFail), and a bad index a table that is left out with
// a line in the log (levels.go, "Ignoring table"). And its iterators end quietly at
// a block that they cannot read. So all tables are read through here, with the same
// code but in our goroutines, before Badger opens an engine, and by whoever needs
// the whole state afterwards.

// verifyTables reads every table in dir that the MANIFEST names. live says that
// the engine is open and may remove tables meanwhile. Errors are ErrCorrupt with
// the path. key is the engine's EncryptionKey, nil for none.
func verifyTables(dir string, key []byte, live bool) error {
	tables, err := manifestTables(dir)
	if err != nil {
		return err
	}
	keys, err := newTableKeys(dir, key) // after the MANIFEST: it has every key named there
	if err != nil {
		return err
	}
	defer keys.close()
	// Two at a time at the start, one beside other work; each is held in memory.
	places := make(chan struct{}, 2)
	if live {
		places = make(chan struct{}, 1)
	}
	var wg sync.WaitGroup
	errs := make([]error, len(tables))
	for i, t := range tables {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			err := t.verify(keys)
			if err == nil || (live && t.removed(dir)) {
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
	path        string
	keyID       uint64 // of its data key; 0 = not encrypted
	compression options.CompressionType
}

// tableKeys are the keys of an engine's tables, which the engine's own key
// protects, and the cache without which Badger does not read encrypted tables.
// Nil for an engine that is not encrypted.
type tableKeys struct {
	registry *badger.KeyRegistry
	indexes  *ristretto.Cache[uint64, *fb.TableIndex]
}

func newTableKeys(dir string, key []byte) (*tableKeys, error) {
	if key == nil {
		return nil, nil
	}
	registry, err := badger.OpenKeyRegistry(badger.KeyRegistryOptions{Dir: dir, ReadOnly: true, EncryptionKey: key})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, filepath.Join(dir, badger.KeyRegistryFileName), err)
	}
	indexes, err := ristretto.NewCache(&ristretto.Config[uint64, *fb.TableIndex]{
		NumCounters: 1000, MaxCost: encryptedIndexCache, BufferItems: 64,
	})
	if err != nil {
		return nil, err
	}
	return &tableKeys{registry, indexes}, nil
}

func (k *tableKeys) close() {
	if k != nil {
		k.indexes.Close()
	}
}

// open sets what is needed to read a table under the key.
func (k *tableKeys) open(keyID uint64, o *table.Options) (err error) {
	switch {
	case keyID == 0:
		return nil
	case k == nil:
		return errors.New("encrypted, and the engine is not")
	}
	o.IndexCache = k.indexes
	o.DataKey, err = k.registry.DataKey(keyID)
	return err
}

// manifestTables lists the tables of dir's MANIFEST; none if there is no MANIFEST
// yet.
func manifestTables(dir string) (files []tableFile, err error) {
	path := filepath.Join(dir, "MANIFEST")
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	m, end, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	}
	// Badger takes a length that leads beyond the file's end for what a crash tore, and
	// forgets all that follows.
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if end != info.Size() {
		return nil, fmt.Errorf("%w: %s: what follows byte %d of %d cannot be read", ErrCorrupt, path, end, info.Size())
	}
	for id, t := range m.Tables {
		files = append(files, tableFile{id, table.NewFilename(id, dir), t.KeyID, t.Compression})
	}
	return files, nil
}

// verify reads the whole table: every block's checksum, and that it has as many
// keys as it says. The file is read, not mapped: Badger cuts a table to nothing
// before it removes it, and a page of a map beyond the end is a SIGBUS.
func (t tableFile) verify(keys *tableKeys) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("unreadable: %v", p)
		}
	}()
	data, err := os.ReadFile(t.path)
	if err != nil {
		return err
	}
	if err := checkTableEnd(data); err != nil {
		return err
	}
	opts := table.Options{Compression: t.compression, BlockSize: 4096, ChkMode: options.OnBlockRead}
	if err := keys.open(t.keyID, &opts); err != nil {
		return err
	}
	tbl, err := table.OpenInMemoryTable(data, t.id, &opts)
	if err != nil {
		return err
	}
	it := tbl.NewIterator(table.NOCACHE)
	defer func() { err = errors.Join(err, it.Close()) }()
	n := uint32(0)
	for it.Rewind(); it.Valid(); it.Next() {
		n++
	}
	if want := tbl.KeyCount(); n != want {
		return fmt.Errorf("%d keys can be read, it has %d", n, want)
	}
	return nil
}

// checkTableEnd checks the lengths at a table's end, which Badger trusts:
//
//	blocks | index | index length (4, BE) | checksum | checksum length (4, BE)
func checkTableEnd(data []byte) error {
	rest := int64(len(data))
	for _, part := range []string{"checksum", "index"} {
		if rest -= 4; rest < 0 {
			return fmt.Errorf("cut off before its %s", part)
		}
		n := binary.BigEndian.Uint32(data[rest:])
		if rest -= int64(n); n == 0 || n > math.MaxInt32 || rest < 0 {
			return fmt.Errorf("%s of %d bytes", part, n)
		}
	}
	return nil
}
