package fsm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/snapshot"
)

// Indexed is implemented by the reader given to Restore, or by one it wraps, if
// the snapshot store knows the Raft index the snapshot stands for. That index is
// above the one in the snapshot's header when a backup was put into a running
// cluster, or when entries without effect on the state came last.
type Indexed interface{ SnapshotIndex() uint64 }

// Restore replaces the whole state by a snapshot. The engine writes it to a new
// place, verifies it and switches over, so a crash leaves the old state or the
// new one. A failure ends the process: Raft would go on applying entries to a
// state that is not what it believes. All subscriptions end with ErrReset.
func (f *FSM) Restore(rc io.ReadCloser) error {
	start := time.Now()
	header, err := f.replace(rc)
	if err != nil {
		f.die(fmt.Errorf("restoring snapshot: %w", err))
	}
	f.metrics.restored(time.Since(start))
	f.log.Info("restored snapshot", "index", header.Index, "keys", header.Keys, "duration", time.Since(start))
	return nil
}

func (f *FSM) replace(rc io.ReadCloser) (snapshot.Header, error) {
	defer rc.Close() // only read; all of it was verified
	f.mu.Lock()
	defer f.mu.Unlock()
	in := bufio.NewReaderSize(rc, snapshot.MaxHeaderBytes)
	if header, ok := f.hasReset(in); ok {
		failpoint.Hit("restore.jump-stored")
		index, _ := snapshotIndex(rc)
		f.SetSnapshotIndex(max(index, header.Index), time.Unix(0, header.CreatedAt))
		return header, nil
	}
	f.hub.suspend()
	header, err := f.db.Replace(f.ctx, in)
	if err != nil {
		return header, err
	}
	f.db.SetCounts(persistence.Counts{Keys: header.Keys, Services: header.Services})
	f.applied = header.Index
	at := header.Index
	if index, ok := snapshotIndex(rc); ok && index > at {
		at = index
		f.db.Publish(at)
	}
	if err := errors.Join(f.loadReset(), f.startClock()); err != nil {
		return header, err
	}
	f.hub.resume(at)
	f.SetSnapshotIndex(at, time.Unix(0, header.CreatedAt)) // Raft made it durable before
	return header, nil
}

// snapshotIndex looks for Indexed behind the wrappers that Raft puts around the
// reader.
func snapshotIndex(rc io.ReadCloser) (uint64, bool) {
	for {
		if ix, ok := rc.(Indexed); ok {
			return ix.SnapshotIndex(), true
		}
		w, ok := rc.(raft.ReadCloserWrapper)
		if !ok {
			return 0, false
		}
		rc = w.WrappedReadCloser()
	}
}
