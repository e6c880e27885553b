package persistence

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Usage is what the engine's files take on disk, in bytes: blocks, not lengths,
// for Badger's logs are sparse.
type Usage struct{ SST, VLog, Mem int64 }

// Total is the sum.
func (u Usage) Total() int64 { return u.SST + u.VLog + u.Mem }

// maxUsageFiles bounds what DirUsage looks at: a backup directory is the user's.
const maxUsageFiles = 10_000

// DirUsage is what the files in and below dir take on disk, in bytes; what cannot be
// read, and what is beyond 10,000 files, counts nothing. An empty dir is 0.
func DirUsage(dir string) (size int64) {
	if dir == "" {
		return 0
	}
	files := 0
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // a file may go while we look
		}
		if files++; files > maxUsageFiles {
			return filepath.SkipAll
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			size += onDisk(info)
		}
		return nil
	})
	return size
}

// Usage adds up the files; all zero in memory.
func (db *DB) Usage() (Usage, error) {
	g, err := db.acquire()
	if err != nil {
		return Usage{}, err
	}
	defer g.release()
	return g.usage()
}

func (g *generation) usage() (u Usage, err error) {
	if g.dir == "" {
		return u, nil
	}
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		return u, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return u, err
		}
		switch filepath.Ext(e.Name()) {
		case ".sst":
			u.SST += onDisk(info)
		case ".vlog":
			u.VLog += onDisk(info)
		case ".mem":
			u.Mem += onDisk(info)
		}
	}
	return u, nil
}
