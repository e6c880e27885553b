package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/statefile"
)

// rawLog is what stands below logStore: raft-wal, or raft's memory store.
type rawLog interface {
	raft.LogStore
	raft.StableStore
}

// logStore is the log that raft sees: raft-wal behind a cache, guarded.
//
// Commands are refused with ErrDiskFull, before anything is written, while the
// disk is below its floor; no-ops, membership changes and a new leader's first
// entry still pass: they are tiny and keep the cluster manageable.
type logStore struct {
	dir    string // "" = in memory
	reopen func() (rawLog, error)
	log    hclog.Logger
	cache  *logCache
	sealer *entrySealer // nil without encryption
	// covered is the newest index that a snapshot holds; damaged hears of an entry
	// behind it that is needed and cannot be read.
	covered func() uint64
	damaged func(index uint64, err error)
	// full says whether the disk is below its floor.
	full func() bool
	// applied is the newest index that the state machine has applied.
	applied func() uint64
	// fatal ends the process; see StoreLogs and DeleteRange.
	fatal func(error)

	// stamp gives entries their cluster time before they are stored.
	stamp atomic.Pointer[func(logs []*raft.Log) error]

	// flush is the sync under way, if any; may says whether a batch's sync may go on
	// while raft sends it to the followers.
	flush flusher
	may   atomic.Pointer[func(logs []*raft.Log) bool]
	batch batch // being written

	mu    sync.RWMutex // held for writing only while inner is replaced
	inner rawLog

	// cut: a suffix was removed and its replacement is not stored yet. Raft's idea
	// of the last entry is wrong in between, so the replacement must not be refused.
	cut atomic.Bool
	// mirror, of a log in memory, is written along; gate orders that with its beginning and end.
	gate   sync.Mutex
	mirror atomic.Pointer[mirror]
	// appending is when the append in progress began, in unix ns; 0 = none.
	appending atomic.Int64
	// failedAt is when the last append failed for another reason than the floor, in unix ns; 0 = it did not.
	failedAt atomic.Int64
	observe  func(entries, bytes int, took time.Duration)
}

var (
	_ raft.LogStore          = (*logStore)(nil)
	_ raft.MonotonicLogStore = (*logStore)(nil)
)

// openLog opens the log in cfg's data directory, or one in memory.
func openLog(cfg Config, keys *encryption.Directory, log hclog.Logger) (*logStore, error) {
	s := &logStore{log: log.Named("log"), cache: newLogCache(), sealer: newEntrySealer(keys), full: func() bool { return false }, applied: func() uint64 { return 0 },
		covered: func() uint64 { return 0 }, damaged: func(uint64, error) {},
		fatal: cfg.Fatal, observe: func(int, int, time.Duration) {}}
	if cfg.InMemory {
		s.inner = raft.NewInmemStore()
		return s, nil
	}
	s.dir = filepath.Join(cfg.DataDir, raftDir)
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening log: %w", err)
	}
	fs := &walFS{sync: cfg.SyncWrites, flush: &s.flush, batch: func() uint64 { return s.batch.first }, ended: s.flushed}
	s.reopen = func() (rawLog, error) {
		fs.opening.Store(true)
		defer fs.opening.Store(false)
		return wal.Open(s.dir,
			wal.WithSegmentFiler(segment.NewFiler(s.dir, fs)),
			wal.WithMetaStore(&flushedMeta{MetaStore: &walMeta{}, flush: &s.flush}),
			wal.WithSegmentSize(cfg.segmentSize()),
			wal.WithLogger(s.log))
	}
	var err error
	if s.inner, err = s.reopen(); err != nil {
		if errors.Is(err, statefile.ErrTooNew) {
			return nil, fmt.Errorf("opening log: %w", err)
		}
		return nil, fmt.Errorf("%w: opening log %s: %w: %s", ErrDamaged, s.dir, err, wayBack(cfg.DataDir))
	}
	if err := s.checkEnd(); err != nil {
		return nil, errors.Join(fmt.Errorf("reading log %s: %w: %s", s.dir, err, wayBack(cfg.DataDir)), s.Close())
	}
	return s, nil
}

// checkEnd looks for entries that raft-wal did not find, and reads the last one:
// whether it is encrypted must be known before raft panics at it, and before the
// engine is taken for damaged.
func (s *logStore) checkEnd() error {
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	segment, err := lastSegment(s.dir)
	if err == nil && segment != "" {
		err = checkTail(segment, last)
	}
	if err != nil || last == 0 {
		return err
	}
	return s.present(last)
}

// check reads every entry from first on.
func (s *logStore) check(first, last uint64) error {
	for i := first; i <= last; i++ {
		if err := s.present(i); err != nil {
			return err
		}
	}
	return nil
}

