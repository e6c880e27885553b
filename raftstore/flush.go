package raftstore

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

// flusher lets a leader write its log to disk while the entries are on their way
// to the followers (the Raft thesis, 10.2.1), instead of before. Raft counts the
// leader's own log at once when StoreLogs returns, so what makes this safe is that
// no acknowledgement of an entry is shown to it before the entry is on this disk
// too: see transport and pipeline. With two voters or more, nothing is committed
// without one.
//
// At most one batch is not on disk yet, the last: after a crash raft-wal checks the
// last one and trusts those before.
type flusher struct {
	// ahead: the sync of the batch being written may go on after it returned; left:
	// it does. Both belong to the goroutine in StoreLogs.
	ahead, left bool
	// first is the first entry that may not be on disk; 0 = all are.
	first atomic.Uint64

	mu   sync.Mutex
	done chan struct{} // closed at the end of the sync under way
	err  error         // of a sync; it stays

	// gate lets a test hold up syncs.
	gate atomic.Pointer[func()]
}

// begin starts a sync of the batch that begins with entry first; ended is called
// at its end. Nothing else is under way.
func (f *flusher) begin(first uint64, sync func() error, ended func(error)) {
	done := make(chan struct{})
	f.mu.Lock()
	f.done = done
	f.mu.Unlock()
	f.first.Store(first)
	f.left = true
	go func() {
		if gate := f.gate.Load(); gate != nil {
			(*gate)()
		}
		err := sync()
		f.mu.Lock()
		f.err = err
		f.mu.Unlock()
		ended(err)
		if err == nil {
			f.first.Store(0)
		}
		close(done)
	}()
}

// wait returns when the entry at index is on disk, if it is in the log at all. An
// error means that it may not be, and never will be said to be.
func (f *flusher) wait(index uint64) error {
	if first := f.first.Load(); first == 0 || index < first {
		return nil
	}
	f.mu.Lock()
	done := f.done
	f.mu.Unlock()
	<-done
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// all waits for every entry.
func (f *flusher) all() error { return f.wait(^uint64(0)) }

// flushedMeta is raft-wal's own record of its segments. It may call a segment
// complete only when all of it is on disk.
type flushedMeta struct {
	types.MetaStore
	flush *flusher
}

// CommitState implements types.MetaStore.
func (m *flushedMeta) CommitState(s types.PersistentState) error {
	if err := m.flush.all(); err != nil {
		return fmt.Errorf("waiting for the log: %w", err)
	}
	return m.MetaStore.CommitState(s)
}

// mayFlushBehind says whether entries may be sent before they are on disk: this
// node leads others that have to acknowledge them, and none of the entries changes
// who these are.
func (s *Store) mayFlushBehind(logs []*raft.Log) bool {
	for _, l := range logs {
		if l.Type != raft.LogCommand {
			return false
		}
	}
	return s.trans != nil && s.raft.State() == raft.Leader && len(s.voters()) > 1
}
