package persistence

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/y"
)

// wholeScan reads the whole state at one index from the engine's files: its tables, and
// the logs of its memtables (scansource.go). That takes a fraction of the time of Badger's iterator,
// every block is verified on the way, and one that cannot be read is an error, not the end.
//
// It rests on this: an iterator of Badger's holds the memtables and tables that are there
// when it is opened, and with them their files, until it is closed. So tables that Badger
// has both before and after one is opened stay. If they are the MANIFEST's as well, what
// is in none of them is in a memtable, whose log is held, too; see readLogs.
type wholeScan struct {
	view *View
	pin  *badger.Iterator
	runs []*scanRun // a heap
}

// scanRun is a source at one of its entries. A lower rank is what Badger would ask first.
type scanRun struct {
	scanSource
	scanEntry
	rank int
}

func compareRuns(a, b *scanRun) int {
	if c := y.CompareKeys(a.key, b.key); c != 0 {
		return c
	}
	return cmp.Compare(a.rank, b.rank)
}

const (
	// wholeTries: one comes to nothing if a table comes or goes within a millisecond or two, or
	// while a flush waits for a compaction.
	wholeTries = 10
	wholePause = 10 * time.Millisecond
)

// openWhole is nil, without an error, if the files cannot be read in this way now; Badger's
// iterator can. Close it.
func (v *View) openWhole() (*wholeScan, error) {
	if v.gen.dir == "" {
		return nil, nil
	}
	var err error
	for range wholeTries {
		s := &wholeScan{view: v}
		if err = s.open(); err == nil {
			return s, nil
		}
		err = s.damage(err)
		s.Close()
		if !errors.Is(err, errMoved) {
			break
		}
		time.Sleep(wholePause)
	}
	if errors.Is(err, errMoved) || errors.Is(err, errLogs) {
		v.db.log.Debug("reading the whole state through Badger", "reason", err)
		return nil, nil
	}
	return nil, err
}

// errMoved: tables or logs came or went, and what was found does not fit together.
var errMoved = errors.New("tables or logs changed meanwhile")

// open finds the files and goes to the first key.
func (s *wholeScan) open() error {
	g, key := s.view.gen, s.view.db.opts.EncryptionKey
	written := g.written.Load()
	before := g.bdb.Tables()
	g.stateMu.Lock()
	marks := maps.Clone(g.marks)
	g.stateMu.Unlock()
	s.pin = s.view.txn.NewIterator(badger.IteratorOptions{})
	// Until a replay is beyond where the engine was, tables have versions that prove nothing.
	if written > 0 && written <= g.ahead {
		return fmt.Errorf("%w: %d was written, of the %d that were there at the start", errLogs, written, g.ahead)
	}
	logs, err := logFiles(g.dir)
	if err != nil {
		return err
	}
	files, err := manifestTables(g.dir)
	if err != nil {
		return err
	}
	tables := g.bdb.Tables()
	if !sameTables(before, tables) {
		return errMoved
	}
	keys, err := newTableKeys(g.dir, key)
	if err != nil {
		return err
	}
	if err := s.addTables(tables, files, keys); err != nil {
		return err
	}
	log, err := readLogs(g.dir, logs, marks, key, s.view.index)
	if err != nil {
		return err
	}
	newest := log.newest
	for _, t := range tables {
		newest = max(newest, t.MaxVersion)
	}
	if newest < written { // an end of a log that is none
		return fmt.Errorf("%w: they end at version %d, %d was written", errLogs, newest, written)
	}
	s.add(log, 0)
	return s.start()
}

// sameTables compares what Badger says of its tables at two times; it orders them.
func sameTables(a, b []badger.TableInfo) bool {
	return slices.EqualFunc(a, b, func(a, b badger.TableInfo) bool { return a.ID == b.ID && a.Level == b.Level })
}

// addTables makes a run of each table on level zero, and of each level below, whose tables
// do not overlap. errMoved if files, the MANIFEST's, are others.
func (s *wholeScan) addTables(tables []badger.TableInfo, files []tableFile, keys *tableKeys) error {
	if len(tables) != len(files) {
		return errMoved
	}
	byID := make(map[uint64]tableFile, len(files))
	for _, f := range files {
		byID[f.id] = f
	}
	// The newest of level zero first, then level after level.
	slices.SortFunc(tables, func(a, b badger.TableInfo) int {
		switch {
		case a.Level != b.Level:
			return cmp.Compare(a.Level, b.Level)
		case a.Level == 0:
			return cmp.Compare(b.ID, a.ID)
		}
		return y.CompareKeys(a.Left, b.Left)
	})
	var level *tableSource
	for i, t := range tables {
		file, known := byID[t.ID]
		if !known {
			return errMoved
		}
		if t.Level == 0 || i == 0 || tables[i-1].Level != t.Level {
			level = &tableSource{dir: s.view.gen.dir, keys: keys, work: new(blockBuffer)}
			s.add(level, i+1)
		}
		level.files = append(level.files, file)
	}
	return nil
}

