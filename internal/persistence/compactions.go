package persistence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// compactions notices a table that a compaction could not make: for want of a file, an
// inode or memory, or because the disk failed. Badger 4.9.6 forgets that error (levels.go,
// subcompact: `defer inflightBuilders.Done(err)` takes err while it is nil), leaves the table
// out of the MANIFEST, and removes those that it was made of. All that is left then is whole
// and agrees with itself.
//
// So the tables that each compaction has begun, which Badger logs, are held against those
// that the MANIFEST says were made. What is missing condemns the engine, which is rebuilt
// from the snapshot and the log. A process that is killed between the two does not notice.
type compactions struct {
	dir    string
	damage func(error)

	mu sync.Mutex
	// begun counts tables by compactor, of compactions under way; ended are compactions that
	// are to be found in the MANIFEST, by their tables.
	begun map[int]int
	ended []int
	// unseen are compactors at work when the MANIFEST was made anew, which it is now and then:
	// what they made cannot be told any more.
	unseen map[int]bool
	// manifest is open: it must be read when there are no more files. Up to read it was.
	manifest *os.File
	read     int64
	opened   bool
	// made are compactions in the MANIFEST that did not end yet, by their tables.
	made []int
	// disordered are tables that the MANIFEST has on level zero and whose place there does not
	// tell their age, by number: those that a start put in the wrong order, and what was made
	// of them there. unsure: it is not known which these are.
	disordered map[uint64]bool
	unsure     bool
}

func newCompactions(dir string, damage func(error)) *compactions {
	return &compactions{dir: dir, damage: damage, begun: map[int]int{}, unseen: map[int]bool{}, disordered: map[uint64]bool{}}
}

// manifestHead is the length of what stands before a MANIFEST's change sets.
const manifestHead = 8

// open goes to the end of the MANIFEST. It is called before Badger opens the engine and, because
// a new engine has none before, after that.
func (c *compactions) open() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.manifest != nil {
		return nil
	}
	again := c.opened
	c.opened = true
	if err := c.reopen(); err != nil {
		return err
	}
	if again {
		c.read = manifestHead
	}
	return nil
}

