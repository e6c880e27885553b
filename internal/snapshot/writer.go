package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"
)

// Writer writes one snapshot. It is for one goroutine; while that fills a block, another
// compresses, hashes and writes the one before. After an error every later call returns
// that error.
type Writer struct {
	out     blockWriter
	raw     []byte     // the open block
	spare   []byte     // the block being written
	writing chan error // tells how that went; nil if there is none
	lastKey []byte
	header  Header
	footer  Footer
	err     error
	closed  bool
}

// blockWriter is the part of a Writer that the goroutine of a block uses.
type blockWriter struct {
	w      io.Writer
	sum    hash.Hash
	size   int64
	enc    *zstd.Encoder
	buf    []byte // the compressed block, reused
	stored int    // how many blocks were stored since one was compressed
}

// NewWriter writes the header to w and returns a writer of the records. Until Close or
// Abort has returned, w may be written to at any time.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	// A window no larger than a block: the snapshot must not take much memory.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(blockTarget), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("making snapshot compressor: %w", err)
	}
	sw := &Writer{out: blockWriter{w: w, sum: sha256.New(), enc: enc}, header: h, raw: make([]byte, 0, blockTarget+4096)}
	if err := sw.writeHeader(h); err != nil {
		return nil, err
	}
	return sw, nil
}

func (sw *Writer) writeHeader(h Header) error {
	msg, err := proto.MarshalOptions{Deterministic: true}.Marshal(&HeaderProto{
		ClusterId: h.ClusterID, Index: h.Index, Since: h.Since, CreatedAt: h.CreatedAt, Keys: h.Keys, Services: h.Services,
	})
	if err != nil {
		return fmt.Errorf("encoding snapshot header: %w", err)
	}
	if len(msg) > maxHeaderLen {
		return fmt.Errorf("encoding snapshot header: %d bytes, at most %d", len(msg), maxHeaderLen)
	}
	b := append([]byte(nil), magic[:]...)
	b = binary.BigEndian.AppendUint16(b, formatVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(len(msg)))
	return sw.out.emit(append(b, msg...))
}

// Write adds one record. Keys must ascend strictly. The record's slices are
// copied; the caller may reuse them.
func (sw *Writer) Write(r Record) error {
	if sw.err != nil {
		return sw.err
	}
	if err := sw.check(r); err != nil {
		sw.err = fmt.Errorf("writing snapshot record: %w", err)
		return sw.err
	}
	sw.lastKey = append(sw.lastKey[:0], r.Key...)
	sw.raw = appendRecord(sw.raw, r)
	sw.footer.Records++
	sw.footer.Bytes += uint64(len(r.Key) + len(r.Value))
	if len(sw.raw) >= sw.target() {
		return sw.flush()
	}
	return nil
}

func (sw *Writer) target() int {
	if sw.header.Since > 0 {
		return incrementTarget
	}
	return blockTarget
}

func (sw *Writer) check(r Record) error {
	switch {
	case sw.closed:
		return errors.New("writer is closed")
	case len(r.Key) == 0 || len(r.Key) > MaxKeyLen:
		return fmt.Errorf("key of %d bytes", len(r.Key))
	case len(r.Value) > MaxValueLen:
		return fmt.Errorf("value of %d bytes", len(r.Value))
	case r.Version > sw.header.Index || r.Version <= sw.header.Since:
		return fmt.Errorf("version %d outside (%d, %d]", r.Version, sw.header.Since, sw.header.Index)
	case r.Deleted && (sw.header.Since == 0 || len(r.Value) > 0):
		return errors.New("a deletion has no value and belongs in an increment")
	case sw.footer.Records > 0 && bytes.Compare(r.Key, sw.lastKey) <= 0:
		return errors.New("keys do not ascend")
	}
	return nil
}

func appendRecord(b []byte, r Record) []byte {
	var flags byte
	if r.Deleted {
		flags |= flagDeleted
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, r.Version)
	b = binary.AppendUvarint(b, uint64(len(r.Key)))
	b = append(b, r.Key...)
	b = binary.AppendUvarint(b, uint64(len(r.Value)))
	return append(b, r.Value...)
}

