package persistence

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/internal/snapshot"
)

// oneRecord is a whole backup of index with one record.
func oneRecord(t *testing.T, index uint64, key string, value []byte) snapshot.Source {
	t.Helper()
	var b bytes.Buffer
	w, err := snapshot.NewWriter(&b, snapshot.Header{ClusterID: "c", Index: index})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(snapshot.Record{Key: []byte(key), Value: value, Version: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := snapshot.NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A file that is whole, but has what no state machine writes, is refused before it is
// proposed: what is in the log would end every replica.
func TestOnlyRecordsOfOursAreRestored(t *testing.T) {
	encoded, err := EncodeRecord(&record.KV{Value: []byte("v")})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		index uint64
		key   string
		value []byte
		want  bool
	}{
		"a key":                           {1, "kv:a", encoded, true},
		"an empty key's":                  {1, "kv:", encoded, true},
		"a key in a held index":           {1, "sys:held:s/k", nil, true},
		"a deadline":                      {1, string(DueKey(5, KVKey([]byte("a")))), nil, true},
		"what belongs to its cluster":     {1, "sys:member:x", []byte{9}, true},
		"a value larger than a record":    {1, "kv:a", bytes.Repeat([]byte("x"), 1<<20), false},
		"a key longer than a stored key":  {1, "kv:" + string(bytes.Repeat([]byte("x"), 5000)), encoded, false},
		"a record that is none":           {1, "kv:a", []byte{9}, false},
		"a record that is empty":          {1, "kv:a", nil, false},
		"a time that is none":             {1, "sys:time", []byte{9}, false},
		"a service that is none":          {1, "svc:a/b", []byte("x"), false},
		"a deadline of nothing":           {1, "sys:due:12345678x", nil, false},
		"a deadline that is cut off":      {1, "sys:due:1", nil, false},
		"a queue's place that is cut off": {1, "sys:idem-queue:1", nil, false},
		"a key of no kind":                {1, "other:a", encoded, false},
		"an engine's own key":             {1, "!badger!x", nil, false},
		"an index beyond all":             {1<<62 + 1, "kv:a", encoded, false},
	} {
		t.Run(name, func(t *testing.T) {
			src := Checked(oneRecord(t, c.index, c.key, c.value))
			_, err := src.Next()
			if err == nil {
				if _, err = src.Next(); errors.Is(err, io.EOF) {
					err = nil
				}
			}
			if (err == nil) != c.want || err != nil && !errors.Is(err, snapshot.ErrCorrupt) {
				t.Errorf("%v", err)
			}
		})
	}
}
