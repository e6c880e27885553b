package persistence

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/y"
)

// Badger takes the first record of a memtable's log that it cannot read for the
// log's end, forgets the rest, and starts. That is right for what a crash tore, and
// a silent loss of what was durable if the file is damaged. So state.json says how
// far each log held what the durable index promises (markLogs), and up to there a
// log is read at the start, before Badger may (verifyLogs).

// The parts of a memtable's log:
//
//	key id (8, BE) | base of the IVs (12) | records | zeros
//	record: meta (1) | user meta (1) | length of key, of value, expiry (uvarints) | key | value | CRC-32C (4, BE)
//
// The end of a key is its version. With a key id, key and value are encrypted.
const (
	logHeaderLen    = 20
	maxLogKeyLen    = 1 << 16
	maxLogRecordLen = 64 << 20
)

// verifyLogs reads each log up to its mark; settleLogs has left only marks of logs that
// are there. Errors are ErrCorrupt with the path.
func verifyLogs(dir string, marks map[string]int64) error {
	for name, mark := range marks {
		path := filepath.Join(dir, filepath.Base(name))
		if err := verifyLog(path, mark); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCorrupt, path, err)
		}
	}
	return nil
}

func verifyLog(path string, mark int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	r := newLogReader(f, logHeaderLen)
	for r.at < mark {
		if _, err := r.record(); err != nil {
			return fmt.Errorf("at byte %d of %d that were durable: %w", r.at, mark, err)
		}
	}
	return nil
}

// markLogs finds how far each log holds entries up to index. They are complete
// there, since all of them were applied; what Badger is writing comes behind. held says
// that each of them has its second name.
func (g *generation) markLogs(index uint64, key []byte) (marks map[string]int64, held bool, err error) {
	if g.dir == "" {
		return nil, false, nil
	}
	logs, err := logFiles(g.dir)
	if err != nil {
		return nil, false, err
	}
	marks, held = make(map[string]int64, len(logs)), true
	for id, size := range logs {
		if size == 0 {
			continue
		}
		name := logName(id)
		held = holdLog(filepath.Join(g.dir, name)) == nil && held
		mark, err := markLog(filepath.Join(g.dir, name), max(g.marks[name], logHeaderLen), index, key)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errLogEmpty) {
			continue // flushed meanwhile: Badger cuts a log to nothing before it removes it
		}
		if err != nil {
			return nil, false, fmt.Errorf("reading %s: %w", name, err)
		}
		marks[name] = mark
	}
	if err := g.markFlushed(logs, marks); err != nil {
		return nil, false, err
	}
	return marks, held, nil
}

// flushedMark is of a log that stays though its memtable is a table; see dropFlushed.
const flushedMark = -1

// markFlushed finds them: logs are numbered one after the other, and memtables are flushed in
// that order, so all before a log that has gone are. Those that were there at the start tell
// nothing: Badger makes tables of them first.
func (g *generation) markFlushed(logs map[uint64]int64, marks map[string]int64) error {
	oldest, newest, gone := uint64(math.MaxUint64), uint64(0), uint64(0)
	for id, size := range logs {
		if size > 0 {
			oldest, newest = min(oldest, id), max(newest, id)
		}
	}
	for id := max(g.ownLogs, oldest); id < newest; id++ {
		if logs[id] == 0 {
			gone = id
		}
	}
	if gone == 0 {
		return nil
	}
	// It may have come while the directory was read. Then it is there now.
	again, err := logFiles(g.dir)
	if err != nil || again[gone] > 0 {
		return err
	}
	for name := range marks {
		if logID(name) < gone {
			marks[name] = flushedMark
		}
	}
	return nil
}

// markLog goes on from byte from, where a record begins.
func markLog(path string, from int64, index uint64, key []byte) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() // only read
	r := newLogReader(f, from)
	if err := r.unlock(f, filepath.Dir(path), key); err != nil {
		return 0, err
	}
	for {
		at := r.at
		version, err := r.record()
		if errors.Is(err, errLogRecord) || err == nil && version > index {
			return at, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// errLogRecord: here no record can be read, because of damage or because it is the
// end.
var errLogRecord = errors.New("no record can be read")

// errLogEmpty: the log has not even a header.
var errLogEmpty = errors.New("the log is empty")

// logReader reads the records of one log.
type logReader struct {
	in        *bufio.Reader
	key, base []byte
	at        int64 // where the next record begins
	buf       []byte
}

func newLogReader(f *os.File, at int64) *logReader {
	return &logReader{in: bufio.NewReaderSize(io.NewSectionReader(f, at, math.MaxInt64-at), 64<<10), at: at}
}

// unlock finds the key of an encrypted log, without which record tells no version.
func (r *logReader) unlock(f *os.File, dir string, key []byte) error {
	var head [logHeaderLen]byte
	if _, err := f.ReadAt(head[:], 0); errors.Is(err, io.EOF) {
		return errLogEmpty
	} else if err != nil {
		return err
	}
	id := binary.BigEndian.Uint64(head[:])
	if id == 0 {
		return nil
	}
	registry, err := badger.OpenKeyRegistry(badger.KeyRegistryOptions{Dir: dir, ReadOnly: true, EncryptionKey: key})
	if err != nil {
		return err
	}
	data, err := registry.DataKey(id)
	if err != nil {
		return err
	}
	r.key, r.base = data.Data, head[8:]
	return nil
}

// logRecord is one record. Its slices are valid until the next is read.
type logRecord struct {
	key   []byte // with the version at its end
	value []byte
	meta  byte
}

// record reads a record and returns its version.
func (r *logReader) record() (version uint64, err error) {
	rec, err := r.next()
	if err != nil {
		return 0, err
	}
	return y.ParseTs(rec.key), nil
}

// next reads a record.
func (r *logReader) next() (rec logRecord, err error) {
	head, err := r.in.Peek(2 + 3*binary.MaxVarintLen64)
	if err != nil && !errors.Is(err, io.EOF) {
		return rec, err
	}
	at := 2
	var fields [3]uint64
	for i := range fields {
		v, n := binary.Uvarint(head[min(at, len(head)):])
		if n <= 0 {
			return rec, errLogRecord
		}
		fields[i], at = v, at+n
	}
	klen, vlen := fields[0], fields[1]
	if klen < 8 || klen > maxLogKeyLen || vlen > maxLogRecordLen {
		return rec, errLogRecord
	}
	size := at + int(klen+vlen) + crc32.Size
	if cap(r.buf) < size {
		r.buf = make([]byte, size)
	}
	b := r.buf[:size]
	if _, err := io.ReadFull(r.in, b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return rec, errLogRecord
	} else if err != nil {
		return rec, err
	}
	if crc32.Checksum(b[:size-crc32.Size], y.CastagnoliCrcTable) != binary.BigEndian.Uint32(b[size-crc32.Size:]) {
		return rec, errLogRecord
	}
	stored, err := r.decrypt(b[at : size-crc32.Size]) // one stream over both
	if err != nil {
		return rec, err
	}
	r.at += int64(size)
	return logRecord{key: stored[:klen], value: stored[klen:], meta: b[0]}, nil
}

func (r *logReader) decrypt(b []byte) ([]byte, error) {
	if r.key == nil {
		return b, nil
	}
	iv := append(append([]byte{}, r.base...), 0, 0, 0, 0)
	binary.BigEndian.PutUint32(iv[12:], uint32(r.at))
	return y.XORBlockAllocate(b, r.key, iv)
}
