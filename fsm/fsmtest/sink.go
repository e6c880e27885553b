package fsmtest

import (
	"bytes"
	"io"
)

// Sink is a raft.SnapshotSink in memory. The fields, if set, take the place of
// its methods.
type Sink struct {
	bytes.Buffer
	WriteFunc func([]byte) (int, error)
	CloseFunc func() error

	Closed, Cancelled bool
}

func (s *Sink) Write(b []byte) (int, error) {
	if s.WriteFunc != nil {
		return s.WriteFunc(b)
	}
	return s.Buffer.Write(b)
}

// Close finalises the snapshot.
func (s *Sink) Close() error {
	if s.CloseFunc != nil {
		return s.CloseFunc()
	}
	s.Closed = true
	return nil
}

// ID is the snapshot's name.
func (s *Sink) ID() string { return "test" }

// Cancel throws the snapshot away.
func (s *Sink) Cancel() error {
	s.Cancelled = true
	return nil
}

// Reader reads the snapshot as Restore gets it.
func (s *Sink) Reader() io.ReadCloser { return io.NopCloser(bytes.NewReader(s.Bytes())) }
