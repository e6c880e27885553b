package raftstore

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/snapshot"
)

// ErrRestoreLost means that another restore began while this one was under way, so
// nothing came of this one.
var ErrRestoreLost = errors.New("another restore began meanwhile")

// Restore replaces the state of the whole cluster by that of src, a whole backup, which
// may be another cluster's. The members and the cluster's id stay. It returns the index
// from which on the state is the backup's, which is above every index before; when it
// returns, writes are taken again and every member that can be reached has the new
// state. Any node may be asked. Watchers end with fsm.ErrReset.
//
// It changes nothing before all of src was read without an error. After an error that
// is ErrOutcomeUnknown it may have happened; after any other it has not and will not.
func (s *Store) Restore(ctx context.Context, src snapshot.Source) (uint64, error) {
	if err := s.usable(); err != nil {
		return 0, err
	}
	id := newRestoreID()
	if !s.restoring.CompareAndSwap(nil, &id) {
		return 0, fmt.Errorf("%w: this node is busy with another restore", ErrOverloaded)
	}
	defer s.restoring.Store(nil)
	u := &upload{apply: s.persist, id: id, node: s.id.nodeID, sum: sha256.New()}
	index, err := u.run(ctx, persistence.Checked(src))
	if err != nil {
		return 0, err
	}
	if err := s.writable(ctx); err != nil {
		return index, err
	}
	s.awaitMembers(ctx, index)
	return index, nil
}

// persist is Apply for a step of a restore, which may be repeated whatever became of
// it: it goes on as long as there is hope.
func (s *Store) persist(ctx context.Context, m *command.Restore) (*command.Result, error) {
	return s.insist(ctx, command.Type_TYPE_RESTORE, func(ctx context.Context) (*command.Result, error) {
		return s.Apply(ctx, command.Type_TYPE_RESTORE, m, "")
	}, m.Step == command.Restore_COMMIT)
}

const (
	// restorePatience bounds how long a restore goes on without any progress: longer
	// than any election.
	restorePatience = time.Minute
	restorePause    = 100 * time.Millisecond
)

// insist repeats what may be repeated. long says that one attempt may take as long as
// ctx does.
func (s *Store) insist(ctx context.Context, _ command.Type, do func(context.Context) (*command.Result, error), long bool) (*command.Result, error) {
	give := time.Now().Add(restorePatience)
	unknown := false
	for {
		attempt, cancel := ctx, context.CancelFunc(func() {})
		if !long {
			attempt, cancel = context.WithTimeout(ctx, s.cfg.RequestTimeout)
		}
		began := time.Now()
		res, err := do(attempt)
		cancel()
		if long { // a COMMIT may well have been applied for that long
			give = give.Add(time.Since(began))
		}
		unknown = unknown || errors.Is(err, ErrOutcomeUnknown)
		switch {
		case err == nil:
			return res, nil
		case !errors.Is(err, ErrOutcomeUnknown) && !NotApplied(err),
			errors.Is(err, ErrRemoved), errors.Is(err, ErrShuttingDown), errors.Is(err, ErrNotMember), errors.Is(err, ErrWrongCluster),
			time.Now().After(give):
			return nil, knownOnly(err, unknown)
		}
		t := time.NewTimer(restorePause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, knownOnly(fmt.Errorf("%w: %w", ErrNotReady, ctx.Err()), unknown)
		}
	}
}

