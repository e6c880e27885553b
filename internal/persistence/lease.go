package persistence

import (
	"fmt"

	"github.com/neogan74/konsul/internal/persistence/record"
)

// The lease of a subject says until when it lives, and where it stands in the index
// of deadlines. There is exactly one entry in the index for each lease, at or before
// its deadline:
//
//	SetLease, later     rewrites the lease alone: a heartbeat is one small record
//	SetLease, earlier   moves the entry
//	the entry comes up  MoveLease puts it where the deadline is now; else it is over
//	DropLease           removes both
//
// A user's key has its deadline in its own record, and its entry is always there.

// Lease returns the lease of a subject; false if it has none.
func (t *Tx) Lease(subject []byte) (*record.Lease, bool, error) {
	return t.lease(LeaseKey(subject))
}

func (t *Tx) lease(key []byte) (*record.Lease, bool, error) {
	value, found, err := t.Get(key)
	if err != nil || !found {
		return nil, false, err
	}
	l := new(record.Lease)
	return l, true, decodeAt(key, value, l)
}

// SetLease gives a subject until deadline, or renews it.
func (t *Tx) SetLease(subject []byte, deadline int64) error {
	key := LeaseKey(subject)
	l, found, err := t.lease(key)
	switch {
	case err != nil:
		return err
	case !found:
		l = &record.Lease{Indexed: deadline}
		t.SetDue(deadline, subject)
	case deadline < l.Indexed:
		t.DropDue(l.Indexed, subject)
		t.SetDue(deadline, subject)
		l.Indexed = deadline
	case deadline == l.Deadline:
		return nil
	}
	l.Deadline = deadline
	return t.setLease(key, l)
}

// MoveLease puts the entry of a lease that was renewed where its deadline is.
func (t *Tx) MoveLease(subject []byte, l *record.Lease) error {
	t.DropDue(l.Indexed, subject)
	t.SetDue(l.Deadline, subject)
	l.Indexed = l.Deadline
	return t.setLease(LeaseKey(subject), l)
}

func (t *Tx) setLease(key []byte, l *record.Lease) error {
	value, err := EncodeRecord(l)
	if err != nil {
		return fmt.Errorf("lease %q: %w", key, err)
	}
	t.Set(key, value)
	return nil
}

// DropLease ends the lease of a subject, if it has one.
func (t *Tx) DropLease(subject []byte) error {
	key := LeaseKey(subject)
	l, found, err := t.lease(key)
	if err != nil || !found {
		return err
	}
	t.DropDue(l.Indexed, subject)
	t.Delete(key)
	return nil
}

// nothing is the value of keys that say all by being there.
var nothing = []byte{recordFormat}

// SetDue puts a subject into the index of deadlines.
func (t *Tx) SetDue(deadline int64, subject []byte) { t.Set(DueKey(deadline, subject), nothing) }

// DropDue takes a subject out of the index of deadlines.
func (t *Tx) DropDue(deadline int64, subject []byte) { t.Delete(DueKey(deadline, subject)) }

// SetHeld notes that a session holds a user's key.
func (t *Tx) SetHeld(session string, key []byte) { t.Set(HeldKey(session, key), nothing) }

// Time is the time record as Get sees it; all zero before the first.
func (t *Tx) Time() (*record.Time, error) {
	r := new(record.Time)
	value, found, err := t.Get([]byte(timeKey))
	if err != nil || !found {
		return r, err
	}
	return r, decodeAt([]byte(timeKey), value, r)
}

// SetTime writes the time record.
func (t *Tx) SetTime(r *record.Time) error {
	value, err := EncodeRecord(r)
	if err != nil {
		return err
	}
	t.Set([]byte(timeKey), value)
	return nil
}
