package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Memory is the resident memory of the process that is its own, in bytes. Pages
// of mapped files (the engine's) are the kernel's to drop and do not count.
func (n *Node) Memory() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		n.t.Fatalf("%s: reading memory use: %v", n.Name, err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	n.t.Fatalf("%s: no RssAnon", n.Name)
	return 0
}

// FDs is the number of open file descriptors of the process.
func (n *Node) FDs() int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", n.PID()))
	if err != nil {
		n.t.Fatalf("%s: reading descriptors: %v", n.Name, err)
	}
	return len(list)
}

// CPU is the processor time the process has used, user and system.
func (n *Node) CPU() time.Duration {
	d, err := ProcessCPU(n.PID())
	if err != nil {
		n.t.Fatalf("%s: %v", n.Name, err)
	}
	return d
}

// threadStates has a letter for each thread of the process, as proc(5) explains them.
func (n *Node) threadStates() (string, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", n.PID()))
	if err != nil {
		return "", err
	}
	var states strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // ended meanwhile
		}
		if err != nil {
			return "", fmt.Errorf("reading a thread's state: %w", err)
		}
		states.WriteString(statFields(b)[0])
	}
	return states.String(), nil
}

// statFields are the fields of a stat file of /proc after the name of the command,
// which is in parentheses and may hold anything: state, parent, ...
func statFields(b []byte) []string {
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// ProcessCPU reads utime+stime of a process; the kernel counts in 10 ms ticks.
func ProcessCPU(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading processor time: %w", err)
	}
	f := statFields(b)
	utime, _ := strconv.ParseInt(f[11], 10, 64)
	stime, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(utime+stime) * 10 * time.Millisecond, nil
}

// BytesRead is what a process has read by system calls, in bytes; what it touched in
// maps does not count.
func BytesRead(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, fmt.Errorf("reading what was read: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "rchar:"); ok {
			return strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		}
	}
	return 0, fmt.Errorf("/proc/%d/io has no rchar", pid)
}

// Blocks is the space a file occupies, in bytes.
func Blocks(info fs.FileInfo) int64 { return blocks(info) }

// DiskUse is what the files below dir occupy (blocks, not lengths: many are sparse).
func DiskUse(t testing.TB, dir string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // a file may go while we look
		}
		if info, err := d.Info(); err == nil {
			sum += blocks(info)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("measuring %s: %v", dir, err)
	}
	return sum
}
