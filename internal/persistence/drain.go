package persistence

import "fmt"

// oldMemTableSize is the default of versions that did not note the size in state.json.
const oldMemTableSize = 16 << 20

// drainLogs sees to it that Badger is not opened with logs of memtables that were larger
// than its own may be now: it would read them into a memtable that they do not fit into, and
// end the process (skl.Arena, "Arena too small"). So after a crash with a larger size the
// engine is opened with that once and closed, which makes tables of them. The
// size is on disk before the first log that may need it.
func (g *generation) drainLogs(db *DB, st *state, known, behind bool) error {
	size := db.opts.Badger.MemTableSize
	was, err := g.largestMemTable(st, known)
	if err != nil {
		return err
	}
	if was > size {
		db.log.Info("making tables of the logs of larger memtables", "dir", g.dir, "bytes", was, "now", size)
		if err := g.openBadger(db, was); err != nil {
			return err
		}
		err := g.bdb.Close()
		g.unwatch()
		g.guard.Store(nil)
		if err != nil {
			return fmt.Errorf("making tables of the logs in %s: %w", g.dir, err)
		}
		if err := g.sound(); err != nil { // it is noted in state.json, and must stay there
			return err
		}
		if err := g.settleLogs(st); err != nil {
			return err
		}
		if err := db.verifyOrGuard(g, behind); err != nil {
			return err
		}
	}
	g.memTableSize = size
	if !known || st.MemTableSize == size {
		return nil
	}
	st.MemTableSize = size
	return st.write(g.dir)
}

// largestMemTable is the size that the logs in g.dir may need; 0 if there are none.
func (g *generation) largestMemTable(st *state, known bool) (int64, error) {
	logs, err := logFiles(g.dir)
	if err != nil {
		return 0, err
	}
	longest := int64(0)
	for _, size := range logs {
		longest = max(longest, size)
	}
	switch {
	case !known || longest == 0:
		return 0, nil
	case st.MemTableSize > 0:
		return st.MemTableSize, nil
	}
	// A log is cut to what it holds when it is read, and a memtable of small records takes up
	// to twice as much as its log.
	return min(max(oldMemTableSize, 2*longest), maxMemTableSize), nil
}
