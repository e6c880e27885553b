package persistence

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/internal/persistence/record"
)

func TestRecords(t *testing.T) {
	kv := &record.KV{Value: []byte("v"), Flags: 7, CreateIndex: 1, ModifyIndex: 2, LockIndex: 3, Session: "s", Deadline: 4}
	b, err := EncodeRecord(kv)
	if err != nil || b[0] != 1 {
		t.Fatal(b, err)
	}
	var back record.KV
	if err := DecodeRecord(b, &back); err != nil || !proto.Equal(kv, &back) {
		t.Fatal(&back, err)
	}
	for name, bad := range map[string][]byte{"empty": nil, "a newer format": {2}, "cut off": b[:len(b)-1], "not protobuf": {1, 0xff}} {
		if err := DecodeRecord(bad, &back); !errors.Is(err, errRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
	largest, err := EncodeRecord(&record.KV{Value: make([]byte, MaxValueLen), Session: string(make([]byte, 128)), Flags: 1 << 63,
		CreateIndex: 1 << 63, ModifyIndex: 1 << 63, LockIndex: 1 << 63, Deadline: -1})
	if err != nil || len(largest) > MaxRecordLen {
		t.Fatal(len(largest), err)
	}
}

// FuzzDecodeRecord: what a record decodes to, encodes and decodes to the same.
func FuzzDecodeRecord(f *testing.F) {
	for _, m := range []proto.Message{
		&record.KV{Value: []byte("v"), Flags: 7, CreateIndex: 1, ModifyIndex: 2}, &record.Service{Data: []byte("{}")},
		&record.Member{Id: "n1", RaftAddress: "h:7000"}, &record.Cluster{Id: "c"}, &record.Idempotency{Index: 1}, &record.IdempotencyWindow{Count: 1},
	} {
		b, err := EncodeRecord(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{1, 0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []proto.Message{&record.KV{}, &record.Service{}, &record.Member{}, &record.Cluster{}, &record.Idempotency{}, &record.IdempotencyWindow{}} {
			if err := DecodeRecord(b, m); err != nil {
				if !errors.Is(err, errRecord) {
					t.Fatal(err)
				}
				continue
			}
			once, err := EncodeRecord(m)
			if err != nil {
				t.Fatal(err)
			}
			again := m.ProtoReflect().New().Interface()
			if err := DecodeRecord(once, again); err != nil {
				t.Fatal(err)
			}
			if twice, err := EncodeRecord(again); err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("%x, then %x, %v", once, twice, err)
			}
		}
	})
}

func TestKeys(t *testing.T) {
	if k, ok := UserKey(KVKey([]byte("a\x00b"))); !ok || string(k) != "a\x00b" {
		t.Fatal(k, ok)
	}
	if _, ok := UserKey([]byte("sys:cluster")); ok {
		t.Fatal("a system key is no user's key")
	}
	if name, id, ok := ServiceName(ServiceKey("web", "web-1")); !ok || name != "web" || id != "web-1" {
		t.Fatal(name, id, ok)
	}
	if bytes.Compare(IdempotencyQueueKey(255), IdempotencyQueueKey(256)) >= 0 {
		t.Fatal("the queue is not in the order of indexes")
	}
	if bytes.HasPrefix(IdempotencyQueueKey(1), IdempotencyKey("")) {
		t.Fatal("the queue lies among the answers")
	}
	longest := len(HeldKey(string(make([]byte, MaxNameLen)), make([]byte, MaxKeyLen)))
	if longest > maxStoredKeyLen {
		t.Fatal(longest)
	}
}
