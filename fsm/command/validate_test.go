package command_test

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
)

func txn(ops ...*command.Op) *command.Txn { return &command.Txn{Then: ops} }

func op(kind command.Op_Kind, key string) *command.Op {
	return &command.Op{Kind: kind, Key: []byte(key)}
}

func repeat(n int, o *command.Op) []*command.Op {
	ops := make([]*command.Op, n)
	for i := range ops {
		ops[i] = o
	}
	return ops
}

func TestLimits(t *testing.T) {
	key := func(n int) string { return strings.Repeat("k", n) }
	value := func(n int) string { return strings.Repeat("v", n) }
	cmp := func(key, value string) *command.Txn {
		return &command.Txn{Compare: []*command.Compare{{Key: []byte(key), Target: command.Compare_VALUE, Operator: command.Compare_EQUAL, Value: []byte(value)}}}
	}
	compares := func(n int) *command.Txn {
		m := cmp("k", "v")
		for len(m.Compare) < n {
			m.Compare = append(m.Compare, m.Compare[0])
		}
		return m
	}
	for name, tc := range map[string]struct {
		m    proto.Message
		what string // of the LimitError; "" = allowed
	}{
		"key of 4096":              {txn(set(key(4096), "")), ""},
		"key of 4097":              {txn(set(key(4097), "")), "then[0].key"},
		"get of 4097":              {txn(op(command.Op_GET, "k"), op(command.Op_GET, key(4097))), "then[1].key"},
		"delete of 4097":           {&command.Txn{Else: txn(op(command.Op_DELETE, key(4097))).Then}, "else[0].key"},
		"prefix of 4096":           {txn(op(command.Op_DELETE_PREFIX, key(4096))), ""},
		"prefix of 4097":           {txn(op(command.Op_DELETE_PREFIX, key(4097))), "then[0].prefix"},
		"value of 524288":          {txn(set("k", value(524288))), ""},
		"value of 524289":          {txn(set("k", value(524289))), "then[0].value"},
		"1024 operations":          {txn(repeat(1024, set("k", "v"))...), ""},
		"1025 operations":          {txn(repeat(1025, set("k", "v"))...), "operations"},
		"1025 in both branches":    {&command.Txn{Then: repeat(1000, set("k", "v")), Else: repeat(25, set("k", "v"))}, "operations"},
		"1024 compares":            {compares(1024), ""},
		"1025 compares":            {compares(1025), "compares"},
		"compared key of 4097":     {cmp(key(4097), ""), "compare[0].key"},
		"compared value of 524289": {cmp("k", value(524289)), "compare[0].value"},
		"more than 1 MiB":          {txn(set("a", value(524288)), set("b", value(524288))), "entry bytes"},
		"node id of 129":           {&command.MemberSet{Id: key(129), RaftAddress: "a:1"}, "id"},
		"address of 513":           {&command.MemberSet{Id: "n", RaftAddress: key(513)}, "raft_address"},
		"api address of 513":       {&command.MemberSet{Id: "n", RaftAddress: "a:1", ApiAddress: key(513)}, "api_address"},
		"incarnation of 129":       {&command.MemberSet{Id: "n", RaftAddress: "a:1", Incarnation: key(129)}, "incarnation"},
		"removed id of 129":        {&command.MemberRemove{Id: key(129)}, "id"},
		"cluster id of 129":        {&command.ClusterInit{ClusterId: key(129)}, "cluster_id"},
	} {
		err := command.Validate(typeOf(tc.m), tc.m)
		var limit *command.LimitError
		switch {
		case tc.what == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.what != "" && (!errors.As(err, &limit) || limit.What != tc.what || limit.Got <= limit.Limit):
			t.Errorf("%s: %v, want a limit of %s", name, err, tc.what)
		}
	}
}