func (s *wholeScan) add(src scanSource, rank int) {
	s.runs = append(s.runs, &scanRun{scanSource: src, rank: rank})
}

// start goes to the first entry of each run, and makes a heap of them.
func (s *wholeScan) start() error {
	all := s.runs
	s.runs = nil
	for i, r := range all {
		more, err := r.next(&r.scanEntry)
		if err != nil {
			s.runs = append(s.runs, all[i:]...) // to be closed
			return err
		}
		if more {
			s.runs = append(s.runs, r)
		} else {
			r.close()
		}
	}
	slices.SortFunc(s.runs, compareRuns) // a sorted list is a heap
	return nil
}

// each calls fn for every key that there is at the view's index, in order. The slices
// are valid during the call. Errors: those of fn, ErrCorrupt, ErrClosed, ctx's.
func (s *wholeScan) each(ctx context.Context, fn func(key, value []byte, version uint64) error) error {
	var last []byte // the key whose newest version was met
	for n := 0; len(s.runs) > 0; {
		r, second := s.runs[0], s.second()
		for {
			if n%scanCheckEvery == 0 {
				if err := s.view.db.interrupted(ctx); err != nil {
					return err
				}
			}
			n++
			key, version := y.ParseKey(r.key), y.ParseTs(r.key)
			if version <= s.view.index && (last == nil || !bytes.Equal(key, last)) {
				last = append(last[:0], key...)
				if err := s.show(key, &r.scanEntry, version, fn); err != nil {
					return err
				}
			}
			more, err := r.next(&r.scanEntry)
			if err != nil {
				return s.damage(err)
			}
			if !more {
				r.close()
				s.runs[0] = s.runs[len(s.runs)-1]
				s.runs = s.runs[:len(s.runs)-1]
				break
			}
			if second != nil && compareRuns(r, second) > 0 {
				break
			}
		}
		s.sink()
	}
	return nil
}

// What Badger notes beside an entry (value.go).
const (
	metaDeleted      = 1 << 0
	metaValuePointer = 1 << 1
	metaEndOfTxn     = 1 << 7
)

// show gives an entry to fn unless it is a deletion or Badger's own.
func (s *wholeScan) show(key []byte, e *scanEntry, version uint64, fn func(key, value []byte, version uint64) error) error {
	switch {
	case e.meta&metaDeleted != 0 || bytes.HasPrefix(key, []byte(badgersPrefix)):
		return nil
	case e.meta&metaValuePointer != 0: // none of ours, see MaxRecordLen
		return fmt.Errorf("%w: %s: key %q has its value elsewhere", ErrCorrupt, s.view.gen.dir, key)
	}
	return fn(key, e.value, version)
}

// second is the run that is next after the first; nil if that is the last.
func (s *wholeScan) second() *scanRun {
	switch {
	case len(s.runs) < 2:
		return nil
	case len(s.runs) == 2 || compareRuns(s.runs[1], s.runs[2]) < 0:
		return s.runs[1]
	}
	return s.runs[2]
}

// sink puts the first run where it belongs.
func (s *wholeScan) sink() {
	for at := 0; ; {
		least := at
		for child := 2*at + 1; child <= 2*at+2 && child < len(s.runs); child++ {
			if compareRuns(s.runs[child], s.runs[least]) < 0 {
				least = child
			}
		}
		if least == at {
			return
		}
		s.runs[at], s.runs[least] = s.runs[least], s.runs[at]
		at = least
	}
}

// damage condemns the engine if that is what err tells of.
func (s *wholeScan) damage(err error) error {
	if errors.Is(err, ErrCorrupt) {
		s.view.db.damaged(s.view.gen, err)
	}
	return err
}

// Close lets go of the files.
func (s *wholeScan) Close() {
	for _, r := range s.runs {
		r.close()
	}
	s.runs = nil
	s.pin.Close()
}
