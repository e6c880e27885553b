package api

import (
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/neogan74/konsul/api/internal/jsonwire"
	"github.com/neogan74/konsul/internal/persistence/record"
)

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
	GetLockIndex() uint64
	GetSession() string
}

// appendRecord appends the fields of a record, without braces.
func appendRecord(dst []byte, kv stored) []byte {
	return appendNumbers(appendText(dst, `"value":`, `,"encoding":"base64"`, kv.GetValue()), kv)
}

// appendNumbers appends what follows the value.
func appendNumbers(dst []byte, kv stored) []byte {
	dst = appendUint(dst, `,"create_index":`, kv.GetCreateIndex())
	dst = appendUint(dst, `,"modify_index":`, kv.GetModifyIndex())
	dst = appendUint(dst, `,"flags":`, kv.GetFlags())
	return appendLock(dst, kv)
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

// appendString appends text, which must be valid UTF-8 as all text of a record is.
func appendString(dst []byte, name, s string) []byte {
	return jsonwire.AppendString(append(dst, name...), s)
}

// appendDuration appends a duration as Go writes it: "1m30s".
func appendDuration(dst []byte, name string, d time.Duration) []byte {
	return appendString(dst, name, d.String())
}

func appendBool(dst []byte, name string, b bool) []byte {
	return strconv.AppendBool(append(dst, name...), b)
}

// piece is how much of a value is written at a time, in bytes; base64 needs it to
// be a multiple of three.
const piece = 24 << 10

// entry appends the JSON of a key with its record to c.out. As JSON a value may be six
// times as large, and it is held until the client has read it: thousands of watchers
// and waiting reads are sent the same value at once, and any of them may read slowly.
// So a large one goes out in pieces, through push.
func (c *call) entry(key []byte, kv *record.KV, push func() error) error {
	c.out = append(appendKey(append(c.out, '{'), key), ',')
	if len(kv.GetValue()) <= piece {
		c.out = append(c.appendExpiry(appendRecord(c.out, kv), kv.GetDeadline()), '}')
		return nil
	}
	c.out = append(c.out, `"value":`...)
	coded, err := c.text(kv.GetValue(), push)
	if err != nil {
		return err
	}
	if coded {
		c.out = append(c.out, `,"encoding":"base64"`...)
	}
	c.out = append(c.appendExpiry(appendNumbers(c.out, kv), kv.GetDeadline()), '}')
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
