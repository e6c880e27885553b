package fsm

import (
	"bytes"
	"fmt"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

func readService(tx *entryTx, name, id string) (*record.Service, bool, error) {
	s := new(record.Service)
	found, err := tx.read(persistence.ServiceKey(name, id), s)
	return s, found, err
}

func writeService(tx *entryTx, s *record.Service) error {
	s.ModifyIndex = tx.Index()
	return setRecord(tx, persistence.ServiceKey(s.Name, s.Id), s)
}

// applyServiceSet registers an instance of a service or replaces it. Of an instance
// that is there the create index stays, and the state of checks that stay the same.
func applyServiceSet(tx *entryTx, payload []byte) (*command.Result, error) {
	var m command.ServiceSet
	if err := command.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decoding service: %w", err)
	}
	old, found, err := readService(tx, m.Name, m.Id)
	if err != nil {
		return nil, err
	}
	s := newService(&m)
	s.CreateIndex = tx.Index()
	if found {
		s.CreateIndex = old.CreateIndex
	} else if err := tx.DropLease(persistence.GoneKey(m.Name, m.Id)); err != nil {
		return nil, err
	}
	if s.Checks, err = replaceChecks(tx, &m, old.Checks); err != nil {
		return nil, err
	}
	key := persistence.ServiceKey(m.Name, m.Id)
	switch {
	case m.Ttl > 0:
		err = tx.lease(key, m.Ttl)
	case old.Ttl > 0:
		err = tx.DropLease(key)
	}
	if err != nil {
		return nil, err
	}
	res := answer(tx, command.Result_OK)
	res.CreateIndex = s.CreateIndex
	return res, writeService(tx, s)
}

// newService makes a record of what was registered, but for its checks.
func newService(m *command.ServiceSet) *record.Service {
	s := &record.Service{
		Data:    m.Data,
		Name:    m.Name,
		Id:      m.Id,
		Node:    m.Node,
		Address: m.Address,
		Port:    m.Port,
		Tags:    m.Tags,
		Ttl:     m.Ttl,
	}
	for _, p := range m.Meta {
		s.Meta = append(s.Meta, &record.Pair{Key: p.Key, Value: p.Value})
	}
	return s
}

// replaceChecks makes the checks of an instance that is registered: those that were
// there with the same definition stay as they are.
func replaceChecks(tx *entryTx, m *command.ServiceSet, old []*record.Check) ([]*record.Check, error) {
	var checks []*record.Check
	for _, def := range m.Checks {
		check, kept := newCheck(tx, def), false
		for _, have := range old {
			if have.Id == def.Id && sameCheck(have, check) {
				check, kept = have, true
			}
		}
		checks = append(checks, check)
		if kept {
			continue
		}
		if err := startCheck(tx, persistence.InstanceCheckSubject(m.Name, m.Id, check.Id), check); err != nil {
			return nil, err
		}
	}
	for _, have := range old {
		if _, still := findCheck(checks, have.Id); still {
			continue // startCheck has seen to its lease
		}
		if err := dropCheckLease(tx, m.Name, m.Id, have); err != nil {
			return nil, err
		}
	}
	return checks, nil
}

// applyServiceDelete deregisters an instance, or all of a service, and forgets those
// that have expired. If there was none it says so.
func applyServiceDelete(tx *entryTx, payload []byte) (*command.Result, error) {
	var m command.ServiceDelete
	if err := command.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decoding service: %w", err)
	}
	live, gone := [][]byte{persistence.ServiceKey(m.Name, m.Id)}, [][]byte{persistence.GoneKey(m.Name, m.Id)}
	if m.Id == "" {
		var err error
		if live, err = keysUnder(tx, persistence.ServiceInstances(m.Name)); err != nil {
			return nil, err
		}
		if gone, err = keysUnder(tx, persistence.GoneInstances(m.Name)); err != nil {
			return nil, err
		}
	}
	count := uint64(0)
	for _, stored := range live {
		s := new(record.Service)
		found, err := tx.read(stored, s)
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		if err := removeService(tx, s); err != nil {
			return nil, err
		}
		count++
	}
	for _, marker := range gone {
		if err := tx.DropLease(marker); err != nil {
			return nil, err
		}
	}
	if count == 0 {
		return answer(tx, command.Result_SERVICE_NOT_FOUND), nil
	}
	res := answer(tx, command.Result_OK)
	res.Count = count
	return res, nil
}

// keysUnder lists the stored keys with a prefix.
func keysUnder(tx *entryTx, prefix []byte) (keys [][]byte, err error) {
	err = tx.Scan(prefix, func(stored, _ []byte) error {
		keys = append(keys, bytes.Clone(stored))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", prefix, err)
	}
	return keys, nil
}

// removeService removes an instance and everything that goes with it.
func removeService(tx *entryTx, s *record.Service) error {
	for _, c := range s.Checks {
		if err := dropCheckLease(tx, s.Name, s.Id, c); err != nil {
			return err
		}
	}
	stored := persistence.ServiceKey(s.Name, s.Id)
	tx.Delete(stored)
	if s.Ttl == 0 {
		return nil
	}
	return tx.DropLease(stored)
}

// applyHeartbeat renews an instance. It changes nothing that anybody watches: the
// lease is a record of its own.
func applyHeartbeat(tx *entryTx, payload []byte) (*command.Result, error) {
	var m command.Heartbeat
	if err := command.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decoding heartbeat: %w", err)
	}
	s, found, err := readService(tx, m.Name, m.Id)
	if err != nil {
		return nil, err
	}
	if !found {
		return noService(tx, m.Name, m.Id)
	}
	res := answer(tx, command.Result_OK)
	res.CreateIndex, res.Ttl = s.CreateIndex, s.Ttl
	if s.Ttl == 0 {
		return res, nil
	}
	return res, tx.lease(persistence.ServiceKey(m.Name, m.Id), s.Ttl)
}

// noService answers that an instance has expired, or was never there.
func noService(tx *entryTx, name, id string) (*command.Result, error) {
	_, gone, err := tx.Lease(persistence.GoneKey(name, id))
	if err != nil {
		return nil, fmt.Errorf("reading expired service: %w", err)
	}
	if gone {
		return answer(tx, command.Result_SERVICE_EXPIRED), nil
	}
	return answer(tx, command.Result_SERVICE_NOT_FOUND), nil
}

// expireService removes an instance whose time is over, and notes that it was there.
func expireService(tx *entryTx, name, id string) error {
	s, found, err := readService(tx, name, id)
	if err != nil {
		return err
	}
	if !found {
		return tx.DropLease(persistence.ServiceKey(name, id))
	}
	if err := removeService(tx, s); err != nil {
		return err
	}
	return tx.lease(persistence.GoneKey(name, id), int64(persistence.GoneFor))
}
