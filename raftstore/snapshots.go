package raftstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/snapshot"
	"github.com/neogan74/konsul/internal/writeback"
)

const tmpSuffix = ".tmp"

// LogDir and SnapshotDir are the directories of the Raft log and of its snapshots in a
// data directory, for who wants to know how large they are.
func LogDir(dataDir string) string { return filepath.Join(dataDir, raftDir) }

// SnapshotDir is the directory of Raft's snapshots.
func SnapshotDir(dataDir string) string { return filepath.Join(dataDir, snapshotDir) }

// snapshotStore is raft's file snapshot store with what it leaves out: leftovers
// of a crash are swept, a new snapshot's directory is fsynced before it gets its
// name, and a reader knows the index its snapshot stands for.
type snapshotStore struct {
	raft.SnapshotStore
	dir string // "" = in memory
	log hclog.Logger
	// start, if not nil, is what raft is told at its start to have, in place of what
	// there is.
	start atomic.Pointer[raft.SnapshotMeta]
}

// List implements raft.SnapshotStore: newest first.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	if start := s.start.Load(); start != nil {
		return []*raft.SnapshotMeta{start}, nil
	}
	return s.SnapshotStore.List()
}

func openSnapshots(cfg Config, keys *encryption.Directory, log hclog.Logger) (*snapshotStore, error) {
	s := &snapshotStore{log: log.Named("snapshots")}
	if cfg.InMemory {
		s.SnapshotStore = raft.NewInmemSnapshotStore()
		return s, nil
	}
	s.dir = filepath.Join(cfg.DataDir, snapshotDir)
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening snapshots: %w", err)
	}
	if err := s.sweep(); err != nil {
		return nil, err
	}
	inner, err := raft.NewFileSnapshotStoreWithLogger(cfg.DataDir, cfg.SnapshotRetention, s.log)
	if err != nil {
		return nil, fmt.Errorf("opening snapshots: %w", err)
	}
	s.SnapshotStore = inner
	if keys != nil {
		s.SnapshotStore = &sealedSnapshots{inner, keys.Files()}
	}
	return s, nil
}

// started ends what start began.
func (s *snapshotStore) started() { s.start.Store(nil) }

// sweep removes snapshots that were never finished.
func (s *snapshotStore) sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("sweeping snapshots: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), tmpSuffix) {
			s.log.Info("removing an unfinished snapshot", "name", e.Name())
			if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
				return fmt.Errorf("sweeping snapshots: %w", err)
			}
		}
	}
	return nil
}

// verify reads a whole snapshot against its checksum and returns its header.
func (s *snapshotStore) verify(id string) (snapshot.Header, error) {
	_, rc, err := s.SnapshotStore.Open(id) // reads all of it
	if err != nil {
		return snapshot.Header{}, err
	}
	defer rc.Close()
	r, err := snapshot.NewReader(rc)
	if err != nil {
		return snapshot.Header{}, err
	}
	return r.Header(), nil
}

// setAside moves a damaged snapshot out of raft's sight.
func (s *snapshotStore) setAside(id string) error {
	to := filepath.Join(filepath.Dir(s.dir), "damaged-snapshot-"+id)
	if err := os.Rename(filepath.Join(s.dir, id), to); err != nil {
		return fmt.Errorf("setting a damaged snapshot aside: %w", err)
	}
	return syncDir(s.dir)
}

// Create implements raft.SnapshotStore.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	inner, err := s.SnapshotStore.Create(version, index, term, conf, confIndex, trans)
	if err != nil {
		return nil, err
	}
	k := &sink{SnapshotSink: inner, store: s, record: snapRecord{
		Index: index, Term: term, Configuration: conf, ConfigurationIndex: confIndex,
	}}
	if s.dir == "" {
		return k, nil
	}
	if k.data, err = os.Open(filepath.Join(k.tmp(), snapDataFile)); err != nil {
		return nil, errors.Join(fmt.Errorf("making snapshot: %w", err), k.Cancel())
	}
	k.pace = writeback.NewPacer(k.data)
	return k, nil
}

// Open implements raft.SnapshotStore; fsm.Restore finds the index behind raft's wrappers.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, rc, err := s.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	return meta, &indexedReader{ReadCloser: rc, index: meta.Index}, nil
}

type indexedReader struct {
	io.ReadCloser
	index uint64
}

var _ fsm.Indexed = (*indexedReader)(nil)

// SnapshotIndex implements fsm.Indexed.
func (r *indexedReader) SnapshotIndex() uint64 { return r.index }

// sink is a snapshot being written.
type sink struct {
	raft.SnapshotSink
	store  *snapshotStore
	record snapRecord
	head   []byte // the first bytes that were written
	done   bool
	// data is the file below SnapshotSink, and pace has it written back; nil in memory.
	data *os.File
	pace *writeback.Pacer
}

// Close finalises the snapshot. Raft truncates its log after it.
func (k *sink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	if k.data != nil {
		defer k.data.Close() // only read
	}
	if k.store.dir != "" {
		err := k.recordOf()
		if err == nil {
			err = syncDir(k.tmp()) // raft's store syncs the files and the parent only
		}
		if err != nil {
			_ = k.SnapshotSink.Cancel()
			k.remove()
			return err
		}
	}
	if err := k.SnapshotSink.Close(); err != nil {
		k.remove()
		return err
	}
	return nil
}

// Cancel implements raft.SnapshotSink.
func (k *sink) Cancel() error {
	if k.done {
		return nil
	}
	k.done = true
	if k.data != nil {
		defer k.data.Close()
	}
	err := k.SnapshotSink.Cancel()
	k.remove() // raft's store leaves it behind if the last bytes did not fit on the disk
	return err
}

func (k *sink) tmp() string { return filepath.Join(k.store.dir, k.ID()+tmpSuffix) }

func (k *sink) remove() {
	if k.store.dir == "" {
		return
	}
	if err := os.RemoveAll(k.tmp()); err != nil && !errors.Is(err, os.ErrNotExist) {
		k.store.log.Warn("removing an unfinished snapshot", "error", err)
	}
}

// madeAt is when a snapshot was made, by its header.
func madeAt(h snapshot.Header) time.Time {
	if h.CreatedAt == 0 {
		return time.Time{}
	}
	return time.Unix(0, h.CreatedAt)
}
