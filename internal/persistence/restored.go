package persistence

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/internal/snapshot"
)

// restored gives the records of a state that is made of a backup's, in order of key.
type restored struct {
	from   snapshot.Source
	header snapshot.Header
	now    int64
	own    []snapshot.Record
	timed  bool // time is among own

	next snapshot.Record // of from
	have bool
	end  error
}

// NewRestored is the state that from, a whole backup, becomes as of h.Index: what
// belonged to its cluster is left out (OfCluster), own comes in its place, and time is
// not before now. Which deadlines have been dealt with is the backup's to say, as the
// deadlines are.
func NewRestored(from snapshot.Source, h snapshot.Header, own []snapshot.Record, now int64) snapshot.Source {
	slices.SortFunc(own, compareRecords)
	return &restored{from: from, header: h, now: now, own: own}
}

func compareRecords(a, b snapshot.Record) int { return bytes.Compare(a.Key, b.Key) }

// Header implements snapshot.Source.
func (s *restored) Header() snapshot.Header { return s.header }

// Next implements snapshot.Source.
func (s *restored) Next() (snapshot.Record, error) {
	for !s.have && s.end == nil {
		s.next, s.end = s.from.Next()
		switch {
		case s.end != nil:
		case OfCluster(s.next.Key):
		default:
			s.have = true
		}
	}
	if s.end != nil && !errors.Is(s.end, io.EOF) {
		return snapshot.Record{}, s.end
	}
	// The time comes where its key does, from the backup or not.
	if !s.timed && (!s.have || bytes.Compare(s.next.Key, TimeKey()) >= 0) {
		if err := s.mergeTime(); err != nil {
			return snapshot.Record{}, err
		}
	}
	if len(s.own) > 0 && (!s.have || bytes.Compare(s.own[0].Key, s.next.Key) < 0) {
		r := s.own[0]
		s.own = s.own[1:]
		return r, nil
	}
	if s.have {
		s.have = false
		return s.next, nil
	}
	return snapshot.Record{}, io.EOF
}

// mergeTime puts the time among own, and lets go of the backup's. Its now is the later
// of the two; what was searched for deadlines is the backup's, as the deadlines are.
func (s *restored) mergeTime() error {
	s.timed = true
	var t record.Time
	if s.have && bytes.Equal(s.next.Key, TimeKey()) {
		if err := DecodeRecord(s.next.Value, &t); err != nil {
			return fmt.Errorf("reading the backup's time: %w", err)
		}
		s.have = false
	}
	if t.Now == 0 && s.now == 0 {
		return nil
	}
	t.Now = max(t.Now, s.now)
	value, err := EncodeRecord(&t)
	if err != nil {
		return err
	}
	r := snapshot.Record{Key: TimeKey(), Version: s.header.Index, Value: value}
	i, _ := slices.BinarySearchFunc(s.own, r, compareRecords)
	s.own = slices.Insert(s.own, i, r)
	return nil
}
