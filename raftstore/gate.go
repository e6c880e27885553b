package raftstore

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/peer"
)

// maxInflightBytes bounds the proposals in flight: what is not committed yet
// stays in memory, here and on the way to the followers.
const maxInflightBytes = 64 << 20

// proposal is one command on its way through raft.
type proposal struct {
	data []byte
	// step is taken from waiting by the gate or by a caller who gives up: whoever is
	// first decides whether the command reaches raft.
	step   atomic.Int32
	future raft.ApplyFuture
	// Either done is closed when err and result are there, or remote is answered.
	done   chan struct{}
	err    error
	result *command.Result
	remote *peer.Request
}

const (
	proposalWaiting int32 = iota
	proposalTaken
	proposalAbandoned
)

// gate hands proposals to raft in batches, in the order they came: while a batch is
// on its way, what comes gathers, and goes as one batch when that is answered, and, if
// more are about to come, these are there (gatherer). What a batch costs (the sync of
// each log, the messages, the wake-ups, the engine's commit) is then shared by many.
// Somebody who is alone never waits.
//
// One goroutine waits for raft's futures, which cannot be selected on, and sends
// the next batch on its way.
type gate struct {
	raft  *raft.Raft
	depth int64
	limit int // of a batch: it fits into raft's channel, and the store's own beside it
	count atomic.Int64
	bytes atomic.Int64

	mu      sync.Mutex
	waiting []*proposal
	gather  gatherer
	under   bool // a batch is on its way
	began   time.Time
	late    *time.Timer // ends the wait for more

	sent chan []*proposal // has room for the batch on its way
	stop <-chan struct{}
}

// ownEntries are what the store itself may have on the way beside the batch: ticks
// and a new leader's first entry.
const ownEntries = 4

func newGate(s *Store) *gate {
	g := &gate{
		raft: s.raft, depth: int64(s.cfg.QueueDepth), limit: max(s.cfg.MaxAppendEntries-ownEntries, 1),
		sent: make(chan []*proposal, 1), stop: s.stop,
	}
	g.late = time.AfterFunc(time.Hour, g.waitedEnough)
	g.late.Stop()
	return g
}

// admit takes a place in the queue; false = full.
func (g *gate) admit(size int64) bool {
	if g.count.Add(1) > g.depth {
		g.count.Add(-1)
		return false
	}
	if g.bytes.Add(size) > maxInflightBytes && g.count.Load() > 1 {
		g.release(size)
		return false
	}
	return true
}

func (g *gate) release(size int64) {
	g.bytes.Add(-size)
	g.count.Add(-1)
}

// put takes proposals that were admitted. It does not wait.
func (g *gate) put(ps ...*proposal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, ps...)
	if !g.under && g.gather.enough(len(g.waiting)) {
		g.sendLocked(true)
	}
}

// wait returns a proposal's result. If ctx ends before the gate has taken it, it
// never reaches raft.
func (p *proposal) wait(ctx context.Context) (*command.Result, error) {
	select {
	case <-p.done:
		return p.result, p.err
	case <-ctx.Done():
	}
	if p.step.CompareAndSwap(proposalWaiting, proposalAbandoned) {
		return nil, fmt.Errorf("%w: %w", ErrOverloaded, ctx.Err())
	}
	return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
}

// sendLocked hands what waits to raft, up to a batch. inTime says that it does not
// because the wait for more is over.
func (g *gate) sendLocked(inTime bool) {
	g.gather.sent(inTime)
	g.late.Stop()
	for len(g.waiting) > 0 {
		n := min(len(g.waiting), g.limit)
		batch := make([]*proposal, 0, n)
		now := time.Now()
		for _, p := range g.waiting[:n] {
			if g.hand(p, now) {
				batch = append(batch, p)
			}
		}
		rest := copy(g.waiting, g.waiting[n:])
		clear(g.waiting[rest:])
		g.waiting = g.waiting[:rest]
		if len(batch) > 0 {
			g.under, g.began = true, now
			g.sent <- batch
			return
		}
	}
}

// hand hands one proposal to raft; false = it has ended already.
func (g *gate) hand(p *proposal, now time.Time) bool {
	if !p.step.CompareAndSwap(proposalWaiting, proposalTaken) || p.late(now) {
		g.release(int64(len(p.data)))
		return false
	}
	p.future = g.raft.ApplyLog(raft.Log{Data: p.data}, 0)
	if refused(p.future) {
		g.end(p)
		g.flush([]*proposal{p})
		return false
	}
	return true
}

// late reports whether the node that asked has given up. It is not answered: it
// knows, and an answer would race its clock.
func (p *proposal) late(now time.Time) bool {
	return p.remote != nil && !p.remote.Deadline.IsZero() && !now.Before(p.remote.Deadline)
}

// refused reports whether raft did not take a proposal at all: then its future is
// a plain value with the error.
func refused(f raft.ApplyFuture) bool { return reflect.TypeOf(f).Kind() == reflect.Struct }

// end waits for what raft answers and tells it.
func (g *gate) end(p *proposal) {
	p.result, p.err = settle(p.future)
	if p.remote == nil {
		g.release(int64(len(p.data)))
		close(p.done)
		return
	}
	if p.err != nil {
		p.remote.Answer(nil, EncodeError(p.err))
		return
	}
	p.remote.Answer(proto.Marshal(p.result))
}

func (g *gate) run() {
	for {
		select {
		case batch := <-g.sent:
			// The last is answered last, nearly always: so this is woken once.
			_ = batch[len(batch)-1].future.Error()
			g.next(len(batch))
			for _, p := range batch {
				g.end(p)
			}
			g.flush(batch)
		case <-g.stop:
			return
		}
	}
}

// flush sends the answers to other nodes, each node's together. Only then do these
// proposals count as ended, for Shutdown.
func (g *gate) flush(batch []*proposal) {
	var callers []*peer.Request
	for _, p := range batch {
		if p.remote == nil {
			continue
		}
		if !slices.ContainsFunc(callers, p.remote.SameCaller) {
			p.remote.Flush()
			callers = append(callers, p.remote)
		}
		g.release(int64(len(p.data)))
	}
}

// next is called when a batch of size proposals is answered.
func (g *gate) next(size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.under = false
	if wait := g.gather.answered(size, len(g.waiting), time.Since(g.began)); wait > 0 {
		g.late.Reset(wait)
		return
	}
	g.sendLocked(true)
}

// waitedEnough is called when the wait for more is over.
func (g *gate) waitedEnough() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.under {
		g.sendLocked(false)
	}
}

// settle waits for a proposal and says what became of it.
func settle(f raft.ApplyFuture) (*command.Result, error) {
	err := f.Error()
	if errors.Is(err, raft.ErrRaftShutdown) && f.Index() == 0 {
		return nil, ErrShuttingDown // never got an index
	}
	if err != nil {
		return nil, outcome(err)
	}
	res, ok := f.Response().(*command.Result)
	if ok && res.Code == command.Result_RESTORING {
		return nil, fmt.Errorf("%w: it came between a restore and the index from which that counts", ErrNotReady)
	}
	if !ok {
		return nil, fmt.Errorf("%w: the state machine answered %T", ErrOutcomeUnknown, f.Response())
	}
	return res, nil
}
