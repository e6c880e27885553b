package raftstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/snapshot"
	"github.com/neogan74/konsul/internal/statefile"
)

const (
	snapRecordFile   = "konsul.json"
	snapRecordFormat = 1
	snapMetaFile     = "meta.json"
	snapDataFile     = "state.bin"
	// snapHeadLen is enough of a snapshot to read its header.
	snapHeadLen = 80 << 10
)

// snapRecord stands beside each snapshot: what raft's own metadata says, which has no
// checksum, and the snapshot's header. So a start need not read the snapshot to know
// what it is.
type snapRecord struct {
	Index              uint64             `json:"index"`
	Term               uint64             `json:"term"`
	Configuration      raft.Configuration `json:"configuration"`
	ConfigurationIndex uint64             `json:"configuration_index"`
	Header             snapshot.Header    `json:"header"`
}

var (
	errSnapRecord = errors.New("its metadata is damaged")
	// errSnapMeta: raft's metadata are, and the record is not.
	errSnapMeta = fmt.Errorf("%w: %s does not agree with %s", errSnapRecord, snapMetaFile, snapRecordFile)
)

// readRecord reads a snapshot's record against its checksum.
func (s *snapshotStore) readRecord(id string) (rec snapRecord, err error) {
	found, err := statefile.Read(filepath.Join(s.dir, id, snapRecordFile), snapRecordFormat, &rec)
	if err == nil && !found {
		err = fmt.Errorf("%w: %s is missing", errSnapRecord, snapRecordFile)
	}
	return rec, err
}

// glance checks a snapshot without reading it: that its metadata is what was
// written. Its data may be damaged nevertheless; verify knows.
func (s *snapshotStore) glance(meta *raft.SnapshotMeta) (snapshot.Header, error) {
	rec, err := s.readRecord(meta.ID)
	if err != nil {
		return snapshot.Header{}, err
	}
	want, err := json.Marshal(rec.Configuration)
	if err != nil {
		return snapshot.Header{}, err
	}
	have, err := json.Marshal(meta.Configuration)
	if err != nil {
		return snapshot.Header{}, err
	}
	if rec.Index != meta.Index || rec.Term != meta.Term || rec.ConfigurationIndex != meta.ConfigurationIndex || !bytes.Equal(want, have) {
		return snapshot.Header{}, errSnapMeta
	}
	if info, err := os.Stat(filepath.Join(s.dir, meta.ID, snapDataFile)); err != nil || info.Size() < meta.Size {
		return snapshot.Header{}, fmt.Errorf("%w: %s is missing or cut off", errSnapRecord, snapDataFile)
	}
	return rec.Header, nil
}

// unlisted counts snapshots that raft does not list because it cannot read their
// metadata.
func (s *snapshotStore) unlisted(list []*raft.SnapshotMeta) (names []string, err error) {
	if s.dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("listing snapshots: %w", err)
	}
	listed := map[string]bool{}
	for _, meta := range list {
		listed[meta.ID] = true
	}
	for _, e := range entries {
		if e.IsDir() && !listed[e.Name()] && filepath.Ext(e.Name()) != tmpSuffix {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// recordOf writes the record of a snapshot that is about to be finished.
func (k *sink) recordOf() error {
	r, err := snapshot.NewReader(bytes.NewReader(k.head))
	if errors.Is(err, snapshot.ErrNotSnapshot) {
		return nil // not ours; no start will count on it
	}
	if err != nil {
		return fmt.Errorf("reading the header of a new snapshot: %w", err)
	}
	k.record.Header = r.Header()
	return statefile.Write(filepath.Join(k.tmp(), snapRecordFile), snapRecordFormat, k.record)
}

// Write implements io.Writer.
func (k *sink) Write(b []byte) (int, error) {
	n, err := k.SnapshotSink.Write(b)
	if k.pace != nil {
		k.pace.Grown(n)
	}
	if room := snapHeadLen - len(k.head); room > 0 && n > 0 {
		k.head = append(k.head, b[:min(n, room)]...)
	}
	return n, err
}

// verifySlowly reads a snapshot's file against its checksum, at most rate bytes a second,
// until stop is closed. damage is what is wrong with it, err why it is not known.
func (s *snapshotStore) verifySlowly(id string, rate int64, stop <-chan struct{}) (damage, err error) {
	b, err := os.ReadFile(filepath.Join(s.dir, id, snapMetaFile))
	if err != nil {
		return nil, err
	}
	var meta fileMeta
	if err := json.Unmarshal(b, &meta); err != nil {
		return fmt.Errorf("%s: %w", snapMetaFile, err), nil
	}
	f, err := os.Open(filepath.Join(s.dir, id, snapDataFile))
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	sum := newFileSum()
	buf := make([]byte, 1<<20)
	for {
		n, err := f.Read(buf)
		sum.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", snapDataFile, err), nil
		}
		select {
		case <-stop:
			return nil, ErrShuttingDown
		case <-time.After(time.Duration(float64(n) / float64(rate) * float64(time.Second))):
		}
	}
	if !bytes.Equal(sum.Sum(nil), meta.CRC) {
		return fmt.Errorf("%s does not match its checksum", snapDataFile), nil
	}
	return nil, nil
}
