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
