// Package fsm is the state machine: it turns the entries of the Raft log into
// versions of the engine, tells watchers what changed, and makes and takes
// snapshots. DESIGN.md explains the rules that every line here has to keep.
package fsm

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
)

// FSM applies the log to one engine. It implements raft.BatchingFSM and
// raft.ConfigurationStore: Raft calls Apply, ApplyBatch, StoreConfiguration,
// Snapshot and Restore from one goroutine. Everything else may be called from
// anywhere at any time.
type FSM struct {
	db      *persistence.DB
	log     hclog.Logger
	fatal   func(error)
	table   table
	hub     *hub
	metrics *metrics

	// mu orders what writes to the engine and the ring. Raft calls from one
	// goroutine, but Advance comes from others.
	mu sync.Mutex
	// applied is the newest index that was applied here, for the counts.
	applied uint64
	tx      entryTx // of the entry being applied

	// reset is the index from which on entries count since the last restore; passed is
	// the newest of those before it that was applied, without effect.
	reset, passed atomic.Uint64

	clock     clock
	deadlines deadlines

	// snapshotIndex is the newest snapshot known to be durable.
	snapshotIndex atomic.Uint64
	snapshotTime  atomic.Int64 // unix nanoseconds; 0 = unknown

	// ctx ends with Close, or before it with StopSnapshots: nothing is streamed any more.
	ctx    context.Context
	cancel context.CancelFunc
}

var (
	_ raft.BatchingFSM        = (*FSM)(nil)
	_ raft.ConfigurationStore = (*FSM)(nil)
)

// Option changes how an FSM is made.
type Option func(*FSM)

// WithFatal sets what happens when this replica cannot go on: an entry that
// cannot be decoded or applied, an engine that cannot be written, a snapshot
// that cannot be restored. fn must end the process; if it returns, the FSM
// panics. The default is to panic at once.
func WithFatal(fn func(error)) Option {
	return func(f *FSM) { f.fatal = fn }
}

// New makes the state machine of an open engine. Readers and watchers see the
// engine's published index; entries up to it may be applied again.
func New(db *persistence.DB, log hclog.Logger, reg prometheus.Registerer, opts ...Option) (*FSM, error) {
	f := &FSM{
		db:    db,
		log:   log.Named("fsm"),
		table: newTable(),
		hub:   newHub(db, db.Published()),
		fatal: func(error) {},
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	for _, opt := range opts {
		opt(f)
	}
	var err error
	if f.metrics, err = newMetrics(reg, f); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	if err := f.loadReset(); err != nil {
		return nil, err
	}
	f.hub.oldest = f.reset.Load() // what is below is of another state
	if err := f.startClock(); err != nil {
		return nil, err
	}
	// After a restore what the log's newest snapshot counted is another state's.
	if f.applied = db.Published(); f.applied > 0 && (!db.Counted() || f.applied == f.reset.Load()) {
		f.recount(f.applied)
	}
	return f, nil
}

// StopSnapshots makes snapshots and backups that are being written end at once, without
// a result, and later ones fail. To be called before Raft is stopped, which waits for them.
func (f *FSM) StopSnapshots() { f.cancel() }

// Close stops a snapshot in progress and ends all subscriptions and waits with
// ErrClosed. It does not close the engine. To be called after Raft has stopped,
// or while it is stopping.
func (f *FSM) Close() error {
	f.cancel()
	f.hub.close()
	return nil
}

// Apply applies one entry; see ApplyBatch.
func (f *FSM) Apply(l *raft.Log) any {
	return f.ApplyBatch([]*raft.Log{l})[0]
}

// ApplyBatch applies entries in order: all of them in one write to the engine,
// each at its own version. When it returns readers see them. The answers are
// *command.Result for commands and nil for configurations.
//
// Entries may have been applied before, even to an engine that is far ahead:
// that changes nothing, and watchers that are past them hear nothing.
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	answers := make([]any, len(logs))
	if len(logs) == 0 {
		return answers
	}
	start := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parts(logs, answers, func(logs []*raft.Log, answers []any) { f.applyPart(logs, answers, start) })
	return answers
}

// applyPart applies a run of entries that has no COMMIT of a restore in it.
func (f *FSM) applyPart(logs []*raft.Log, answers []any, start time.Time) {
	if first := logs[0].Index; first <= f.applied {
		f.recount(first - 1)
	}
	changes, commands, newest, err := f.applyAll(logs, answers)
	if err != nil {
		f.die(fmt.Errorf("applying entries %d to %d: %w", logs[0].Index, logs[len(logs)-1].Index, err))
	}
	f.applied = logs[len(logs)-1].Index
	f.clock.advance(newest, start)
	f.deadlines.note(changes)
	events := f.hub.emit(withoutPieces(changes), f.applied)
	f.metrics.applied(commands, events, time.Since(start))
}

// applyAll does the work of ApplyBatch up to the commit, and fills in answers. newest
// is the newest stamp.
func (f *FSM) applyAll(logs []*raft.Log, answers []any) (changes []persistence.Change, commands int, newest int64, err error) {
	last := logs[len(logs)-1].Index
	var update *persistence.Update
	tx := &f.tx
	for i, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		if update == nil {
			update = f.db.NewUpdate(l.Index)
		}
		stamp, err := command.DecodeStamp(l.Extensions)
		if err != nil {
			return nil, 0, 0, fmt.Errorf("entry %d: %w", l.Index, err)
		}
		newest = max(newest, stamp)
		tx.begin(update.At(l.Index), stamp)
		res, err := f.table.applyEntry(tx, l.Data)
		if err != nil {
			return nil, 0, 0, fmt.Errorf("entry %d: %w", l.Index, err)
		}
		answers[i] = res
		commands++
	}
	if update == nil {
		f.db.Publish(last)
		return nil, 0, 0, nil
	}
	changes, err = update.Commit(last)
	return changes, commands, newest, err
}

// StoreConfiguration is told about a membership change. Raft keeps the
// configuration itself; here only the index moves on, so that a reader waiting
// for it does not wait for the next write.
func (f *FSM) StoreConfiguration(index uint64, _ raft.Configuration) { f.Advance(index) }

// Advance tells that every entry up to index has been applied, though the last
// ones were none for the state machine (Raft does not show it no-ops and
// barriers). To be called after a Barrier for that index has returned.
func (f *FSM) Advance(index uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.db.Publish(index)
	f.hub.emit(nil, index)
}

// die ends this replica: its state would differ from the others' from here on.
func (f *FSM) die(err error) {
	f.fatal(err)
	panic(err)
}

// ErrClosed is returned by subscriptions and waits after Close.
var ErrClosed = persistence.ErrClosed
