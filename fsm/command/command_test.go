package command_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
)

var update = flag.Bool("update", false, "write golden entries that are missing")

func set(key, value string) *command.Op {
	return &command.Op{Kind: command.Op_SET, Key: []byte(key), Value: []byte(value)}
}

// golden is one entry of every shape that has ever been written to a log. The
// bytes under testdata are what a version of that time wrote: they must decode
// to the same for ever. To change the format add entries here, never edit.
var golden = map[string]struct {
	header *command.Header
	typ    command.Type
	msg    proto.Message
}{
	"txn-put": {nil, command.Type_TYPE_TXN, &command.Txn{Then: []*command.Op{set("a//b", "value")}}},
	"txn-all": {&command.Header{IdempotencyKey: "k-1"}, command.Type_TYPE_TXN, &command.Txn{
		Compare: []*command.Compare{
			{Key: []byte("k"), Target: command.Compare_VALUE, Operator: command.Compare_EQUAL, Value: []byte("\x00\xff")},
			{Key: []byte("k"), Target: command.Compare_MODIFY_INDEX, Operator: command.Compare_LESS, Number: 1 << 40},
			{Key: []byte("k"), Target: command.Compare_CREATE_INDEX, Operator: command.Compare_GREATER, Number: 1},
			{Key: []byte("k"), Target: command.Compare_EXISTS, Operator: command.Compare_NOT_EQUAL, Exists: true},
		},
		Then: []*command.Op{
			{Kind: command.Op_SET, Key: []byte("\x00"), Value: []byte("v"), Flags: 7, Cas: proto.Uint64(0)},
			{Kind: command.Op_GET, Key: []byte("../x")},
			{Kind: command.Op_DELETE, Key: []byte("%2F"), Cas: proto.Uint64(12)},
			{Kind: command.Op_DELETE_PREFIX, Key: []byte("p/")},
		},
		Else: []*command.Op{{Kind: command.Op_DELETE_PREFIX}},
	}},
	"cluster-init": {nil, command.Type_TYPE_CLUSTER_INIT, &command.ClusterInit{ClusterId: "8f0c1a52"}},
	"member-set": {nil, command.Type_TYPE_MEMBER_SET, &command.MemberSet{
		Id: "n1", RaftAddress: "10.0.0.1:8300", ApiAddress: "10.0.0.1:8500", WantVoter: true}},
	"member-remove": {&command.Header{IdempotencyKey: "ключ"}, command.Type_TYPE_MEMBER_REMOVE, &command.MemberRemove{Id: "n1"}},
}

func TestGoldenEntries(t *testing.T) {
	for name, g := range golden {
		t.Run(name, func(t *testing.T) {
			b := readGolden(t, name, g.header, g.typ, g.msg)
			e, err := command.Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if e.Type != g.typ || e.Header.GetIdempotencyKey() != g.header.GetIdempotencyKey() {
				t.Errorf("type %v, header %v", e.Type, e.Header)
			}
			got := g.msg.ProtoReflect().New().Interface()
			if err := command.Unmarshal(e.Payload, got); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, g.msg) {
				t.Errorf("got %v, want %v", got, g.msg)
			}
		})
	}
	files, err := os.ReadDir("testdata/golden")
	if err != nil || len(files) != len(golden) {
		t.Errorf("%d golden files for %d entries: %v", len(files), len(golden), err)
	}
}

// readGolden reads an entry in hexadecimal; -update makes it if it is missing.
func readGolden(t *testing.T, name string, h *command.Header, typ command.Type, m proto.Message) []byte {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".hex")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && *update {
		b, err := command.Encode(h, typ, m)
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(hex.EncodeToString(b) + "\n")
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeRefuses(t *testing.T) {
	good, err := command.Encode(&command.Header{IdempotencyKey: "k"}, command.Type_TYPE_TXN, &command.Txn{Then: []*command.Op{set("k", "v")}})
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, b byte) []byte {
		c := bytes.Clone(good)
		c[at] = b
		return c
	}
	newer := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	for name, b := range map[string][]byte{
		"nothing":                     nil,
		"two bytes":                   good[:2],
		"another format":              change(0, 2),
		"no type":                     change(1, 0),
		"a type from the future":      change(1, 77),
		"a header longer than all":    change(2, 0x7f),
		"a header length without end": {1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"a huge header length":        {1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"a broken header":             {1, 1, 1, 0xff},
		"a header from the future":    append([]byte{1, 1, byte(len(newer))}, newer...),
	} {
		if _, err := command.Decode(b); !errors.Is(err, command.ErrUndecodable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A field that this version does not know must not be passed over, at any depth.
func TestUnmarshalRefusesNewerFields(t *testing.T) {
	newer := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	op, cmp := set("k", "v"), &command.Compare{Key: []byte("k")}
	op.ProtoReflect().SetUnknown(newer)
	cmp.ProtoReflect().SetUnknown(newer)
	txn := &command.Txn{}
	txn.ProtoReflect().SetUnknown(newer)
	for name, m := range map[string]proto.Message{
		"transaction": txn,
		"compare":     &command.Txn{Compare: []*command.Compare{cmp}},
		"then":        &command.Txn{Then: []*command.Op{set("a", ""), op}},
		"else":        &command.Txn{Else: []*command.Op{op}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Unmarshal(b, &command.Txn{}); !errors.Is(err, command.ErrUndecodable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzDecode: whatever the bytes are, decoding ends without a panic, and what it
// accepts means the same after it is encoded again.
func FuzzDecode(f *testing.F) {
	for _, g := range golden {
		b, err := command.Encode(g.header, g.typ, g.msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	messages := map[command.Type]proto.Message{
		command.Type_TYPE_TXN:           &command.Txn{},
		command.Type_TYPE_CLUSTER_INIT:  &command.ClusterInit{},
		command.Type_TYPE_MEMBER_SET:    &command.MemberSet{},
		command.Type_TYPE_MEMBER_REMOVE: &command.MemberRemove{},
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := command.Decode(b)
		if err != nil {
			return
		}
		m := messages[e.Type].ProtoReflect().New().Interface()
		if err := command.Unmarshal(e.Payload, m); err != nil {
			return
		}
		if command.Validate(e.Type, m) != nil {
			return
		}
		again, err := command.Encode(e.Header, e.Type, m)
		if err != nil {
			return // the idempotency key may be over its limit
		}
		e2, err := command.Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		m2 := m.ProtoReflect().New().Interface()
		if err := command.Unmarshal(e2.Payload, m2); err != nil || !proto.Equal(m, m2) || e2.Header.GetIdempotencyKey() != e.Header.GetIdempotencyKey() {
			t.Fatalf("%v became %v: %v", m, m2, err)
		}
	})
}