// present reads an entry that the log says it has.
func (s *logStore) present(index uint64) error {
	err := s.stored(index, new(raft.Log))
	if errors.Is(err, raft.ErrLogNotFound) {
		return fmt.Errorf("%w: log entry %d is missing", ErrDamaged, index)
	}
	return err
}

func (s *logStore) raw() rawLog {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.inner
}

// FirstIndex implements raft.LogStore.
func (s *logStore) FirstIndex() (uint64, error) { return s.raw().FirstIndex() }

// LastIndex implements raft.LogStore.
func (s *logStore) LastIndex() (uint64, error) { return s.raw().LastIndex() }

// IsMonotonic implements raft.MonotonicLogStore: raft-wal has no gaps.
func (s *logStore) IsMonotonic() bool { return s.dir != "" }

// GetLog implements raft.LogStore.
func (s *logStore) GetLog(index uint64, into *raft.Log) error {
	if s.cache.get(index, into) {
		return nil
	}
	err := s.stored(index, into)
	if err == nil || !errors.Is(err, ErrDamaged) {
		return err
	}
	if index <= s.covered() {
		// Who needs it can have the snapshot.
		s.log.Warn("an old log entry cannot be read; the snapshot stands in for it", "index", index, "error", err)
		return raft.ErrLogNotFound
	}
	s.damaged(index, err)
	return err
}

// stored reads an entry from the disk. ErrDamaged: it is not what was written.
func (s *logStore) stored(index uint64, into *raft.Log) (err error) {
	defer func() {
		if p := recover(); p != nil { // raft-wal trusts lengths
			err = fmt.Errorf("%w: log entry %d: %v", ErrDamaged, index, p)
		}
	}()
	*into = raft.Log{}
	err = s.raw().GetLog(index, into)
	switch {
	case errors.Is(err, wal.ErrCorrupt), errors.Is(err, io.ErrShortBuffer), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: log entry %d: %w", ErrDamaged, index, err)
	case err != nil || s.dir == "":
		return err
	}
	if err := checkSum(into, index); err != nil {
		return err
	}
	return s.sealer.open(into)
}

// StoreLog implements raft.LogStore.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore: the entries are durable on return (with
// SyncWrites), unless may says that they may become so while raft sends them.
// ErrDiskFull means nothing was written; after any other error the entries may or
// may not be found after a restart.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	cut := s.cut.Load()
	if !cut && s.full() && hasCommand(logs) {
		return ErrDiskFull
	}
	if err := s.flush.all(); err != nil {
		return fmt.Errorf("appending to log: %w", err)
	}
	if err := s.cutBehind(logs[0].Index); err != nil {
		return fmt.Errorf("appending to log: %w", err)
	}
	if stamp := s.stamp.Load(); stamp != nil {
		if err := (*stamp)(logs); err != nil {
			return fmt.Errorf("appending to log: %w", err)
		}
	}
	s.batch = newBatch(logs)
	s.appending.Store(s.batch.start.UnixNano())
	may := s.may.Load()
	s.flush.ahead, s.flush.left = may != nil && !cut && (*may)(logs), false
	err := s.store(logs)
	if err == nil {
		s.failedAt.Store(0)
	} else {
		s.failedAt.Store(time.Now().UnixNano())
		s.appending.Store(0)
		if cut {
			// Raft would believe in entries that are gone and could not be helped.
			s.fatal(fmt.Errorf("replacing the end of the log: %w", err))
		}
		return fmt.Errorf("appending to log: %w", err)
	}
	s.cut.Store(false)
	s.cache.add(logs)
	if !s.flush.left {
		s.written(s.batch)
	}
	return nil
}

// batch is what one StoreLogs writes.
type batch struct {
	first          uint64
	entries, bytes int
	start          time.Time
}

func newBatch(logs []*raft.Log) batch {
	b := batch{first: logs[0].Index, entries: len(logs), start: time.Now()}
	for _, l := range logs {
		b.bytes += len(l.Data)
	}
	return b
}

// written is called when a batch is on disk.
func (s *logStore) written(b batch) {
	s.appending.Store(0)
	s.observe(b.entries, b.bytes, time.Since(b.start))
}

// store appends, and opens the log anew if its last segment is sealed and the
// next one could not be made: raft-wal does not try again by itself.
func (s *logStore) store(logs []*raft.Log) error {
	if s.dir == "" {
		return s.storeInMemory(logs)
	}
	logs = withSums(s.sealer.seal(logs))
	err := s.raw().StoreLogs(logs)
	if !errors.Is(err, wal.ErrSealed) || s.reopen == nil {
		return err
	}
	s.log.Warn("the log could not start its next segment; opening it again")
	if err := s.swap(); err != nil {
		return err
	}
	return s.raw().StoreLogs(logs)
}

