package fsm

import (
	"bytes"
	"fmt"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

func readSession(tx *entryTx, id string) (*record.Session, bool, error) {
	ses := new(record.Session)
	found, err := tx.read(persistence.SessionKey(id), ses)
	return ses, found, err
}

// applySessionCreate makes a session. Its id is the proposer's, at random; one that
// is taken is refused.
func applySessionCreate(tx *entryTx, payload []byte) (*command.Result, error) {
	var m command.SessionCreate
	if err := command.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decoding session: %w", err)
	}
	_, found, err := readSession(tx, m.Id)
	if err != nil {
		return nil, err
	}
	if found {
		return answer(tx, command.Result_EXISTS), nil
	}
	if m.Ttl > 0 {
		if err := tx.lease(persistence.SessionKey(m.Id), m.Ttl); err != nil {
			return nil, err
		}
	}
	res := answer(tx, command.Result_OK)
	res.CreateIndex = tx.Index()
	return res, setRecord(tx, persistence.SessionKey(m.Id), &record.Session{
		Id:          m.Id,
		Name:        m.Name,
		Node:        m.Node,
		Ttl:         m.Ttl,
		Behavior:    uint32(m.Behavior),
		LockDelay:   m.LockDelay,
		CreateIndex: tx.Index(),
		ModifyIndex: tx.Index(),
	})
}

// applySessionRenew gives a session its TTL anew.
func applySessionRenew(tx *entryTx, payload []byte) (*command.Result, error) {
	var m command.SessionRenew
	if err := command.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decoding renewal: %w", err)
	}
	ses, found, err := readSession(tx, m.Id)
	if err != nil {
		return nil, err
	}
	if !found {
		return answer(tx, command.Result_SESSION_NOT_FOUND), nil
	}
	res := answer(tx, command.Result_OK)
	res.CreateIndex, res.Ttl = ses.CreateIndex, ses.Ttl
	if ses.Ttl == 0 {
		return res, nil
	}
	return res, tx.lease(persistence.SessionKey(m.Id), ses.Ttl)
}

// applySessionDestroy ends a session as its expiry would.
func applySessionDestroy(tx *entryTx, payload []byte) (*command.Result, error) {
	var m command.SessionDestroy
	if err := command.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decoding session end: %w", err)
	}
	ses, found, err := readSession(tx, m.Id)
	if err != nil {
		return nil, err
	}
	if !found {
		return answer(tx, command.Result_SESSION_NOT_FOUND), nil
	}
	return answer(tx, command.Result_OK), endSession(tx, ses)
}

// endSession removes a session: every key it holds is released or deleted, as it was
// to be, and put under the session's lock delay, if it has one.
func endSession(tx *entryTx, ses *record.Session) error {
	keys, err := heldKeys(tx, ses)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := endHold(tx, ses, key); err != nil {
			return err
		}
	}
	stored := persistence.SessionKey(ses.Id)
	tx.Delete(stored)
	return tx.DropLease(stored)
}

// heldKeys lists the keys that a session holds. It stops at the last: behind it there
// may be the tombstones of many that it held once.
func heldKeys(tx *entryTx, ses *record.Session) ([][]byte, error) {
	if ses.Held == 0 {
		return nil, nil
	}
	prefix := persistence.HeldKeys(ses.Id)
	keys := make([][]byte, 0, ses.Held)
	err := tx.Scan(prefix, func(stored, _ []byte) error {
		keys = append(keys, bytes.Clone(stored[len(prefix):]))
		if uint64(len(keys)) == ses.Held {
			return persistence.ErrStop
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the keys of session %q: %w", ses.Id, err)
	}
	return keys, nil
}

func endHold(tx *entryTx, ses *record.Session, key []byte) error {
	tx.Delete(persistence.HeldKey(ses.Id, key))
	stored := persistence.KVKey(key)
	kv, found, err := readKV(tx, stored)
	if err != nil || !found || kv.Session != ses.Id {
		return err
	}
	kv.Session = ""
	if ses.Behavior == uint32(command.SessionCreate_DELETE) {
		err = kvRemove(tx, stored, kv)
	} else {
		err = kvStore(tx, stored, kv, nil)
	}
	if err != nil || ses.LockDelay == 0 {
		return err
	}
	return tx.lease(persistence.DelayKey(key), ses.LockDelay)
}

// answer makes a Result without details.
func answer(tx *entryTx, code command.Result_Code) *command.Result {
	return &command.Result{Code: code, Index: tx.Index(), Succeeded: code == command.Result_OK}
}
