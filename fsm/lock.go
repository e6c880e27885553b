package fsm

import (
	"fmt"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// Locks: a session holds a key. Who holds is in the key's record; sys:held: repeats
// it by session, and the session counts its keys.

// kvAcquire is a put that also makes a session the holder. The lock index is that of
// the entry that changed the holder, so it only grows, whatever became of the key in
// between; the holder may acquire again to write, and keeps it.
func kvAcquire(tx *entryTx, op *command.Op, out *command.OpResult) (*command.Result, error) {
	ses, found, err := readSession(tx, op.Session)
	if err != nil {
		return nil, err
	}
	if !found {
		return refused(command.Result_SESSION_NOT_FOUND)
	}
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
	if kv.Session != op.Session {
		if refusal, err := mayHold(tx, op.Key, kv, ses); refusal != nil || err != nil {
			return refusal, err
		}
		if err := hold(tx, ses, op.Key); err != nil {
			return nil, err
		}
		kv.Session, kv.LockIndex = op.Session, tx.Index()
	}
	return nil, kvPut(tx, stored, kv, op, out)
}

// mayHold says why a session cannot become the holder of a key.
func mayHold(tx *entryTx, key []byte, kv *record.KV, ses *record.Session) (*command.Result, error) {
	if kv.Session != "" {
		return &command.Result{Code: command.Result_LOCK_HELD, Session: kv.Session}, nil
	}
	delay, found, err := tx.Lease(persistence.DelayKey(key))
	if err != nil {
		return nil, fmt.Errorf("reading lock delay: %w", err)
	}
	if found {
		now, err := tx.now()
		if err != nil {
			return nil, err
		}
		if delay.Deadline > now {
			return &command.Result{Code: command.Result_LOCK_DELAY, Wait: delay.Deadline - now}, nil
		}
	}
	if ses.Held >= command.MaxSessionKeys {
		return &command.Result{Code: command.Result_LIMIT, Limit: command.MaxSessionKeys}, nil
	}
	return nil, nil
}

// kvRelease ends the hold of a session; with a value it is a put as well.
func kvRelease(tx *entryTx, op *command.Op, out *command.OpResult) (*command.Result, error) {
	stored := persistence.KVKey(op.Key)
	kv, found, err := readKV(tx, stored)
	if err != nil {
		return nil, err
	}
	if !casHolds(op.Cas, kv) {
		return refused(command.Result_CAS_CONFLICT)
	}
	if !found || kv.Session != op.Session {
		return &command.Result{Code: command.Result_NOT_HOLDER, Session: kv.GetSession()}, nil
	}
	if err := unhold(tx, kv.Session, op.Key); err != nil {
		return nil, err
	}
	kv.Session = ""
	if op.HasValue {
		return nil, kvPut(tx, stored, kv, op, out)
	}
	return nil, kvStore(tx, stored, kv, out)
}

func hold(tx *entryTx, ses *record.Session, key []byte) error {
	tx.SetHeld(ses.Id, key)
	ses.Held++
	return setRecord(tx, persistence.SessionKey(ses.Id), ses)
}

// unhold forgets that a session holds a key; the key's record is the caller's.
func unhold(tx *entryTx, session string, key []byte) error {
	tx.Delete(persistence.HeldKey(session, key))
	ses, found, err := readSession(tx, session)
	if err != nil {
		return err
	}
	if !found {
		return nil
	}
	ses.Held -= min(ses.Held, 1)
	return setRecord(tx, persistence.SessionKey(session), ses)
}
