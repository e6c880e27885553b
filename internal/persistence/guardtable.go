package persistence

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/proto"
)

const (
	// maxTableBlock bounds one block, packed or not: a record and its framing.
	maxTableBlock = 64 << 20
	// verifyChunk is how much of a table is read at a time.
	verifyChunk = 256 << 10
)

// guardedTable is a table that Badger was given unread. Its index has been
// verified, so it is known which keys stand in which block.
type guardedTable struct {
	tableFile
	f       *os.File
	dataKey []byte
	size    int64
	// maxVersion is the newest version in the table.
	maxVersion uint64
	keyCount   uint32
	// first is the table's first key; last the first of its last block, which is
	// verified already.
	first, last []byte

	mu    sync.Mutex // one goroutine verifies the whole table at a time
	index atomic.Pointer[fb.TableIndex]
	seen  []atomic.Uint32 // a bit for each block that was verified
	done  atomic.Bool
}

// openGuarded opens a table and verifies what Badger reads when it opens it: the
// index, and the last block.
func openGuarded(t tableFile, keys *tableKeys) (g *guardedTable, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("unreadable: %v", p)
		}
	}()
	g = &guardedTable{tableFile: t}
	if t.keyID != 0 {
		if keys == nil {
			return nil, errors.New("encrypted, and the engine is not")
		}
		key, err := keys.registry.DataKey(t.keyID)
		if err != nil {
			return nil, err
		}
		g.dataKey = key.Data
	}
	if g.f, err = os.Open(t.path); err != nil {
		return nil, err
	}
	if err := g.readIndex(); err != nil {
		_ = g.f.Close()
		return nil, err
	}
	if _, err := g.verifyBlocks(g.blocks()-1, g.blocks()-1); err != nil {
		_ = g.f.Close()
		return nil, err
	}
	return g, nil
}

// readIndex reads a table's end, and checks the lengths there, which Badger trusts:
//
//	blocks | index | index length (4, BE) | checksum | checksum length (4, BE)
func (g *guardedTable) readIndex() error {
	info, err := g.f.Stat()
	if err != nil {
		return err
	}
	g.size = info.Size()
	at := g.size
	part := func(what string) ([]byte, error) {
		var n [4]byte
		if at -= 4; at < 0 {
			return nil, fmt.Errorf("cut off before its %s", what)
		}
		if _, err := g.f.ReadAt(n[:], at); err != nil {
			return nil, err
		}
		size := binary.BigEndian.Uint32(n[:])
		if at -= int64(size); size == 0 || size > math.MaxInt32 || at < 0 {
			return nil, fmt.Errorf("%s of %d bytes", what, size)
		}
		b := make([]byte, size)
		_, err := g.f.ReadAt(b, at)
		return b, err
	}
	sum, err := part("checksum")
	if err != nil {
		return err
	}
	index, err := part("index")
	if err != nil {
		return err
	}
	if err := checkSum(index, sum); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	if index, err = g.decrypt(index); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	table := fb.GetRootAsTableIndex(index, 0)
	n := table.OffsetsLength()
	if n == 0 {
		return errors.New("no blocks")
	}
	g.maxVersion, g.keyCount = table.MaxVersion(), table.KeyCount()
	g.first, g.last = bytes.Clone(firstKey(table, 0)), bytes.Clone(firstKey(table, n-1))
	g.seen = make([]atomic.Uint32, (n+31)/32)
	g.index.Store(table)
	return nil
}

// blocks is how many blocks the table has.
func (g *guardedTable) blocks() int { return g.index.Load().OffsetsLength() }

// firstKey is the user's part of the first key of block i.
func firstKey(index *fb.TableIndex, i int) []byte {
	var o fb.BlockOffset
	index.Offsets(&o, i)
	return y.ParseKey(o.KeyBytes())
}

