package raftstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/peer"
)

// The methods of this package on internal/peer; other packages' ids start at 100.
const (
	methodApply     uint16 = 1 // an encoded command -> command.Result; leader
	methodReadIndex uint16 = 2 // nothing -> readProof; leader
	methodMember    uint16 = 3 // nothing -> nothing, or ErrNotMember; leader
	methodApplied   uint16 = 5 // an index -> whether it is applied, after a wait; any node
)

// wireCodes are the errors that keep their meaning between nodes. Codes are
// part of the protocol: never change or reuse one.
var wireCodes = []struct {
	code uint16
	err  error
}{
	{peer.CodeUser + 0, ErrNoLeader},
	{peer.CodeUser + 1, ErrNotLeader},
	{peer.CodeUser + 2, ErrNotReady},
	{peer.CodeUser + 3, ErrOverloaded},
	{peer.CodeUser + 4, ErrShuttingDown},
	{peer.CodeUser + 5, ErrDiskFull},
	{peer.CodeUser + 6, ErrOutcomeUnknown},
	{peer.CodeUser + 7, ErrWrongCluster},
	{peer.CodeUser + 8, ErrRemoved},
	{peer.CodeUser + 9, ErrNotMember},
}

// EncodeError gives an error of this package its code for the wire; any other
// error is returned as it is.
func EncodeError(err error) error {
	if err == nil {
		return nil
	}
	for _, w := range wireCodes {
		if errors.Is(err, w.err) {
			return &peer.Error{Code: w.code, Text: err.Error()}
		}
	}
	return err
}

// DecodeError gives an answer of another node its meaning back. An error
// without a known code is ErrOutcomeUnknown: nobody knows how far the other got.
func DecodeError(e *peer.Error) error {
	for _, w := range wireCodes {
		if e.Code == w.code {
			return &remoteError{is: w.err, text: e.Text}
		}
	}
	switch e.Code {
	case peer.CodeBusy:
		return &remoteError{is: ErrOverloaded, text: e.Text}
	case peer.CodeUnknownMethod:
		return &remoteError{is: ErrNotReady, text: e.Text}
	}
	return &remoteError{is: ErrOutcomeUnknown, text: e.Text}
}

// remoteError has the text of the other node and the meaning of ours.
type remoteError struct {
	is   error
	text string
}

func (e *remoteError) Error() string { return "leader: " + e.text }
func (e *remoteError) Unwrap() error { return e.is }

func (s *Store) registerMethods() {
	s.server.HandleBatch(methodApply, s.handleApplies)
	s.server.Handle(methodReadIndex, s.handleReadIndex)
	s.server.Handle(methodMember, s.handleMember)
	s.server.Handle(methodApplied, s.handleApplied)
}

// handleApplies proposes for another node what it sent together. It never
// forwards: the caller looks for the leader again.
func (s *Store) handleApplies(requests []*peer.Request) {
	if !s.servesAtOnce(requests[0].From()) {
		for _, r := range requests {
			r.Handle(s.handleApply)
		}
		return
	}
	batch := make([]*proposal, 0, len(requests))
	for _, r := range requests {
		p, err := s.enterRemote(r)
		if err != nil {
			r.Answer(nil, EncodeError(err))
			continue
		}
		batch = append(batch, p)
	}
	if len(batch) < len(requests) {
		requests[0].Flush()
	}
	s.gate.put(batch...)
}

func (s *Store) enterRemote(r *peer.Request) (*proposal, error) {
	if err := decodable(r.Body); err != nil {
		return nil, err
	}
	p, err := s.enter(r.Body)
	if err == nil {
		p.remote = r
	}
	return p, err
}

// decodable: what cannot be decoded would end every replica that applies it.
func decodable(body []byte) error {
	if _, err := command.Decode(body); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return nil
}

// handleApply is handleApplies for one, when it may have to wait before it is served.
func (s *Store) handleApply(ctx context.Context, from string, body []byte) ([]byte, error) {
	if err := s.serves(ctx, from); err != nil {
		return nil, EncodeError(err)
	}
	if err := decodable(body); err != nil {
		return nil, EncodeError(err)
	}
	ctx, cancel := s.withDeadline(ctx)
	defer cancel()
	res, err := s.propose(ctx, body)
	if err != nil {
		return nil, EncodeError(err)
	}
	return proto.Marshal(res)
}

func (s *Store) handleReadIndex(ctx context.Context, from string, _ []byte) ([]byte, error) {
	if err := s.serves(ctx, from); err != nil {
		return nil, EncodeError(err)
	}
	ctx, cancel := s.withDeadline(ctx)
	defer cancel()
	index, err := s.reads.wait(ctx)
	if err != nil {
		return nil, EncodeError(err)
	}
	return s.readProof(index).encode(), nil
}

func (s *Store) handleMember(ctx context.Context, from string, _ []byte) ([]byte, error) {
	return nil, EncodeError(s.serves(ctx, from))
}

// serves says whether this node answers another one as its leader. It calls
// nobody a stranger without having proved that it leads: a deposed leader may not
// know who has joined since.
func (s *Store) serves(ctx context.Context, from string) error {
	select {
	case <-s.up:
	default: // the port is open before raft runs
		return ErrNotReady
	}
	if err := s.usable(); err != nil {
		return err
	}
	if s.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	if s.isMember(from) {
		return nil
	}
	ctx, cancel := s.withDeadline(ctx)
	defer cancel()
	if _, err := s.reads.wait(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	if s.raft.State() == raft.Leader && !s.isMember(from) {
		return fmt.Errorf("%w: %s", ErrNotMember, from)
	}
	return ErrNotReady
}

// servesAtOnce is serves for a node that is known and needs no proof.
func (s *Store) servesAtOnce(from string) bool {
	select {
	case <-s.up:
	default:
		return false
	}
	return s.usable() == nil && s.raft.State() == raft.Leader && s.isMember(from)
}

func (s *Store) isMember(id string) bool {
	for _, srv := range s.raft.GetConfiguration().Configuration().Servers {
		if string(srv.ID) == id {
			return true
		}
	}
	return false
}
