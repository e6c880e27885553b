package snapshot

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"
)

// Reader reads one snapshot. It is for one goroutine. Until Next has returned
// io.EOF nothing it gave is verified: write it where it can be thrown away.
//
// It holds one block and little else, because a chain of backups has many open at once.
type Reader struct {
	in      *bufio.Reader
	sum     hash.Hash
	header  Header
	footer  Footer
	raw     []byte // block, reused
	rest    []byte // what of raw is not yet read
	lastKey []byte
	err     error
}

// BufferSize is enough of a buffer to read a snapshot through: what is large is read past it.
const BufferSize = 8 << 10

// unpacker is what a reader needs only while it unpacks a block.
type unpacker struct {
	dec   *zstd.Decoder
	frame []byte // the compressed block
}

// unpackers are used by all readers in turns. A decoder without a stream has nothing to close.
var unpackers = sync.Pool{New: func() any {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxBlockLen), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		panic(err) // a slip in the options above
	}
	return &unpacker{dec: dec}
}}

// NewReader reads and checks the header.
func NewReader(r io.Reader) (*Reader, error) {
	sr := &Reader{in: bufio.NewReaderSize(r, BufferSize), sum: sha256.New()}
	if err := sr.readHeader(); err != nil {
		return nil, err
	}
	return sr, nil
}

func (sr *Reader) readHeader() error {
	var fixed [14]byte
	n, err := io.ReadFull(sr.in, fixed[:])
	if n < len(magic) || !bytes.Equal(fixed[:len(magic)], magic[:]) {
		if err != nil && !isEOF(err) {
			return fmt.Errorf("reading snapshot: %w", err)
		}
		return ErrNotSnapshot
	}
	if err != nil {
		return sr.readError("header", err)
	}
	if v := binary.BigEndian.Uint16(fixed[8:]); v > formatVersion {
		return fmt.Errorf("%w: version %d, at most %d", ErrTooNew, v, formatVersion)
	} else if v == 0 {
		return corrupt("format version 0")
	}
	size := binary.BigEndian.Uint32(fixed[10:])
	if size > maxHeaderLen {
		return corrupt("header of %d bytes", size)
	}
	msg := make([]byte, size)
	if err := sr.readFull(msg, "header"); err != nil {
		return err
	}
	sr.sum.Write(fixed[:])
	sr.sum.Write(msg)
	sr.footer.Size = int64(len(fixed) + len(msg))
	return sr.decodeHeader(msg)
}

func (sr *Reader) decodeHeader(msg []byte) error {
	var h HeaderProto
	if err := proto.Unmarshal(msg, &h); err != nil {
		return corrupt("header: %v", err)
	}
	if h.Since > h.Index {
		return corrupt("header: since %d is after index %d", h.Since, h.Index)
	}
	sr.header = Header{
		ClusterID: h.ClusterId, Index: h.Index, Since: h.Since,
		CreatedAt: h.CreatedAt, Keys: h.Keys, Services: h.Services,
	}
	return nil
}

// Header returns the header. It is only verified once Next returned io.EOF.
func (sr *Reader) Header() Header { return sr.header }

// Footer returns the verified footer once Next returned io.EOF.
func (sr *Reader) Footer() Footer { return sr.footer }

// Next returns the next record. Its slices are valid until the next call. It
// returns io.EOF only after the count and the checksum of the whole file were
// verified and nothing follows them; any other error means: use nothing of it.
func (sr *Reader) Next() (Record, error) {
	if sr.err != nil {
		return Record{}, sr.err
	}
	r, err := sr.next()
	if err != nil {
		sr.err = err
		sr.in, sr.raw, sr.rest = nil, nil, nil
	}
	return r, err
}

func (sr *Reader) next() (Record, error) {
	if len(sr.rest) == 0 {
		if err := sr.nextFrame(); err != nil {
			return Record{}, err
		}
	}
	r, err := sr.parse()
	if err != nil {
		return Record{}, err
	}
	if sr.footer.Records > 0 && bytes.Compare(r.Key, sr.lastKey) <= 0 {
		return Record{}, corrupt("record %d: keys do not ascend", sr.footer.Records)
	}
	sr.lastKey = append(sr.lastKey[:0], r.Key...)
	sr.footer.Records++
	sr.footer.Bytes += uint64(len(r.Key) + len(r.Value))
	return r, nil
}