// cover verifies the blocks that can hold a version of a key in from..to, or from
// from on if to is nil. next is the first key of the block behind them, nil if
// there is none; clear keys below it need no further look at this table.
func (g *guardedTable) cover(from, to []byte) (next []byte, err error) {
	index := g.index.Load()
	if g.done.Load() || index == nil {
		return nil, nil
	}
	if to != nil && bytes.Compare(g.first, to) > 0 {
		return g.first, nil
	}
	if bytes.Compare(from, g.last) > 0 {
		return nil, nil
	}
	n := index.OffsetsLength()
	lo := max(0, sort.Search(n, func(i int) bool { return bytes.Compare(firstKey(index, i), from) >= 0 })-1)
	hi := n - 1
	if to != nil {
		hi = lo + sort.Search(n-lo, func(i int) bool { return bytes.Compare(firstKey(index, lo+i), to) > 0 }) - 1
		hi = max(hi, lo)
	}
	if hi+1 < n {
		next = firstKey(index, hi+1)
	}
	for i := lo; i <= hi; i++ {
		if g.isSeen(i) {
			continue
		}
		end := i
		for end < hi && !g.isSeen(end+1) {
			end++
		}
		if _, err := g.verifyBlocks(i, end); err != nil {
			return nil, err
		}
		i = end
	}
	return next, nil
}

func (g *guardedTable) isSeen(i int) bool { return g.seen[i/32].Load()&(1<<(i%32)) != 0 }

// verifyAll verifies every block and that there are as many keys as the table
// says. pace is called with the bytes that were read, now and then; its error ends
// the work.
func (g *guardedTable) verifyAll(pace func(n int64) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done.Load() {
		return nil
	}
	n, keys := g.blocks(), uint64(0)
	for lo := 0; lo < n; {
		hi, size := lo, int64(0)
		for ; hi < n && size < verifyChunk; hi++ {
			_, length := g.place(hi)
			size += length
		}
		some, err := g.verifyBlocks(lo, hi-1)
		if err != nil {
			return err
		}
		keys += some
		if err := pace(size); err != nil {
			return err
		}
		lo = hi
	}
	if keys != uint64(g.keyCount) {
		return g.damaged(fmt.Errorf("%d keys can be read, it has %d", keys, g.keyCount))
	}
	g.done.Store(true)
	g.index.Store(nil)
	return g.f.Close()
}

func (g *guardedTable) place(i int) (offset, size int64) {
	var o fb.BlockOffset
	g.index.Load().Offsets(&o, i)
	return int64(o.Offset()), int64(o.Len())
}

// verifyBlocks reads blocks lo to hi and returns how many keys are in them. It
// reads in chunks.
func (g *guardedTable) verifyBlocks(lo, hi int) (keys uint64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = g.damaged(fmt.Errorf("unreadable: %v", p))
		}
	}()
	index := g.index.Load()
	if index == nil {
		return 0, nil // verified meanwhile
	}
	r := blockReader{g: g, index: index, last: hi, work: blockBuffers.Get().(*blockBuffer)}
	defer blockBuffers.Put(r.work)
	for i := lo; i <= hi; i++ {
		data, err := r.block(i)
		if g.done.Load() && errors.Is(err, os.ErrClosed) {
			return 0, nil // verified by another goroutine, and closed
		}
		if err != nil {
			return 0, g.damaged(err)
		}
		keys += uint64(entryCount(data))
		g.seen[i/32].Or(1 << (i % 32))
	}
	return keys, nil
}

// blockReader reads and verifies blocks of a table in their order, up to last, in chunks.
type blockReader struct {
	g     *guardedTable
	index *fb.TableIndex
	last  int
	work  *blockBuffer
	// at and have: work.read[:have] is the file from at on.
	at, have int64
}

// block is block i without its checksum, valid until the next call:
//
//	entries | offsets of the entries (4 each, LE) | their number (4, BE)
func (r *blockReader) block(i int) ([]byte, error) {
	var o fb.BlockOffset
	r.index.Offsets(&o, i)
	from, size := int64(o.Offset()), int64(o.Len())
	if size < 8 || size > maxTableBlock || from+size > r.g.size {
		return nil, fmt.Errorf("block %d of %d bytes at %d", i, size, from)
	}
	raw, err := r.raw(i, from, size)
	if err != nil {
		return nil, err
	}
	data, err := r.g.openBlock(raw, r.work)
	if err != nil {
		return nil, fmt.Errorf("block %d at %d: %w", i, from, err)
	}
	return data, nil
}

