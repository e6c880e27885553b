package fsm

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/snapshot"
)

// Snapshot pins the state as of the last applied index and returns at once.
// Writes go on while the snapshot is streamed.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock() // the counts are of this index
	defer f.mu.Unlock()
	index := f.db.Published()
	id, err := f.clusterIDAt(index)
	if err != nil {
		return nil, err
	}
	view, err := f.db.Snapshot(index)
	if err != nil {
		return nil, fmt.Errorf("pinning index %d: %w", index, err)
	}
	counts := f.db.Counts()
	return &pinned{fsm: f, view: view, header: snapshot.Header{
		ClusterID: id,
		Index:     index,
		CreatedAt: time.Now().UnixNano(), // says when, decides nothing
		Keys:      counts.Keys,
		Services:  counts.Services,
	}}, nil
}

func (f *FSM) clusterIDAt(index uint64) (string, error) {
	view, err := f.db.ViewAt(index)
	if err != nil {
		return "", fmt.Errorf("viewing index %d: %w", index, err)
	}
	defer view.Close()
	return clusterID(view)
}

// pinned is a snapshot between Snapshot and Release.
type pinned struct {
	fsm    *FSM
	view   *persistence.SnapshotView
	header snapshot.Header
}

// Persist streams the pinned state into sink. The order matters: Raft truncates
// its log once sink.Close has returned, and from then on nothing but the engine
// and this snapshot holds the entries below. So everything up to the index is
// made durable in the engine before.
func (p *pinned) Persist(sink raft.SnapshotSink) error {
	start := time.Now()
	size, err := p.write(sink)
	if err != nil {
		if cerr := sink.Cancel(); cerr != nil {
			p.fsm.log.Warn("cancelling snapshot", "index", p.header.Index, "error", cerr)
		}
		return fmt.Errorf("writing snapshot at %d: %w", p.header.Index, err)
	}
	failpoint.Hit("snapshot.after-durable")
	if err := sink.Close(); err != nil {
		return fmt.Errorf("closing snapshot at %d: %w", p.header.Index, err)
	}
	failpoint.Hit("snapshot.after-close")
	p.fsm.SetSnapshotIndex(p.header.Index, time.Unix(0, p.header.CreatedAt))
	p.fsm.metrics.snapshotted(size, time.Since(start))
	return nil
}

// write does everything that comes before the snapshot is finalised.
func (p *pinned) write(sink io.Writer) (size int64, err error) {
	failpoint.Hit("snapshot.before-persist")
	w := &countingWriter{w: sink}
	if _, err := p.view.WriteTo(p.fsm.ctx, w, p.header); err != nil {
		return 0, fmt.Errorf("streaming: %w", err)
	}
	failpoint.Hit("snapshot.after-stream")
	if err := p.fsm.ctx.Err(); err != nil {
		return 0, fmt.Errorf("shutting down: %w", err)
	}
	if err := p.fsm.db.MakeDurable(p.fsm.ctx, p.header.Index); err != nil {
		return 0, fmt.Errorf("making the engine durable: %w", err)
	}
	return w.n, nil
}

// WriteAs writes a snapshot of the state to w as that of index, which is later than any
// entry. The engine is not made durable at that index, so a start takes the snapshot in its
// place. For a node at rest.
func (f *FSM) WriteAs(ctx context.Context, w io.Writer, index uint64) error {
	f.Advance(index)
	s, err := f.Snapshot()
	if err != nil {
		return err
	}
	defer s.Release()
	p := s.(*pinned)
	_, err = p.view.WriteTo(ctx, w, p.header)
	return err
}

// Release lets go of the pinned version. Raft calls it whatever happened.
func (p *pinned) Release() { p.view.Close() }

// countingWriter counts, and makes an error of a short write that came without
// one: an io.Writer must not do that, but a snapshot must not trust it.
type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return n, err
}

// SnapshotIndex is the newest durable snapshot's index, 0 if none is known.
func (f *FSM) SnapshotIndex() uint64 { return f.snapshotIndex.Load() }

// SetSnapshotIndex tells of a durable snapshot: after this one's own Persist, or
// at start, by whoever holds the snapshot store. It lets the engine's history
// floor move up to it. at is when it was made, for the metrics; zero = unknown.
func (f *FSM) SetSnapshotIndex(index uint64, at time.Time) {
	for {
		have := f.snapshotIndex.Load()
		if index < have {
			return
		}
		if f.snapshotIndex.CompareAndSwap(have, index) {
			break
		}
	}
	if !at.IsZero() {
		f.snapshotTime.Store(at.UnixNano())
	}
	f.db.AdvanceFloor(index)
}
