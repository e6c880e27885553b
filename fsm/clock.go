package fsm

import (
	"fmt"
	"sync"
	"time"

	"github.com/neogan74/konsul/internal/persistence"
)

// clock is what this node knows of cluster time. It decides nothing: entries are
// judged by their own stamps and by the time in the state.
type clock struct {
	mu    sync.Mutex
	stamp int64     // the newest of all entries applied and of the state
	seen  time.Time // when this node saw it
}

func (c *clock) advance(stamp int64, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if stamp > c.stamp || c.seen.IsZero() {
		c.stamp, c.seen = max(c.stamp, stamp), now
	}
}

// Clock is the newest cluster time that any entry applied here was stamped with, in
// nanoseconds since the cluster began, and when this node saw it. A node that takes
// office goes on from there. It never goes back while the node runs, also when an
// older state is restored: leaders have given out that time.
func (f *FSM) Clock() (stamp int64, seen time.Time) {
	f.clock.mu.Lock()
	defer f.clock.mu.Unlock()
	return f.clock.stamp, f.clock.seen
}

// ClusterTime is about what cluster time is now, by this node's monotonic clock. For
// showing how long something has to live, never for deciding that it is over.
func (f *FSM) ClusterTime() int64 {
	stamp, seen := f.Clock()
	return stamp + int64(max(time.Since(seen), 0))
}

// startClock takes time from a state that is new to this node.
func (f *FSM) startClock() error {
	view, err := f.db.View()
	if err != nil {
		return fmt.Errorf("reading cluster time: %w", err)
	}
	defer view.Close()
	t, err := view.Time()
	if err != nil {
		return fmt.Errorf("reading cluster time: %w", err)
	}
	swept, err := view.Swept()
	if err != nil {
		return fmt.Errorf("reading cluster time: %w", err)
	}
	f.clock.advance(t, time.Now())
	f.deadlines.restart(swept)
	return nil
}

const (
	// deadlineBudget is how many entries of the index one search goes over.
	deadlineBudget = 4096
	// deadlineEvery is the shortest time between two searches.
	deadlineEvery = 20 * time.Millisecond
)

// deadlines knows the earliest deadline without a search for each question. Entries
// come and go as changes; only when the earliest has gone is the next one not known,
// and then next is a time before it until somebody asks.
type deadlines struct {
	mu sync.Mutex
	// next: no deadline of the state is before it.
	next  int64
	known bool // there is one at next
	none  bool // there is none at all
	// from is where the search for it goes on, if it is neither: a stored key at next.
	from []byte
	// searched is when the last search was.
	searched time.Time
}

func (d *deadlines) restart(swept int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.from = nil
	d.next, d.known, d.none, d.searched = swept, false, false, time.Time{}
}

// note takes the changes of a batch, in order.
func (d *deadlines) note(changes []persistence.Change) {
	locked := false
	for i := range changes {
		c := &changes[i]
		at, _, ok := persistence.DueAt(c.Key)
		if !ok {
			continue
		}
		if !locked {
			d.mu.Lock()
			defer d.mu.Unlock()
			locked = true
		}
		switch {
		case c.Deleted:
			d.known = d.known && at != d.next
		case d.none || at < d.next || (at == d.next && !d.known):
			d.next, d.known, d.none, d.from = at, true, false, nil
		}
	}
}

// NextDeadline is the earliest deadline of the state, in cluster time; false if there
// is none. While the earliest that was known has gone and the next is not found yet
// it is a time before it: whoever waits for it comes too early, never too late. It
// costs next to nothing, but for a search of at most 4,096 entries every 20 ms. Any
// goroutine may call it.
func (f *FSM) NextDeadline() (int64, bool) {
	d := &f.deadlines
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.none:
		return 0, false
	case d.known || time.Since(d.searched) < deadlineEvery:
		return d.next, true
	}
	d.searched = time.Now()
	view, err := f.db.View()
	if err != nil {
		return d.next, true // closing
	}
	defer view.Close()
	swept, err := view.Swept()
	if err == nil && swept >= d.next { // nothing is left there
		d.next, d.from = swept+1, nil
	}
	if d.from == nil {
		d.from = persistence.DueKey(d.next, nil)
	}
	var found []byte
	if err == nil {
		found, d.from, err = view.NextDue(d.from, deadlineBudget)
	}
	switch {
	case err != nil:
		f.log.Warn("looking for the next deadline", "error", err)
		d.from = nil
	case found != nil:
		d.next, _, d.known = persistence.DueAt(found)
	case d.from == nil:
		d.none = true
	default:
		d.next, _, _ = persistence.DueAt(d.from)
	}
	return d.next, !d.none
}
