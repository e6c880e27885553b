package fsm

import (
	"errors"
	"sync"

	"github.com/neogan74/konsul/internal/persistence"
)

// hub is where applying meets watching: the ring of recent changes and those
// who wait for more. The applying goroutine holds the lock to append and wake;
// watchers share it to read, for a bounded number of slots at a time.
type hub struct {
	db *persistence.DB

	mu     sync.RWMutex
	ring   ring
	reg    registry
	closed error // not nil: no new watchers
	// oldest is where the state was last replaced. What is below belongs to another
	// state, even where the new one's history goes back further: a backup put into a
	// running cluster is older than the index it takes effect at.
	oldest uint64
}

// newHub starts with an empty ring at an index that is published: what is older
// is history.
func newHub(db *persistence.DB, at uint64) *hub {
	return &hub{db: db, ring: newRing(at), reg: newRegistry()}
}

// emit takes the changes of a batch that ends at last and is in the engine and
// published. It returns how many were new events.
func (h *hub) emit(changes []persistence.Change, last uint64) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	added := h.ring.append(changes, last)
	if h.reg.count > 0 {
		for _, s := range added {
			h.reg.notify(s.change.Key, s.change.Index)
		}
	}
	n := len(added)
	h.ring.evict()
	return n
}

// suspend ends every watcher, because the state is about to be replaced, and
// refuses new ones until resume: they could read the new state's history as the
// continuation of the old one's.
func (h *hub) suspend() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reg.failAll(ErrReset)
	if h.closed == nil {
		h.closed = ErrReset
	}
}

// resume starts again with an empty ring at an index of the new state.
func (h *hub) resume(at uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	fresh := newRing(at)
	fresh.maxEvents, fresh.maxBytes = h.ring.maxEvents, h.ring.maxBytes
	h.ring, h.oldest = fresh, at
	if errors.Is(h.closed, ErrReset) {
		h.closed = nil
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = ErrClosed
	h.reg.failAll(ErrClosed)
}

// watch registers a watcher that has seen everything up to from. Unless the
// ring can tell that nothing has come since, it starts as pending.
func (h *hub) watch(t target, from uint64) (*watcher, error) {
	w := &watcher{target: t, cursor: from, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed != nil {
		return nil, h.closed
	}
	if from < h.oldest {
		return nil, &persistence.CompactedError{Oldest: h.oldest}
	}
	w.pending = from < h.ring.last
	h.reg.add(w)
	return w, nil
}

func (h *hub) unwatch(w *watcher, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reg.remove(w)
	w.fail(err)
}

func (h *hub) watchers() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.reg.count
}

// reaches says whether the ring goes back to what follows an index.
func (h *hub) reaches(index uint64) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return index >= h.ring.base
}
