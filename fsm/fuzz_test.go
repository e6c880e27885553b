package fsm_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm/command"
	. "github.com/neogan74/konsul/fsm/fsmtest"
)

// FuzzApply: any message that passes Validate applies, does what the model says,
// and does it again when it is replayed; then a minute passes.
func FuzzApply(f *testing.F) {
	g, model := NewGenerator(1, 6), NewModel()
	typ, last := uint8(command.Type_TYPE_TICK), []byte{}
	for range 120 {
		c := g.Next(model)
		model.Apply(c)
		b, err := proto.Marshal(c.Message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(c.Type), b, typ, last, c.Key, c.Stamp%int64(20*time.Second))
		typ, last = uint8(c.Type), b
	}
	second := int64(time.Second)
	f.Fuzz(func(t *testing.T, typ1 uint8, first []byte, typ2 uint8, then []byte, key string, stamp int64) {
		stamp &= 1<<60 - 1
		commands := []Command{
			txnCommand(Set("a/0", "1"), Set("c3", "2"), setTTL("a/5", "3", 5*time.Second)),
			{Type: command.Type_TYPE_SERVICE_SET, Stamp: second, Message: &command.ServiceSet{Name: "web", Id: "a", Node: "n1", Ttl: 5 * second, Checks: []*command.Check{
				{Id: "c0", Kind: command.Check_TTL, Ttl: 4 * second, Status: command.Check_PASSING}}}},
			{Type: command.Type_TYPE_CHECK_SET, Stamp: second, Message: &command.CheckSet{Node: "n1", Check: &command.Check{
				Id: "c0", Kind: command.Check_TTL, Ttl: 4 * second, Status: command.Check_PASSING}}},
			{Type: command.Type_TYPE_SESSION_CREATE, Stamp: 2 * second, Message: &command.SessionCreate{Id: "s0", Ttl: 5 * second, LockDelay: 2 * second}},
			{Type: command.Type_TYPE_SESSION_CREATE, Message: &command.SessionCreate{Id: "s1", Behavior: command.SessionCreate_DELETE}},
			txnCommand(acquire("a/0", "s0"), acquire("lock", "s1")),
			txnCommand(Set("a/0", "2"), Delete("c3")),
		}
		if c, ok := fuzzed(command.Type(typ1), first, key); ok {
			c.Stamp = stamp
			commands = append(commands, c, Command{Type: command.Type_TYPE_TICK, Message: &command.Tick{}, Stamp: stamp})
		}
		if c, ok := fuzzed(command.Type(typ2), then, ""); ok {
			commands = append(commands, c)
		}
		commands = append(commands, Command{Type: command.Type_TYPE_TICK, Message: &command.Tick{}, Stamp: int64(time.Minute)})
		checkAgainstModel(t, commands)
	})
}

func txnCommand(ops ...*command.Op) Command {
	return Command{Type: command.Type_TYPE_TXN, Message: &command.Txn{Then: ops}}
}

// fuzzed makes a command of arbitrary bytes, if it may be proposed.
func fuzzed(typ command.Type, b []byte, key string) (Command, bool) {
	messages := map[command.Type]proto.Message{
		command.Type_TYPE_TXN:             &command.Txn{},
		command.Type_TYPE_CLUSTER_INIT:    &command.ClusterInit{},
		command.Type_TYPE_MEMBER_SET:      &command.MemberSet{},
		command.Type_TYPE_MEMBER_REMOVE:   &command.MemberRemove{},
		command.Type_TYPE_TICK:            &command.Tick{},
		command.Type_TYPE_SERVICE_SET:     &command.ServiceSet{},
		command.Type_TYPE_SERVICE_DELETE:  &command.ServiceDelete{},
		command.Type_TYPE_HEARTBEAT:       &command.Heartbeat{},
		command.Type_TYPE_CHECK_SET:       &command.CheckSet{},
		command.Type_TYPE_CHECK_DELETE:    &command.CheckDelete{},
		command.Type_TYPE_CHECK_UPDATE:    &command.CheckUpdate{},
		command.Type_TYPE_SESSION_CREATE:  &command.SessionCreate{},
		command.Type_TYPE_SESSION_RENEW:   &command.SessionRenew{},
		command.Type_TYPE_SESSION_DESTROY: &command.SessionDestroy{},
	}
	m, ok := messages[typ]
	if !ok {
		return Command{}, false
	}
	if command.Unmarshal(b, m) != nil || command.Validate(typ, m) != nil {
		return Command{}, false
	}
	_, err := command.Encode(&command.Header{IdempotencyKey: key}, typ, m)
	return Command{Type: typ, Message: m, Key: key}, err == nil
}

func checkAgainstModel(t *testing.T, commands []Command) {
	t.Helper()
	m, h := New(t), history{model: NewModel()}
	for _, c := range commands {
		h.logs = append(h.logs, m.Entry(c))
		h.want = append(h.want, h.model.Apply(c))
	}
	h.checkResults(t, 0, m.ApplyIn(h.logs, func() int { return 1 }))
	last := uint64(len(h.logs))
	want := digests(m, 0, last, 1)
	h.checkState(t, m, last)
	h.checkResults(t, 1, m.ApplyIn(h.logs[1:], func() int { return 2 }))
	checkDigests(t, m, want, 0)
}

// The answers do not depend on who is asked: the same log gives the same bytes.
func TestAnswersAreTheSameBytes(t *testing.T) {
	h := newHistory(t, 41, 500)
	encode := func(answers []*command.Result) (all []byte) {
		for _, res := range answers {
			if res == nil {
				continue
			}
			b, err := proto.Marshal(res)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b...)
		}
		return all
	}
	a := encode(New(t).ApplyIn(h.logs, func() int { return 1 }))
	b := encode(New(t).ApplyIn(h.logs, func() int { return 100 }))
	if string(a) != string(b) {
		t.Error("they differ")
	}
}

var _ raft.BatchingFSM = (*Machine)(nil)
