package persistence

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4/y"
)

// scanSource gives what is in some of the engine's files, in order: by key, and the newest
// version of a key first.
type scanSource interface {
	// next reads the next entry into e, which is valid until the call after it.
	next(e *scanEntry) (more bool, err error)
	close()
}

// scanEntry is a version of a key.
type scanEntry struct {
	key   []byte // with the version at its end, as y.KeyWithTs makes it
	value []byte
	meta  byte
}

// tableSource reads tables that follow each other, one open at a time. They are read, not
// mapped: that is slower (by a third, measured), and a disk that fails would be a fault.
type tableSource struct {
	dir   string
	keys  *tableKeys
	files []tableFile // what is left
	work  *blockBuffer

	open   *guardedTable // nil between tables
	blocks blockReader
	block  int    // the next one
	read   uint64 // entries of this table

	data    []byte // the entries of this block
	offsets []byte // where each of them begins
	base    []byte // its first key
}

func (t *tableSource) next(e *scanEntry) (more bool, err error) {
	for len(t.offsets) == 0 {
		if more, err = t.nextBlock(); err != nil {
			return false, t.failed(err)
		}
		if !more {
			return false, nil
		}
	}
	if err := t.entry(e); err != nil {
		return false, t.failed(fmt.Errorf("block %d: %w", t.block-1, err))
	}
	return true, nil
}

// entry reads the entry at the first of the offsets:
//
//	shared with the block's first key, own part (2 bytes each, LE) | own part of the key | value
//	value: meta | user meta | expiry (uvarint) | value
//
// Badger writes the numbers as this machine has them in memory, which is LE wherever we run.
func (t *tableSource) entry(e *scanEntry) error {
	from, to := binary.LittleEndian.Uint32(t.offsets), uint32(len(t.data))
	if t.offsets = t.offsets[4:]; len(t.offsets) > 0 {
		to = binary.LittleEndian.Uint32(t.offsets)
	}
	if from > to || to > uint32(len(t.data)) || to-from < 4 {
		return fmt.Errorf("an entry from %d to %d of %d", from, to, len(t.data))
	}
	b := t.data[from:to]
	shared, own := int(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
	if b = b[4:]; shared > len(t.base) || own+3 > len(b) || shared+own < 8 {
		return fmt.Errorf("a key of %d and %d bytes", shared, own)
	}
	e.key = append(append(e.key[:0], t.base[:shared]...), b[:own]...)
	b = b[own:]
	_, n := binary.Uvarint(b[2:])
	if n <= 0 {
		return errors.New("an expiry that cannot be read")
	}
	e.meta, e.value = b[0], b[2+n:]
	t.read++
	return nil
}

// nextBlock goes to the next block, of the next table if need be; false after the last.
func (t *tableSource) nextBlock() (bool, error) {
	if t.open != nil && t.block > t.blocks.last {
		if t.read != uint64(t.open.keyCount) {
			return false, fmt.Errorf("%d keys can be read, it has %d", t.read, t.open.keyCount)
		}
		t.close()
		t.files = t.files[1:]
	}
	if t.open == nil {
		if len(t.files) == 0 {
			return false, nil
		}
		g, err := openGuarded(t.files[0], t.keys)
		if err != nil {
			return false, err
		}
		t.open, t.block, t.read = g, 0, 0
		t.blocks = blockReader{g: g, index: g.index.Load(), last: g.blocks() - 1, work: t.work}
	}
	data, err := t.blocks.block(t.block)
	if err != nil {
		return false, err
	}
	t.block++
	return true, t.enter(data)
}

// enter goes to the first entry of a block; see blockReader.block.
func (t *tableSource) enter(data []byte) error {
	if len(data) < 4 {
		return errors.New("a block without a number of entries")
	}
	ends := int64(len(data)) - 4
	offsets := ends - 4*int64(entryCount(data))
	if offsets < 4 && offsets != ends {
		return fmt.Errorf("a block of %d bytes with %d entries", len(data), entryCount(data))
	}
	t.data, t.offsets, t.base = data[:offsets], data[offsets:ends], nil
	if len(t.offsets) == 0 {
		return nil
	}
	own := int(binary.LittleEndian.Uint16(data[2:])) // the first shares nothing
	if 4+own > len(t.data) {
		return fmt.Errorf("a first key of %d bytes", own)
	}
	t.base = t.data[4 : 4+own]
	return nil
}

// failed says what the matter with a table is: ErrCorrupt, unless it is this process that
// cannot open files, or the table is not one any more.
func (t *tableSource) failed(err error) error {
	file := t.files[0]
	if outOfFiles(err) || file.removed(t.dir) {
		return fmt.Errorf("reading %s: %s", file.path, err.Error()) // not ErrCorrupt, whatever it calls itself
	}
	return fmt.Errorf("%w: %s: %w", ErrCorrupt, file.path, err)
}

func (t *tableSource) close() {
	if t.open != nil {
		_ = t.open.f.Close() // only read
		t.open = nil
	}
}

// logSource is what stands in the logs of memtables, in memory.
type logSource struct {
	entries []logEntry
	at      int
	// newest is the newest version that was met.
	newest uint64
}

type logEntry struct {
	both   []byte // key, value
	klen   int32
	meta   byte
	number int32 // in the order of the logs
}

func (e logEntry) key() []byte { return e.both[:e.klen] }

func (l *logSource) next(e *scanEntry) (bool, error) {
	if l.at == len(l.entries) {
		return false, nil
	}
	entry := l.entries[l.at]
	e.key, e.value, e.meta = entry.key(), entry.both[entry.klen:], entry.meta
	l.at++
	return true, nil
}

func (l *logSource) close() { l.entries = nil }

// maxLogBytes is how much may stand in logs, which are read into memory. With memtables of
// the default size it is 40 MiB at most.
const maxLogBytes = 64 << 20

// errLogs: the logs cannot be told to be all that is in the memtables, or are too much.
var errLogs = errors.New("the logs of the memtables do not do")

// readLogs reads what the logs of dir have of versions up to index.
//
// A log stays for as long as any iterator holds its memtable, so there may be some here that
// were flushed long ago, and compactions may have dropped what they hold, deletions first of
// all. They do no harm if all later logs are read as well, each to its end: then whatever took
// the place of what they hold is in those, or in a table. So none may be missing, and
// none may go while they are read.
//
// Badger notes nowhere where a log ends: there are zeros behind its last record. In the log
// that is being written there may be the beginning of a record, and the caller knows which
// version must be found; marks say how far each log was durable. Errors: errLogs, errMoved.
func readLogs(dir string, logs map[uint64]int64, marks map[string]int64, key []byte, index uint64) (*logSource, error) {
	ids, err := usedLogs(logs)
	if err != nil {
		return nil, err
	}
	out, size := new(logSource), int64(0)
	for i, id := range ids {
		n, err := out.read(filepath.Join(dir, logName(id)), key, index, i == len(ids)-1)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errLogEmpty) {
			return nil, errMoved
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", errLogs, logName(id), err)
		}
		if mark := marks[logName(id)]; n < mark {
			return nil, fmt.Errorf("%w: %s ends at byte %d, %d were durable", errLogs, logName(id), n, mark)
		}
		if size += n; size > maxLogBytes {
			return nil, fmt.Errorf("%w: more than %d bytes", errLogs, maxLogBytes)
		}
	}
	for _, id := range ids { // Badger cuts a log to nothing and then removes it
		if info, err := os.Stat(filepath.Join(dir, logName(id))); err != nil || info.Size() == 0 {
			return nil, errMoved
		}
	}
	// A key and version that was written twice counts as it was last.
	slices.SortFunc(out.entries, func(a, b logEntry) int {
		if c := y.CompareKeys(a.key(), b.key()); c != 0 {
			return c
		}
		return cmp.Compare(b.number, a.number)
	})
	return out, nil
}

