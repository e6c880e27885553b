package persistence

import (
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/internal/persistence/record"
)

// BadgerEngine is an Engine in a directory, by itself: no Raft, versions counted
// by the engine. Konsul's nodes use raftstore's Engine; this one is for tools and
// tests, and shares all code below it.
type BadgerEngine struct{ standalone }

// MemoryEngine is an Engine that forgets at Close: the same Badger, in memory.
type MemoryEngine struct{ standalone }

// NewBadgerEngine opens or makes an engine in dataDir. With syncWrites every
// write is fsynced before it returns; without, a power cut may lose the last ones.
func NewBadgerEngine(dataDir string, syncWrites bool, log hclog.Logger) (*BadgerEngine, error) {
	db, err := Open(Options{Dir: dataDir, SyncWrites: syncWrites, History: noHistory, standalone: true}, log)
	if err != nil {
		return nil, err
	}
	e := &BadgerEngine{}
	e.start(db)
	return e, nil
}

// NewMemoryEngine makes an empty engine.
func NewMemoryEngine() *MemoryEngine {
	small := BadgerOptions{MemTableSize: minMemTableSize}
	db, err := Open(Options{InMemory: true, Badger: small, History: noHistory, standalone: true}, nil)
	if err != nil {
		// Nothing but the constants above could make this fail.
		panic(fmt.Sprintf("persistence: opening an engine in memory: %v", err))
	}
	e := &MemoryEngine{}
	e.start(db)
	return e
}

// noHistory: nobody asks these engines for the past.
var noHistory = History{MinAge: 1, MinIndexes: 1, MaxIndexes: 1}

type standalone struct {
	db *DB
	mu sync.Mutex // one write at a time
	// next is the version of the next write.
	next uint64
	// backupDir is where backups go; "" = anywhere.
	backupDir string

	services
}

func (s *standalone) start(db *DB) {
	s.db = db
	// Badger's own log is the only one here: what it has is what there is.
	db.Publish(db.MaxVersion())
	s.next = db.Published() + 1
	s.startServices()
}

// op is one write of a batch.
type op struct {
	key    string
	value  []byte
	delete bool
}

// checkOps checks a batch against the limits, before anything changes.
func checkOps(ops []op) error {
	if len(ops) > MaxOps {
		return fmt.Errorf("%w: %d, at most %d", ErrTooManyOps, len(ops), MaxOps)
	}
	size := 0
	for _, o := range ops {
		if err := CheckKey([]byte(o.key)); err != nil {
			return err
		}
		if err := CheckValue(o.value); err != nil {
			return fmt.Errorf("key %q: %w", o.key, err)
		}
		size += len(o.key) + len(o.value)
	}
	if size > MaxEntryBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrEntryTooLarge, size, MaxEntryBytes)
	}
	return nil
}

// apply does all of ops at one version.
func (s *standalone) apply(ops ...op) error {
	if err := checkOps(ops); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(ops) == 0 && !s.db.closed.Load() {
		return nil
	}
	return s.write(func(tx *Tx) error {
		for _, o := range ops {
			if err := applyOp(tx, o); err != nil {
				return err
			}
		}
		return nil
	})
}

// write does what fn does, at one version; mu is held.
func (s *standalone) write(fn func(*Tx) error) error {
	if s.db.closed.Load() {
		return ErrClosed
	}
	u := s.db.NewUpdate(s.next)
	tx := u.At(s.next)
	s.next++ // also after an error: what of this version reached the disk is not known
	if err := fn(tx); err != nil {
		u.fail(err)
	}
	_, err := u.Commit(tx.Index())
	return err
}

func applyOp(tx *Tx, o op) error {
	key := KVKey([]byte(o.key))
	if o.delete {
		tx.Delete(key)
		return nil
	}
	old, found, err := tx.Get(key)
	if err != nil {
		return err
	}
	kv := &record.KV{Value: o.value, CreateIndex: tx.Index(), ModifyIndex: tx.Index()}
	if found {
		var before record.KV
		if err := DecodeRecord(old, &before); err != nil {
			return fmt.Errorf("key %q: %w", o.key, err)
		}
		kv.CreateIndex = before.CreateIndex
	}
	value, err := EncodeRecord(kv) // copies o.value
	if err != nil {
		return err
	}
	tx.Set(key, value)
	return nil
}

// Get implements Engine.
func (s *standalone) Get(key string) ([]byte, error) {
	if err := CheckKey([]byte(key)); err != nil {
		return nil, err
	}
	v, err := s.db.View()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	kv, err := v.KV([]byte(key))
	if err != nil {
		return nil, err
	}
	if kv.Value == nil {
		return []byte{}, nil
	}
	return kv.Value, nil
}

// Set implements Engine.
func (s *standalone) Set(key string, value []byte) error {
	return s.apply(op{key: key, value: value})
}

// Delete implements Engine.
func (s *standalone) Delete(key string) error { return s.apply(op{key: key, delete: true}) }

// List implements Engine.
func (s *standalone) List(prefix string) ([]string, error) {
	v, err := s.db.View()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	keys := []string{}
	err = v.ScanKeys(KVKey([]byte(prefix)), nil, func(stored []byte) error {
		key, _ := UserKey(stored)
		keys = append(keys, string(key))
		return nil
	})
	return keys, err
}

// BatchSet implements Engine.
func (s *standalone) BatchSet(items map[string][]byte) error {
	ops := make([]op, 0, len(items))
	for key, value := range items {
		ops = append(ops, op{key: key, value: value})
	}
	slices.SortFunc(ops, func(a, b op) int { // errors name the same key each time
		if a.key < b.key {
			return -1
		}
		return 1
	})
	return s.apply(ops...)
}

// BatchDelete implements Engine.
func (s *standalone) BatchDelete(keys []string) error {
	ops := make([]op, len(keys))
	for i, key := range keys {
		ops[i] = op{key: key, delete: true}
	}
	return s.apply(ops...)
}

// Close implements Engine. A second Close does nothing.
func (s *standalone) Close() error {
	s.stopServices()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.db.Close()
}

// BeginTx implements Engine.
func (s *standalone) BeginTx() (Transaction, error) {
	if s.db.closed.Load() {
		return nil, ErrClosed
	}
	return &transaction{commit: s.apply}, nil
}

// transaction implements Transaction over a function that applies a batch.
type transaction struct {
	commit func(...op) error
	ops    []op
	done   bool
}

// Set implements Transaction.
func (t *transaction) Set(key string, value []byte) error {
	return t.add(op{key: key, value: slices.Clone(value)})
}

// Delete implements Transaction.
func (t *transaction) Delete(key string) error { return t.add(op{key: key, delete: true}) }

func (t *transaction) add(o op) error {
	if t.done {
		return ErrTxDone
	}
	if err := checkOps([]op{o}); err != nil {
		return err
	}
	if len(t.ops) == MaxOps {
		return fmt.Errorf("%w: at most %d", ErrTooManyOps, MaxOps)
	}
	t.ops = append(t.ops, o)
	return nil
}

// Commit implements Transaction.
func (t *transaction) Commit() error {
	if t.done {
		return ErrTxDone
	}
	t.done = true
	ops := t.ops
	t.ops = nil
	return t.commit(ops...)
}

// Rollback implements Transaction.
func (t *transaction) Rollback() error {
	t.done, t.ops = true, nil
	return nil
}
