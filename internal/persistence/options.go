package persistence

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/internal/failpoint"
)

// Options configures Open.
type Options struct {
	// Dir is the data directory; the engine lives in Dir/engine.
	Dir string
	// InMemory keeps everything in memory and ignores Dir.
	InMemory bool
	// SyncWrites fsyncs every write. It is honoured for the standalone engines
	// only: under the versioned face the Raft log is the write-ahead log.
	SyncWrites bool
	// EncryptionKey, of encryption.KeySize bytes, encrypts the engine's files; nil for none.
	// An engine keeps the key it was made with.
	EncryptionKey []byte
	// VerifyBehind opens the engine without reading all of its tables. They are read
	// afterwards, VerifyRate bytes a second (0 = a default), and nothing that was not
	// verified is ever shown. Damaged, which may be nil, is called once, from a
	// goroutine of its own, when damage is found in an open engine: all reads and
	// writes fail with ErrCorrupt from then on, and so does the next Open.
	VerifyBehind bool
	VerifyRate   int64
	Damaged      func(error)
	// Badger tunes the engine; the zero value of a field means its default.
	Badger BadgerOptions
	// History says how much of the past is kept; zero fields mean the defaults.
	History History
	// MaintenanceInterval is how often garbage is collected and, if it is worth it, the
	// tables compacted. 0 = only on request.
	MaintenanceInterval time.Duration
	// Registerer gets the engine's metrics; nil for none.
	Registerer prometheus.Registerer

	// standalone: no Raft log stands behind this engine.
	standalone bool
}

// BadgerOptions are the engine's sizes, in bytes, and counts.
type BadgerOptions struct {
	// MemTableSize bounds a table in memory, and its log file. At least 8 MiB: Badger
	// takes a batch of at most 15 % of it, and a value of valueThreshold must fit.
	MemTableSize int64
	// ValueLogFileSize bounds a value log file. Ours are empty, see MaxRecordLen.
	ValueLogFileSize int64
	// BlockCacheSize is for decompressed blocks of tables, which are compressed then. With
	// 0, the default, they are not, and are read where the kernel has them in memory.
	BlockCacheSize int64
	// NumMemtables is how many full memtables may wait for their flush.
	NumMemtables int
	// NumLevelZeroTables is how many flushed tables start a compaction.
	NumLevelZeroTables int
	// PrefetchSize is how many values a scan fetches ahead, each in a goroutine of
	// its own. 0 reads them in place, which is faster while they live in tables.
	PrefetchSize int
}

// DefaultBadgerOptions are chosen for a small to middling store on a small machine. What
// Badger's table builders take decides about the memory under load: twice a table each, a dozen at
// a time, and with compression that again. So memtables are as small as the largest
// entry allows, tables are small (tableSize), and not compressed; reads then need no
// cache besides the kernel's. An import of ten million keys stays below 300 MB.
func DefaultBadgerOptions() BadgerOptions {
	return BadgerOptions{
		MemTableSize:       8 << 20,
		ValueLogFileSize:   64 << 20,
		NumMemtables:       4,
		NumLevelZeroTables: 5,
	}
}

const (
	minMemTableSize = 8 << 20
	maxMemTableSize = 1 << 30
)

// withDefaults fills zero fields.
func (o BadgerOptions) withDefaults() BadgerOptions {
	d := DefaultBadgerOptions()
	orInt64 := func(v *int64, def int64) {
		if *v == 0 {
			*v = def
		}
	}
	orInt64(&o.MemTableSize, d.MemTableSize)
	orInt64(&o.ValueLogFileSize, d.ValueLogFileSize)
	if o.NumMemtables == 0 {
		o.NumMemtables = d.NumMemtables
	}
	if o.NumLevelZeroTables == 0 {
		o.NumLevelZeroTables = d.NumLevelZeroTables
	}
	return o
}

// Validate names the first field that cannot be honoured.
func (o BadgerOptions) Validate() error {
	o = o.withDefaults()
	switch {
	case o.MemTableSize < minMemTableSize || o.MemTableSize > maxMemTableSize:
		return fmt.Errorf("%w: memtable size %d must be 8 MiB to 1 GiB", ErrBadConfig, o.MemTableSize)
	case o.ValueLogFileSize < 1<<20 || o.ValueLogFileSize > 1<<30:
		return fmt.Errorf("%w: value log size %d must be 1 MiB to 1 GiB", ErrBadConfig, o.ValueLogFileSize)
	case o.NumMemtables < 1 || o.NumMemtables > 64:
		return fmt.Errorf("%w: %d memtables, must be 1 to 64", ErrBadConfig, o.NumMemtables)
	case o.NumLevelZeroTables < 1 || o.NumLevelZeroTables > 64:
		return fmt.Errorf("%w: %d level-zero tables, must be 1 to 64", ErrBadConfig, o.NumLevelZeroTables)
	case o.BlockCacheSize < 0:
		return fmt.Errorf("%w: block cache of %d bytes", ErrBadConfig, o.BlockCacheSize)
	case o.PrefetchSize < 0 || o.PrefetchSize > 10000:
		return fmt.Errorf("%w: prefetch size %d, must be 0 to 10000", ErrBadConfig, o.PrefetchSize)
	}
	return nil
}

