package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/raftstore"
)

// apply proposes a transaction.
func (c *call) apply(txn *command.Txn) (*command.Result, error) {
	return c.propose(command.Type_TYPE_TXN, txn)
}

// propose proposes a command and sets the headers of its answer. Errors are
// failures already where the outcome itself is one: a condition that did not hold,
// an idempotency key used twice, an unknown outcome. The result is there as well
// then, if there is one.
func (c *call) propose(t command.Type, m proto.Message) (*command.Result, error) {
	idem, err := c.idempotencyKey()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), c.s.cfg.WriteTimeout)
	res, err := c.s.node.Apply(ctx, t, m, idem)
	cancel()
	if err != nil {
		return nil, outcome(err)
	}
	leader, _, _ := c.s.node.Leader()
	c.describe(res.Index, leader)
	if res.Code != command.Result_OK {
		return res, refused(m, res)
	}
	return res, nil
}

// outcome makes sure that an error which does not say that nothing was applied is
// never shown as one that does.
func outcome(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		if !raftstore.NotApplied(err) && !errors.Is(err, raftstore.ErrOutcomeUnknown) {
			return fmt.Errorf("%w: %w", raftstore.ErrOutcomeUnknown, err)
		}
	}
	return err
}

// refused is the answer to a write that was decided and changed nothing.
func refused(m proto.Message, res *command.Result) error {
	switch res.Code {
	case command.Result_CAS_CONFLICT:
		txn, _ := m.(*command.Txn)
		return casConflict(txn, res)
	case command.Result_KEY_REUSED:
		return badRequest("this Idempotency-Key was used for another request")
	case command.Result_RESULT_TOO_LARGE:
		return tooLarge("the values this transaction would return are", command.MaxResultBytes)
	}
	return refusedByRegistry(res)
}

func casConflict(txn *command.Txn, res *command.Result) *failure {
	f := &failure{status: http.StatusConflict, code: "cas_conflict", numbers: []number{{"modify_index", res.ModifyIndex}}}
	ops := txn.GetThen()
	if !res.Succeeded {
		ops = txn.GetElse()
	}
	var want uint64
	if int(res.FailedOp) < len(ops) {
		want = ops[res.FailedOp].GetCas()
	}
	switch {
	case want == 0:
		f.code, f.text = "exists", fmt.Sprintf("the key exists, with modify_index %d", res.ModifyIndex)
	case !res.Exists:
		f.text = "the key does not exist"
	default:
		f.text = fmt.Sprintf("the key has modify_index %d, not %d", res.ModifyIndex, want)
	}
	return f
}

// idempotencyKey takes the header: 1 to 256 printable ASCII characters.
func (c *call) idempotencyKey() (string, error) {
	values := c.r.Header["Idempotency-Key"]
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if len(values) > 1 || key == "" || len(key) > command.MaxIdempotencyKeyLen {
		return "", badRequest("Idempotency-Key must be one value of 1 to %d characters", command.MaxIdempotencyKeyLen)
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return "", badRequest("Idempotency-Key must be printable ASCII")
		}
	}
	return key, nil
}

// single is a transaction of one operation in one piece of memory.
type single struct {
	txn  command.Txn
	op   command.Op
	then [1]*command.Op
	cas  uint64
	// extra: flags are given, so a value must be, too.
	extra bool
}

// setValue sets the value to write; only a release may go without.
func (one *single) setValue(value []byte, given bool) error {
	release := one.op.Kind == command.Op_RELEASE
	switch {
	case given:
		one.op.Value, one.op.HasValue = value, release
		return checkValue("value", value)
	case !release:
		return badRequest("value is missing")
	case one.extra:
		return badRequest("flags are given, but no value: a release without one changes neither")
	}
	return nil
}

// one makes the transaction of a single operation on c.key.
func (c *call) one(kind command.Op_Kind) *single {
	one := new(single)
	one.op.Kind, one.op.Key = kind, c.key
	one.then[0] = &one.op
	one.txn.Then = one.then[:]
	return one
}

