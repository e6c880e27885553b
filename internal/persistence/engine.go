package persistence

import (
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Engine is a store of keys and services. MemoryEngine, BadgerEngine and the
// replicated store of raftstore all are one, and pass the same suite: enginetest.
//
// Keys are 1 to MaxKeyLen bytes of any kind, values 0 to MaxValueLen. Slices given
// to an Engine are copied before the call returns; slices it returns are the
// caller's. All methods are for any goroutine.
type Engine interface {
	// Get returns the value of key, not nil, or ErrKeyNotFound.
	Get(key string) ([]byte, error)
	Set(key string, value []byte) error
	// Delete removes key; that it was not there is no error.
	Delete(key string) error
	// List returns the keys that begin with prefix, in byte order.
	List(prefix string) ([]string, error)

	// GetService returns ErrServiceNotFound or ErrServiceExpired if it must.
	GetService(name string) ([]byte, error)
	SetService(name string, data []byte, ttl time.Duration) error
	DeleteService(name string) error
	ListServices() ([]string, error)

	// BatchSet and BatchDelete do all or nothing, for readers and after a crash; at
	// most MaxOps keys and MaxEntryBytes.
	BatchSet(items map[string][]byte) error
	BatchDelete(keys []string) error

	Close() error
	// Backup saves everything, as of one moment, in a file, in place of one that is
	// there, while others read and write. It is durable on return. path must lie in the
	// backup directory, if the engine has one.
	Backup(path string) error
	// Restore replaces everything by what a Backup saved, of this engine or of another.
	// A file that is damaged or no backup changes nothing.
	Restore(path string) error

	BeginTx() (Transaction, error)
}

// Transaction gathers writes that happen together at Commit, in order, or not at
// all. Nothing is read or locked before. It is for one goroutine.
type Transaction interface {
	Set(key string, value []byte) error
	Delete(key string) error
	// Commit does the writes; after it the transaction is done.
	Commit() error
	// Rollback forgets them. It may be called at any time, also after Commit, and
	// more than once; it only undoes what was not committed.
	Rollback() error
}

// Config chooses an engine, as the users' guide describes it.
type Config struct {
	Enabled    bool   // false: in memory, whatever Type says
	Type       string // TypeMemory or TypeBadger
	DataDir    string // where BadgerEngine keeps its files
	BackupDir  string // where backups go
	SyncWrites bool   // fsync each write
	WALEnabled bool   // must be true with TypeBadger
}

// The values of Config.Type.
const (
	TypeMemory = "memory"
	TypeBadger = "badger"
)

// NewEngine makes the engine that cfg describes.
func NewEngine(cfg Config, log hclog.Logger) (Engine, error) {
	switch {
	case cfg.Type != TypeMemory && cfg.Type != TypeBadger && (cfg.Enabled || cfg.Type != ""):
		return nil, fmt.Errorf("%w: unknown type %q, it must be %q or %q", ErrBadConfig, cfg.Type, TypeBadger, TypeMemory)
	case !cfg.Enabled || cfg.Type == TypeMemory:
		e := NewMemoryEngine()
		e.backupDir = cfg.BackupDir
		return e, nil
	case !cfg.WALEnabled:
		return nil, fmt.Errorf("%w: wal_enabled=false cannot be had with type %q: Badger always writes its log; "+
			"for speed without durability use sync_writes=false", ErrBadConfig, TypeBadger)
	case cfg.DataDir == "":
		return nil, fmt.Errorf("%w: type %q needs a data directory", ErrBadConfig, TypeBadger)
	}
	e, err := NewBadgerEngine(cfg.DataDir, cfg.SyncWrites, log)
	if err != nil {
		return nil, err
	}
	e.backupDir = cfg.BackupDir
	return e, nil
}
