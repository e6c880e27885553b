package fsm

import (
	"fmt"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// Checks of an instance are part of its record, so that whoever watches the service
// sees them change; checks of a node are records of their own. A check with a TTL has
// a lease while an update may still come too late: from an update on, until it is over.

// ttlOutput is the output of a check that was not updated in time.
const ttlOutput = "TTL expired"

const critical = uint32(command.Check_CRITICAL)

func newCheck(tx *entryTx, m *command.Check) *record.Check {
	c := &record.Check{
		Id:            m.Id,
		Name:          m.Name,
		Kind:          uint32(m.Kind),
		Target:        m.Target,
		Interval:      m.Interval,
		Timeout:       m.Timeout,
		Ttl:           m.Ttl,
		PassingAfter:  m.PassingAfter,
		CriticalAfter: m.CriticalAfter,
		Status:        uint32(m.Status),
		CreateIndex:   tx.Index(),
		ModifyIndex:   tx.Index(),
	}
	if m.Status == command.Check_STATUS_UNSPECIFIED {
		c.Status = critical
	}
	return c
}

// sameCheck says whether two checks are defined alike.
func sameCheck(a, b *record.Check) bool {
	return a.Name == b.Name && a.Kind == b.Kind && a.Target == b.Target && a.Interval == b.Interval && a.Timeout == b.Timeout &&
		a.Ttl == b.Ttl && a.PassingAfter == b.PassingAfter && a.CriticalAfter == b.CriticalAfter
}

func findCheck(checks []*record.Check, id string) (*record.Check, bool) {
	for _, c := range checks {
		if c.Id == id {
			return c, true
		}
	}
	return nil, false
}

// startCheck gives a new check its lease, in place of one that another check of that
// id had. One that begins as critical needs none.
func startCheck(tx *entryTx, subject []byte, c *record.Check) error {
	if err := tx.DropLease(subject); err != nil {
		return err
	}
	if c.Ttl == 0 || c.Status == critical {
		return nil
	}
	return tx.lease(subject, c.Ttl)
}

func dropCheckLease(tx *entryTx, name, id string, c *record.Check) error {
	if c.Ttl == 0 {
		return nil
	}
	return tx.DropLease(persistence.InstanceCheckSubject(name, id, c.Id))
}

// applyCheckSet registers a check of a node or replaces it; with the same definition
// it stays as it is.
func applyCheckSet(tx *entryTx, payload []byte) (*command.Result, error) {
	var m command.CheckSet
	if err := command.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decoding check: %w", err)
	}
	key := persistence.NodeCheckKey(m.Node, m.Check.GetId())
	have := new(record.Check)
	found, err := tx.read(key, have)
	if err != nil {
		return nil, err
	}
	c := newCheck(tx, m.Check)
	res := answer(tx, command.Result_OK)
	if found && sameCheck(have, c) {
		res.CreateIndex = have.CreateIndex
		return res, nil
	}
	if err := startCheck(tx, key, c); err != nil {
		return nil, err
	}
	res.CreateIndex = c.CreateIndex
	return res, setRecord(tx, key, c)
}

// applyCheckDelete removes a check of a node.
func applyCheckDelete(tx *entryTx, payload []byte) (*command.Result, error) {
	var m command.CheckDelete
	if err := command.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decoding check: %w", err)
	}
	key := persistence.NodeCheckKey(m.Node, m.Id)
	found, err := tx.read(key, new(record.Check))
	if err != nil {
		return nil, err
	}
	if !found {
		return answer(tx, command.Result_CHECK_NOT_FOUND), nil
	}
	tx.Delete(key)
	return answer(tx, command.Result_OK), tx.DropLease(key)
}

// applyCheckUpdate takes a result of a check. One that changes nothing only renews
// the check's TTL.
func applyCheckUpdate(tx *entryTx, payload []byte) (*command.Result, error) {
	var m command.CheckUpdate
	if err := command.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decoding check result: %w", err)
	}
	if m.Node != "" {
		return updateNodeCheck(tx, &m)
	}
	s, found, err := readService(tx, m.Service, m.Instance)
	if err != nil {
		return nil, err
	}
	if !found {
		return noService(tx, m.Service, m.Instance)
	}
	c, found := findCheck(s.Checks, m.Id)
	if !found {
		return answer(tx, command.Result_CHECK_NOT_FOUND), nil
	}
	res, changed, err := updateCheck(tx, persistence.InstanceCheckSubject(m.Service, m.Instance, m.Id), c, &m)
	if err != nil || !changed {
		return res, err
	}
	return res, writeService(tx, s)
}

func updateNodeCheck(tx *entryTx, m *command.CheckUpdate) (*command.Result, error) {
	key, c := persistence.NodeCheckKey(m.Node, m.Id), new(record.Check)
	found, err := tx.read(key, c)
	if err != nil {
		return nil, err
	}
	if !found {
		return answer(tx, command.Result_CHECK_NOT_FOUND), nil
	}
	res, changed, err := updateCheck(tx, key, c, m)
	if err != nil || !changed {
		return res, err
	}
	return res, setRecord(tx, key, c)
}

// updateCheck gives a check a result and renews it. It says whether the record is to
// be written.
func updateCheck(tx *entryTx, subject []byte, c *record.Check, m *command.CheckUpdate) (*command.Result, bool, error) {
	if m.CreateIndex != 0 && m.CreateIndex != c.CreateIndex {
		return answer(tx, command.Result_CHECK_NOT_FOUND), false, nil
	}
	changed := setStatus(tx, c, uint32(m.Status), m.Output)
	res := answer(tx, command.Result_OK)
	res.CreateIndex = c.CreateIndex
	if c.Ttl == 0 {
		return res, changed, nil
	}
	return res, changed, tx.lease(subject, c.Ttl)
}

func setStatus(tx *entryTx, c *record.Check, status uint32, output string) (changed bool) {
	if c.Status == status && c.Output == output {
		return false
	}
	if c.Status != status {
		c.Status, c.ModifyIndex = status, tx.Index()
	}
	c.Output = output
	return true
}

// expireCheck makes a check critical that was not updated in time. It stays, without
// a lease, until it is updated.
func expireCheck(tx *entryTx, subject []byte, of persistence.Subject) error {
	if err := tx.DropLease(subject); err != nil {
		return err
	}
	if of.Node != "" {
		c := new(record.Check)
		found, err := tx.read(subject, c)
		if err != nil || !found || !setStatus(tx, c, critical, ttlOutput) {
			return err
		}
		return setRecord(tx, subject, c)
	}
	s, _, err := readService(tx, of.Service, of.Instance)
	if err != nil {
		return err
	}
	c, found := findCheck(s.Checks, of.Check)
	if !found || !setStatus(tx, c, critical, ttlOutput) {
		return nil
	}
	return writeService(tx, s)
}
