package etcdload

import (
	"encoding/binary"
	"errors"

	"github.com/neogan74/konsul/internal/loadgen"
)

// Paths of the two calls.
const (
	pathPut   = "/etcdserverpb.KV/Put"
	pathRange = "/etcdserverpb.KV/Range"
)

// appendMessage appends the length-prefixed message of one operation:
//
//	0 | length of the message, 4 bytes, big endian | message
//
// PutRequest is {1: key, 2: value}, RangeRequest {1: key, 7: serializable}.
func appendMessage(b []byte, prefix string, op *loadgen.Op, stale bool) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 0)
	b = append(b, 1<<3|2)
	b = binary.AppendUvarint(b, uint64(len(prefix)+keyDigits))
	b = append(b, prefix...)
	b = appendDigits(b, op.Key)
	switch {
	case op.Kind == loadgen.Put:
		b = append(b, 2<<3|2)
		b = binary.AppendUvarint(b, uint64(len(op.Value)))
		b = append(b, op.Value...)
	case stale:
		b = append(b, 7<<3, 1)
	}
	binary.BigEndian.PutUint32(b[start+1:], uint32(len(b)-start-5))
	return b
}

const keyDigits = 10

func appendDigits(b []byte, n uint64) []byte {
	b = append(b, "0000000000"...)
	for i := len(b) - 1; n > 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}

var errMissing = errors.New("the key is not there")

// found says whether a RangeResponse has a key: field 2 (kvs) is there.
func found(message []byte) bool {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 {
			return false
		}
		message = message[n:]
		if tag == 2<<3|2 {
			return true
		}
		size, n := binary.Uvarint(message)
		if n <= 0 {
			return false
		}
		message = message[n:]
		if tag&7 == 2 {
			if uint64(len(message)) < size {
				return false
			}
			message = message[size:]
		}
	}
	return false
}
