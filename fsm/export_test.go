package fsm

// SetRing makes the ring small, to have watchers fall behind it.
func (f *FSM) SetRing(events, bytes int) {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.hub.ring.maxEvents, f.hub.ring.maxBytes = events, bytes
}

// RingBase is the index above which the ring holds everything.
func (f *FSM) RingBase() uint64 {
	f.hub.mu.RLock()
	defer f.hub.mu.RUnlock()
	return f.hub.ring.base
}

// Watchers is how many are registered.
func (f *FSM) Watchers() int { return f.hub.watchers() }

// Registered counts what the registry holds besides.
func (f *FSM) Registered() (exact, prefixes, lengths int) {
	f.hub.mu.RLock()
	defer f.hub.mu.RUnlock()
	r := &f.hub.reg
	return len(r.exact), len(r.prefixes), len(r.lengths)
}

// DeadlineFound says that no search for the next deadline is under way.
func (f *FSM) DeadlineFound() bool {
	f.deadlines.mu.Lock()
	defer f.deadlines.mu.Unlock()
	return f.deadlines.known || f.deadlines.none
}
