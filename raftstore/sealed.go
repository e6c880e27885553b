package raftstore

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/persistence"
)

// openEncryption opens the keys of the data directory before anything in it is
// read. The lock on the directory is held.
func (s *Store) openEncryption() error {
	if s.cfg.InMemory {
		return nil
	}
	fresh, err := isFresh(s.cfg.DataDir)
	if err != nil {
		return err
	}
	keys, replaced, err := encryption.OpenDirectory(s.cfg.DataDir, s.cfg.Encryption, fresh)
	if err != nil {
		return fmt.Errorf("encryption at rest: %w", err)
	}
	if replaced != "" {
		failpoint.Hit("keys.after-replace")
		s.log.Info("the master key was replaced; the old one can leave this node's key file unless backups need it",
			"old", replaced, "new", s.cfg.Encryption.ID())
	}
	s.keys = keys
	return nil
}

// isFresh says that neither log nor snapshots nor engine are in dir yet.
func isFresh(dir string) (bool, error) {
	for _, name := range []string{raftDir, snapshotDir, persistence.EngineDir} {
		switch _, err := os.Lstat(filepath.Join(dir, name)); {
		case err == nil:
			return false, nil
		case !errors.Is(err, os.ErrNotExist):
			return false, fmt.Errorf("looking for data in %s: %w", dir, err)
		}
	}
	return true, nil
}

// entrySealer encrypts the commands of log entries on their way to the disk. Nil
// leaves them as they are. What raft itself needs, index, term and type, and the
// stamp stay in the clear, but belong to what is sealed.
type entrySealer struct{ sealer *encryption.Sealer }

func newEntrySealer(keys *encryption.Directory) *entrySealer {
	if keys == nil {
		return nil
	}
	return &entrySealer{keys.Log()}
}

// sealedEntry is the first byte of a sealed entry: no command and nothing of raft's
// own begins with it.
const sealedEntry = 0xc1

// seal returns copies: raft, the cache and the followers go on with the originals.
func (s *entrySealer) seal(logs []*raft.Log) []*raft.Log {
	if s == nil {
		return logs
	}
	copies := make([]raft.Log, len(logs))
	out := make([]*raft.Log, len(logs))
	for i, l := range logs {
		copies[i] = *l
		if len(l.Data) > 0 {
			buf := make([]byte, 1, 1+len(l.Data)+encryption.SealOverhead)
			buf[0] = sealedEntry
			copies[i].Data = s.sealer.Seal(buf, l.Data, place(l))
		}
		out[i] = &copies[i]
	}
	return out
}

// open undoes seal.
func (s *entrySealer) open(l *raft.Log) error {
	sealed := len(l.Data) > 0 && l.Data[0] == sealedEntry
	switch {
	case s == nil && !sealed, len(l.Data) == 0:
		return nil
	case s == nil:
		return fmt.Errorf("%w: log entry %d is encrypted, but %s is missing: put it back", ErrDamaged, l.Index, encryption.File)
	case !sealed:
		return fmt.Errorf("%w: log entry %d is not encrypted", ErrDamaged, l.Index)
	}
	data, err := s.sealer.Open(nil, l.Data[1:], place(l))
	if err != nil {
		return fmt.Errorf("%w: log entry %d: %w", ErrDamaged, l.Index, err)
	}
	l.Data = data
	return nil
}

// place is what a sealed entry is bound to: it cannot stand elsewhere in the log.
func place(l *raft.Log) []byte {
	b := make([]byte, 0, 32)
	b = binary.BigEndian.AppendUint64(b, l.Index)
	b = binary.BigEndian.AppendUint64(b, l.Term)
	b = append(b, byte(l.Type))
	return append(b, l.Extensions...)
}

// sealedSnapshots is raft's snapshot store with encrypted files. It is above the
// file store and below ours: who reads gets what was written, of the length that
// the metadata says.
type sealedSnapshots struct {
	raft.SnapshotStore
	keys *encryption.FileKeys
}

// Create implements raft.SnapshotStore.
func (s *sealedSnapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	inner, err := s.SnapshotStore.Create(version, index, term, conf, confIndex, trans)
	if err != nil {
		return nil, err
	}
	w, err := s.keys.Writer(inner)
	if err != nil {
		return nil, errors.Join(err, inner.Cancel())
	}
	return &sealedSink{SnapshotSink: inner, w: w}, nil
}

// List implements raft.SnapshotStore.
func (s *sealedSnapshots) List() ([]*raft.SnapshotMeta, error) {
	list, err := s.SnapshotStore.List()
	for _, meta := range list {
		meta.Size = encryption.PlainSize(meta.Size)
	}
	return list, err
}

// Open implements raft.SnapshotStore.
func (s *sealedSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, rc, err := s.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	r, err := s.keys.Reader(bufio.NewReaderSize(rc, 64<<10))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("opening snapshot %s: %w", id, err), rc.Close())
	}
	meta.Size = encryption.PlainSize(meta.Size)
	return meta, &sealedReader{Reader: r, file: rc}, nil
}

type sealedReader struct {
	io.Reader
	file io.Closer
}

func (r *sealedReader) Close() error { return r.file.Close() }

// sealedSink encrypts a snapshot that is being written.
type sealedSink struct {
	raft.SnapshotSink
	w io.WriteCloser
}

func (k *sealedSink) Write(b []byte) (int, error) { return k.w.Write(b) }

// Close writes the end of the encrypted file, then finalises the snapshot.
func (k *sealedSink) Close() error {
	if err := k.w.Close(); err != nil {
		return errors.Join(fmt.Errorf("ending an encrypted snapshot: %w", err), k.SnapshotSink.Cancel())
	}
	return k.SnapshotSink.Close()
}
