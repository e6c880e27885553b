package fsm

import (
	"bytes"
	"fmt"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// The operations on keys. Each is a step of applyTxn: it reads what earlier
// steps of the same entry wrote.

// readKV returns the record under a stored key, or nil and false.
func readKV(tx *entryTx, stored []byte) (*record.KV, bool, error) {
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
func kvSet(tx *entryTx, op *command.Op, out *command.OpResult) (*command.Result, error) {
	stored := persistence.KVKey(op.Key)
	kv, found, err := readKV(tx, stored)
	if err != nil {
		return nil, err
	}
	if !casHolds(op.Cas, kv) {
		return refused(command.Result_CAS_CONFLICT)
	}
	if !found {
		kv = &record.KV{CreateIndex: tx.Index()}
	}
	return nil, kvPut(tx, stored, kv, op, out)
}

// kvPut gives a record the value, flags and lifetime of an operation and writes it. A
// key that has no deadline and gets none costs nothing more.
func kvPut(tx *entryTx, stored []byte, kv *record.KV, op *command.Op, out *command.OpResult) error {
	kv.Value, kv.Flags = op.Value, op.Flags
	if kv.Deadline != 0 {
		tx.DropDue(kv.Deadline, stored)
		kv.Deadline = 0
	}
	if op.Ttl > 0 {
		deadline, err := tx.deadline(op.Ttl)
		if err != nil {
			return err
		}
		kv.Deadline = deadline
		tx.SetDue(deadline, stored)
	}
	return kvStore(tx, stored, kv, out)
}

// kvStore writes a record that this entry has changed.
func kvStore(tx *entryTx, stored []byte, kv *record.KV, out *command.OpResult) error {
	kv.ModifyIndex = tx.Index()
	b, err := persistence.EncodeRecord(kv)
	if err != nil {
		return fmt.Errorf("encoding %q: %w", stored, err)
	}
	tx.Set(stored, b)
	if out != nil {
		out.CreateIndex, out.ModifyIndex = kv.CreateIndex, kv.ModifyIndex
		out.LockIndex, out.Session = kv.LockIndex, kv.Session
	}
	return nil
}

func kvGet(tx *entryTx, op *command.Op, out *command.OpResult) error {
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

func kvDelete(tx *entryTx, op *command.Op, out *command.OpResult) (*command.Result, error) {
	stored := persistence.KVKey(op.Key)
	kv, found, err := readKV(tx, stored)
	if err != nil {
		return nil, err
	}
	if !casHolds(op.Cas, kv) {
		return refused(command.Result_CAS_CONFLICT)
	}
	if !found {
		return nil, nil
	}
	out.Found, out.Deleted = true, 1
	return nil, kvRemove(tx, stored, kv)
}

// kvRemove removes a record and everything that goes with it.
func kvRemove(tx *entryTx, stored []byte, kv *record.KV) error {
	tx.Delete(stored)
	return kvForget(tx, stored, kv.Deadline, kv.Session)
}

// kvForget removes what the system keeps about a key that is gone: its place in the
// index of deadlines, and the hold of a session.
func kvForget(tx *entryTx, stored []byte, deadline int64, session string) error {
	if deadline != 0 {
		tx.DropDue(deadline, stored)
	}
	if session == "" {
		return nil
	}
	key, _ := persistence.UserKey(stored)
	return unhold(tx, session, key)
}

// kvDeletePrefix removes every key that starts with the operation's key.
func kvDeletePrefix(tx *entryTx, op *command.Op, out *command.OpResult) error {
	type bound struct {
		stored   []byte
		deadline int64
		session  string
	}
	var bounds []bound
	n, err := tx.DeletePrefix(persistence.KVKey(op.Key), func(stored, value []byte) error {
		deadline, session, err := persistence.KVBounds(value)
		if err == nil && (deadline != 0 || session != "") {
			bounds = append(bounds, bound{bytes.Clone(stored), deadline, session})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("deleting %q: %w", op.Key, err)
	}
	for _, b := range bounds {
		if err := kvForget(tx, b.stored, b.deadline, b.session); err != nil {
			return err
		}
	}
	out.Deleted = n
	return nil
}
