package persistence

// recent remembers records that the state machine just read or wrote. A put reads
// its key first (for create_index), and reading it back through Badger's tables
// was half of an entry's CPU. Only Update uses it, so it needs no lock.
//
// It holds part of the state at index at. That is also the state at a later index
// unless somebody else wrote in between, and the only writes that can be there
// without having passed through here are those the engine had when it was opened:
// the entries of a replay onto an engine that is ahead.
//
// Two halves, young and old: a hit moves a record to the young half, and when that
// is full it becomes the old one, whose records are forgotten.
type recent struct {
	gen        *generation
	at         uint64
	young, old map[string][]byte
	bytes      int // of young
}

const (
	// recentHalf bounds each half, in bytes with overhead.
	recentHalf = 16 << 20
	// recentValue is the largest value worth remembering.
	recentValue    = 8 << 10
	recentOverhead = 96
)

// begin makes r right for reads of g at base, forgetting what is not.
func (r *recent) begin(g *generation, base uint64) {
	if r.gen != g || base < r.at || (base > r.at && r.at < g.ahead) {
		r.forget()
	}
	r.gen, r.at = g, base
}

func (r *recent) forget() {
	r.young, r.old, r.bytes = make(map[string][]byte), nil, 0
}

func (r *recent) get(key []byte) ([]byte, bool) {
	if value, ok := r.young[string(key)]; ok {
		return value, true
	}
	value, ok := r.old[string(key)]
	if ok {
		r.put(key, value)
	}
	return value, ok
}

func (r *recent) put(key, value []byte) {
	if len(value) > recentValue {
		r.drop(key)
		return
	}
	if old, ok := r.young[string(key)]; ok {
		r.bytes -= len(old) + len(key) + recentOverhead
	}
	r.young[string(key)] = value
	if r.bytes += len(value) + len(key) + recentOverhead; r.bytes >= recentHalf {
		r.young, r.old, r.bytes = make(map[string][]byte, len(r.young)), r.young, 0
	}
}

func (r *recent) drop(key []byte) {
	if old, ok := r.young[string(key)]; ok {
		r.bytes -= len(old) + len(key) + recentOverhead
		delete(r.young, string(key))
	}
	delete(r.old, string(key))
}
