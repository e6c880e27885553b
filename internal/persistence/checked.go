package persistence

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/internal/snapshot"
)

// maxBackupIndex leaves room for all the entries that come after a restore.
const maxBackupIndex = 1 << 62

// checked is a backup whose records are looked at before anybody proposes to restore them.
type checked struct{ snapshot.Source }

// Checked is from, but for records that no state machine can have written: Next gives
// snapshot.ErrCorrupt for them. A backup can be whole and not be Konsul's, and what is in the
// log cannot be refused any more.
func Checked(from snapshot.Source) snapshot.Source { return checked{from} }

// Next implements snapshot.Source.
func (c checked) Next() (snapshot.Record, error) {
	if index := c.Header().Index; index > maxBackupIndex {
		return snapshot.Record{}, fmt.Errorf("%w: it says that it is of index %d", snapshot.ErrCorrupt, index)
	}
	r, err := c.Source.Next()
	if err == nil {
		err = checkRecord(r)
	}
	return r, err
}

// checkSize is an error if the engine cannot hold r.
func checkSize(r snapshot.Record) error {
	if len(r.Key) > maxStoredKeyLen || len(r.Value) > MaxRecordLen || bytes.HasPrefix(r.Key, []byte(badgersPrefix)) {
		return fmt.Errorf("%w: record of %d and %d bytes", snapshot.ErrCorrupt, len(r.Key), len(r.Value))
	}
	return nil
}

func checkRecord(r snapshot.Record) error {
	if err := checkSize(r); err != nil {
		return err
	}
	if err := checkValue(string(r.Key), r.Value); err != nil {
		return fmt.Errorf("%w: record %q: %w", snapshot.ErrCorrupt, r.Key, err)
	}
	return nil
}

// kinds are the records of keys.go that a backup brings, by their keys' prefixes.
var kinds = []struct {
	prefix string
	record func() proto.Message
}{
	{KVPrefix, func() proto.Message { return new(record.KV) }},
	{ServicePrefix, func() proto.Message { return new(record.Service) }},
	{CheckPrefix, func() proto.Message { return new(record.Check) }},
	{SessionPrefix, func() proto.Message { return new(record.Session) }},
	{leasePrefix, func() proto.Message { return new(record.Lease) }},
	{gonePrefix, func() proto.Message { return new(record.Lease) }},
	{delayPrefix, func() proto.Message { return new(record.Lease) }},
	{idempotencyPrefix, func() proto.Message { return new(record.Idempotency) }},
	{idemWindowKey, func() proto.Message { return new(record.IdempotencyWindow) }},
	{timeKey, func() proto.Message { return new(record.Time) }},
}

// checkValue is an error if the record of a key cannot be read.
func checkValue(key string, value []byte) error {
	for _, kind := range kinds {
		if strings.HasPrefix(key, kind.prefix) {
			return DecodeRecord(value, kind.record())
		}
	}
	switch {
	case strings.HasPrefix(key, duePrefix):
		_, subject, ok := DueAt([]byte(key))
		if ok {
			_, ok = ParseSubject(subject)
		}
		if !ok {
			return fmt.Errorf("%w: it is no deadline", errRecord)
		}
	case strings.HasPrefix(key, idemQueuePrefix):
		if len(key) != len(idemQueuePrefix)+binary.Size(uint64(0)) {
			return fmt.Errorf("%w: it is no place in a queue", errRecord)
		}
	case strings.HasPrefix(key, heldPrefix), OfCluster([]byte(key)): // nothing in it, or not restored
	default:
		return fmt.Errorf("%w: a key of no kind", errRecord)
	}
	return nil
}
