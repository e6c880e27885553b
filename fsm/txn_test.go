package fsm_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
	. "github.com/neogan74/konsul/fsm/fsmtest"
	"github.com/neogan74/konsul/internal/persistence"
)

func equal(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", prototext.Format(got), prototext.Format(want))
	}
}

func TestSetKeepsWhatBelongsToTheKey(t *testing.T) {
	m := New(t)
	m.Txn(Set("k", "1"))
	res := m.Txn(Set("k", "2"))
	equal(t, res, &command.Result{Index: 2, Succeeded: true,
		Results: []*command.OpResult{{CreateIndex: 1, ModifyIndex: 2}}})
	res = m.Txn(Get("k"), Get("none"))
	equal(t, res, &command.Result{Index: 3, Succeeded: true, Results: []*command.OpResult{
		{Found: true, Value: []byte("2"), CreateIndex: 1, ModifyIndex: 2}, {}}})
	m.Txn(Delete("k"))
	if got := m.Txn(Set("k", "3")).Results[0].CreateIndex; got != 5 {
		t.Errorf("a key deleted and set again has create index %d, want 5", got)
	}
}

func TestOperationsSeeEarlierOnes(t *testing.T) {
	m := New(t)
	m.Txn(Set("a/1", "x"), Set("b", "x"))
	res := m.Txn(Set("a/2", "y"), Get("a/2"), DeletePrefix("a/"), Get("a/1"), Set("a/1", "z"), Delete("a/1"), Delete("a/1"), Get("b"))
	equal(t, res, &command.Result{Index: 2, Succeeded: true, Results: []*command.OpResult{
		{CreateIndex: 2, ModifyIndex: 2},
		{Found: true, Value: []byte("y"), CreateIndex: 2, ModifyIndex: 2},
		{Deleted: 2},
		{},
		{CreateIndex: 2, ModifyIndex: 2},
		{Found: true, Deleted: 1},
		{},
		{Found: true, Value: []byte("x"), CreateIndex: 1, ModifyIndex: 1},
	}})
}

func TestCAS(t *testing.T) {
	conflict := func(op uint32, modify uint64, exists bool) *command.Result {
		return &command.Result{Code: command.Result_CAS_CONFLICT, Succeeded: true, FailedOp: op, ModifyIndex: modify, Exists: exists}
	}
	for name, tc := range map[string]struct {
		ops  []*command.Op
		want *command.Result // nil: it holds
	}{
		"set, right index":             {[]*command.Op{CAS(Set("k", "v"), 2)}, nil},
		"set, wrong index":             {[]*command.Op{CAS(Set("k", "v"), 1)}, conflict(0, 2, true)},
		"set, must be absent and is":   {[]*command.Op{CAS(Set("n", "v"), 0)}, nil},
		"set, must be absent, is not":  {[]*command.Op{CAS(Set("k", "v"), 0)}, conflict(0, 2, true)},
		"set, absent, wants an index":  {[]*command.Op{CAS(Set("n", "v"), 7)}, conflict(0, 0, false)},
		"delete, right index":          {[]*command.Op{CAS(Delete("k"), 2)}, nil},
		"delete, wrong index":          {[]*command.Op{CAS(Delete("k"), 3)}, conflict(0, 2, true)},
		"delete, absent, 0":            {[]*command.Op{CAS(Delete("n"), 0)}, nil},
		"delete, absent, wants index":  {[]*command.Op{CAS(Delete("n"), 2)}, conflict(0, 0, false)},
		"delete, must be absent":       {[]*command.Op{CAS(Delete("k"), 0)}, conflict(0, 2, true)},
		"earlier operations come back": {[]*command.Op{Set("n", "1"), Delete("k"), CAS(Set("k", "x"), 2)}, conflict(2, 2, true)},
		"sees the earlier delete":      {[]*command.Op{Delete("k"), CAS(Set("k", "x"), 0)}, nil},
		"sees the earlier set":         {[]*command.Op{Set("n", "1"), CAS(Set("n", "2"), 3)}, nil},
		"own set is not the old state": {[]*command.Op{Set("n", "1"), CAS(Set("n", "2"), 0)}, conflict(1, 0, false)},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(t)
			m.Txn(Set("k", "0"))
			m.Txn(Set("k", "1"))
			before := m.MustDigest(2)
			res := m.Txn(tc.ops...)
			if tc.want == nil {
				if res.Code != command.Result_OK {
					t.Errorf("got %v", res)
				}
				return
			}
			tc.want.Index = 3
			equal(t, res, tc.want)
			if m.MustDigest(3) != before {
				t.Error("something was written")
			}
		})
	}
}

