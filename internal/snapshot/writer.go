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

// Writer writes one snapshot. It is for one goroutine. After an error every
// later call returns that error.
type Writer struct {
	w       io.Writer
	sum     hash.Hash
	enc     *zstd.Encoder
	raw     []byte // the open block
	out     []byte // the compressed block, reused
	lastKey []byte
	header  Header
	footer  Footer
	err     error
	closed  bool
}

// NewWriter writes the header to w and returns a writer of the records.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	// One goroutine and a window no larger than a block: the snapshot runs beside
	// the writes and must not take both cores or much memory.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(blockTarget), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("making snapshot compressor: %w", err)
	}
	sw := &Writer{w: w, sum: sha256.New(), enc: enc, header: h, raw: make([]byte, 0, blockTarget+4096)}
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
	return sw.emit(append(b, msg...))
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
	if len(sw.raw) >= blockTarget {
		return sw.flush()
	}
	return nil
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

// flush compresses the open block and writes it.
func (sw *Writer) flush() error {
	if len(sw.raw) == 0 {
		return nil
	}
	b := append(sw.out[:0], frameBlock)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(sw.raw)))
	b = sw.enc.EncodeAll(sw.raw, b)
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-9))
	sw.out, sw.raw = b, sw.raw[:0]
	return sw.emit(b)
}

// Close writes the last block and the footer. It does not close the underlying
// writer, and makes nothing durable: that is the caller's.
func (sw *Writer) Close() (Footer, error) {
	if sw.err != nil {
		return Footer{}, sw.err
	}
	if sw.closed {
		return sw.footer, nil
	}
	if err := sw.flush(); err != nil {
		return Footer{}, err
	}
	b := append([]byte(nil), frameFooter)
	b = binary.BigEndian.AppendUint64(b, sw.footer.Records)
	b = binary.BigEndian.AppendUint64(b, sw.footer.Bytes)
	if err := sw.emit(b); err != nil {
		return Footer{}, err
	}
	sw.sum.Sum(sw.footer.Sum[:0])
	if err := sw.emit(sw.footer.Sum[:]); err != nil {
		return Footer{}, err
	}
	sw.closed = true
	return sw.footer, nil
}

func (sw *Writer) emit(b []byte) error {
	sw.sum.Write(b)
	sw.footer.Size += int64(len(b))
	if _, err := sw.w.Write(b); err != nil {
		sw.err = fmt.Errorf("writing snapshot: %w", err)
	}
	return sw.err
}