// usedLogs are the logs with something in them, oldest first; errMoved if one is missing
// between them. Empty ones behind the newest are not used yet.
func usedLogs(logs map[uint64]int64) ([]uint64, error) {
	maps.DeleteFunc(logs, func(_ uint64, size int64) bool { return size == 0 })
	ids := slices.Sorted(maps.Keys(logs))
	for i, id := range ids {
		if id != ids[0]+uint64(i) {
			return nil, fmt.Errorf("%w: a log is missing before %s", errMoved, logName(id))
		}
	}
	return ids, nil
}

// read adds one log, and returns how many bytes it holds. current says that it is being written.
func (l *logSource) read(path string, key []byte, index uint64, current bool) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() // only read
	r := newLogReader(f, logHeaderLen)
	if err := r.unlock(f, filepath.Dir(path), key); err != nil {
		return 0, err
	}
	var room []byte
	for r.at <= maxLogBytes {
		rec, err := r.next()
		if errors.Is(err, errLogRecord) {
			break
		}
		if err != nil {
			return 0, err
		}
		version := y.ParseTs(rec.key)
		l.newest = max(l.newest, version)
		if version > index || rec.meta&metaEndOfTxn != 0 {
			continue
		}
		n := len(rec.key) + len(rec.value)
		if n > cap(room)-len(room) {
			room = make([]byte, 0, max(n, logRoom))
		}
		from := len(room)
		room = append(append(room, rec.key...), rec.value...)
		l.entries = append(l.entries, logEntry{
			both: room[from:len(room):len(room)], klen: int32(len(rec.key)), meta: rec.meta, number: int32(len(l.entries)),
		})
	}
	if !current {
		return r.at, zerosFrom(f, r.at)
	}
	return r.at, nil
}

// logRoom is how much memory is taken at a time for what is in logs.
const logRoom = 1 << 20

// zerosFrom is an error unless f has nothing but zeros from byte at on.
func zerosFrom(f *os.File, at int64) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := f.ReadAt(buf, at)
		for i, b := range buf[:n] {
			if b != 0 {
				return fmt.Errorf("what follows byte %d cannot be read", at+int64(i))
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		at += int64(n)
	}
}
