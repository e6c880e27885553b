package raftstore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/neogan74/konsul/internal/persistence"
)

const diskInterval = 200 * time.Millisecond

// minFiles is how many files a data directory's disk must have room for: the log's next
// segments, and the tables of a compaction.
const minFiles = 256

// diskWatch knows whether the data directory's disk is below its floor. With a
// hysteresis of a quarter: a node that wavers around the floor would hand its
// leadership to and fro.
type diskWatch struct {
	dir   string
	floor int64
	log   hclog.Logger
	// onFull is called, from run's goroutine, when the disk falls below the floor.
	onFull func()
	// starved, if set, says that the engine cannot go on for want of space: its own
	// needs may be above the floor.
	starved func() bool

	mu   sync.Mutex // of check and follow: what was measured of one directory says nothing of another
	low  atomic.Bool
	free atomic.Int64
}

func newDiskWatch(dir string, floor int64, log hclog.Logger) *diskWatch {
	return &diskWatch{dir: dir, floor: floor, log: log.Named("disk"), onFull: func() {}}
}

// follow goes on with another directory.
func (d *diskWatch) follow(dir string) {
	d.mu.Lock()
	d.dir = dir
	d.mu.Unlock()
	d.check()
}

// leave ends that, unless it is another one's turn by now. No directory has room.
func (d *diskWatch) leave(dir string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dir == dir {
		d.dir = ""
		d.low.Store(false)
	}
}

// backupStep is more than a backup writes between two looks at the free space.
const backupStep = 32 << 20

// BackupRoom is what a backup.Dir asks for room (KeepRoom), of a node with its data in
// dataDir ("" is none) and the floor of Config. On the file system of the data a backup must
// not be what brings the node below its floor, or keeps it there: it leaves a quarter more,
// with which the node takes writes again. Errors: ErrDiskFull.
func BackupRoom(dataDir string, floor int64) func(dir string) error {
	return func(dir string) error {
		if floor == 0 || dataDir == "" || !sameDevice(dir, dataDir) {
			return nil
		}
		need := floor + floor/4 + backupStep
		total, free, _, err := persistence.DiskSpace(dir)
		if err != nil || total == 0 {
			return nil //nolint:nilerr // not every file system can tell
		}
		if free < need {
			return fmt.Errorf("%w: %s has %d bytes left, a backup must leave %d", ErrDiskFull, dir, free, need)
		}
		return nil
	}
}

// sameDevice says whether two paths are on one file system, as far as can be told.
func sameDevice(a, b string) bool {
	var sa, sb unix.Stat_t
	return unix.Stat(a, &sa) == nil && unix.Stat(b, &sb) == nil && sa.Dev == sb.Dev
}

// full reports whether this node must not take writes.
func (d *diskWatch) full() bool { return d.low.Load() }

// check measures once.
func (d *diskWatch) check() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.floor == 0 || d.dir == "" {
		return
	}
	_, free, files, err := persistence.DiskSpace(d.dir)
	if err != nil {
		d.log.Warn("free space is unknown", "error", err)
		return
	}
	d.free.Store(free)
	crowded := files < minFiles
	starved := crowded || d.starved != nil && d.starved()
	switch low := d.low.Load(); {
	case !low && (starved || free < d.floor):
		d.low.Store(true)
		d.log.Error("disk is full: this node takes no writes until space is freed",
			"dir", d.dir, "free", free, "floor", d.floor, "out_of_inodes", crowded, "engine_waits", starved && !crowded)
		d.onFull()
	case low && !starved && free >= d.floor+d.floor/4:
		d.low.Store(false)
		d.log.Info("disk has space again: this node takes writes", "dir", d.dir, "free", free, "floor", d.floor)
	}
}

// run measures until stop is closed.
func (d *diskWatch) run(stop <-chan struct{}) {
	if d.floor == 0 {
		return
	}
	tick := time.NewTicker(diskInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.check()
		case <-stop:
			return
		}
	}
}