// flushed hears of the end of a sync that went on after StoreLogs. Raft believes in
// the entries already, so a failure cannot be taken back.
func (s *logStore) flushed(err error) {
	s.written(s.batch) // the next batch waits for this one
	if err != nil {
		s.fatal(fmt.Errorf("syncing the log: %w: nothing that was acknowledged is in danger, but this disk is not to be trusted", err))
	}
}

func (s *logStore) swap() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.inner.(*wal.WAL).Close(); err != nil {
		return fmt.Errorf("closing log: %w", err)
	}
	inner, err := s.reopen()
	if err != nil {
		// Nothing can be read or written any more.
		s.fatal(fmt.Errorf("opening the log again: %w", err))
		return err
	}
	s.inner = inner
	return nil
}

// DeleteRange implements raft.LogStore: a prefix that a snapshot covers, or a
// suffix that conflicts with the leader's log. What was applied was committed, and
// no leader can lack it: if one does, members have lost what they had acknowledged,
// and going on would make this node differ from the others in silence.
func (s *logStore) DeleteRange(from, to uint64) error {
	inner := s.raw()
	first, err := inner.FirstIndex()
	if err != nil {
		return err
	}
	last, err := inner.LastIndex()
	if err != nil {
		return err
	}
	if from <= first && to < last {
		if to--; to < first {
			return nil
		}
	}
	// A log that begins right behind a snapshot can conflict from its first entry on; what is
	// removed from the first on because a snapshot covers it begins no later than that.
	suffix := from <= last && to >= last && (from > first || from > s.covered())
	if suffix && s.full() {
		return ErrDiskFull
	}
	if applied := s.applied(); suffix && from <= applied {
		err := fmt.Errorf("%w: the leader's log contradicts entries %d to %d, which are applied here: "+
			"other members lost committed data; save %s before anything else", ErrDamaged, from, applied, s.dir)
		s.fatal(err)
		return err
	}
	if to >= last { // the file that is being synced may go
		if err := s.flush.all(); err != nil {
			return fmt.Errorf("truncating log: %w", err)
		}
	}
	s.cache.truncate(from, to)
	if err := inner.DeleteRange(from, to); err != nil {
		err = fmt.Errorf("truncating log: %w", err)
		if suffix && !errors.Is(err, wal.ErrClosed) {
			// The entries may be gone from the disk, and raft believes in them.
			s.fatal(err)
		}
		return err
	}
	if to >= last {
		failpoint.Hit("raftlog.after-cut")
	}
	if suffix {
		s.cut.Store(true)
	}
	return nil
}

// setMay says which batches may be synced behind raft's back.
func (s *logStore) setMay(fn func(logs []*raft.Log) bool) { s.may.Store(&fn) }

// setStamp says what gives entries their cluster time.
func (s *logStore) setStamp(fn func(logs []*raft.Log) error) { s.stamp.Store(&fn) }

// Close closes the files. To be called when raft has stopped.
func (s *logStore) Close() error {
	err := s.flush.all()
	if c, ok := s.raw().(*wal.WAL); ok {
		return errors.Join(err, c.Close())
	}
	return err
}

func hasCommand(logs []*raft.Log) bool {
	for _, l := range logs {
		if l.Type == raft.LogCommand && !bytes.Equal(l.Data, officeEntry) {
			return true
		}
	}
	return false
}

// termOf is the term of an entry, 0 if the log does not have it (any more).
func (s *logStore) termOf(index uint64) uint64 {
	var l raft.Log
	if index == 0 || s.GetLog(index, &l) != nil {
		return 0
	}
	return l.Term
}

// settled is the largest index, at most commit, that the state machine is shown:
// it never sees no-ops and barriers, so a reader must not wait for those. Every
// entry up to commit must be final. published says what the state machine has published.
func (s *logStore) settled(commit uint64, published func() uint64) (uint64, error) {
	for i := commit; i > 0; i-- {
		kind, ok := s.cache.kind(i)
		if !ok {
			var l raft.Log
			err := s.stored(i, &l)
			if errors.Is(err, raft.ErrLogNotFound) {
				// Compacted: a snapshot covers it, so everything the state machine
				// sees up to here is published by now.
				return min(i, published()), nil
			}
			if err != nil {
				return 0, fmt.Errorf("reading log entry %d: %w", i, err)
			}
			kind = l.Type
		}
		if kind == raft.LogCommand || kind == raft.LogConfiguration {
			return i, nil
		}
	}
	return 0, nil
}
