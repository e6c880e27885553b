package persistence

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// preallocate gives f n bytes of disk without changing its length. A file system
// that cannot is left alone.
func preallocate(f *os.File, n int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, n)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// DiskSpace is the size of dir's file system and what an ordinary user may still write, in
// bytes, and how many files it has room for; math.MaxInt64 if it does not count them.
func DiskSpace(dir string) (total, free, files int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, 0, fmt.Errorf("measuring free space of %s: %w", dir, err)
	}
	files = math.MaxInt64
	if st.Files > 0 {
		files = int64(st.Ffree)
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, files, nil
}

func onDisk(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
