package persistence

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
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
