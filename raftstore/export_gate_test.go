package raftstore

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
)

// Propose hands a command to raft on this node: no other node is tried.
func (s *Store) Propose(ctx context.Context, t command.Type, m proto.Message) (*command.Result, error) {
	data, err := command.Encode(nil, t, m)
	if err != nil {
		return nil, err
	}
	return s.propose(ctx, data)
}

// Proposals is how many proposals are on their way or wait for it.
func (s *Store) Proposals() int64 { return s.gate.count.Load() }
