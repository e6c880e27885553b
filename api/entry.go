package api

import (
	"strconv"

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
	dst = appendText(dst, `"value":`, `,"encoding":"base64"`, kv.GetValue())
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
