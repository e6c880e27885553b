package persistence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"
)

// Badger must not be the first to meet a damaged table. It reads tables in
// goroutines of its own, where a flipped bit is a nil dereference
// (table.VerifyChecksum uses the block that it could not read, for its message), a
// short file a log.Fatal (readNoFail), and a bad index a table that is left out with
// a line in the log (levels.go, "Ignoring table"). And its iterators end quietly at
// a block that they cannot read. So all tables are read through here, with the same
// code but in our goroutines, before Badger opens an engine, and by whoever needs
// the whole state afterwards.

// verifyTables reads every table in dir that the MANIFEST names. gone says that
// the engine is open and may remove tables meanwhile. Errors are ErrCorrupt with
// the path.
func verifyTables(dir string, gone bool) error {
	tables, err := manifestTables(dir)
	if err != nil {
		return err
	}
	// Two at a time: it is work for the processor, and there are others.
	var wg sync.WaitGroup
	errs := make([]error, len(tables))
	places := make(chan struct{}, 2)
	for i, t := range tables {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			err := t.verify()
			if gone && errors.Is(err, fs.ErrNotExist) {
				return
			}
			if err != nil {
				errs[i] = fmt.Errorf("%w: %s: %w", ErrCorrupt, t.path, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

type tableFile struct {
	path        string
	compression options.CompressionType
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
	m, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
	}
	for id, t := range m.Tables {
		files = append(files, tableFile{table.NewFilename(id, dir), t.Compression})
	}
	return files, nil
}

// verify reads the whole table: every block's checksum, and that it has as many
// keys as it says.
func (t tableFile) verify() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("unreadable: %v", p)
		}
	}()
	if err := checkTableEnd(t.path); err != nil {
		return err
	}
	m, err := z.OpenMmapFile(t.path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	tbl, err := table.OpenTable(m, table.Options{
		Compression: t.compression, BlockSize: 4096, ChkMode: options.OnBlockRead,
	})
	if err != nil {
		return errors.Join(err, m.Close(-1))
	}
	defer func() { err = errors.Join(err, tbl.Close(-1)) }()
	it := tbl.NewIterator(table.NOCACHE)
	// The iterator gives back its own reference. The table's first one stays: giving
	// that back would remove the file.
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
func checkTableEnd(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	rest := info.Size()
	for _, part := range []string{"checksum", "index"} {
		var b [4]byte
		if rest -= int64(len(b)); rest < 0 {
			return fmt.Errorf("cut off before its %s", part)
		}
		if _, err := f.ReadAt(b[:], rest); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(b[:])
		if rest -= int64(n); n == 0 || n > math.MaxInt32 || rest < 0 {
			return fmt.Errorf("%s of %d bytes", part, n)
		}
	}
	return nil
}
