package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/hashicorp/raft-wal/types"
	"golang.org/x/sys/unix"

	"github.com/neogan74/konsul/internal/failpoint"
)

// walFS is the file system under the log. It differs from raft-wal's own in
// four ways: fsync can be left out (SyncWrites=false, or the failpoint
// "raftlog.skip-fsync" that shows what happens then), it is fdatasync, it is believed
// only if the file can be read afterwards (inService), and a file whose space cannot be
// reserved is removed again.
type walFS struct {
	sync  bool
	flush *flusher
	// batch is the first entry of the batch being written; ended hears of its sync.
	batch func() uint64
	ended func(error)
	// opening: raft-wal goes through the last segment. What it reads then is no frame, but
	// the last batch, of whatever length.
	opening atomic.Bool
}

var _ types.VFS = (*walFS)(nil)

// ListDir implements types.VFS.
func (v *walFS) ListDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // ordered by name
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Create implements types.VFS. The space is reserved at once: a full disk is
// noticed here, not in the middle of an append.
func (v *walFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := reserve(f, int64(size)); err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return nil, fmt.Errorf("reserving %d bytes for %s: %w", size, path, err)
	}
	return &walFile{File: f, dir: dir, fs: v}, nil
}

func reserve(f *os.File, size int64) error {
	if size == 0 {
		return nil
	}
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) {
		return f.Truncate(size)
	}
	return err
}

// Delete implements types.VFS.
func (v *walFS) Delete(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		return err
	}
	if !v.sync {
		return nil
	}
	return syncDir(dir)
}

// OpenReader implements types.VFS.
func (v *walFS) OpenReader(dir, name string) (types.ReadableFile, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	return &walReader{f}, nil
}

// walReader is a segment that is complete.
type walReader struct{ *os.File }

// ReadAt implements io.ReaderAt.
func (r *walReader) ReadAt(b []byte, off int64) (int, error) { return readFrame(r.File, b, off) }

const (
	// walBuffer is how much raft-wal asks for whatever the length of an entry is.
	walBuffer = 64 << 10
	// walFirstRead is what most entries fit in, and costs a sixteenth.
	walFirstRead = 4 << 10
	walReadAhead = 256 << 10
)

// readFrame reads less than raft-wal asks for where it asks for an entry whose length
// it does not know yet, and the entry is short: then it says io.EOF, as it may at the
// end of a file, and raft-wal takes what it needs. A log of small entries is read ten
// times as fast. What begins like an entry's frame is one: an entry's own first bytes
// are its index and its term, and the latter is not 0.
func readFrame(f io.ReaderAt, b []byte, off int64) (int, error) {
	if len(b) != walBuffer {
		return f.ReadAt(b, off)
	}
	n, err := f.ReadAt(b[:walFirstRead], off)
	if err != nil {
		return n, err
	}
	if b[0] == walEntryFrame && b[1] == 0 && b[2] == 0 && b[3] == 0 &&
		int64(binary.LittleEndian.Uint32(b[4:]))+walFrameLen <= walFirstRead {
		return n, io.EOF
	}
	more, err := f.ReadAt(b[n:], off+int64(n))
	return n + more, err
}

// OpenWriter implements types.VFS.
func (v *walFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &walFile{File: f, dir: dir, fs: v}, nil
}

// walFile is a segment being written.
type walFile struct {
	*os.File
	dir string
	fs  *walFS
	// settled: the file's name and size are on disk. Before that a plain fsync of
	// file and directory is needed, afterwards fdatasync does: the size was
	// reserved, and nobody needs the time of the last change.
	settled atomic.Bool
	// wrote is where the last write began.
	wrote atomic.Int64
	// ahead is what was read beyond a frame's header while raft-wal goes through the
	// segment at its start, eight bytes at a time; one goroutine does.
	ahead   []byte
	aheadAt int64
}

var _ io.ReaderAt = (*walFile)(nil)

// ReadAt implements io.ReaderAt.
func (f *walFile) ReadAt(b []byte, off int64) (int, error) {
	if len(b) != walFrameLen {
		if f.fs.opening.Load() {
			return f.File.ReadAt(b, off)
		}
		return readFrame(f.File, b, off)
	}
	if at := off - f.aheadAt; at < 0 || at+walFrameLen > int64(len(f.ahead)) {
		if f.ahead == nil {
			f.ahead = make([]byte, walReadAhead)
		}
		n, err := f.File.ReadAt(f.ahead[:cap(f.ahead)], off)
		f.ahead, f.aheadAt = f.ahead[:n], off
		if n < walFrameLen {
			return copy(b, f.ahead), err
		}
	}
	return copy(b, f.ahead[off-f.aheadAt:]), nil
}

// WriteAt implements io.WriterAt: raft-wal is through with reading ahead.
func (f *walFile) WriteAt(b []byte, off int64) (int, error) {
	f.ahead = nil
	f.wrote.Store(off)
	return f.File.WriteAt(b, off)
}

// Sync makes what was written durable, or begins to if the flusher may go ahead.
func (f *walFile) Sync() error {
	if !f.fs.sync || failpoint.On("raftlog.skip-fsync") {
		return nil
	}
	if f.settled.Load() {
		sync := func() error { return errors.Join(fdatasync(f.File), f.inService()) }
		if f.fs.flush.ahead {
			f.fs.flush.begin(f.fs.batch(), sync, f.fs.ended)
			return nil
		}
		return sync()
	}
	if err := f.File.Sync(); err != nil {
		return err
	}
	if err := syncDir(f.dir); err != nil {
		return err
	}
	if err := f.inService(); err != nil {
		return err
	}
	f.settled.Store(true)
	return nil
}

// inService fails if the file system below has shut down. Linux answers a sync that
// is under way meanwhile with success (xfs and ext4, seen with 6.18), although what it
// wrote is gone; a read is refused then. What is read was just written, so it costs no
// access to the device.
func (f *walFile) inService() error {
	var b [1]byte
	if _, err := f.File.ReadAt(b[:], f.wrote.Load()); err != nil {
		return fmt.Errorf("syncing %s: reading it after the sync: %w", f.Name(), err)
	}
	return nil
}

func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			if err != nil {
				return fmt.Errorf("syncing %s: %w", f.Name(), err)
			}
			return nil
		}
	}
}
