package fsm_test

import (
	"errors"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	. "github.com/neogan74/konsul/fsm/fsmtest"
	"github.com/neogan74/konsul/internal/persistence"
)

// dies runs fn on a machine whose end is recorded, and returns what it died of.
// The engine stays open: whoever dies in the middle of an update closes nothing.
func dies(t *testing.T, fn func(*fsm.FSM)) (cause error) {
	t.Helper()
	db, err := persistence.Open(persistence.Options{InMemory: true, Registerer: prometheus.NewRegistry()}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	f, err := fsm.New(db, hclog.NewNullLogger(), prometheus.NewRegistry(), fsm.WithFatal(func(err error) { cause = err }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("it went on")
		}
		if db.Published() != 0 {
			t.Errorf("published %d", db.Published())
		}
	}()
	fn(f)
	return cause
}

func TestAnEntryThatCannotBeAppliedEndsTheProcess(t *testing.T) {
	raw := func(typ command.Type, m proto.Message) []byte { // not validated
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte{command.FormatV1, byte(typ), 0}, b...)
	}
	txn := func(ops ...*command.Op) *command.Txn { return &command.Txn{Then: ops} }
	for name, data := range map[string][]byte{
		"empty":         {},
		"format":        {9, 1, 0},
		"type":          {1, 200, 0},
		"no type":       {1, 0, 0},
		"header length": {1, 1, 200, 1},
		"header":        {1, 1, 1, 0xff},
		"payload":       {1, 1, 0, 0xff},
		"unknown field": append(raw(command.Type_TYPE_TXN, txn(Set("k", "v"))), protowire.AppendVarint(protowire.AppendTag(nil, 100, protowire.VarintType), 1)...),
		"operation":     raw(command.Type_TYPE_TXN, txn(&command.Op{Kind: 77, Key: []byte("k")})),
		"no operation":  raw(command.Type_TYPE_TXN, txn(&command.Op{})),
		"compare":       raw(command.Type_TYPE_TXN, &command.Txn{Compare: []*command.Compare{{Key: []byte("k"), Target: 9}}}),
		"operator": raw(command.Type_TYPE_TXN, &command.Txn{Compare: []*command.Compare{
			{Key: []byte("k"), Target: command.Compare_VALUE, Operator: 9}}}),
		"operator of exists": raw(command.Type_TYPE_TXN, &command.Txn{Compare: []*command.Compare{
			{Key: []byte("k"), Target: command.Compare_EXISTS, Operator: command.Compare_LESS}}}),
		"kind of check":  raw(command.Type_TYPE_CHECK_SET, &command.CheckSet{Node: "n", Check: &command.Check{Id: "c", Kind: 9}}),
		"status":         raw(command.Type_TYPE_CHECK_UPDATE, &command.CheckUpdate{Node: "n", Id: "c", Status: 9}),
		"a check's kind": raw(command.Type_TYPE_SERVICE_SET, &command.ServiceSet{Name: "n", Id: "n", Checks: []*command.Check{{Id: "c", Kind: 9}}}),
		"behavior":       raw(command.Type_TYPE_SESSION_CREATE, &command.SessionCreate{Id: "s", Behavior: 9}),
		"not a tick's":   append(raw(command.Type_TYPE_TICK, &command.Tick{}), protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)...),
	} {
		t.Run(name, func(t *testing.T) {
			good := MustEncode(t, Command{Type: command.Type_TYPE_TXN, Message: txn(Set("a", "b"))})
			cause := dies(t, func(f *fsm.FSM) {
				f.ApplyBatch([]*raft.Log{{Index: 1, Data: good}, {Index: 2, Data: data}})
			})
			if !errors.Is(cause, command.ErrUndecodable) {
				t.Errorf("died of %v", cause)
			}
		})
	}
}

func TestAStampThatIsNotKnownEndsTheProcess(t *testing.T) {
	for _, stamp := range [][]byte{{9, 9}, {1}, append(command.EncodeStamp(1), 0), {2, 0, 0, 0, 0, 0, 0, 0, 1}} {
		cause := dies(t, func(f *fsm.FSM) {
			f.Apply(&raft.Log{Index: 1, Extensions: stamp,
				Data: MustEncode(t, Command{Type: command.Type_TYPE_TXN, Message: &command.Txn{Then: []*command.Op{Set("a", "b")}}})})
		})
		if !errors.Is(cause, command.ErrUndecodable) {
			t.Errorf("died of %v", cause)
		}
	}
}