// kvPut is PUT and POST /kv/{key}.
func (c *call) kvPut() error {
	if err := checkKey("key", c.key); err != nil {
		return err
	}
	put := c.one(command.Op_SET)
	if err := c.takeLock(&put.op); err != nil {
		return err
	}
	read := c.readRawPut
	if isJSON(c.r.Header.Get("Content-Type")) {
		read = c.readJSONPut
	}
	if err := read(put); err != nil {
		return err
	}
	res, err := c.apply(&put.txn)
	if err != nil {
		return err
	}
	if len(res.Results) != 1 {
		return fmt.Errorf("a put with %d results", len(res.Results))
	}
	c.out = append(append(append(c.out[:0], `{"message":"`...), putMessages[put.op.Kind]...), `",`...)
	c.out = appendKey(c.out, c.key)
	c.out = append(appendWritten(c.out, res.Results[0]), '}')
	return c.json(http.StatusOK)
}

// readRawPut: the body is the value, the query says the rest.
func (c *call) readRawPut(put *single) error {
	if err := c.takeCAS(put); err != nil {
		return err
	}
	var err error
	if put.op.Flags, put.extra, err = c.query.number("flags"); err != nil {
		return err
	}
	ttl, _, err := c.query.duration("ttl")
	if err != nil {
		return err
	}
	if err := put.setTTL("parameter ttl", int64(ttl)); err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	if err := c.readBody("value", maxValueBody); err != nil {
		return err
	}
	return put.setValue(c.body, len(c.body) > 0 || put.op.Kind != command.Op_RELEASE)
}

// takeCAS takes the parameter cas.
func (c *call) takeCAS(one *single) error {
	n, given, err := c.query.number("cas")
	if given {
		one.cas = n
		one.op.Cas = &one.cas
	}
	return err
}

// readJSONPut: the body says everything.
func (c *call) readJSONPut(put *single) error {
	if err := c.query.done(); err != nil {
		return err
	}
	if put.op.Kind == command.Op_RELEASE && c.r.ContentLength == 0 {
		return nil
	}
	r, err := c.readJSON("value", maxPutBody)
	if err != nil {
		return err
	}
	var value blob
	err = r.Object(func(name []byte) (err error) {
		switch string(name) {
		case "value":
			return value.read(r)
		case "encoding":
			return value.readEncoding(r)
		case "cas":
			put.cas, err = r.Uint()
			put.op.Cas = &put.cas
		case "flags":
			put.extra = true
			put.op.Flags, err = r.Uint()
		case "ttl":
			var ttl int64
			if ttl, err = readDuration(r, "ttl"); err == nil {
				err = put.setTTL("ttl", ttl)
			}
		default:
			return r.Unknown(name)
		}
		return err
	})
	if err == nil {
		err = r.End()
	}
	if err != nil {
		return err
	}
	decoded, err := value.decode("value")
	if err != nil {
		return err
	}
	return put.setValue(decoded, value.given)
}

// kvDelete is DELETE /kv/{key}.
func (c *call) kvDelete() error {
	if err := checkKey("key", c.key); err != nil {
		return err
	}
	del := c.one(command.Op_DELETE)
	if err := c.takeCAS(del); err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	if err := c.noBody(); err != nil {
		return err
	}
	res, err := c.apply(&del.txn)
	if err != nil {
		return err
	}
	if len(res.Results) != 1 {
		return fmt.Errorf("a deletion with %d results", len(res.Results))
	}
	c.out = append(c.out[:0], `{"message":"key deleted",`...)
	c.out = appendKey(c.out, c.key)
	c.out = appendBool(c.out, `,"deleted":`, res.Results[0].Found)
	c.out = append(c.out, '}')
	return c.json(http.StatusOK)
}

// kvDeletePrefix is DELETE /kv?prefix= and DELETE /kv?all=true.
func (c *call) kvDeletePrefix() error {
	prefix, given := c.query.text("prefix")
	all, err := c.query.flag("all")
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	if err := c.noBody(); err != nil {
		return err
	}
	switch {
	case all && prefix != "":
		return badRequest("parameters prefix and all exclude each other")
	case !all && prefix == "":
		return badRequest("parameter prefix is required and not empty; all=true deletes every key")
	case !all && !given:
		return badRequest("parameter prefix is required")
	}
	if err := checkKeyLen("prefix", len(prefix)); err != nil {
		return err
	}
	c.key = append(c.key[:0], prefix...)
	del := c.one(command.Op_DELETE_PREFIX)
	res, err := c.apply(&del.txn)
	if err != nil {
		return err
	}
	if len(res.Results) != 1 {
		return fmt.Errorf("a deletion with %d results", len(res.Results))
	}
	c.out = append(appendUint(c.out[:0], `{"deleted":`, res.Results[0].Deleted), '}')
	return c.json(http.StatusOK)
}