// parse takes one record off the block.
func (sr *Reader) parse() (Record, error) {
	c := cursor{b: sr.rest}
	flags := c.byte()
	r := Record{Deleted: flags&flagDeleted != 0}
	r.Version = c.uvarint()
	r.Key = c.bytes(MaxKeyLen)
	r.Value = c.bytes(MaxValueLen)
	switch {
	case c.bad || flags&^flagDeleted != 0 || len(r.Key) == 0:
		return Record{}, corrupt("record %d: bad framing", sr.footer.Records)
	case r.Version > sr.header.Index || r.Version <= sr.header.Since:
		return Record{}, corrupt("record %d: version %d", sr.footer.Records, r.Version)
	case r.Deleted && (sr.header.Since == 0 || len(r.Value) > 0):
		return Record{}, corrupt("record %d: misplaced deletion", sr.footer.Records)
	}
	sr.rest = c.b
	return r, nil
}

// nextFrame reads the next block, or the footer: then it returns io.EOF.
func (sr *Reader) nextFrame() error {
	var head [9]byte
	if err := sr.readFull(head[:1], "frame"); err != nil {
		return err
	}
	switch head[0] {
	case frameFooter:
		return sr.readFooter()
	case frameBlock:
	default:
		return corrupt("frame of unknown type %d at byte %d", head[0], sr.footer.Size)
	}
	if err := sr.readFull(head[1:], "frame"); err != nil {
		return err
	}
	packed, plain := binary.BigEndian.Uint32(head[1:]), binary.BigEndian.Uint32(head[5:])
	if packed == 0 || packed > maxPackedLen || plain == 0 || plain > maxBlockLen {
		return corrupt("block of %d bytes, %d unpacked, at byte %d", packed, plain, sr.footer.Size)
	}
	return sr.readBlock(head[:], int(packed), int(plain))
}

func (sr *Reader) readBlock(head []byte, packed, plain int) error {
	u := unpackers.Get().(*unpacker)
	defer unpackers.Put(u)
	u.frame = grow(u.frame, packed)
	if err := sr.readFull(u.frame, "block"); err != nil {
		return err
	}
	sr.sum.Write(head)
	sr.sum.Write(u.frame)
	raw, err := u.dec.DecodeAll(u.frame, grow(sr.raw, plain)[:0])
	if err != nil {
		return corrupt("block at byte %d: %v", sr.footer.Size, err)
	}
	if len(raw) != plain {
		return corrupt("block at byte %d: %d bytes, not %d", sr.footer.Size, len(raw), plain)
	}
	sr.footer.Size += int64(len(head) + packed)
	sr.raw, sr.rest = raw, raw
	return nil
}

func (sr *Reader) readFooter() error {
	b := make([]byte, 1+16+sha256.Size)
	b[0] = frameFooter
	if err := sr.readFull(b[1:], "footer"); err != nil {
		return err
	}
	sr.sum.Write(b[:17])
	if !bytes.Equal(b[17:], sr.sum.Sum(nil)) {
		return corrupt("checksum does not match")
	}
	if n := binary.BigEndian.Uint64(b[1:]); n != sr.footer.Records {
		return corrupt("footer says %d records, there were %d", n, sr.footer.Records)
	}
	if n := binary.BigEndian.Uint64(b[9:]); n != sr.footer.Bytes {
		return corrupt("footer says %d bytes, there were %d", n, sr.footer.Bytes)
	}
	if _, err := sr.in.ReadByte(); err == nil {
		return corrupt("data after the footer")
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading snapshot: %w", err)
	}
	copy(sr.footer.Sum[:], b[17:])
	sr.footer.Size += int64(len(b))
	return io.EOF
}

func (sr *Reader) readFull(b []byte, what string) error {
	if _, err := io.ReadFull(sr.in, b); err != nil {
		return sr.readError(what, err)
	}
	return nil
}

// readError tells a cut-off file from an input that failed.
func (sr *Reader) readError(what string, err error) error {
	if isEOF(err) {
		return corrupt("cut off in a %s after byte %d", what, sr.footer.Size)
	}
	return fmt.Errorf("reading snapshot: %w", err)
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// cursor takes fields off a slice; bad says that one did not fit.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.bad = true
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad = true
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) bytes(limit uint64) []byte {
	n := c.uvarint()
	if c.bad || n > limit || n > uint64(len(c.b)) {
		c.bad = true
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}
