package fsm

import (
	"fmt"

	"github.com/neogan74/konsul/internal/persistence"
)

// The engine counts keys and services by adding up the net effect of what is
// committed. That is exact only while every entry is added once, in order. At a
// start it is not: the log is replayed from the newest snapshot, onto an engine
// that holds more. A start takes the counts from the snapshot's header
// (DB.SetCounts), so that it takes no longer the more keys there are; only where
// nobody did, or the replay starts lower than that, does the state machine count
// by a scan.

// recount sets the counts to those of an index. The state does not depend on
// them, so a failure is only worth a line in the log.
func (f *FSM) recount(index uint64) {
	counts, err := f.count(index)
	if err != nil {
		f.log.Warn("counting keys", "index", index, "error", err)
		return
	}
	f.db.SetCounts(counts)
}

func (f *FSM) count(index uint64) (persistence.Counts, error) {
	view, err := f.db.ViewAt(index)
	if err != nil {
		return persistence.Counts{}, fmt.Errorf("viewing index %d: %w", index, err)
	}
	defer view.Close()
	return view.CountAt()
}
