package harness

import (
	"io/fs"
	"syscall"
)

// blocks is the space a file occupies.
func blocks(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