// flush has the open block written, once the one before it is.
func (sw *Writer) flush() error {
	if err := sw.wait(); err != nil || len(sw.raw) == 0 {
		return err
	}
	block, done := sw.raw, make(chan error, 1)
	sw.raw, sw.spare, sw.writing = sw.spare[:0], block, done
	go func() { done <- sw.out.block(block) }()
	return nil
}

// wait waits for the block that is being written.
func (sw *Writer) wait() error {
	if sw.writing != nil {
		if err := <-sw.writing; sw.err == nil {
			sw.err = err
		}
		sw.writing = nil
	}
	return sw.err
}

// Abort gives the snapshot up, unless it was closed: nothing is written after it has returned.
func (sw *Writer) Abort() {
	if err := sw.wait(); err == nil && !sw.closed {
		sw.err = errors.New("writing snapshot: given up")
	}
}

// block compresses a block and writes it.
func (o *blockWriter) block(raw []byte) error {
	b := append(o.buf[:0], frameBlock)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(raw)))
	b = o.pack(b, raw)
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-9))
	o.buf = b
	return o.emit(b)
}

const (
	// sampleLen of a block is compressed for a trial when the block before did not shrink, and
	// of every sampleEvery-th when many did not.
	sampleLen   = 16 << 10
	sampleEvery = 16
	// rawBlockLen is how much a raw block of a zstd frame can hold.
	rawBlockLen = 128 << 10
)

// shrunk says whether compression is worth its time, which is most of a snapshot's: by a fifth.
func shrunk(from, to int) bool { return to < from-from/5 }

// pack appends the block raw to b as a zstd frame. What does not shrink is stored in the
// frame as it is: random values, or those that are compressed or encrypted already.
func (o *blockWriter) pack(b, raw []byte) []byte {
	if o.promising(b, raw) {
		if packed := o.enc.EncodeAll(raw, b); shrunk(len(raw), len(packed)-len(b)) {
			o.stored = 0
			return packed
		}
	}
	o.stored++
	return appendStored(b, raw)
}

// promising says whether to compress a block at all; it works in what is free of b.
func (o *blockWriter) promising(b, raw []byte) bool {
	switch {
	case o.stored == 0 || len(raw) <= 2*sampleLen:
		return true
	case o.stored > sampleEvery && o.stored%sampleEvery != 0:
		return false
	}
	at := (len(raw) - sampleLen) / 2
	return shrunk(sampleLen, len(o.enc.EncodeAll(raw[at:at+sampleLen], b))-len(b))
}

// appendStored appends a zstd frame of raw blocks (RFC 8878, 3.1.1): its magic number, a
// descriptor (one segment, the size in 4 bytes), the size, and the blocks, each behind
// its length, kind (0) and whether it is the last in 3 bytes.
func appendStored(b, raw []byte) []byte {
	b = append(b, 0x28, 0xb5, 0x2f, 0xfd, 0xa0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(raw)))
	for len(raw) > 0 {
		n := min(len(raw), rawBlockLen)
		head := uint32(n) << 3
		if n == len(raw) {
			head |= 1
		}
		b = append(b, byte(head), byte(head>>8), byte(head>>16))
		b, raw = append(b, raw[:n]...), raw[n:]
	}
	return b
}

// Close writes the last block and the footer. It does not close the underlying
// writer, and makes nothing durable: that is the caller's.
func (sw *Writer) Close() (Footer, error) {
	if sw.closed {
		return sw.footer, nil
	}
	if err := sw.flush(); err != nil {
		return Footer{}, err
	}
	if err := sw.wait(); err != nil {
		return Footer{}, err
	}
	b := append([]byte(nil), frameFooter)
	b = binary.BigEndian.AppendUint64(b, sw.footer.Records)
	b = binary.BigEndian.AppendUint64(b, sw.footer.Bytes)
	if sw.err = sw.out.emit(b); sw.err != nil {
		return Footer{}, sw.err
	}
	sw.out.sum.Sum(sw.footer.Sum[:0])
	if sw.err = sw.out.emit(sw.footer.Sum[:]); sw.err != nil {
		return Footer{}, sw.err
	}
	sw.closed, sw.footer.Size = true, sw.out.size
	return sw.footer, nil
}

func (o *blockWriter) emit(b []byte) error {
	o.sum.Write(b)
	o.size += int64(len(b))
	if _, err := o.w.Write(b); err != nil {
		return fmt.Errorf("writing snapshot: %w", err)
	}
	return nil
}
