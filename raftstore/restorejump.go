package raftstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/backup"
	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/peer"
	"github.com/neogan74/konsul/internal/persistence"
)

// A backup of a cluster whose log is longer than this one's is restored at an index
// that the log has not reached. The leader makes it jump there with raft.Restore, which
// leaves a hole in the log. What raft.Restore puts in its place is the state that every
// replica has already, and entries before the index have no effect: so a crash between
// its steps, which may leave the jump on some replicas and undo it on the others, leaves
// them all with the same state, and the next leader jumps again. With the backup itself
// as the snapshot, they would go on with different states; DESIGN.md tells how.

// jumping says whether the log has yet to reach the index of the last restore.
func (s *Store) jumping() bool {
	reset := s.fsm.Reset()
	return reset > 0 && reset > s.raft.LastIndex()
}

const (
	restoreDutyEvery = 50 * time.Millisecond
	// jumpPause is after a jump that failed: each try writes the whole state.
	jumpPause = time.Second
	// restoreIdle is after how long without progress the pieces of a restore are
	// taken for abandoned; by the leader's own clock.
	restoreIdle = 10 * time.Minute
	// restoreLook is how often that is looked at.
	restoreLook = 2 * time.Second
)

// watchRestores makes the log jump if it has to, and removes what restores that ended
// half way have left.
func (s *Store) watchRestores() {
	tick := time.NewTicker(restoreDutyEvery)
	defer tick.Stop()
	idle := &idleRestore{}
	looked := time.Now()
	var again time.Time
	for {
		select {
		case <-tick.C:
		case <-s.stop:
			return
		}
		if s.jumping() && s.IsLeader() && !time.Now().Before(again) {
			if err := s.jump(); err != nil {
				again = time.Now().Add(jumpPause)
				s.log.Warn("making the log reach the index of a restore failed; trying again", "index", s.fsm.Reset(), "error", err)
			}
		}
		if now := time.Now(); now.Sub(looked) >= restoreLook {
			looked = now
			s.tidyRestore(idle, now)
		}
	}
}

// jump gives raft the state as of the restore's index as a snapshot.
func (s *Store) jump() error {
	index := s.fsm.Reset()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // a shutdown does not wait for the stream
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	s.replacing()
	f, err := s.tempFile()
	if err != nil {
		return err
	}
	defer f.Close()
	// A node whose disk is full takes no writes anyway.
	h, footer, err := s.fsm.Backup(ctx, backup.WhileRoom(f, s.Room), 0, nil)
	if err != nil {
		return err
	}
	if h.Index != index {
		return fmt.Errorf("the state is at %d already", h.Index)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	failpoint.Hit("restore.before-jump")
	// raft.Restore puts it at the larger of this and its last index, and one. The gap
	// that the state machine leaves sees to it that this is the larger one.
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: index - 1, Size: footer.Size}
	if err := s.raft.Restore(meta, f, 0); err != nil {
		return err
	}
	failpoint.Hit("restore.after-jump")
	// State machines are not shown the no-op that came with it.
	if err := s.firstEntry(); err != nil {
		return err
	}
	s.log.Info("the log goes on at the index of the restore", "index", index)
	return nil
}

