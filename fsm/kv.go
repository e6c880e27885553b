package fsm

import (
	"fmt"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// The operations on keys. Each is a step of applyTxn: it reads what earlier
// steps of the same entry wrote.

// readKV returns the record under a stored key, or nil and false.
func readKV(tx *persistence.Tx, stored []byte) (*record.KV, bool, error) {
	b, found, err := tx.Get(stored)
	if err != nil {
		return nil, false, fmt.Errorf("reading %q: %w", stored, err)
	}
	if !found {
		return nil, false, nil
	}
	kv := new(record.KV)
	if err := persistence.DecodeRecord(b, kv); err != nil {
		return nil, false, fmt.Errorf("reading %q: %w", stored, err)
	}
	return kv, true, nil
}

// casHolds says whether a condition on the modify index holds: none always
// does, 0 means that the key is absent. An absent record has modify index 0 and
// a present one never has, so one comparison says both.
func casHolds(cas *uint64, kv *record.KV) bool {
	return cas == nil || *cas == kv.GetModifyIndex()
}

// kvSet writes a key. The create index, the fencing token and the holder of an
// existing record stay; its deadline does not: a put says anew how long to live.
func kvSet(tx *persistence.Tx, op *command.Op, out *command.OpResult) (bool, error) {
	stored := persistence.KVKey(op.Key)
	kv, found, err := readKV(tx, stored)
	if err != nil {
		return false, err
	}
	if !casHolds(op.Cas, kv) {
		return false, nil
	}
	if !found {
		kv = &record.KV{CreateIndex: tx.Index()}
	}
	kv.Value, kv.Flags, kv.ModifyIndex, kv.Deadline = op.Value, op.Flags, tx.Index(), 0
	b, err := persistence.EncodeRecord(kv)
	if err != nil {
		return false, fmt.Errorf("encoding %q: %w", stored, err)
	}
	tx.Set(stored, b)
	out.CreateIndex, out.ModifyIndex = kv.CreateIndex, kv.ModifyIndex
	out.LockIndex, out.Session = kv.LockIndex, kv.Session
	return true, nil
}

func kvGet(tx *persistence.Tx, op *command.Op, out *command.OpResult) error {
	kv, found, err := readKV(tx, persistence.KVKey(op.Key))
	if err != nil || !found {
		return err
	}
	out.Found = true
	out.Value, out.Flags = kv.Value, kv.Flags
	out.CreateIndex, out.ModifyIndex = kv.CreateIndex, kv.ModifyIndex
	out.LockIndex, out.Session = kv.LockIndex, kv.Session
	return nil
}

func kvDelete(tx *persistence.Tx, op *command.Op, out *command.OpResult) (bool, error) {
	stored := persistence.KVKey(op.Key)
	kv, found, err := readKV(tx, stored)
	if err != nil {
		return false, err
	}
	if !casHolds(op.Cas, kv) {
		return false, nil
	}
	if found {
		tx.Delete(stored)
		out.Found, out.Deleted = true, 1
	}
	return true, nil
}

// kvDeletePrefix removes every key that starts with the operation's key.
func kvDeletePrefix(tx *persistence.Tx, op *command.Op, out *command.OpResult) error {
	n, err := tx.DeletePrefix(persistence.KVKey(op.Key))
	if err != nil {
		return fmt.Errorf("deleting %q: %w", op.Key, err)
	}
	out.Deleted = n
	return nil
}
