package fsm

import (
	"fmt"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// applyMemberSet records where a node is reached; a node that comes back with
// another address overwrites its record.
func applyMemberSet(tx *entryTx, payload []byte) (*command.Result, error) {
	var m command.MemberSet
	if err := command.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decoding member: %w", err)
	}
	err := setRecord(tx, persistence.MemberKey(m.Id), &record.Member{
		Id:          m.Id,
		RaftAddress: m.RaftAddress,
		ApiAddress:  m.ApiAddress,
		WantVoter:   m.WantVoter,
		Incarnation: m.Incarnation,
		ModifyIndex: tx.Index(),
	})
	if err != nil {
		return nil, err
	}
	return &command.Result{Index: tx.Index(), Succeeded: true}, nil
}

// applyMemberRemove forgets a node. Succeeded says whether it was there.
func applyMemberRemove(tx *entryTx, payload []byte) (*command.Result, error) {
	var m command.MemberRemove
	if err := command.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decoding member removal: %w", err)
	}
	_, found, err := tx.Get(persistence.MemberKey(m.Id))
	if err != nil {
		return nil, fmt.Errorf("reading member %q: %w", m.Id, err)
	}
	if found {
		tx.Delete(persistence.MemberKey(m.Id))
	}
	return &command.Result{Index: tx.Index(), Succeeded: found}, nil
}

// Members returns the members a view shows, ordered by id.
func (f *FSM) Members(view *persistence.View) ([]*record.Member, error) {
	var members []*record.Member
	err := view.Scan(persistence.MemberPrefix(), nil, func(_, value []byte) error {
		m := new(record.Member)
		if err := persistence.DecodeRecord(value, m); err != nil {
			return err
		}
		members = append(members, m)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading members: %w", err)
	}
	return members, nil
}
