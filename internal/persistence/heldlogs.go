package persistence

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// A memtable's log goes when the memtable is a table. Badger opens without a log that
// somebody else removed, too, and without what was in it. To tell the two apart each log
// has a second name, a hard link:
//
//	00007.mem       Badger's
//	00007.mem.held  ours, the same file
//
// Badger cuts a log to nothing before it removes it (z.MmapFile.Delete), and that shows
// under both names. So a held file of length 0 says that its log was flushed; one with
// content whose log is gone says that the log is lost. Neither name, for a log that
// state.json has a mark of (state.Held), is a loss, too: a held file goes only when no
// mark names it any more.
//
// A file system without links has no held files and finds no lost logs.
const heldSuffix = ".held"

// holdLog gives the log at path its second name. A log that is gone is no error, and its
// held file stays: it tells why.
func holdLog(path string) error {
	err := os.Link(path, path+heldSuffix)
	if errors.Is(err, fs.ErrExist) {
		err = holdAnew(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// holdAnew is for a second name that is taken: by the log itself, as it should be, or by
// another file, if the directory is a copy of one.
func holdAnew(path string) error {
	log, err := os.Stat(path)
	if err != nil {
		return err
	}
	held, err := os.Stat(path + heldSuffix)
	if err != nil || os.SameFile(log, held) {
		return err
	}
	if err := os.Remove(path + heldSuffix); err != nil {
		return err
	}
	return os.Link(path, path+heldSuffix)
}

// heldFiles lists the second names in dir, as their logs' names, with the lengths.
func heldFiles(dir string) (map[string]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	held := map[string]int64{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), heldSuffix)
		if info, err := e.Info(); ok && err == nil {
			held[name] = info.Size()
		}
	}
	return held, nil
}

// settleLogs looks at the logs before Badger does. A lost one is ErrCorrupt. The marks of
// those that were flushed are forgotten, on disk, before Badger can use their names
// again: the new log would be held against the old one's mark. Last the second names are
// put right.
func (g *generation) settleLogs(st *state) error {
	logs, err := logFiles(g.dir)
	if err != nil {
		return err
	}
	held, err := heldFiles(g.dir)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(logs))
	for id, size := range logs {
		if size > 0 {
			there[logName(id)] = true
		}
	}
	if err := findLostLogs(g.dir, st, there, held); err != nil {
		return err
	}
	if err := dropFlushed(g.dir, st, logs, held); err != nil {
		return err
	}
	maps.DeleteFunc(there, func(name string, _ bool) bool { return logs[logID(name)] == 0 })
	marks := maps.Clone(st.Logs)
	maps.DeleteFunc(marks, func(name string, _ int64) bool { return !there[name] })
	if len(marks) < len(st.Logs) {
		st.Logs = marks
		if err := st.write(g.dir); err != nil {
			return err
		}
	}
	if err := removeEmptyLogs(g.dir); err != nil {
		return err
	}
	g.marks, g.held, g.ownLogs = st.Logs, st.Held, 1
	for id, size := range logs {
		if size > 0 { // the others are gone by now, and their numbers free
			g.ownLogs = max(g.ownLogs, id+1)
		}
	}
	if err := g.dropHeld(); err != nil {
		return err
	}
	for name := range there {
		// Without links there is only less to be found. MakeDurable says so in state.json.
		_ = holdLog(filepath.Join(g.dir, name))
	}
	return nil
}

// findLostLogs holds what is there against the marks and the second names.
func findLostLogs(dir string, st *state, there map[string]bool, held map[string]int64) error {
	for name, size := range held {
		if size > 0 && !there[name] {
			return fmt.Errorf("%w: %s is gone, but it had not become a table", ErrCorrupt, filepath.Join(dir, name))
		}
	}
	for name, mark := range st.Logs {
		if _, ok := held[name]; st.Held && mark > logHeaderLen && !there[name] && !ok {
			return fmt.Errorf("%w: %s is gone, with %d bytes that were durable", ErrCorrupt, filepath.Join(dir, name), mark)
		}
	}
	return nil
}

// dropFlushed cuts logs to nothing, as Badger does, whose memtables are tables for certain:
// memtables are flushed in order, so if a log with entries was flushed, all before it were.
//
// While an iterator holds memtables their logs stay, and at its end Badger lets go of them
// newest first. If the process ends just then an old log is left without a later one. Badger
// would make a table of it once more; and if the later one had a deletion of what it holds,
// and a compaction has dropped both, that would be there again.
//
// What a log that is gone had is known from its mark; or the log that stayed was marked as
// flushed, because a later one had gone by then. One of the two is so if it matters: the start
// does again what came after state.json was written, the deletion too.
func dropFlushed(dir string, st *state, logs map[uint64]int64, held map[string]int64) error {
	newest := uint64(0)
	for name, mark := range st.Logs {
		switch size, known := held[name]; {
		case mark == flushedMark:
			newest = max(newest, logID(name)+1)
		case known && size == 0 && mark > logHeaderLen && logs[logID(name)] == 0:
			newest = max(newest, logID(name))
		}
	}
	for id, size := range logs {
		if size == 0 || id >= newest {
			continue
		}
		// The second name first: in a copy of a directory it may be another file.
		path := filepath.Join(dir, logName(id))
		if err := os.Truncate(path+heldSuffix, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Truncate(path, 0); err != nil {
			return err
		}
		if err := syncPath(path); err != nil { // before its mark is forgotten
			return err
		}
		logs[id] = 0
	}
	return nil
}

// dropHeld removes the second names of logs that are gone and that no mark names. Callers
// besides open hold stateMu.
func (g *generation) dropHeld() error {
	held, err := heldFiles(g.dir)
	if err != nil {
		return err
	}
	for name, size := range held {
		if _, marked := g.marks[name]; size > 0 || marked {
			continue
		}
		path := filepath.Join(g.dir, name)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			continue // allocated ahead, or being removed
		}
		if err := os.Remove(path + heldSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// tidyHeld is dropHeld while the engine is in use.
func (g *generation) tidyHeld() {
	if g.dir == "" {
		return
	}
	g.stateMu.Lock()
	defer g.stateMu.Unlock()
	_ = g.dropHeld() // the next time, or at the next start
}
