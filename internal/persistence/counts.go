package persistence

// Counts says how many user keys and services there are.
type Counts struct{ Keys, Services uint64 }

// Counts returns the counts at the published index. They are kept by Commit from
// net effects, and exact as long as every start replays from the index that
// SetCounts was right for.
func (db *DB) Counts() Counts {
	g := db.gen.Load()
	return Counts{Keys: count(g.keys.Load()), Services: count(g.services.Load())}
}

// SetCounts says what the counts are at the index that applying goes on from: at
// the start, from the snapshot's header. Replace does it by itself.
func (db *DB) SetCounts(c Counts) { db.gen.Load().setCounts(c) }

// Counted says whether SetCounts was called since the engine was opened.
func (db *DB) Counted() bool { return db.gen.Load().counted.Load() }

func (g *generation) setCounts(c Counts) {
	g.counted.Store(true)
	g.keys.Store(int64(c.Keys))
	g.services.Store(int64(c.Services))
}

func count(n int64) uint64 { return uint64(max(n, 0)) }

// CountAt counts by reading: for a start that has no snapshot to take counts from.
func (v *View) CountAt() (Counts, error) {
	var c Counts
	err := v.ScanKeys([]byte(KVPrefix), nil, func([]byte) error { c.Keys++; return nil })
	if err != nil {
		return Counts{}, err
	}
	err = v.ScanKeys([]byte(ServicePrefix), nil, func([]byte) error { c.Services++; return nil })
	return c, err
}