func TestCompare(t *testing.T) {
	const (
		eq = command.Compare_EQUAL
		ne = command.Compare_NOT_EQUAL
		lt = command.Compare_LESS
		gt = command.Compare_GREATER
	)
	value := func(key string, op command.Compare_Operator, v string) *command.Compare {
		return &command.Compare{Key: []byte(key), Target: command.Compare_VALUE, Operator: op, Value: []byte(v)}
	}
	number := func(key string, target command.Compare_Target, op command.Compare_Operator, n uint64) *command.Compare {
		return &command.Compare{Key: []byte(key), Target: target, Operator: op, Number: n}
	}
	exists := func(key string, op command.Compare_Operator, is bool) *command.Compare {
		return &command.Compare{Key: []byte(key), Target: command.Compare_EXISTS, Operator: op, Exists: is}
	}
	const modify, create = command.Compare_MODIFY_INDEX, command.Compare_CREATE_INDEX
	// k = "m", created at 1, modified at 2; n is absent.
	for _, tc := range []struct {
		c    *command.Compare
		want bool
	}{
		{value("k", eq, "m"), true}, {value("k", eq, "x"), false},
		{value("k", ne, "m"), false}, {value("k", ne, "x"), true},
		{value("k", lt, "n"), true}, {value("k", lt, "m"), false},
		{value("k", gt, "l"), true}, {value("k", gt, "m"), false},
		{value("n", eq, ""), false}, {value("n", ne, ""), true}, {value("n", lt, "z"), false}, {value("n", gt, ""), false},
		{number("k", modify, eq, 2), true}, {number("k", modify, gt, 2), false}, {number("k", modify, gt, 1), true}, {number("k", modify, lt, 3), true},
		{number("k", create, eq, 1), true}, {number("k", create, ne, 1), false},
		{number("n", modify, eq, 0), true}, {number("n", create, lt, 1), true}, {number("n", create, gt, 0), false},
		{exists("k", eq, true), true}, {exists("k", eq, false), false}, {exists("k", ne, true), false},
		{exists("n", eq, false), true}, {exists("n", ne, true), true}, {exists("n", eq, true), false},
	} {
		m := New(t)
		m.Txn(Set("k", "0"))
		m.Txn(Set("k", "m"))
		res := m.Do(Command{Type: command.Type_TYPE_TXN, Message: &command.Txn{
			Compare: []*command.Compare{tc.c},
			Then:    []*command.Op{Set("then", "")}, Else: []*command.Op{Set("else", ""), Get("then")}}})
		if res.Succeeded != tc.want || (len(res.Results) == 1) != tc.want {
			t.Errorf("%v: %v", tc.c, res)
		}
	}
}

// Compares read the state before the transaction, whatever it does.
func TestCompareReadsBefore(t *testing.T) {
	m := New(t)
	res := m.Do(Command{Type: command.Type_TYPE_TXN, Message: &command.Txn{
		Compare: []*command.Compare{{Key: []byte("k"), Target: command.Compare_EXISTS, Operator: command.Compare_EQUAL}},
		Then:    []*command.Op{Set("k", "1"), CAS(Set("k", "2"), 1)}}})
	if !res.Succeeded || res.Code != command.Result_OK {
		t.Errorf("got %v", res)
	}
}

func TestResultTooLarge(t *testing.T) {
	m := New(t)
	big := strings.Repeat("x", persistence.MaxValueLen)
	m.Txn(Set("k", big))
	if res := m.Txn(Get("k")); len(res.Results[0].Value) != len(big) {
		t.Fatalf("got %d bytes", len(res.Results[0].Value))
	}
	before := m.MustDigest(2)
	res := m.Txn(Set("n", "1"), Get("k"), Get("k"))
	equal(t, res, &command.Result{Code: command.Result_RESULT_TOO_LARGE, Index: 3, Succeeded: true, FailedOp: 2})
	if m.MustDigest(3) != before {
		t.Error("something was written")
	}
	// The largest answer there can be is remembered as well.
	m.Txn(Set("s", strings.Repeat("y", command.MaxResultBytes-len(big)-1022)), Set("one", "1"))
	ops := []*command.Op{Get("k"), Get("s")}
	for range 1022 {
		ops = append(ops, Get("one"))
	}
	c := Command{Type: command.Type_TYPE_TXN, Message: &command.Txn{Then: ops}, Key: "retry"}
	first := m.Do(c)
	if first.Code != command.Result_OK || proto.Size(first) < command.MaxResultBytes {
		t.Fatalf("code %v, %d bytes", first.Code, proto.Size(first))
	}
	equal(t, m.Do(c), first)
}

func TestClusterInit(t *testing.T) {
	m := New(t)
	initWith := func(id string) *command.Result {
		return m.Do(Command{Type: command.Type_TYPE_CLUSTER_INIT, Message: &command.ClusterInit{ClusterId: id}})
	}
	if got := m.ClusterID(); got != "" {
		t.Errorf("cluster id %q before the first entry", got)
	}
	for _, tc := range []struct {
		id   string
		want command.Result_Code
	}{{"a", command.Result_OK}, {"a", command.Result_OK}, {"b", command.Result_WRONG_CLUSTER}, {"a", command.Result_OK}} {
		if got := initWith(tc.id).Code; got != tc.want {
			t.Errorf("init with %q: %v, want %v", tc.id, got, tc.want)
		}
	}
	if got := m.ClusterID(); got != "a" {
		t.Errorf("cluster id %q", got)
	}
}
