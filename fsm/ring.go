package fsm

import (
	"sort"
	"sync/atomic"

	"github.com/neogan74/konsul/internal/persistence"
)

// Bounds of the ring. A watcher further behind reads the engine's history.
const (
	ringMaxEvents = 65536
	ringMaxBytes  = 32 << 20 // keys and values
)

// slot is one recent change. The event is decoded by the first watcher that
// wants it, not while applying, and then shared.
type slot struct {
	change persistence.Change
	event  atomic.Pointer[Event]
}

func (s *slot) get() (*Event, error) {
	if ev := s.event.Load(); ev != nil {
		return ev, nil
	}
	ev, err := newEvent(&s.change)
	if err != nil {
		return nil, err
	}
	s.event.CompareAndSwap(nil, ev)
	return s.event.Load(), nil
}

// ring holds the watched changes of every index in (base, last], in order. It
// has no lock of its own.
//
//	     base                       last
//	history | slots[head] ... slots[n-1] | not applied yet
type ring struct {
	base, last uint64
	slots      []*slot
	head       int
	bytes      int

	maxEvents, maxBytes int
}

func newRing(at uint64) ring {
	return ring{base: at, last: at, maxEvents: ringMaxEvents, maxBytes: ringMaxBytes}
}

// append adds what is new in changes, which are ordered by index, and moves
// last on. Entries applied again are at or below last and are left out. It
// returns the slots added; evict comes after.
func (r *ring) append(changes []persistence.Change, last uint64) []*slot {
	from := len(r.slots)
	block := make([]slot, r.count(changes))
	for i := range changes {
		if !r.takes(&changes[i]) {
			continue
		}
		s := &block[0]
		block = block[1:]
		s.change = changes[i]
		r.slots = append(r.slots, s)
		r.bytes += s.size()
	}
	r.last = max(r.last, last)
	return r.slots[from:]
}

// takes says whether a change is a new event.
func (r *ring) takes(c *persistence.Change) bool { return c.Index > r.last && watched(c.Key) }

func (r *ring) count(changes []persistence.Change) (n int) {
	for i := range changes {
		if r.takes(&changes[i]) {
			n++
		}
	}
	return n
}

func (s *slot) size() int { return len(s.change.Key) + len(s.change.Value) }

// evict drops the oldest indexes, whole, until the ring is within its bounds.
func (r *ring) evict() {
	for len(r.slots)-r.head > r.maxEvents || r.bytes > r.maxBytes {
		r.base = r.slots[r.head].change.Index
		for r.head < len(r.slots) && r.slots[r.head].change.Index == r.base {
			r.bytes -= r.slots[r.head].size()
			r.slots[r.head] = nil
			r.head++
		}
	}
	if r.head > 64 && r.head > len(r.slots)/2 {
		n := copy(r.slots, r.slots[r.head:])
		clear(r.slots[n:])
		r.slots, r.head = r.slots[:n], 0
	}
}

// after returns the slots with an index above the cursor, which must not be
// below base. They are valid while the owner's lock is held.
func (r *ring) after(cursor uint64) []*slot {
	live := r.slots[r.head:]
	i := sort.Search(len(live), func(i int) bool { return live[i].change.Index > cursor })
	return live[i:]
}
