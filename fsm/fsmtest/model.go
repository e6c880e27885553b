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
	Lock           uint64
	Session        string
	Deadline       int64
}

// Change is what a watcher must be told in the model.
type Change struct {
	Index   uint64
	Key     string
	Deleted bool
	Value   string
	// Service is name/id, and Key empty, for an instance of a service.
	Service string
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
	Registry Registry
	// Times[i] is the state's time after entry i.
	Times []int64
	// Dumps are those after entries whose index is a multiple of DumpEvery.
	Dumps map[uint64][]string
	stamp int64 // of the entry being applied
}

// DumpEvery is how many entries apart the model remembers a dump.
const DumpEvery = 25

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
		Registry: newRegistry(),
		Times:    []int64{0},
		Dumps:    map[uint64][]string{},
	}
}

// Keys is the newest state.
func (m *Model) Keys() map[string]KV { return m.States[m.Index] }

// Skip is an entry without effect.
func (m *Model) Skip() {
	m.begin()
	m.end()
}

func (m *Model) begin() {
	m.Index++
	m.States = append(m.States, m.States[m.Index-1])
}

func (m *Model) end() {
	m.Times = append(m.Times, m.Registry.Now)
	if m.Index%DumpEvery == 0 {
		m.Dumps[m.Index] = m.Dump()
	}
}

// Apply is an entry; it returns what the machine must answer.
func (m *Model) Apply(c Command) *command.Result {
	m.begin()
	defer m.end()
	m.stamp = c.Stamp
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
	default:
		return m.registry(c)
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
	now := m.Registry.Now
	for i, op := range ops {
		out := &command.OpResult{}
		if refusal := m.op(state, op, out); refusal != nil {
			m.Registry.Now = now
			kv, exists := before[string(op.Key)]
			refusal.Index, refusal.Succeeded, refusal.FailedOp = m.Index, res.Succeeded, uint32(i)
			refusal.ModifyIndex, refusal.Exists = kv.Modify, exists
			return refusal
		}
		res.Results = append(res.Results, out)
	}
	m.States[m.Index] = state
	m.note(before, state)
	return res
}

// op runs an operation; what it returns, if anything, is why not.
func (m *Model) op(state map[string]KV, op *command.Op, out *command.OpResult) *command.Result {
	key := string(op.Key)
	kv, exists := state[key]
	if op.Kind == command.Op_ACQUIRE && m.Registry.Sessions[op.Session] == nil {
		return &command.Result{Code: command.Result_SESSION_NOT_FOUND}
	}
	if op.Cas != nil && *op.Cas != kv.Modify {
		return &command.Result{Code: command.Result_CAS_CONFLICT}
	}
	put := func() {
		if !exists {
			kv.Create = m.Index
		}
		kv.Value, kv.Flags, kv.Deadline = string(op.Value), op.Flags, 0
		if op.Ttl > 0 {
			kv.Deadline = m.after(op.Ttl)
		}
	}
	store := func() {
		kv.Modify = m.Index
		state[key] = kv
		out.CreateIndex, out.ModifyIndex, out.LockIndex, out.Session = kv.Create, kv.Modify, kv.Lock, kv.Session
	}
	switch op.Kind {
	case command.Op_SET:
		put()
		store()
	case command.Op_ACQUIRE:
		if kv.Session != op.Session {
			if refusal := m.mayHold(state, key, op.Session); refusal != nil {
				return refusal
			}
			kv.Session, kv.Lock = op.Session, m.Index
		}
		put()
		store()
	case command.Op_RELEASE:
		if !exists || kv.Session != op.Session {
			return &command.Result{Code: command.Result_NOT_HOLDER, Session: kv.Session}
		}
		kv.Session = ""
		if op.HasValue {
			put()
		}
		store()
	case command.Op_GET:
		if exists {
			*out = command.OpResult{Found: true, Value: []byte(kv.Value), Flags: kv.Flags, CreateIndex: kv.Create, ModifyIndex: kv.Modify,
				LockIndex: kv.Lock, Session: kv.Session}
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
	return nil
}

func (m *Model) mayHold(state map[string]KV, key, session string) *command.Result {
	if holder := state[key].Session; holder != "" {
		return &command.Result{Code: command.Result_LOCK_HELD, Session: holder}
	}
	if wait := m.Registry.Leases["sys:delay:"+key].Deadline - max(m.Registry.Now, m.stamp); wait > 0 {
		return &command.Result{Code: command.Result_LOCK_DELAY, Wait: wait}
	}
	held := 0
	for _, kv := range state {
		if kv.Session == session {
			held++
		}
	}
	if held >= command.MaxSessionKeys {
		return &command.Result{Code: command.Result_LIMIT, Limit: command.MaxSessionKeys}
	}
	return nil
}

// serviceChange records a change of an instance, once for each entry.
func (m *Model) serviceChange(name string, deleted bool) {
	c := Change{Index: m.Index, Service: name, Deleted: deleted}
	for i := len(m.Changes) - 1; i >= 0 && m.Changes[i].Index == m.Index; i-- {
		if m.Changes[i].Service == name {
			m.Changes = slices.Delete(m.Changes, i, i+1)
		}
	}
	m.Changes = append(m.Changes, c)
	// Within an index, in the order of stored keys.
	slices.SortStableFunc(m.Changes[m.firstOfIndex():], func(a, b Change) int { return strings.Compare(a.stored(), b.stored()) })
}

func (m *Model) firstOfIndex() int {
	i := len(m.Changes)
	for i > 0 && m.Changes[i-1].Index == m.Index {
		i--
	}
	return i
}

func (c Change) stored() string {
	if c.Service != "" {
		return "svc:" + c.Service
	}
	return "kv:" + c.Key
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
	slices.SortStableFunc(m.Changes[m.firstOfIndex():], func(a, b Change) int { return strings.Compare(a.stored(), b.stored()) })
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
