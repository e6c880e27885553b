package fsmtest

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
)

// KV is a key's state in the model.
type KV struct {
	Value          string
	Flags          uint64
	Create, Modify uint64
}

// Change is what a watcher must be told in the model.
type Change struct {
	Index   uint64
	Key     string
	Deleted bool
	Value   string
}

// Model is the state machine written down as plainly as possible: a map, copied
// for every version. It is what the real one is judged by.
type Model struct {
	Index    uint64
	States   []map[string]KV // States[i] is the state after entry i
	Changes  []Change        // in (index, key) order
	Cluster  string
	Members  map[string]*command.MemberSet
	answered map[string]answer
}

type answer struct {
	request []byte
	result  *command.Result
}

// NewModel starts at index 0.
func NewModel() *Model {
	return &Model{
		States:   []map[string]KV{{}},
		Members:  map[string]*command.MemberSet{},
		answered: map[string]answer{},
	}
}

// Keys is the newest state.
func (m *Model) Keys() map[string]KV { return m.States[m.Index] }

// Skip is an entry without effect.
func (m *Model) Skip() {
	m.Index++
	m.States = append(m.States, m.States[m.Index-1])
}

// Apply is an entry; it returns what the machine must answer.
func (m *Model) Apply(c Command) *command.Result {
	m.Skip()
	request, _ := proto.MarshalOptions{Deterministic: true}.Marshal(c.Message)
	request = append(request, byte(c.Type))
	if first, ok := m.answered[c.Key]; c.Key != "" && ok {
		if !bytes.Equal(first.request, request) {
			return &command.Result{Code: command.Result_KEY_REUSED, Index: m.Index}
		}
		return first.result
	}
	res := m.apply(c)
	if c.Key != "" {
		m.answered[c.Key] = answer{request, res}
	}
	return res
}

func (m *Model) apply(c Command) *command.Result {
	res := &command.Result{Index: m.Index, Succeeded: true}
	switch msg := c.Message.(type) {
	case *command.Txn:
		return m.txn(msg)
	case *command.ClusterInit:
		if m.Cluster == "" {
			m.Cluster = msg.ClusterId
		}
		if m.Cluster != msg.ClusterId {
			res.Code, res.Succeeded = command.Result_WRONG_CLUSTER, false
		}
	case *command.MemberSet:
		m.Members[msg.Id] = msg
	case *command.MemberRemove:
		_, res.Succeeded = m.Members[msg.Id]
		delete(m.Members, msg.Id)
	}
	return res
}

func (m *Model) txn(txn *command.Txn) *command.Result {
	before := m.States[m.Index-1]
	state := maps.Clone(before)
	res := &command.Result{Index: m.Index, Succeeded: true}
	for _, c := range txn.Compare {
		res.Succeeded = res.Succeeded && compare(before, c)
	}
	ops := txn.Then
	if !res.Succeeded {
		ops = txn.Else
	}
	for i, op := range ops {
		out := &command.OpResult{}
		if !m.op(state, op, out) {
			kv, exists := before[string(op.Key)]
			return &command.Result{Code: command.Result_CAS_CONFLICT, Index: m.Index, Succeeded: res.Succeeded,
				FailedOp: uint32(i), ModifyIndex: kv.Modify, Exists: exists}
		}
		res.Results = append(res.Results, out)
	}
	m.States[m.Index] = state
	m.note(before, state)
	return res
}

func (m *Model) op(state map[string]KV, op *command.Op, out *command.OpResult) bool {
	key := string(op.Key)
	kv, exists := state[key]
	if op.Cas != nil && *op.Cas != kv.Modify {
		return false
	}
	switch op.Kind {
	case command.Op_SET:
		if !exists {
			kv.Create = m.Index
		}
		kv.Value, kv.Flags, kv.Modify = string(op.Value), op.Flags, m.Index
		state[key] = kv
		out.CreateIndex, out.ModifyIndex = kv.Create, kv.Modify
	case command.Op_GET:
		if exists {
			*out = command.OpResult{Found: true, Value: []byte(kv.Value), Flags: kv.Flags, CreateIndex: kv.Create, ModifyIndex: kv.Modify}
		}
	case command.Op_DELETE:
		if exists {
			out.Found, out.Deleted = true, 1
			delete(state, key)
		}
	case command.Op_DELETE_PREFIX:
		for k := range state {
			if strings.HasPrefix(k, key) {
				delete(state, k)
				out.Deleted++
			}
		}
	}
	return true
}

// note records the net effect of an entry, ordered by key.
func (m *Model) note(before, after map[string]KV) {
	keys := map[string]bool{}
	for k, kv := range after {
		keys[k] = keys[k] || kv.Modify == m.Index
	}
	for k := range before {
		if _, still := after[k]; !still {
			keys[k] = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if keys[k] {
			kv, still := after[k]
			m.Changes = append(m.Changes, Change{Index: m.Index, Key: k, Deleted: !still, Value: kv.Value})
		}
	}
}

func compare(state map[string]KV, c *command.Compare) bool {
	kv, exists := state[string(c.Key)]
	sign := 0
	switch c.Target {
	case command.Compare_EXISTS:
		return (exists == c.Exists) == (c.Operator == command.Compare_EQUAL)
	case command.Compare_VALUE:
		if !exists {
			return c.Operator == command.Compare_NOT_EQUAL
		}
		sign = strings.Compare(kv.Value, string(c.Value))
	case command.Compare_MODIFY_INDEX:
		sign = order(kv.Modify, c.Number)
	case command.Compare_CREATE_INDEX:
		sign = order(kv.Create, c.Number)
	}
	switch c.Operator {
	case command.Compare_EQUAL:
		return sign == 0
	case command.Compare_NOT_EQUAL:
		return sign != 0
	case command.Compare_LESS:
		return sign < 0
	default:
		return sign > 0
	}
}

func order(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
