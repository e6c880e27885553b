package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
)

// Engine is persistence.Engine over a node: reads are linearizable, a write is
// one entry of the log. It works on any node. Close closes this face only.
type Engine struct {
	store  *Store
	closed atomic.Bool
}

var _ persistence.Engine = (*Engine)(nil)

// Engine returns a new face of this node.
func (s *Store) Engine() *Engine { return &Engine{store: s} }

// Get implements persistence.Engine.
func (e *Engine) Get(key string) ([]byte, error) {
	if err := persistence.CheckKey([]byte(key)); err != nil {
		return nil, err
	}
	v, err := e.view()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	kv, err := v.KV([]byte(key))
	if err != nil {
		return nil, err
	}
	if kv.Value == nil {
		return []byte{}, nil
	}
	return kv.Value, nil
}

// List implements persistence.Engine.
func (e *Engine) List(prefix string) ([]string, error) {
	v, err := e.view()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	keys := []string{}
	err = v.ScanKeys(persistence.KVKey([]byte(prefix)), nil, func(stored []byte) error {
		key, _ := persistence.UserKey(stored)
		keys = append(keys, string(key))
		return nil
	})
	return keys, err
}

func (e *Engine) view() (*persistence.View, error) {
	if e.closed.Load() {
		return nil, persistence.ErrClosed
	}
	v, _, err := e.store.View(context.Background(), ReadOptions{})
	return v, engineError(err)
}

// Set implements persistence.Engine.
func (e *Engine) Set(key string, value []byte) error { return e.apply(setOp(key, value)) }

// Delete implements persistence.Engine.
func (e *Engine) Delete(key string) error { return e.apply(deleteOp(key)) }

// BatchSet implements persistence.Engine.
func (e *Engine) BatchSet(items map[string][]byte) error {
	ops := make([]*command.Op, 0, len(items))
	for key, value := range items {
		ops = append(ops, setOp(key, value))
	}
	slices.SortFunc(ops, func(a, b *command.Op) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return e.apply(ops...)
}

// BatchDelete implements persistence.Engine.
func (e *Engine) BatchDelete(keys []string) error {
	ops := make([]*command.Op, len(keys))
	for i, key := range keys {
		ops[i] = deleteOp(key)
	}
	return e.apply(ops...)
}

func setOp(key string, value []byte) *command.Op {
	return &command.Op{Kind: command.Op_SET, Key: []byte(key), Value: value}
}

func deleteOp(key string) *command.Op {
	return &command.Op{Kind: command.Op_DELETE, Key: []byte(key)}
}

// apply proposes ops as one entry.
func (e *Engine) apply(ops ...*command.Op) error {
	if e.closed.Load() {
		return persistence.ErrClosed
	}
	if len(ops) > persistence.MaxOps {
		return fmt.Errorf("%w: %d, at most %d", persistence.ErrTooManyOps, len(ops), persistence.MaxOps)
	}
	for _, op := range ops {
		if err := checkOp(op); err != nil {
			return err
		}
	}
	if len(ops) == 0 {
		return nil
	}
	return e.propose(command.Type_TYPE_TXN, &command.Txn{Then: ops})
}

// propose has a command applied; any other result than OK or one of also is an error.
func (e *Engine) propose(t command.Type, m proto.Message, also ...command.Result_Code) error {
	if e.closed.Load() {
		return persistence.ErrClosed
	}
	res, err := e.store.Apply(context.Background(), t, m, "")
	if err != nil {
		return engineError(err)
	}
	if res.Code != command.Result_OK && !slices.Contains(also, res.Code) {
		return fmt.Errorf("write refused: %v", res.Code)
	}
	return nil
}

func checkOp(op *command.Op) error {
	if err := persistence.CheckKey(op.Key); err != nil {
		return err
	}
	if err := persistence.CheckValue(op.Value); err != nil {
		return fmt.Errorf("key %q: %w", op.Key, err)
	}
	return nil
}

// engineError speaks the engine's language where it has words for it.
func engineError(err error) error {
	var limit *command.LimitError
	switch {
	case errors.As(err, &limit):
		return fmt.Errorf("%w: %w", persistence.ErrEntryTooLarge, err)
	case errors.Is(err, ErrShuttingDown):
		return fmt.Errorf("%w: %w", persistence.ErrClosed, err)
	}
	return err
}

// BeginTx implements persistence.Engine.
func (e *Engine) BeginTx() (persistence.Transaction, error) {
	if e.closed.Load() {
		return nil, persistence.ErrClosed
	}
	return &engineTx{engine: e}, nil
}

// engineTx gathers writes for one entry.
type engineTx struct {
	engine *Engine
	ops    []*command.Op
	done   bool
}

// Set implements persistence.Transaction.
func (t *engineTx) Set(key string, value []byte) error {
	return t.add(setOp(key, slices.Clone(value)))
}

// Delete implements persistence.Transaction.
func (t *engineTx) Delete(key string) error { return t.add(deleteOp(key)) }

func (t *engineTx) add(op *command.Op) error {
	if t.done {
		return persistence.ErrTxDone
	}
	if err := checkOp(op); err != nil {
		return err
	}
	if len(t.ops) == persistence.MaxOps {
		return fmt.Errorf("%w: at most %d", persistence.ErrTooManyOps, persistence.MaxOps)
	}
	t.ops = append(t.ops, op)
	return nil
}

// Commit implements persistence.Transaction.
func (t *engineTx) Commit() error {
	if t.done {
		return persistence.ErrTxDone
	}
	t.done = true
	return t.engine.apply(t.ops...)
}

// Rollback implements persistence.Transaction.
func (t *engineTx) Rollback() error {
	t.done, t.ops = true, nil
	return nil
}

// Close implements persistence.Engine: the node goes on.
func (e *Engine) Close() error {
	e.closed.Store(true)
	return nil
}

// The backup comes with its own issue.
