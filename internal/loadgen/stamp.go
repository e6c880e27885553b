package loadgen

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"sync/atomic"
	"time"
)

// stamp is the beginning of each value that the watch workload writes. In base64, so
// that a JSON event carries it as it is:
//
//	run (6 bytes)  writer (2)  counted (1 bit) and sequence number (63)  when it was sent (8)
//
// A writer sends one write at a time and numbers them from 1, so a watcher has to see
// each writer's numbers in order and without a gap, and needs no list of them.
type stamp struct {
	writer  uint16
	counted bool // it is not of the warm-up
	seq     uint64
	sent    time.Duration // since the run's epoch
}

// The marks say to the watchers that the writers begin, and that they have ended. They
// are written as by one more writer. What was acknowledged before the end was sent has a
// lower index, so whoever sees the end has seen everything or never will.
const (
	marker    = MaxWriters
	beginMark = 1
	endMark   = 2
)

const (
	stampBytes = 24
	countedBit = 1 << 63
)

// stampSize is the length of a stamp in a value.
const stampSize = (stampBytes + 2) / 3 * 4

// runID tells the writes of a run from others under the same prefix.
type runID [6]byte

func newRunID() (id runID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// put writes the stamp over the start of a value.
func (s stamp) put(value []byte, run runID) {
	var b [stampBytes]byte
	copy(b[:], run[:])
	binary.BigEndian.PutUint16(b[6:], s.writer)
	seq := s.seq
	if s.counted {
		seq |= countedBit
	}
	binary.BigEndian.PutUint64(b[8:], seq)
	binary.BigEndian.PutUint64(b[16:], uint64(s.sent))
	base64.RawURLEncoding.Encode(value, b[:])
}

// stampOf reads the stamp of a value; false = the run did not write it.
func stampOf(value []byte, run runID) (stamp, bool) {
	var b [stampBytes]byte
	if len(value) < stampSize {
		return stamp{}, false
	}
	if _, err := base64.RawURLEncoding.Decode(b[:], value[:stampSize]); err != nil || runID(b[:6]) != run {
		return stamp{}, false
	}
	seq := binary.BigEndian.Uint64(b[8:])
	return stamp{writer: binary.BigEndian.Uint16(b[6:]), counted: seq&countedBit != 0, seq: seq &^ countedBit,
		sent: time.Duration(binary.BigEndian.Uint64(b[16:]))}, true
}

// stamper is a writer of the watch workload.
type stamper struct {
	Worker
	audience *audience
	id       uint16
	value    []byte
	sent     atomic.Uint64 // the last number
	// failed are the numbers of the writes that failed, ascending: some of them may be
	// applied all the same, at any time.
	failed []uint64
}

// Do numbers a put and sends it.
func (s *stamper) Do(ctx context.Context, op *Op) error {
	stamped := *op
	s.value = append(s.value[:0], op.Value...)
	stamped.Value = s.value
	seq := s.sent.Add(1)
	stamp{writer: s.id, counted: op.counted, seq: seq, sent: time.Since(s.audience.epoch)}.put(s.value, s.audience.run)
	err := s.Worker.Do(ctx, &stamped)
	if err != nil {
		s.failed = append(s.failed, seq)
	}
	return err
}
