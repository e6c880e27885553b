package raftstore

import (
	"context"
	"io"
	"time"

	"github.com/neogan74/konsul/internal/snapshot"
)

// BackupOptions say what a backup holds.
type BackupOptions struct {
	// Since, if not 0, makes an increment: what changed after that index.
	Since uint64
	// Stale takes what this node has, without asking a leader: for when there is none.
	Stale bool
	// Begin, if not nil, is told the header before anything is written.
	Begin func(snapshot.Header)
}

// Backup streams this node's state to w, in the format of package snapshot. It holds
// exactly the entries up to the index in its header, among them every write that was
// acknowledged before the call (unless o.Stale). Writes go on meanwhile, and the
// stream makes room for them. Errors: those of View; persistence.CompactedError if
// the history does not reach back to Since. Nothing is written to w before they are known.
func (s *Store) Backup(ctx context.Context, w io.Writer, o BackupOptions) (snapshot.Header, snapshot.Footer, error) {
	if err := s.usable(); err != nil {
		return snapshot.Header{}, snapshot.Footer{}, err
	}
	if !o.Stale {
		wait, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
		index, err := s.ReadIndex(wait)
		if err == nil {
			err = s.waitApplied(wait, index)
		}
		cancel()
		if err != nil {
			return snapshot.Header{}, snapshot.Footer{}, err
		}
	}
	return s.fsm.Backup(ctx, &pacer{ctx: ctx, w: w, applied: s.db.Published}, o.Since, o.Begin)
}

// The share of the time in which a backup rests while there are writes: each piece of
// work is followed by a pause of restShare of what it took, at most maxRest.
const (
	restShare = 0.1
	maxRest   = 100 * time.Millisecond
)

// pacer makes a stream give way to writes. The stream reads on one goroutine, and
// compresses, hashes and writes on another; where there are two cores, that is the machine.
type pacer struct {
	ctx     context.Context
	w       io.Writer
	applied func() uint64
	seen    uint64
	since   time.Time // when the work on the piece at hand began
}

func (p *pacer) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if err != nil {
		return n, err
	}
	now := time.Now()
	if applied := p.applied(); applied != p.seen && !p.since.IsZero() {
		rest := min(time.Duration(float64(now.Sub(p.since))*restShare), maxRest)
		t := time.NewTimer(rest)
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.ctx.Done():
			return n, p.ctx.Err()
		}
		p.seen = p.applied()
		now = time.Now()
	}
	p.since = now
	return n, nil
}

// Room is ErrDiskFull if the data directory's disk is below its floor.
func (s *Store) Room() error {
	if s.disk.full() {
		return ErrDiskFull
	}
	return nil
}
