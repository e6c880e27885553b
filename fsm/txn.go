package fsm

import (
	"bytes"
	"cmp"
	"fmt"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
)

// applyTxn applies a command.Txn: every change of keys, from a single put to a
// transaction. The compares read the state before the entry, then one branch
// runs in order. All of it takes effect, or, when a cas does not hold or a lock is not
// to be had, nothing.
func applyTxn(tx *entryTx, payload []byte) (*command.Result, error) {
	var txn command.Txn
	if err := command.Unmarshal(payload, &txn); err != nil {
		return nil, fmt.Errorf("decoding transaction: %w", err)
	}
	holds, err := compareAll(tx, txn.Compare)
	if err != nil {
		return nil, err
	}
	ops := txn.Then
	if !holds {
		ops = txn.Else
	}
	res := newResult(len(ops))
	res.Index = tx.Index()
	res.Succeeded = holds
	returned := 0
	for i, op := range ops {
		out := res.Results[i]
		refusal, err := applyOp(tx, op, out)
		if err != nil {
			return nil, fmt.Errorf("operation %d: %w", i, err)
		}
		if refusal != nil {
			return refuse(tx, refusal, i, op.Key, holds)
		}
		if returned += len(out.Value) + len(out.Session); returned > command.MaxResultBytes {
			tx.Rollback()
			return &command.Result{Code: command.Result_RESULT_TOO_LARGE, Index: tx.Index(), Succeeded: holds, FailedOp: uint32(i)}, nil
		}
	}
	return res, nil
}

// applyOp runs one operation and fills in its result. If a condition of the operation
// does not hold it returns why: a Result with what only the operation knows.
func applyOp(tx *entryTx, op *command.Op, out *command.OpResult) (*command.Result, error) {
	switch op.Kind {
	case command.Op_SET:
		return kvSet(tx, op, out)
	case command.Op_GET:
		return nil, kvGet(tx, op, out)
	case command.Op_DELETE:
		return kvDelete(tx, op, out)
	case command.Op_DELETE_PREFIX:
		return nil, kvDeletePrefix(tx, op, out)
	case command.Op_ACQUIRE:
		return kvAcquire(tx, op, out)
	case command.Op_RELEASE:
		return kvRelease(tx, op, out)
	default:
		return nil, fmt.Errorf("%w: operation kind %d", command.ErrUndecodable, op.Kind)
	}
}

// refused makes the refusal of an operation.
func refused(code command.Result_Code) (*command.Result, error) {
	return &command.Result{Code: code}, nil
}

// refuse undoes the entry. The state it reports is what the client finds when it
// looks again, so without this transaction's own earlier operations.
func refuse(tx *entryTx, res *command.Result, op int, key []byte, holds bool) (*command.Result, error) {
	tx.Rollback()
	res.Index, res.Succeeded, res.FailedOp = tx.Index(), holds, uint32(op)
	kv, found, err := readKV(tx, persistence.KVKey(key))
	if err != nil {
		return nil, err
	}
	res.ModifyIndex, res.Exists = kv.GetModifyIndex(), found
	return res, nil
}

// newResult allocates a Result with n empty operation results: once for one
// operation, which is nearly every entry, and three times for more.
func newResult(n int) *command.Result {
	if n == 1 {
		one := new(struct {
			res  command.Result
			op   command.OpResult
			list [1]*command.OpResult
		})
		one.list[0] = &one.op
		one.res.Results = one.list[:]
		return &one.res
	}
	res := new(command.Result)
	if n > 0 {
		all := make([]command.OpResult, n)
		res.Results = make([]*command.OpResult, n)
		for i := range all {
			res.Results[i] = &all[i]
		}
	}
	return res
}

func compareAll(tx *entryTx, compares []*command.Compare) (bool, error) {
	for i, c := range compares {
		holds, err := compare(tx, c)
		if err != nil {
			return false, fmt.Errorf("compare %d: %w", i, err)
		}
		if !holds {
			return false, nil
		}
	}
	return true, nil
}

// compare evaluates one condition. An absent key has the indexes 0 and no
// value: every comparison of its value is false, except that it is not equal.
func compare(tx *entryTx, c *command.Compare) (bool, error) {
	kv, found, err := readKV(tx, persistence.KVKey(c.Key))
	if err != nil {
		return false, err
	}
	switch c.Target {
	case command.Compare_VALUE:
		if !found {
			return c.Operator == command.Compare_NOT_EQUAL, checkOperator(c.Operator)
		}
		return ordered(c.Operator, bytes.Compare(kv.Value, c.Value))
	case command.Compare_MODIFY_INDEX:
		return ordered(c.Operator, cmp.Compare(kv.GetModifyIndex(), c.Number))
	case command.Compare_CREATE_INDEX:
		return ordered(c.Operator, cmp.Compare(kv.GetCreateIndex(), c.Number))
	case command.Compare_EXISTS:
		switch c.Operator {
		case command.Compare_EQUAL:
			return found == c.Exists, nil
		case command.Compare_NOT_EQUAL:
			return found != c.Exists, nil
		}
		return false, fmt.Errorf("%w: operator %d for exists", command.ErrUndecodable, c.Operator)
	default:
		return false, fmt.Errorf("%w: compare target %d", command.ErrUndecodable, c.Target)
	}
}

// ordered says whether "a operator b" holds, where sign is the order of a and b.
func ordered(op command.Compare_Operator, sign int) (bool, error) {
	switch op {
	case command.Compare_EQUAL:
		return sign == 0, nil
	case command.Compare_NOT_EQUAL:
		return sign != 0, nil
	case command.Compare_LESS:
		return sign < 0, nil
	case command.Compare_GREATER:
		return sign > 0, nil
	default:
		return false, checkOperator(op)
	}
}

func checkOperator(op command.Compare_Operator) error {
	if op < command.Compare_EQUAL || op > command.Compare_GREATER {
		return fmt.Errorf("%w: compare operator %d", command.ErrUndecodable, op)
	}
	return nil
}