// reopen goes to the end of the MANIFEST that is there now, if there is one.
func (c *compactions) reopen() error {
	f, err := os.Open(filepath.Join(c.dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	c.closeFile()
	c.manifest, c.read = f, info.Size()
	return nil
}

func (c *compactions) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeFile()
}

func (c *compactions) closeFile() {
	if c.manifest != nil {
		_ = c.manifest.Close() // only read
		c.manifest = nil
	}
}

// The lines of Badger's that tell of a compaction; TestALostTableIsNoticed and
// TestCompactionsAreSeen notice if they change.
const (
	compactionTable  = "[%d] LOG Compact. Added %d keys."
	compactionDone   = "[Compactor: %d] Compaction for level: %d DONE"
	compactionFailed = "[Compactor: %d] LOG Compact FAILED"
)

// debug hears what Badger logs on its way: from its own goroutines, before it goes on.
func (c *compactions) debug(format string, args []any) {
	switch {
	case strings.HasPrefix(format, compactionTable) && len(args) > 1:
		id, _ := args[0].(int)
		if keys, _ := args[1].(uint64); keys > 0 {
			c.mu.Lock()
			c.begun[id]++
			c.mu.Unlock()
		}
	case format == compactionDone && len(args) > 0:
		id, _ := args[0].(int)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.end(id)
	}
}

// warning hears of a compaction that has changed nothing.
func (c *compactions) warning(format string, args []any) {
	if strings.HasPrefix(format, compactionFailed) && len(args) > 0 {
		id, _ := args[0].(int)
		c.mu.Lock()
		delete(c.begun, id)
		delete(c.unseen, id)
		c.mu.Unlock()
	}
}

func (c *compactions) end(id int) {
	followed, tables := c.follow(), c.begun[id]
	delete(c.begun, id)
	if c.unseen[id] {
		delete(c.unseen, id)
	} else {
		c.ended = append(c.ended, tables)
	}
	if !followed {
		return // it is read when the next one ends
	}
	for _, tables := range c.ended {
		if i := slices.Index(c.made, tables); i >= 0 {
			c.made = slices.Delete(c.made, i, i+1)
		} else if tables > 0 {
			c.damage(fmt.Errorf("%w: %s: a compaction was to make %d tables, and did not make them all, "+
				"for want of files, inodes or memory, or because the disk failed", ErrCorrupt, c.dir, tables))
		}
	}
	c.ended = c.ended[:0]
	if len(c.begun) == 0 {
		c.made = nil // of compactions that failed, or were unseen
	}
}

// follow reads what was appended to the MANIFEST, false if that is not possible now.
func (c *compactions) follow() bool {
	path := filepath.Join(c.dir, badger.ManifestFilename)
	now, err := os.Stat(path)
	if err != nil || c.manifest == nil {
		return false
	}
	if info, err := c.manifest.Stat(); err != nil || !os.SameFile(info, now) {
		if c.reopen() != nil {
			return false
		}
		for id := range c.begun {
			c.unseen[id] = true
		}
		c.made, c.ended = nil, nil
		if c.suspects() {
			c.lookAgain()
		}
		return true
	}
	b := make([]byte, max(now.Size()-c.read, 0))
	n, err := c.manifest.ReadAt(b, c.read)
	if n < len(b) && err != nil {
		return false
	}
	for {
		set, size := nextChanges(b)
		if set == nil {
			return true // the rest is being written, and not of a compaction that has ended
		}
		b, c.read = b[size:], c.read+int64(size)
		created, deleted, disordered := []*pb.ManifestChange(nil), 0, false
		for _, change := range set.GetChanges() {
			if change.GetOp() == pb.ManifestChange_DELETE {
				deleted++
				disordered = disordered || c.disordered[change.GetId()]
				delete(c.disordered, change.GetId())
			} else {
				created = append(created, change)
			}
		}
		for _, change := range created {
			if disordered && change.GetLevel() == 0 {
				c.disordered[change.GetId()] = true
			}
		}
		if deleted > 0 { // not the table of a memtable
			c.made = append(c.made, len(created))
		}
	}
}

// mistrust says that the tables of level zero are in the wrong order.
func (c *compactions) mistrust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lookAgain()
}

// mistrusted says whether a table of level zero is in the wrong order, or was made there of
// one that was.
func (c *compactions) mistrusted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.suspects() {
		return false
	}
	if !c.follow() {
		return true
	}
	if c.unsure {
		c.lookAgain()
	}
	return c.suspects()
}

func (c *compactions) suspects() bool { return c.unsure || len(c.disordered) > 0 }

// lookAgain takes all tables of level zero for disordered, because it is not known which are:
// the MANIFEST, if it was made anew, does not say what was made of what.
func (c *compactions) lookAgain() {
	files, err := readManifest(c.dir)
	// It may be in the midst of being written: then the next one who asks looks.
	if c.unsure = err != nil; c.unsure {
		return
	}
	clear(c.disordered)
	for _, f := range files {
		if f.level == 0 {
			c.disordered[f.id] = true
		}
	}
}

// nextChanges is the change set that b begins with: its length and checksum, and the set.
func nextChanges(b []byte) (set *pb.ManifestChangeSet, size int) {
	const head = 8
	if len(b) < head {
		return nil, 0
	}
	length := int64(binary.BigEndian.Uint32(b))
	if int64(len(b)-head) < length {
		return nil, 0
	}
	body := b[head : head+length]
	if crc32.Checksum(body, y.CastagnoliCrcTable) != binary.BigEndian.Uint32(b[4:]) {
		return nil, 0
	}
	set = &pb.ManifestChangeSet{}
	if proto.Unmarshal(body, set) != nil {
		return nil, 0
	}
	return set, head + int(length)
}