func TestInvalid(t *testing.T) {
	with := func(o *command.Op, change func(*command.Op)) proto.Message { change(o); return txn(o) }
	cas := func(o *command.Op) { o.Cas = proto.Uint64(1) }
	compare := func(target command.Compare_Target, op command.Compare_Operator, key string) proto.Message {
		return &command.Txn{Compare: []*command.Compare{{Key: []byte(key), Target: target, Operator: op}}}
	}
	for name, tc := range map[string]struct {
		m     proto.Message
		field string // of the InvalidError; "" = allowed
	}{
		"empty transaction":       {&command.Txn{}, ""},
		"set without a key":       {txn(set("", "v")), "then[0].key"},
		"get without a key":       {txn(op(command.Op_GET, "")), "then[0].key"},
		"delete without a key":    {txn(op(command.Op_DELETE, "")), "then[0].key"},
		"delete all":              {txn(op(command.Op_DELETE_PREFIX, "")), ""},
		"no kind":                 {txn(op(0, "k")), "then[0].kind"},
		"another kind":            {txn(op(9, "k")), "then[0].kind"},
		"no operation":            {txn(set("a", ""), nil), "then[1].operation"},
		"delete with cas":         {with(op(command.Op_DELETE, "k"), cas), ""},
		"get with cas":            {with(op(command.Op_GET, "k"), cas), "then[0].cas"},
		"delete prefix with cas":  {with(op(command.Op_DELETE_PREFIX, "k"), cas), "then[0].cas"},
		"get with a value":        {with(op(command.Op_GET, "k"), func(o *command.Op) { o.Value = []byte("v") }), "then[0].value"},
		"delete with flags":       {with(op(command.Op_DELETE, "k"), func(o *command.Op) { o.Flags = 1 }), "then[0].flags"},
		"compare without a key":   {compare(command.Compare_VALUE, command.Compare_EQUAL, ""), "compare[0].key"},
		"compare without target":  {compare(0, command.Compare_EQUAL, "k"), "compare[0].target"},
		"compare another target":  {compare(9, command.Compare_EQUAL, "k"), "compare[0].target"},
		"compare without op":      {compare(command.Compare_VALUE, 0, "k"), "compare[0].operator"},
		"exists less":             {compare(command.Compare_EXISTS, command.Compare_LESS, "k"), "compare[0].operator"},
		"no compare":              {&command.Txn{Compare: []*command.Compare{nil}}, "compare[0].compare"},
		"member without an id":    {&command.MemberSet{RaftAddress: "a:1"}, "id"},
		"member without address":  {&command.MemberSet{Id: "n"}, "raft_address"},
		"member without api":      {&command.MemberSet{Id: "n", RaftAddress: "a:1"}, ""},
		"member not UTF-8":        {&command.MemberSet{Id: "\xff", RaftAddress: "a:1"}, "id"},
		"removal without an id":   {&command.MemberRemove{}, "id"},
		"cluster without an id":   {&command.ClusterInit{}, "cluster_id"},
		"cluster id not UTF-8":    {&command.ClusterInit{ClusterId: "\xff"}, "cluster_id"},
		"something else entirely": {&command.Header{}, "command"},
	} {
		err := command.Validate(typeOf(tc.m), tc.m)
		var invalid *command.InvalidError
		switch {
		case tc.field == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.field != "" && (!errors.As(err, &invalid) || invalid.Field != tc.field):
			t.Errorf("%s: %v, want a complaint about %s", name, err, tc.field)
		}
	}
	var invalid *command.InvalidError
	if err := command.Validate(command.Type_TYPE_TXN, &command.ClusterInit{ClusterId: "c"}); !errors.As(err, &invalid) {
		t.Errorf("a message of another type: %v", err)
	}
}

func TestEncodeLimits(t *testing.T) {
	encode := func(key string, m proto.Message) error {
		_, err := command.Encode(&command.Header{IdempotencyKey: key}, command.Type_TYPE_TXN, m)
		return err
	}
	small := txn(set("k", "v"))
	var limit *command.LimitError
	var invalid *command.InvalidError
	if err := encode(strings.Repeat("i", command.MaxIdempotencyKeyLen), small); err != nil {
		t.Error(err)
	}
	if err := encode(strings.Repeat("i", command.MaxIdempotencyKeyLen+1), small); !errors.As(err, &limit) {
		t.Errorf("a long idempotency key: %v", err)
	}
	if err := encode("\xff", small); !errors.As(err, &invalid) {
		t.Errorf("an idempotency key that is not UTF-8: %v", err)
	}
	// A message that just fits does not with a header.
	half := strings.Repeat("v", command.MaxValueLen)
	fit := txn(set("a", half), set("b", half[:command.MaxValueLen-3-40]))
	for proto.Size(fit) < command.MaxEntryBytes-3 {
		fit.Then[0].Key = append(fit.Then[0].Key, 'a')
	}
	if err := encode("", fit); err != nil {
		t.Error(err)
	}
	if err := encode("k", fit); !errors.As(err, &limit) {
		t.Errorf("an entry over its size: %v", err)
	}
}
