package persistence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// space keeps a full disk from killing the process. Badger writes its logs
// through memory maps of sparse files: writing to a page that the disk has no
// block for is a SIGBUS, not an error. So the next memtable's log always stands
// ready, with its blocks, before Badger asks for it: Badger opens a file of
// length 0 that is there already as a new one. A batch is only let through if the
// logs that it can reach are allocated; else it waits for space.
type space struct {
	mu     sync.Mutex
	gen    *generation
	budget int64 // bytes that may still be written before the next look
	warned bool
	short  atomic.Bool // wait is waiting
}

// ShortOfSpace reports whether applying waits for free disk. What is proposed
// meanwhile would wait behind it, so a node should not take it.
func (db *DB) ShortOfSpace() bool { return db.space.short.Load() }

const (
	// perWrite is what Badger adds to a write, at most: skip list node, log header,
	// checksum, version.
	perWrite = 160
	// spacePoll is how often a batch that waits for space looks again.
	spacePoll = 200 * time.Millisecond
)

// logBytes is what of a memtable's log can be written: Badger changes to the next
// one at MemTableSize, a batch is at most 15 % of it, and log headers are a little
// larger than what the batch's size counts.
func logBytes(o BadgerOptions) int64 { return o.MemTableSize + o.MemTableSize/4 }

// Headroom is how much free disk, in bytes, the engine wants to finish what it has
// begun without new writes: the flush of every full memtable and a compaction. A
// node should stop taking writes before less is left; at spaceFloor applying waits.
func (o BadgerOptions) Headroom() int64 {
	o = o.withDefaults()
	return o.spaceFloor(compactionBytes*o.MemTableSize) + int64(o.NumMemtables)*o.MemTableSize
}

// compactionBytes is how much a compaction may write before it removes what it
// read, in memtables: the tables of level 0 and what they overlap in the next.
const compactionBytes = 8

// spaceFloor is the least free space at which a batch is still taken: two tables
// for flushes and a compaction, which cannot write more than there is.
func (o BadgerOptions) spaceFloor(tables int64) int64 {
	return 2*o.MemTableSize + min(tables, compactionBytes*o.MemTableSize)
}

// minFiles is how many files there must be room for: what a compaction or a restore
// begins with fewer, it may not be able to end.
const minFiles = 128

// freeBytes is what the file system of dir has left for us: nothing without room for files.
func freeBytes(dir string) (int64, error) {
	_, free, files, err := DiskSpace(dir)
	if files < minFiles {
		free = 0
	}
	return free, err
}

// checkRoom refuses to open an engine where Badger could not even make its files.
func checkRoom(dir string, o BadgerOptions) error {
	free, err := freeBytes(dir)
	if err != nil {
		return err
	}
	if free < logBytes(o) {
		return fmt.Errorf("%w: %s has %d bytes left, the engine needs %d to start", ErrNoSpace, dir, free, logBytes(o))
	}
	return nil
}

// errSuperseded ends what is at work on an engine that a snapshot has replaced: its files
// cannot go before, and the new one may need their room.
var errSuperseded = errors.New("a snapshot has replaced the engine meanwhile")

// wait lets n more bytes be written, when there is disk for them. It blocks while
// there is not: an entry of the Raft log cannot be refused, but it can wait.
func (s *space) wait(db *DB, g *generation, n int64) error {
	if g.dir == "" {
		return nil
	}
	for {
		s.mu.Lock()
		if s.gen == g && s.budget >= n {
			s.budget -= n
			s.waited(nil)
			s.mu.Unlock()
			return nil
		}
		err := s.refill(g, db.opts.Badger, n)
		warn := err != nil && !s.warned
		s.waited(err)
		s.mu.Unlock()
		if err == nil {
			continue
		}
		if warn {
			db.log.Error("waiting for disk space to apply entries", "error", err)
		}
		select {
		case <-time.After(spacePoll):
		case <-db.closing:
			return fmt.Errorf("%w: %w", ErrClosed, err)
		}
		if g.superseded.Load() {
			s.mu.Lock()
			s.waited(nil) // who waits with the new engine says so himself
			s.mu.Unlock()
			return fmt.Errorf("%w: %w", errSuperseded, err)
		}
	}
}

