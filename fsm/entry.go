package fsm

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// entryTx is one entry being applied: the state as a handler sees it, and the time.
//
// The time of an entry is the newest that anything used before it or, if that is
// later, its own stamp. Only what uses the time writes it, so a plain put neither
// reads nor writes any more than itself.
type entryTx struct {
	*persistence.Tx
	stamp int64
	time  *record.Time // as this entry sees it; nil = not read yet
}

func (tx *entryTx) begin(t *persistence.Tx, stamp int64) { *tx = entryTx{Tx: t, stamp: stamp} }

// Rollback forgets what the entry wrote.
func (tx *entryTx) Rollback() {
	tx.Tx.Rollback()
	tx.time = nil
}

// timeRecord reads the time record, once.
func (tx *entryTx) timeRecord() (*record.Time, error) {
	if tx.time == nil {
		t, err := tx.Time()
		if err != nil {
			return nil, fmt.Errorf("reading the time: %w", err)
		}
		tx.time = t
	}
	return tx.time, nil
}

// now is the entry's time. Something may be judged by it, but what is stored must
// come from deadline.
func (tx *entryTx) now() (int64, error) {
	t, err := tx.timeRecord()
	if err != nil {
		return 0, err
	}
	return max(t.Now, tx.stamp), nil
}

// deadline is the entry's time and ttl nanoseconds. From here on the state's time is
// not before the entry's: who set a deadline has used the time.
func (tx *entryTx) deadline(ttl int64) (int64, error) {
	now, err := tx.now()
	if err != nil {
		return 0, err
	}
	if now > tx.time.Now {
		tx.time.Now = now
		if err := tx.SetTime(tx.time); err != nil {
			return 0, fmt.Errorf("writing the time: %w", err)
		}
	}
	return now + min(ttl, math.MaxInt64-now), nil
}

// lease gives a subject ttl nanoseconds from now on.
func (tx *entryTx) lease(subject []byte, ttl int64) error {
	deadline, err := tx.deadline(ttl)
	if err != nil {
		return err
	}
	return tx.SetLease(subject, deadline)
}

// read decodes the record under a stored key into m; false if there is none.
func (tx *entryTx) read(stored []byte, m proto.Message) (bool, error) {
	b, found, err := tx.Get(stored)
	if err != nil {
		return false, fmt.Errorf("reading %q: %w", stored, err)
	}
	if !found {
		return false, nil
	}
	if err := persistence.DecodeRecord(b, m); err != nil {
		return false, fmt.Errorf("reading %q: %w", stored, err)
	}
	return true, nil
}

// setRecord encodes and writes a record of the system's own.
func setRecord(tx *entryTx, stored []byte, m proto.Message) error {
	b, err := persistence.EncodeRecord(m)
	if err != nil {
		return fmt.Errorf("encoding %q: %w", stored, err)
	}
	tx.Set(stored, b)
	return nil
}
