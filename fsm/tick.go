package fsm

import (
	"fmt"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
)

// applyTick moves the state's time to the entry's and ends what is due by then, the
// earliest first, at most command.MaxExpiriesPerTick records. What it does are
// ordinary changes at its index. A tick whose stamp is older than the state's time
// ends what is due by the latter.
//
// The time record says up to where the index of deadlines has been emptied (swept).
// Deadlines are set later than the time, which is never before swept, so nothing can
// come to stand there again, and the search begins behind it.
func applyTick(tx *entryTx, payload []byte) (*command.Result, error) {
	if err := command.Unmarshal(payload, new(command.Tick)); err != nil {
		return nil, fmt.Errorf("decoding tick: %w", err)
	}
	t, err := tx.timeRecord()
	if err != nil {
		return nil, err
	}
	before, swept := t.Now, t.Swept
	t.Now = max(t.Now, tx.stamp)
	due, err := tx.Due(t.Swept+1, t.Now, command.MaxExpiriesPerTick+1)
	if err != nil {
		return nil, fmt.Errorf("reading what is due: %w", err)
	}
	res := answer(tx, command.Result_OK)
	t.Swept = t.Now
	for i, work := 0, 0; i < len(due); i++ {
		if work >= command.MaxExpiriesPerTick {
			res.More, t.Swept = true, due[i].Deadline-1
			break
		}
		cost, ended, err := endDue(tx, due[i], t.Now)
		if err != nil {
			return nil, fmt.Errorf("ending %q: %w", due[i].Subject, err)
		}
		work += cost
		if ended {
			res.Count++
		}
	}
	if t.Now == before && t.Swept == swept {
		return res, nil
	}
	return res, tx.SetTime(t)
}

// endDue deals with one entry of the index of deadlines: its subject has ended, or was
// renewed and is due later. cost is how many records that was.
func endDue(tx *entryTx, due persistence.Due, now int64) (cost int, ended bool, err error) {
	of, ok := persistence.ParseSubject(due.Subject)
	if !ok {
		return 0, false, fmt.Errorf("%w: unknown subject", command.ErrUndecodable)
	}
	if of.Key != nil {
		return endDueKey(tx, due)
	}
	lease, found, err := tx.Lease(due.Subject)
	switch {
	case err != nil:
		return 0, false, err
	case !found || lease.Indexed != due.Deadline:
		tx.DropDue(due.Deadline, due.Subject) // it went earlier in this tick
		return 1, false, nil
	case lease.Deadline > now:
		return 1, false, tx.MoveLease(due.Subject, lease)
	}
	switch {
	case of.Session != "":
		ses, found, err := readSession(tx, of.Session)
		if err != nil {
			return 0, false, err
		}
		if !found {
			return 1, false, tx.DropLease(due.Subject)
		}
		return 1 + int(ses.Held), true, endSession(tx, ses)
	case of.Check != "":
		return 1, true, expireCheck(tx, due.Subject, of)
	case of.Service != "":
		return 1, true, expireService(tx, of.Service, of.Instance)
	}
	return 1, true, tx.DropLease(due.Subject) // a marker
}

func endDueKey(tx *entryTx, due persistence.Due) (cost int, ended bool, err error) {
	kv, found, err := readKV(tx, due.Subject)
	if err != nil {
		return 0, false, err
	}
	if !found || kv.Deadline != due.Deadline {
		tx.DropDue(due.Deadline, due.Subject) // it went earlier in this tick
		return 1, false, nil
	}
	return 1, true, kvRemove(tx, due.Subject, kv)
}
