package raftstore

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/snapshot"
	"github.com/neogan74/konsul/internal/statefile"
)

// fileMeta is what raft's file store has in meta.json. It has no checksum.
type fileMeta struct {
	raft.SnapshotMeta
	CRC []byte // newFileSum of the data's file
}

// newFileSum is the checksum that raft's file store keeps of the data.
func newFileSum() hash.Hash64 { return crc64.New(crc64.MakeTable(crc64.ECMA)) }

// mend writes raft's metadata anew for snapshots that have lost them, or whose metadata
// contradict a good record: all that is in them is in the record too, but for what can be
// counted. A snapshot may be the only one that the log does not reach behind.
func (s *snapshotStore) mend() error {
	if s.dir == "" {
		return nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("listing snapshots: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || filepath.Ext(e.Name()) == tmpSuffix {
			continue
		}
		if s.agrees(e.Name()) {
			continue
		}
		if err := s.mendOne(e.Name()); err != nil {
			s.log.Warn("a snapshot's metadata are damaged and cannot be made anew", "id", e.Name(), "error", err)
		}
	}
	return nil
}

// agrees says whether raft's metadata of a snapshot are what its record and its file say.
func (s *snapshotStore) agrees(id string) bool {
	var meta fileMeta
	b, err := os.ReadFile(filepath.Join(s.dir, id, snapMetaFile))
	if err != nil || json.Unmarshal(b, &meta) != nil || meta.ID != id || meta.Version != raft.SnapshotVersionMax {
		return false
	}
	info, err := os.Stat(filepath.Join(s.dir, id, snapDataFile))
	if err != nil || info.Size() != meta.Size {
		return false
	}
	_, err = s.glance(&meta.SnapshotMeta)
	return !errors.Is(err, errSnapMeta)
}

// mendOne writes a snapshot's metadata from its record and its data, if both are whole.
func (s *snapshotStore) mendOne(id string) error {
	dir := filepath.Join(s.dir, id)
	rec, err := s.readRecord(id)
	if err != nil {
		return err
	}
	meta := fileMeta{SnapshotMeta: raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: id, Index: rec.Index, Term: rec.Term,
		Configuration: rec.Configuration, ConfigurationIndex: rec.ConfigurationIndex,
	}}
	if meta.Size, meta.CRC, err = s.measure(filepath.Join(dir, snapDataFile), rec.Header); err != nil {
		return err
	}
	b, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	if err := statefile.Replace(filepath.Join(dir, snapMetaFile), append(b, '\n')); err != nil {
		return err
	}
	s.log.Warn("a snapshot's metadata were damaged and have been made anew", "id", id)
	return nil
}

// measure reads a snapshot's file to its end, which has a checksum of its own, and returns
// what raft wants to know of it.
func (s *snapshotStore) measure(path string, want snapshot.Header) (size int64, crc []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return 0, nil, err
	}
	sum := newFileSum()
	all := io.TeeReader(f, sum)
	var in io.Reader = bufio.NewReaderSize(all, 64<<10)
	if sealed, ok := s.SnapshotStore.(*sealedSnapshots); ok {
		if in, err = sealed.keys.Reader(in); err != nil {
			return 0, nil, err
		}
	}
	r, err := snapshot.NewReader(in)
	if err != nil {
		return 0, nil, err
	}
	if r.Header() != want {
		return 0, nil, fmt.Errorf("%w: %s is another snapshot's", errSnapRecord, snapRecordFile)
	}
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, io.EOF) {
		return 0, nil, err
	}
	if _, err := io.Copy(io.Discard, all); err != nil {
		return 0, nil, err
	}
	return info.Size(), sum.Sum(nil), nil
}