// History bounds how much of the past stays readable: the last MinAge or the
// last MinIndexes, whichever is more, but at most MaxIndexes, and no more than a fifth
// of the engine is history or MaxBytes, whichever is more: a store that is overwritten
// all the time must not grow with what was in it.
type History struct {
	MinAge     time.Duration
	MinIndexes uint64
	MaxIndexes uint64
	// MaxBytes is how much history a small store may have, in bytes of keys and values.
	MaxBytes int64
}

// historyShare: a 1/historyShare of what is in the tables may be history.
const historyShare = 5

// DefaultHistory is the rule of the design.
func DefaultHistory() History {
	return History{MinAge: 10 * time.Minute, MinIndexes: 100_000, MaxIndexes: 1_000_000, MaxBytes: 32 << 20}
}

func (h History) withDefaults() History {
	d := DefaultHistory()
	if h.MinAge == 0 {
		h.MinAge = d.MinAge
	}
	if h.MinIndexes == 0 {
		h.MinIndexes = d.MinIndexes
	}
	if h.MaxIndexes == 0 {
		h.MaxIndexes = d.MaxIndexes
	}
	if h.MaxBytes == 0 {
		h.MaxBytes = d.MaxBytes
	}
	return h
}

// badgerOptions translates to Badger's own, for the engine in dir.
func (o Options) badgerOptions(dir string, log hclog.Logger) badger.Options {
	t := o.Badger
	b := badger.DefaultOptions(dir).
		WithInMemory(o.InMemory).
		WithSyncWrites(o.SyncWrites && o.standalone).
		WithDetectConflicts(false). // one writer; and in managed mode the list would never shrink
		WithNumVersionsToKeep(1).   // of those at or below the discard version
		WithMemTableSize(t.MemTableSize).
		WithNumMemtables(t.NumMemtables).
		WithNumLevelZeroTables(t.NumLevelZeroTables).
		WithNumLevelZeroTablesStall(3 * t.NumLevelZeroTables).
		WithNumCompactors(2). // the least that Badger takes
		WithNumGoroutines(2).
		WithBlockCacheSize(t.BlockCacheSize).
		WithCompression(options.None).
		WithCompactL0OnClose(false).
		WithValueThreshold(valueThreshold).
		WithValueLogFileSize(t.ValueLogFileSize).
		// Each block when it is read. Whole tables at the start are read by verifyTables,
		// which survives what it finds.
		WithChecksumVerificationMode(options.OnBlockRead).
		WithVerifyValueChecksum(true).
		WithMetricsEnabled(false). // process-wide expvars; ours are in metrics.go
		WithLogger(badgerLogger{log})
	if o.InMemory {
		b = b.WithDir("").WithValueDir("")
	}
	if t.BlockCacheSize > 0 {
		b = b.WithCompression(options.Snappy)
	}
	if o.EncryptionKey != nil && !o.InMemory {
		// Without a cache Badger would decrypt a table's index at every look into it, and
		// it refuses to decrypt blocks without one.
		b = b.WithEncryptionKey(o.EncryptionKey).
			WithIndexCacheSize(encryptedIndexCache).
			WithBlockCacheSize(max(b.BlockCacheSize, minEncryptedBlockCache))
	}
	// A compaction has up to a dozen tables under construction, each in twice its size of
	// memory, which Badger keeps for the next. Its own rule doubles tables from level to level.
	b = b.WithBaseTableSize(tableSize)
	b.TableSizeMultiplier = 1
	b.BaseLevelSize = int64(math.Max(float64(b.BaseLevelSize), float64(t.MemTableSize)*2))
	return b
}

// tableSize is of a table below level zero, in bytes: 250 of them for a GB.
const tableSize = 4 << 20

// The caches of an encrypted engine, in bytes. A table's index is about 5 % of it.
const (
	encryptedIndexCache    = 128 << 20
	minEncryptedBlockCache = 32 << 20
)

// badgerLogger sends Badger's log to ours. Its everyday remarks are ours' debug.
type badgerLogger struct{ log hclog.Logger }

func (l badgerLogger) Errorf(f string, a ...any)   { l.log.Error(trimmed(f, a)) }
func (l badgerLogger) Warningf(f string, a ...any) { l.log.Warn(trimmed(f, a)) }
func (l badgerLogger) Infof(f string, a ...any) {
	if l.log.IsDebug() {
		l.log.Debug(trimmed(f, a))
	}
}
func (l badgerLogger) Debugf(f string, a ...any) {
	if strings.HasPrefix(f, compactionRead) {
		failpoint.Hit("compact.after-read") // and before the new tables take the old ones' place
	}
	if l.log.IsTrace() {
		l.log.Trace(trimmed(f, a))
	}
}

func trimmed(f string, a []any) string {
	s := fmt.Sprintf(f, a...)
	for len(s) > 0 && s[len(s)-1] == '\n' {
		s = s[:len(s)-1]
	}
	return s
}
