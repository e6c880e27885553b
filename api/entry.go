package api

import (
	"strconv"
	"unicode/utf8"

	"github.com/neogan74/konsul/api/internal/jsonwire"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// appendEntry appends the JSON of a key with its record.
func appendEntry(dst, key []byte, kv *record.KV) []byte {
	dst = append(dst, '{')
	dst = appendKey(dst, key)
	dst = append(dst, ',')
	return append(appendRecord(dst, kv), '}')
}

// appendKey appends the field "key", and "key_encoding" if the key is not UTF-8.
func appendKey(dst, key []byte) []byte {
	return appendText(dst, `"key":`, `,"key_encoding":"base64"`, key)
}

// stored is a record: *record.KV, or *command.OpResult of a get.
type stored interface {
	GetValue() []byte
	GetCreateIndex() uint64
	GetModifyIndex() uint64
	GetFlags() uint64
}

// appendRecord appends the fields of a record, without braces.
func appendRecord(dst []byte, kv stored) []byte {
	return appendNumbers(appendText(dst, `"value":`, `,"encoding":"base64"`, kv.GetValue()), kv)
}

// appendNumbers appends what follows the value.
func appendNumbers(dst []byte, kv stored) []byte {
	dst = appendUint(dst, `,"create_index":`, kv.GetCreateIndex())
	dst = appendUint(dst, `,"modify_index":`, kv.GetModifyIndex())
	return appendUint(dst, `,"flags":`, kv.GetFlags())
}

// appendText appends bytes after their name, as text or in base64 with mark behind.
func appendText(dst []byte, name, mark string, b []byte) []byte {
	dst = append(dst, name...)
	dst, coded := jsonwire.AppendText(dst, b)
	if coded {
		dst = append(dst, mark...)
	}
	return dst
}

func appendUint(dst []byte, name string, n uint64) []byte {
	return strconv.AppendUint(append(dst, name...), n, 10)
}

func appendBool(dst []byte, name string, b bool) []byte {
	return strconv.AppendBool(append(dst, name...), b)
}

// piece is how much of a value is written at a time, in bytes; base64 needs it to
// be a multiple of three.
const piece = 24 << 10

// entry is appendEntry to c.out for a value that may be large. As JSON it may be six
// times as large, and it is held until the client has read it: thousands of watchers
// and waiting reads are sent the same value at once, and any of them may read slowly.
// So it goes out in pieces, through push.
func (c *call) entry(key []byte, kv *record.KV, push func() error) error {
	if len(kv.GetValue()) <= piece {
		c.out = appendEntry(c.out, key, kv)
		return nil
	}
	c.out = append(appendKey(append(c.out, '{'), key), `,"value":`...)
	coded, err := c.text(kv.GetValue(), push)
	if err != nil {
		return err
	}
	if coded {
		c.out = append(c.out, `,"encoding":"base64"`...)
	}
	c.out = append(appendNumbers(c.out, kv), '}')
	return nil
}

// text is jsonwire.AppendText to c.out, in pieces.
func (c *call) text(b []byte, push func() error) (coded bool, err error) {
	coded = !utf8.Valid(b)
	c.out = append(c.out, '"')
	for len(b) > 0 {
		n := min(piece, len(b))
		for !coded && n < len(b) && !utf8.RuneStart(b[n]) {
			n--
		}
		start := len(c.out)
		if coded {
			c.out = jsonwire.AppendBase64(c.out, b[:n])
		} else {
			c.out = jsonwire.AppendString(c.out, b[:n])
		}
		inner := c.out[start+1 : len(c.out)-1] // without the quotes
		c.out = append(c.out[:start], inner...)
		b = b[n:]
		if err := push(); err != nil {
			return coded, err
		}
	}
	c.out = append(c.out, '"')
	return coded, nil
}
