package raftstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/peer"
)

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

// propose hands a command to raft, on the leader, and waits for its result.
func (s *Store) propose(ctx context.Context, data []byte) (*command.Result, error) {
	runtime.Gosched() // others who are ready may have one for the same batch
	p, err := s.enter(data)
	if err != nil {
		return nil, err
	}
	p.done = make(chan struct{})
	s.gate.put(p)
	return p.wait(ctx)
}

// enter takes a place in the gate for a command, on the leader.
func (s *Store) enter(data []byte) (*proposal, error) {
	if s.disk.full() {
		return nil, ErrDiskFull
	}
	if s.raft.State() != raft.Leader {
		return nil, ErrNotLeader
	}
	if s.jumping() {
		return nil, fmt.Errorf("%w: a restore is being completed", ErrNotReady)
	}
	size := int64(len(data))
	if !s.gate.admit(size) {
		return nil, ErrOverloaded
	}
	// After being admitted: Shutdown closes the door first and then waits until
	// nobody is inside, because raft forgets what is queued when it stops.
	if err := s.usable(); err != nil {
		s.gate.release(size)
		return nil, err
	}
	return &proposal{data: data}, nil
}

// enqueueTime bounds the wait for raft to take something at all.
func enqueueTime(ctx context.Context) time.Duration {
	t, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(t), time.Millisecond)
}