// knownOnly makes an error "unknown" if an earlier attempt's outcome was.
func knownOnly(err error, unknown bool) error {
	if unknown && !errors.Is(err, ErrOutcomeUnknown) {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return err
}

// upload takes a backup through the steps of a restore.
type upload struct {
	apply func(context.Context, *command.Restore) (*command.Result, error)
	id    string
	node  string
	seq   uint64
	sum   interface {
		io.Writer
		Sum([]byte) []byte
	}
	ctx   context.Context
	begun bool
}

// ProposeRestore takes src through the steps of a restore by proposals that apply makes.
// For what is not a Store; a step may be repeated. It returns the index from which on
// the state is src's.
func ProposeRestore(ctx context.Context, src snapshot.Source, node string, apply func(context.Context, *command.Restore) (*command.Result, error)) (uint64, error) {
	u := &upload{apply: apply, id: newRestoreID(), node: node, sum: sha256.New()}
	return u.run(ctx, persistence.Checked(src))
}

func (u *upload) run(ctx context.Context, src snapshot.Source) (index uint64, err error) {
	u.ctx = ctx
	defer func() {
		if err != nil && u.begun && !errors.Is(err, ErrOutcomeUnknown) {
			u.abort()
		}
	}()
	if err := u.step(&command.Restore{Step: command.Restore_BEGIN, Node: u.node}); err != nil {
		return 0, err
	}
	u.begun = true
	failpoint.Hit("restore.after-begin")
	w := bufio.NewWriterSize(u, command.MaxRestoreChunk)
	if _, err := snapshot.Copy(w, src); err != nil {
		return 0, err
	}
	if err := w.Flush(); err != nil {
		return 0, err
	}
	failpoint.Hit("restore.after-upload")
	commit := &command.Restore{Step: command.Restore_COMMIT, Id: u.id, Chunks: u.seq, Sha256: u.sum.Sum(nil)}
	res, err := u.apply(ctx, commit)
	if err == nil {
		err = stepError(res)
	}
	if err != nil {
		return 0, fmt.Errorf("restoring: %w", err)
	}
	failpoint.Hit("restore.after-commit")
	return res.Index, nil
}

func (u *upload) step(m *command.Restore) error {
	m.Id = u.id
	res, err := u.apply(u.ctx, m)
	if err == nil {
		err = stepError(res)
	}
	// Nothing of these steps is seen by anybody.
	if errors.Is(err, ErrOutcomeUnknown) {
		err = fmt.Errorf("%w: %s", ErrNotReady, err.Error())
	}
	if err != nil {
		return fmt.Errorf("preparing the restore: %w", err)
	}
	return nil
}

// Write puts the next piece into the state. It is given whole ones, but for the last.
func (u *upload) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := min(len(rest), command.MaxRestoreChunk)
		if err := u.step(&command.Restore{Step: command.Restore_CHUNK, Seq: u.seq, Data: rest[:n]}); err != nil {
			return len(b) - len(rest), err
		}
		_, _ = u.sum.Write(rest[:n]) // a hash does not fail
		u.seq++
		rest = rest[n:]
		failpoint.Hit("restore.after-piece")
	}
	return len(b), nil
}

// abort lets go of the pieces, if it can: else the leader's duties do.
func (u *upload) abort() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), 5*time.Second)
	defer cancel()
	_, _ = u.apply(ctx, &command.Restore{Step: command.Restore_ABORT, Id: u.id})
}

// stepError makes an error of a result that is not OK.
func stepError(res *command.Result) error {
	switch res.Code {
	case command.Result_OK:
		return nil
	case command.Result_RESTORE_LOST:
		return fmt.Errorf("%w: %w", ErrOverloaded, ErrRestoreLost)
	case command.Result_RESTORE_REFUSED:
		return fmt.Errorf("%w: its pieces did not arrive as they were sent", snapshot.ErrCorrupt)
	case command.Result_RESTORING:
		return fmt.Errorf("%w: a restore is being completed", ErrNotReady)
	default:
		return fmt.Errorf("step of a restore: %v", res.Code)
	}
}

// writable returns when the cluster takes writes again after a restore.
func (s *Store) writable(ctx context.Context) error {
	_, err := s.insist(ctx, command.Type_TYPE_TXN, func(ctx context.Context) (*command.Result, error) {
		return s.Apply(ctx, command.Type_TYPE_TXN, &command.Txn{}, "")
	}, false)
	if err != nil {
		return fmt.Errorf("%w: the backup is restored, but the cluster takes no writes yet: %w", ErrOutcomeUnknown, err)
	}
	return nil
}

func newRestoreID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
