package command_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"math"
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
	"txn-registry": {nil, command.Type_TYPE_TXN, &command.Txn{Then: []*command.Op{
		{Kind: command.Op_SET, Key: []byte("k"), Value: []byte("v"), Ttl: 30e9},
		{Kind: command.Op_ACQUIRE, Key: []byte("l"), Value: []byte("v"), Flags: 1, Ttl: 1e9, Session: "s-1", Cas: proto.Uint64(3)},
		{Kind: command.Op_RELEASE, Key: []byte("l"), Session: "s-1"},
		{Kind: command.Op_RELEASE, Key: []byte("m"), Value: []byte("v"), Flags: 2, Session: "s-1", HasValue: true},
	}}},
	"tick": {nil, command.Type_TYPE_TICK, &command.Tick{}},
	"service-set": {&command.Header{IdempotencyKey: "k-2"}, command.Type_TYPE_SERVICE_SET, &command.ServiceSet{
		Name: "web", Id: "web-1", Node: "n1", Address: "10.0.0.1", Port: 8080, Tags: []string{"a", "b"},
		Meta: []*command.Pair{{Key: "k", Value: "v"}, {Key: "zone", Value: "ü"}}, Ttl: 30e9,
		Checks: []*command.Check{
			{Id: "ttl", Kind: command.Check_TTL, Ttl: 10e9, Status: command.Check_PASSING},
			{Id: "http", Name: "front", Kind: command.Check_HTTP, Target: "http://10.0.0.1:8080/health", Interval: 10e9, Timeout: 5e9, PassingAfter: 2, CriticalAfter: 3},
			{Id: "tcp", Kind: command.Check_TCP, Target: "10.0.0.1:8080", Interval: 1e9, Timeout: 1e8, Status: command.Check_WARNING},
		}}},
	"service-data":    {nil, command.Type_TYPE_SERVICE_SET, &command.ServiceSet{Name: "web", Id: "web", Data: []byte("{}")}},
	"service-delete":  {nil, command.Type_TYPE_SERVICE_DELETE, &command.ServiceDelete{Name: "web", Id: "web-1"}},
	"heartbeat":       {nil, command.Type_TYPE_HEARTBEAT, &command.Heartbeat{Name: "web", Id: "web-1"}},
	"check-set":       {nil, command.Type_TYPE_CHECK_SET, &command.CheckSet{Node: "n1", Check: &command.Check{Id: "disk", Kind: command.Check_TTL, Ttl: 60e9}}},
	"check-delete":    {nil, command.Type_TYPE_CHECK_DELETE, &command.CheckDelete{Node: "n1", Id: "disk"}},
	"check-update":    {nil, command.Type_TYPE_CHECK_UPDATE, &command.CheckUpdate{Service: "web", Instance: "web-1", Id: "ttl", Status: command.Check_WARNING, Output: "slow", CreateIndex: 9}},
	"check-node":      {nil, command.Type_TYPE_CHECK_UPDATE, &command.CheckUpdate{Node: "n1", Id: "disk", Status: command.Check_CRITICAL}},
	"session-create":  {nil, command.Type_TYPE_SESSION_CREATE, &command.SessionCreate{Id: "s-1", Name: "worker", Node: "n1", Ttl: 15e9, Behavior: command.SessionCreate_DELETE, LockDelay: 15e9}},
	"session-renew":   {nil, command.Type_TYPE_SESSION_RENEW, &command.SessionRenew{Id: "s-1"}},
	"session-destroy": {nil, command.Type_TYPE_SESSION_DESTROY, &command.SessionDestroy{Id: "s-1"}},
}

func TestGoldenEntries(t *testing.T) {
	for name, g := range golden {
		t.Run(name, func(t *testing.T) {
			if err := command.Validate(g.typ, g.msg); err != nil {
				t.Fatal(err)
			}
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
	check, pair := &command.Check{Id: "c"}, &command.Pair{Key: "k"}
	check.ProtoReflect().SetUnknown(newer)
	pair.ProtoReflect().SetUnknown(newer)
	for name, m := range map[string]proto.Message{
		"a check of a service": &command.ServiceSet{Checks: []*command.Check{{Id: "a"}, check}},
		"a pair":               &command.ServiceSet{Meta: []*command.Pair{{Key: "a"}, pair}},
		"a check of a node":    &command.CheckSet{Node: "n", Check: check},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Unmarshal(b, m.ProtoReflect().New().Interface()); !errors.Is(err, command.ErrUndecodable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for typ, m := range messages() { // every kind of entry, by itself
		m.ProtoReflect().SetUnknown(newer)
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Unmarshal(b, m.ProtoReflect().New().Interface()); !errors.Is(err, command.ErrUndecodable) {
			t.Errorf("%v: %v", typ, err)
		}
	}
}

// messages has an empty one of every kind of entry; the golden entries have them all.
func messages() map[command.Type]proto.Message {
	all := map[command.Type]proto.Message{}
	for _, g := range golden {
		all[g.typ] = g.msg.ProtoReflect().New().Interface()
	}
	return all
}

func TestStamps(t *testing.T) {
	for _, ns := range []int64{0, 1, 1 << 40, math.MaxInt64} {
		b := command.EncodeStamp(ns)
		if got, err := command.DecodeStamp(b); err != nil || got != ns || len(b) != 9 {
			t.Errorf("%d became %x became %d, %v", ns, b, got, err)
		}
	}
	if ns, err := command.DecodeStamp(nil); ns != 0 || err != nil {
		t.Errorf("no stamp is %d, %v", ns, err)
	}
	good := command.EncodeStamp(7)
	for name, b := range map[string][]byte{
		"short": good[:8], "long": append(bytes.Clone(good), 0), "version alone": {1},
		"another version": append([]byte{2}, good[1:]...), "negative": {1, 0x80, 0, 0, 0, 0, 0, 0, 0},
	} {
		if _, err := command.DecodeStamp(b); !errors.Is(err, command.ErrUndecodable) {
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
	messages := messages()
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
