// Package fsmtest is the test kit of the state machine: a machine on a real
// engine, a generator of commands, and a model that says what they must do.
package fsmtest

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
)

// Machine is a state machine and the log it was given.
type Machine struct {
	*fsm.FSM
	DB      *persistence.DB
	Metrics *prometheus.Registry
	t       testing.TB
	// Log is every entry made by Entry, in order; Log[i] has index i+1.
	Log []*raft.Log
}

// New makes a machine on an engine in memory, closed at the end of the test.
func New(t testing.TB) *Machine {
	t.Helper()
	return Open(t, persistence.Options{InMemory: true})
}

// Open makes a machine on the engine that the options name.
func Open(t testing.TB, o persistence.Options) *Machine {
	t.Helper()
	reg := prometheus.NewRegistry()
	o.Registerer = reg
	db, err := persistence.Open(o, hclog.NewNullLogger())
	if err != nil {
		t.Fatalf("opening engine: %v", err)
	}
	m := &Machine{DB: db, Metrics: reg, t: t}
	if m.FSM, err = fsm.New(db, hclog.NewNullLogger(), reg); err != nil {
		t.Fatalf("making state machine: %v", err)
	}
	t.Cleanup(m.Stop)
	return m
}

// Stop closes the machine and its engine; a second time does nothing.
func (m *Machine) Stop() {
	if m.DB == nil {
		return
	}
	m.FSM.Close()
	if err := m.DB.Close(); err != nil {
		m.t.Errorf("closing engine: %v", err)
	}
	m.DB = nil
}

// Entry validates and encodes a command and gives it the next index.
func (m *Machine) Entry(c Command) *raft.Log {
	m.t.Helper()
	l := &raft.Log{Index: uint64(len(m.Log) + 1), Term: 1, Type: raft.LogCommand, Data: MustEncode(m.t, c), Extensions: c.Extensions()}
	m.Log = append(m.Log, l)
	return l
}

// Skip gives the next index to a configuration entry.
func (m *Machine) Skip() *raft.Log {
	l := &raft.Log{Index: uint64(len(m.Log) + 1), Term: 1, Type: raft.LogConfiguration}
	m.Log = append(m.Log, l)
	return l
}

// Do applies one command as the next entry and returns its result.
func (m *Machine) Do(c Command) *command.Result {
	m.t.Helper()
	return m.Apply(m.Entry(c)).(*command.Result)
}

// At applies a message as the next entry, stamped with a cluster time.
func (m *Machine) At(now time.Duration, t command.Type, msg proto.Message) *command.Result {
	m.t.Helper()
	return m.Do(Command{Type: t, Message: msg, Stamp: int64(now)})
}

// Tick applies ticks at a cluster time until nothing is due, and returns how many
// records they ended.
func (m *Machine) Tick(now time.Duration) (ended uint64) {
	m.t.Helper()
	for {
		res := m.At(now, command.Type_TYPE_TICK, &command.Tick{})
		ended += res.Count
		if !res.More {
			return ended
		}
	}
}

// Txn applies a transaction without compares.
func (m *Machine) Txn(ops ...*command.Op) *command.Result {
	m.t.Helper()
	return m.Do(Command{Type: command.Type_TYPE_TXN, Message: &command.Txn{Then: ops}})
}

// MustDigest is the digest of the whole state at an index.
func (m *Machine) MustDigest(index uint64) [32]byte {
	m.t.Helper()
	sum, _, err := m.DB.Digest(context.Background(), index)
	if err != nil {
		m.t.Fatalf("digest at %d: %v", index, err)
	}
	return sum
}

// Command is what is proposed.
type Command struct {
	Type    command.Type
	Message proto.Message
	// Key is the idempotency key, if not empty.
	Key string
	// Stamp is the entry's cluster time; 0 = it has none.
	Stamp int64
}

// Extensions are those of the command's entry.
func (c Command) Extensions() []byte {
	if c.Stamp == 0 {
		return nil
	}
	return command.EncodeStamp(c.Stamp)
}

// MustEncode validates a command and makes its bytes.
func MustEncode(t testing.TB, c Command) []byte {
	t.Helper()
	if err := command.Validate(c.Type, c.Message); err != nil {
		t.Fatalf("validating %v: %v", c.Message, err)
	}
	b, err := command.Encode(&command.Header{IdempotencyKey: c.Key}, c.Type, c.Message)
	if err != nil {
		t.Fatalf("encoding %v: %v", c.Message, err)
	}
	return b
}

// ApplyIn applies logs in batches of the sizes that next gives and returns the
// answers.
func (m *Machine) ApplyIn(logs []*raft.Log, next func() int) []*command.Result {
	var answers []*command.Result
	for len(logs) > 0 {
		n := min(max(next(), 1), len(logs))
		for _, a := range m.ApplyBatch(logs[:n]) {
			res, _ := a.(*command.Result)
			answers = append(answers, res)
		}
		logs = logs[n:]
	}
	return answers
}

// Set makes a write of one key.
func Set(key, value string) *command.Op {
	return &command.Op{Kind: command.Op_SET, Key: []byte(key), Value: []byte(value)}
}

// Get makes a read.
func Get(key string) *command.Op { return &command.Op{Kind: command.Op_GET, Key: []byte(key)} }

// Delete makes a deletion of one key.
func Delete(key string) *command.Op { return &command.Op{Kind: command.Op_DELETE, Key: []byte(key)} }

// DeletePrefix makes a deletion of all keys with a prefix.
func DeletePrefix(prefix string) *command.Op {
	return &command.Op{Kind: command.Op_DELETE_PREFIX, Key: []byte(prefix)}
}

// CAS puts a condition on an operation.
func CAS(op *command.Op, index uint64) *command.Op {
	op.Cas = proto.Uint64(index)
	return op
}
