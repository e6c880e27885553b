package persistence

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/internal/persistence/record"
)

// recordFormat is the first byte of every stored value; the protobuf message
// follows. A format that cannot grow by adding fields gets the next number.
const recordFormat = 1

// errRecord: a stored value that is not a record this program can read.
var errRecord = errors.New("bad record")

// EncodeRecord frames m as a stored value. The result is the same on every node
// for the same message.
func EncodeRecord(m proto.Message) ([]byte, error) {
	o := proto.MarshalOptions{Deterministic: true}
	b := append(make([]byte, 0, 1+o.Size(m)), recordFormat)
	b, err := o.MarshalAppend(b, m)
	if err != nil {
		return nil, fmt.Errorf("encoding record: %w", err)
	}
	return b, nil
}

// DecodeRecord reads a stored value into m. m does not share memory with b.
func DecodeRecord(b []byte, m proto.Message) error {
	if len(b) == 0 {
		return fmt.Errorf("decoding record: %w: it is empty", errRecord)
	}
	if b[0] != recordFormat {
		return fmt.Errorf("decoding record: %w: format %d, this version knows %d", errRecord, b[0], recordFormat)
	}
	if err := proto.Unmarshal(b[1:], m); err != nil {
		return fmt.Errorf("decoding record: %w: %w", errRecord, err)
	}
	return nil
}

// KVBounds reads of a stored record.KV what somebody else keeps a record of: its
// deadline and its holder. It costs less than to decode the record.
func KVBounds(b []byte) (deadline int64, session string, err error) {
	if len(b) == 0 || b[0] != recordFormat {
		err = DecodeRecord(b, new(record.KV))
		return 0, "", err
	}
	for b = b[1:]; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, "", fmt.Errorf("decoding record: %w: %w", errRecord, protowire.ParseError(n))
		}
		b = b[n:]
		switch {
		case num == kvSessionField && typ == protowire.BytesType:
			var v []byte
			v, n = protowire.ConsumeBytes(b)
			session = string(v)
		case num == kvDeadlineField && typ == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(b)
			deadline = int64(v)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return 0, "", fmt.Errorf("decoding record: %w: %w", errRecord, protowire.ParseError(n))
		}
		b = b[n:]
	}
	return deadline, session, nil
}

// The numbers of fields in record.proto.
const (
	kvSessionField  = 6
	kvDeadlineField = 7
)