// tempFile is a file without a name: it is gone when it is closed, or with the process.
func (s *Store) tempFile() (*os.File, error) {
	dir := ""
	if !s.cfg.InMemory {
		dir = filepath.Join(s.cfg.DataDir, snapshotDir)
	}
	f, err := os.CreateTemp(dir, "jump-*"+tmpSuffix) // the suffix is swept at a start
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// idleRestore is the restore under way as it was seen last.
type idleRestore struct {
	id     string
	chunks uint64
	since  time.Time
}

// tidyRestore removes the pieces of a restore that nobody goes on with: this node's
// own from an earlier life at once, others' when they have made no progress for long.
func (s *Store) tidyRestore(idle *idleRestore, now time.Time) {
	view, err := s.db.View()
	if err != nil {
		return
	}
	under, err := view.Restoring()
	view.Close()
	if err != nil || under == nil {
		*idle = idleRestore{}
		return
	}
	if idle.id != under.Id || idle.chunks != under.Chunks {
		*idle = idleRestore{id: under.Id, chunks: under.Chunks, since: now}
	}
	own := s.restoring.Load()
	abandoned := under.Node == s.id.nodeID && (own == nil || *own != under.Id)
	idles := s.IsLeader() && now.Sub(idle.since) > restoreIdle
	if !abandoned && !idles {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.RequestTimeout)
	defer cancel()
	abort := &command.Restore{Step: command.Restore_ABORT, Id: under.Id}
	if _, err := s.Apply(ctx, command.Type_TYPE_RESTORE, abort, ""); err == nil {
		s.log.Info("removed what an unfinished restore has left", "restore", under.Id, "by", under.Node)
	}
}

// awaitMembers waits until every member that can be reached has applied index.
func (s *Store) awaitMembers(ctx context.Context, index uint64) {
	servers, err := s.Servers()
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	for _, srv := range servers {
		if srv.ID == s.id.nodeID {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := s.awaitMember(ctx, srv.Address, index); err != nil {
				s.log.Warn("a member does not have the restored state yet; it will get it from the log", "node", srv.ID, "error", err)
			}
		}()
	}
	wg.Wait()
}

// awaitMember asks again while the member answers: building a large state takes long.
func (s *Store) awaitMember(ctx context.Context, addr string, index uint64) error {
	body := binary.BigEndian.AppendUint64(nil, index)
	for {
		ask, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
		b, err := s.client.Call(ask, addr, methodApplied, body)
		cancel()
		var remote *peer.Error
		switch {
		case err == nil && bytes.Equal(b, []byte{1}):
			return nil
		case err == nil:
		case errors.As(err, &remote):
			return DecodeError(remote)
		default:
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// handleApplied answers 1 when an index is applied here, or 0 when it is not in the
// time the caller gives.
func (s *Store) handleApplied(ctx context.Context, _ string, body []byte) ([]byte, error) {
	if len(body) != 8 {
		return nil, &peer.Error{Code: peer.CodeUnknownMethod, Text: "malformed request"}
	}
	select {
	case <-s.up:
	default:
		return nil, EncodeError(ErrNotReady)
	}
	if err := s.usable(); err != nil {
		return nil, EncodeError(err)
	}
	// Less than the caller's time, so that the answer arrives in it.
	wait, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout/2)
	defer cancel()
	if s.db.WaitPublished(wait, binary.BigEndian.Uint64(body)) != nil {
		return []byte{0}, nil
	}
	return []byte{1}, nil
}

// restoredAhead says whether an engine is ahead of the log, which ends at last, only
// because of a restore that the log knows.
func restoredAhead(db *persistence.DB, last uint64) bool {
	view, err := db.View()
	if err != nil {
		return false
	}
	defer view.Close()
	reset, err := view.LastReset()
	return err == nil && reset.Index >= db.MaxVersion() && reset.Entry > 0 && reset.Entry <= last
}

// cutBehind removes a log that ends before the entry that comes before next. Raft only
// appends such a one if a snapshot covers all of it: it ended between making the
// snapshot durable and removing the log. raft-wal would refuse the entry.
func (s *logStore) cutBehind(next uint64) error {
	if s.dir == "" {
		return nil
	}
	last, err := s.raw().LastIndex()
	if err != nil || last == 0 || last+1 >= next {
		return err
	}
	first, err := s.raw().FirstIndex()
	if err != nil {
		return err
	}
	if covered := s.covered(); next-1 > covered {
		err := fmt.Errorf("%w: raft appends entry %d, but the log ends at %d and the newest snapshot at %d", ErrDamaged, next, last, covered)
		s.fatal(err)
		return err
	}
	s.log.Info("the log ends before the newest snapshot and is removed", "first", first, "last", last, "next", next)
	s.cache.truncate(first, last)
	return s.raw().DeleteRange(first, last)
}