// waited notes whether somebody has to wait, for want of what err says. Callers hold mu.
func (s *space) waited(err error) {
	s.warned = err != nil
	s.short.Store(err != nil)
}

// reserve is refill ahead of need, for the janitor and at the start; what fails
// now is met again, and reported, by wait.
func (s *space) reserve(g *generation, o BadgerOptions) {
	if g.dir == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.refill(g, o, 0)
}

// refill sees to it that the logs are allocated and gives a new budget: after the
// active log comes one that is allocated, and that one must be filled before
// another is needed. n is the size of a batch larger than the usual budget.
func (s *space) refill(g *generation, o BadgerOptions, n int64) error {
	s.budget = 0
	free, err := freeBytes(g.dir)
	if err != nil {
		return err
	}
	used, err := g.usage()
	if err != nil {
		return err
	}
	if free < o.spaceFloor(used.SST)+n {
		return fmt.Errorf("%w: %s has %d bytes left", ErrNoSpace, g.dir, free)
	}
	ahead := 1 + int(n/o.MemTableSize)
	if err := allocateLogs(g.dir, ahead, logBytes(o)); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNoSpace, g.dir, err)
	}
	s.gen, s.budget = g, max(o.MemTableSize, n)
	return nil
}

// allocateLogs allocates Badger's active log and the next ahead ones.
func allocateLogs(dir string, ahead int, size int64) error {
	newest, err := newestLog(dir)
	if err != nil || newest == 0 {
		return err
	}
	for id := newest; id <= newest+uint64(ahead); id++ {
		if err := allocateLog(filepath.Join(dir, logName(id)), id > newest, size); err != nil {
			return err
		}
	}
	return nil
}

func allocateLog(path string, create bool, size int64) error {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil // flushed meanwhile
	}
	if err != nil {
		return err
	}
	err = preallocate(f, size)
	if info, serr := f.Stat(); err != nil && create && serr == nil && info.Size() == 0 {
		// Without its blocks it must not stand there. If Badger took it just now it
		// has a length, and stays.
		err = errors.Join(err, os.Remove(path))
	}
	if err == nil {
		_ = holdLog(path) // if it cannot be, MakeDurable says so in state.json
	}
	return errors.Join(err, f.Close())
}

func logName(id uint64) string { return fmt.Sprintf("%05d.mem", id) }

// newestLog is the highest number of a log that Badger has taken into use.
func newestLog(dir string) (uint64, error) {
	logs, err := logFiles(dir)
	if err != nil {
		return 0, err
	}
	var newest uint64
	for id, size := range logs {
		if size > 0 {
			newest = max(newest, id)
		}
	}
	return newest, nil
}

// logFiles lists Badger's memtable logs with their lengths.
func logFiles(dir string) (map[uint64]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	logs := map[uint64]int64{}
	for _, e := range entries {
		id := logID(e.Name())
		if id == 0 {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		logs[id] = info.Size()
	}
	return logs, nil
}

// logID is the number in a log's name, from 1 on; 0 if that is none.
func logID(name string) uint64 {
	number, ok := strings.CutSuffix(name, ".mem")
	id, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil {
		return 0
	}
	return id
}

// removeEmptyLogs removes logs of length 0 before Badger opens dir, which would
// take them for an error: those allocated ahead, and one that a crash caught
// between Badger's truncating and removing it, after its flush.
func removeEmptyLogs(dir string) error {
	logs, err := logFiles(dir)
	if err != nil {
		return err
	}
	for id, size := range logs {
		if size == 0 {
			if err := os.Remove(filepath.Join(dir, logName(id))); err != nil {
				return err
			}
		}
	}
	// A value log of length 0, made just before a power cut, is an error to Badger too.
	vlogs, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil {
		return err
	}
	for _, path := range vlogs {
		if info, err := os.Stat(path); err == nil && info.Size() == 0 {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// classifyOpen makes Badger's error at opening one of ours.
func classifyOpen(dir string, err error) error {
	switch {
	case errors.Is(err, os.ErrPermission), IsNoSpace(err):
		return fmt.Errorf("%s: %w", dir, err)
	case strings.Contains(err.Error(), "Cannot acquire directory lock"):
		return fmt.Errorf("%w on %q: another instance of Konsul is running on this data directory: %w", ErrLocked, dir, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrCorrupt, dir, err)
}
