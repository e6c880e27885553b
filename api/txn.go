package api

import (
	"fmt"
	"net/http"

	"github.com/neogan74/konsul/fsm/command"
)

// txn is POST /txn.
func (c *call) txn() error {
	if err := c.query.done(); err != nil {
		return err
	}
	txn, err := c.readTxn()
	if err != nil {
		return err
	}
	res, err := c.apply(txn)
	if err != nil {
		return c.withOp(err, res)
	}
	ops := txn.Then
	if !res.Succeeded {
		ops = txn.Else
	}
	if len(res.Results) != len(ops) {
		return fmt.Errorf("%d results for %d operations", len(res.Results), len(ops))
	}
	c.out = appendBool(c.out[:0], `{"succeeded":`, res.Succeeded)
	c.out = appendUint(c.out, `,"index":`, res.Index)
	c.out = append(c.out, `,"results":[`...)
	for i, op := range ops {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = appendResult(c.out, op, res.Results[i])
	}
	c.out = append(c.out, `]}`...)
	return c.json(http.StatusOK)
}

// withOp adds to a failed condition which operation of the chosen branch it was.
func (c *call) withOp(err error, res *command.Result) error {
	switch res.GetCode() {
	case command.Result_CAS_CONFLICT, command.Result_RESULT_TOO_LARGE, command.Result_LOCK_HELD, command.Result_LOCK_DELAY,
		command.Result_NOT_HOLDER, command.Result_SESSION_NOT_FOUND, command.Result_LIMIT:
		f := c.failure(err)
		f.numbers = append(f.numbers, number{"op", uint64(res.FailedOp)})
		return f
	}
	return err
}

// appendResult appends what one operation did. Every result names its operation and
// key; the rest is what the endpoint of the same name answers.
func appendResult(dst []byte, op *command.Op, r *command.OpResult) []byte {
	dst = append(dst, `{"op":"`...)
	dst = append(dst, kindNames[op.Kind]...)
	dst = append(dst, `",`...)
	dst = appendKey(dst, op.Key)
	switch op.Kind {
	case command.Op_GET:
		dst = appendBool(dst, `,"found":`, r.GetFound())
		if r.GetFound() {
			dst = appendRecord(append(dst, ','), r)
		}
	case command.Op_SET, command.Op_ACQUIRE, command.Op_RELEASE:
		dst = appendWritten(dst, r)
	case command.Op_DELETE:
		dst = appendBool(dst, `,"deleted":`, r.GetFound())
	case command.Op_DELETE_PREFIX:
		dst = appendUint(dst, `,"deleted":`, r.GetDeleted())
	}
	return append(dst, '}')
}

var kindNames = map[command.Op_Kind]string{
	command.Op_SET: "set", command.Op_GET: "get", command.Op_DELETE: "delete", command.Op_DELETE_PREFIX: "delete_prefix",
	command.Op_ACQUIRE: "acquire", command.Op_RELEASE: "release",
}

var kinds = map[string]command.Op_Kind{
	"set": command.Op_SET, "get": command.Op_GET, "delete": command.Op_DELETE, "delete_prefix": command.Op_DELETE_PREFIX,
	"acquire": command.Op_ACQUIRE, "release": command.Op_RELEASE,
}

var targets = map[string]command.Compare_Target{
	"value": command.Compare_VALUE, "modify_index": command.Compare_MODIFY_INDEX,
	"create_index": command.Compare_CREATE_INDEX, "exists": command.Compare_EXISTS,
}

var operators = map[string]command.Compare_Operator{
	"=": command.Compare_EQUAL, "!=": command.Compare_NOT_EQUAL, "<": command.Compare_LESS, ">": command.Compare_GREATER,
}
