package raftstore

import (
	"context"
	"errors"
	"fmt"
	"reflect"
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

// Apply makes a command an entry of the log and returns its result when it is
// applied on the leader. Any node may be asked: it proposes, or forwards to the
// leader, and waits at most Config.ElectionWait for one to appear. A failed
// condition is a result, not an error.
//
// Errors: *command.LimitError and *command.InvalidError before anything is done;
// those for which NotApplied holds; ErrOutcomeUnknown, after which the command
// may have been applied or may still be.
func (s *Store) Apply(ctx context.Context, t command.Type, m proto.Message, idempotencyKey string) (*command.Result, error) {
	if err := command.Validate(t, m); err != nil {
		return nil, err
	}
	data, err := command.Encode(&command.Header{IdempotencyKey: idempotencyKey}, t, m)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.withDeadline(ctx)
	defer cancel()
	res, err := s.applyAnywhere(ctx, data)
	s.metrics.proposed(err)
	return res, err
}

// applyAnywhere looks for the leader until the command is applied, or not, or
// the time is up. Only what was certainly not applied is tried again.
func (s *Store) applyAnywhere(ctx context.Context, data []byte) (*command.Result, error) {
	deadline := time.Now().Add(s.cfg.ElectionWait)
	for attempt := 0; ; attempt++ {
		if err := s.usable(); err != nil {
			return nil, err
		}
		if s.disk.full() {
			return nil, ErrDiskFull
		}
		changed := s.leader.changes()
		res, err := s.applyOnce(ctx, data)
		if err == nil || !again(err) || !time.Now().Before(deadline) {
			return res, err
		}
		s.pauseForLeader(ctx, changed, attempt)
		if ctx.Err() != nil {
			return nil, err
		}
	}
}

// again says whether another try may find a leader that takes the command.
func again(err error) bool {
	return NotApplied(err) && !errors.Is(err, ErrOverloaded) && !errors.Is(err, ErrRemoved) &&
		!errors.Is(err, ErrNotMember) && !errors.Is(err, ErrWrongCluster)
}

func (s *Store) applyOnce(ctx context.Context, data []byte) (*command.Result, error) {
	if s.raft.State() == raft.Leader {
		return s.propose(ctx, data)
	}
	id, addr, ok := s.Leader()
	if !ok || id == s.id.nodeID {
		return nil, ErrNoLeader
	}
	return s.forward(ctx, addr, data)
}

// forward has the leader propose.
func (s *Store) forward(ctx context.Context, addr string, data []byte) (*command.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := s.leader.afterChange(addr, s.cfg.Election, s.leaderAddr, cancel)
	defer stop()
	b, err := s.client.Call(ctx, addr, methodApply, data)
	if err != nil {
		return nil, s.remoteApply(addr, err)
	}
	res := new(command.Result)
	if err := proto.Unmarshal(b, res); err != nil {
		return nil, fmt.Errorf("%w: decoding the leader's answer: %w", ErrOutcomeUnknown, err)
	}
	return res, nil
}

func (s *Store) leaderAddr() string {
	_, addr, _ := s.Leader()
	return addr
}

func (s *Store) remoteApply(addr string, err error) error {
	var remote *peer.Error
	switch {
	case errors.As(err, &remote):
		err = DecodeError(remote)
		if errors.Is(err, ErrNotMember) {
			s.disowned()
		}
		return err
	case errors.Is(err, peer.ErrNotSent):
		return fmt.Errorf("%w: asking %s: %w", ErrNoLeader, addr, err)
	}
	return fmt.Errorf("%w: asking %s: %w", ErrOutcomeUnknown, addr, err)
}

// proposal is one command on its way through raft.
type proposal struct {
	future raft.ApplyFuture
	size   int64
	done   chan struct{}
	err    error
	result *command.Result
}

// propose hands a command to raft, on the leader, and waits for its result.
func (s *Store) propose(ctx context.Context, data []byte) (*command.Result, error) {
	if s.disk.full() {
		return nil, ErrDiskFull
	}
	if s.raft.State() != raft.Leader {
		return nil, ErrNotLeader
	}
	if s.jumping() {
		return nil, fmt.Errorf("%w: a restore is being completed", ErrNotReady)
	}
	p := &proposal{size: int64(len(data)), done: make(chan struct{})}
	if !s.waiter.admit(p.size) {
		return nil, ErrOverloaded
	}
	// After being admitted: Shutdown closes the door first and then waits until
	// nobody is inside, because raft forgets what is queued when it stops.
	if err := s.usable(); err != nil {
		s.waiter.release(p.size)
		return nil, err
	}
	p.future = s.raft.ApplyLog(raft.Log{Data: data}, enqueueTime(ctx))
	if refused(p.future) {
		s.waiter.release(p.size)
		return settle(p.future)
	}
	s.waiter.queue <- p // has room for all that were admitted
	select {
	case <-p.done:
		return p.result, p.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

// refused reports whether raft did not take a proposal at all: then its future is
// a plain value with the error. Such a proposal must not stand in the queue behind
// those whose outcome is open.
func refused(f raft.ApplyFuture) bool { return reflect.TypeOf(f).Kind() == reflect.Struct }

// enqueueTime bounds the wait for raft to take a proposal at all.
func enqueueTime(ctx context.Context) time.Duration {
	t, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(t), time.Millisecond)
}

// proposalWaiter waits for the futures of all proposals, in the order they were
// made, which is nearly the order they end in. So a caller can leave when its
// context ends, without a goroutine for each proposal: raft's futures cannot be
// selected on.
type proposalWaiter struct {
	queue chan *proposal
	depth int64
	count atomic.Int64
	bytes atomic.Int64
	stop  <-chan struct{}
}

func newProposalWaiter(s *Store) *proposalWaiter {
	return &proposalWaiter{queue: make(chan *proposal, s.cfg.QueueDepth), depth: int64(s.cfg.QueueDepth), stop: s.stop}
}

// admit takes a place in the queue; false = full.
func (w *proposalWaiter) admit(size int64) bool {
	if w.count.Add(1) > w.depth {
		w.count.Add(-1)
		return false
	}
	if w.bytes.Add(size) > maxInflightBytes && w.count.Load() > 1 {
		w.release(size)
		return false
	}
	return true
}

func (w *proposalWaiter) release(size int64) {
	w.bytes.Add(-size)
	w.count.Add(-1)
}

func (w *proposalWaiter) run() {
	for {
		select {
		case p := <-w.queue:
			p.result, p.err = settle(p.future)
			w.release(p.size)
			close(p.done)
		case <-w.stop:
			return
		}
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