// raw is block i as it stands in the file.
func (r *blockReader) raw(i int, from, size int64) ([]byte, error) {
	if from < r.at || from+size > r.at+r.have {
		want := size
		if i < r.last {
			want = max(size, min(verifyChunk, r.g.size-from))
		}
		if int64(len(r.work.read)) < want {
			r.work.read = make([]byte, want)
		}
		r.at, r.have = from, 0
		if _, err := r.g.f.ReadAt(r.work.read[:want], from); err != nil {
			return nil, err
		}
		r.have = want
	}
	return r.work.read[from-r.at : from-r.at+size], nil
}

// openBlock decrypts and unpacks a block and checks it against its checksum, which stands
// behind it:
//
//	entries | offsets of the entries | their number | checksum | its length (4, BE)
func (g *guardedTable) openBlock(raw []byte, work *blockBuffer) (data []byte, err error) {
	if raw, err = g.decrypt(raw); err != nil {
		return nil, err
	}
	if raw, err = work.unpack(raw, g.compression); err != nil {
		return nil, err
	}
	end := len(raw) - 4
	if end < 0 {
		return nil, errors.New("too short")
	}
	size := int64(binary.BigEndian.Uint32(raw[end:]))
	if size > int64(end)-4 {
		return nil, fmt.Errorf("checksum of %d bytes", size)
	}
	data, sum := raw[:end-int(size)], raw[end-int(size):end]
	return data, checkSum(data, sum)
}

// entryCount is how many entries a block says that it has.
func entryCount(block []byte) uint32 { return binary.BigEndian.Uint32(block[len(block)-4:]) }

func (g *guardedTable) decrypt(b []byte) ([]byte, error) {
	if g.dataKey == nil {
		return b, nil
	}
	if len(b) < aes.BlockSize {
		return nil, errors.New("too short to be encrypted")
	}
	at := len(b) - aes.BlockSize
	return y.XORBlockAllocate(b[:at], g.dataKey, b[at:])
}

// blockBuffer is what blocks are read into, and unpacked.
type blockBuffer struct{ read, unpacked []byte }

var blockBuffers = sync.Pool{New: func() any { return new(blockBuffer) }}

func (w *blockBuffer) unpack(b []byte, how options.CompressionType) ([]byte, error) {
	switch how {
	case options.None:
		return b, nil
	case options.Snappy:
		n, err := snappy.DecodedLen(b)
		if err != nil || n > maxTableBlock {
			return nil, fmt.Errorf("%d bytes unpacked: %w", n, err)
		}
		w.unpacked = slices.Grow(w.unpacked[:0], n)
		return snappy.Decode(w.unpacked[:n], b)
	case options.ZSTD:
		return y.ZSTDDecompress(nil, b)
	}
	return nil, fmt.Errorf("unknown compression %d", how)
}

// checkSum compares data with a marshalled checksum of Badger's.
func checkSum(data, sum []byte) error {
	// The usual one has field 2, the sum, and CRC-32C, which is 0 and left out.
	if len(sum) > 1 && sum[0] == 2<<3 {
		if want, n := binary.Uvarint(sum[1:]); n == len(sum)-1 && want == uint64(crc32.Checksum(data, y.CastagnoliCrcTable)) {
			return nil
		}
	}
	var want pb.Checksum
	if err := proto.Unmarshal(sum, &want); err != nil {
		return fmt.Errorf("its checksum: %w", err)
	}
	if want.Algo != pb.Checksum_CRC32C {
		return fmt.Errorf("checksum of unknown kind %d", want.Algo)
	}
	return y.VerifyChecksum(data, &want)
}

func (g *guardedTable) damaged(err error) error {
	return fmt.Errorf("%w: %s: %w", ErrCorrupt, g.path, err)
}
