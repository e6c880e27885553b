package raftstore

import (
	"bytes"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// A log whose last batch has exactly as many bytes as raft-wal's read buffer opens again:
// raft-wal reads the last batch at its start with one ReadAt, which readFrame takes for
// the read of a frame of unknown length, and cuts short.
func TestLastBatchOfTheBuffersSize(t *testing.T) {
	cfg := Config{DataDir: t.TempDir(), SyncWrites: true}.withDefaults()
	open := func() *logStore {
		t.Helper()
		s, err := openLog(cfg, nil, hclog.NewNullLogger())
		if err != nil {
			t.Fatalf("the log does not open: %v", err)
		}
		return s
	}
	frame := func(l *raft.Log) int {
		var b bytes.Buffer
		if err := (&wal.BinaryCodec{}).Encode(withSums([]*raft.Log{l})[0], &b); err != nil {
			t.Fatal(err)
		}
		return walFrameLen + (b.Len()+walFrameLen-1)/walFrameLen*walFrameLen
	}
	const clients = 64 // a full batch of the gate
	size := 1
	for frame(&raft.Log{Index: 9, Term: 9, Data: make([]byte, size)}) < walBuffer/clients {
		size++
	}
	s := open()
	if err := s.StoreLogs(logs(1, 1, 1)); err != nil { // the first batch begins with the file's header
		t.Fatal(err)
	}
	if err := s.StoreLogs(logs(2, 1+clients, size)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries of %d bytes", clients, size)
	s = open()
	defer s.Close()
	if last, _ := s.LastIndex(); last != 1+clients {
		t.Fatalf("the log ends at %d", last)
	}
}
