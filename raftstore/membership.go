package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Server is a member by raft's configuration.
type Server struct {
	ID, Address string
	Voter       bool
}

// Bootstrap makes this node, which must be without state, a founder of a new
// cluster with exactly these servers. Every founder may be bootstrapped, with the
// same arguments; one is enough.
func (s *Store) Bootstrap(clusterID string, servers []Server) error {
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.SetClusterID(clusterID); err != nil {
		return err
	}
	var conf raft.Configuration
	for _, srv := range servers {
		suffrage := raft.Nonvoter
		if srv.Voter {
			suffrage = raft.Voter
		}
		conf.Servers = append(conf.Servers, raft.Server{
			Suffrage: suffrage, ID: raft.ServerID(srv.ID), Address: raft.ServerAddress(srv.Address),
		})
	}
	if err := s.raft.BootstrapCluster(conf).Error(); err != nil {
		return fmt.Errorf("bootstrapping cluster: %w", err)
	}
	return nil
}

// Servers are the members by the latest configuration, which may not be committed yet.
func (s *Store) Servers() ([]Server, error) {
	f := s.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	var out []Server
	for _, srv := range f.Configuration().Servers {
		out = append(out, Server{ID: string(srv.ID), Address: string(srv.Address), Voter: srv.Suffrage == raft.Voter})
	}
	return out, nil
}

// AddNonvoter adds a member without a vote, or gives a member a new address: a
// voter stays one. Leader only; the change is committed on return.
func (s *Store) AddNonvoter(ctx context.Context, id, addr string) error {
	return s.change(ctx, "adding "+id, func(d time.Duration) raft.Future {
		return s.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), 0, d)
	})
}

// Promote gives a member a vote. Leader only; committed on return.
func (s *Store) Promote(ctx context.Context, id string) error {
	servers, err := s.Servers()
	if err != nil {
		return err
	}
	for _, srv := range servers {
		if srv.ID != id {
			continue
		}
		if srv.Voter {
			return nil
		}
		return s.change(ctx, "promoting "+id, func(d time.Duration) raft.Future {
			return s.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(srv.Address), 0, d)
		})
	}
	return fmt.Errorf("promoting %s: %w", id, ErrNotMember)
}

// Demote takes a member's vote. Leader only; committed on return.
func (s *Store) Demote(ctx context.Context, id string) error {
	return s.change(ctx, "demoting "+id, func(d time.Duration) raft.Future {
		return s.raft.DemoteVoter(raft.ServerID(id), 0, d)
	})
}

// RemoveServer removes a member. Leader only; committed on return. A leader that
// removes itself steps down after that.
func (s *Store) RemoveServer(ctx context.Context, id string) error {
	return s.change(ctx, "removing "+id, func(d time.Duration) raft.Future {
		return s.raft.RemoveServer(raft.ServerID(id), 0, d)
	})
}

func (s *Store) change(ctx context.Context, what string, do func(time.Duration) raft.Future) error {
	if err := s.usable(); err != nil {
		return err
	}
	ctx, cancel := s.withDeadline(ctx)
	defer cancel()
	if s.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	if err := outcome(await(ctx, do(enqueueTime(ctx)))); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Transfer hands leadership to a voter, or to any if id is "". Leader only. It
// returns when this node leads no more.
func (s *Store) Transfer(ctx context.Context, id string) error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.raft.State() != raft.Leader {
		return ErrNotLeader
	}
	ctx, cancel := s.withDeadline(ctx)
	defer cancel()
	if id == "" {
		if len(s.voters()) < 2 {
			return fmt.Errorf("%w: there is no other voter", ErrNotMember)
		}
		return transferred(await(ctx, s.raft.LeadershipTransfer()))
	}
	servers, err := s.Servers()
	if err != nil {
		return err
	}
	for _, srv := range servers {
		if srv.ID == id && srv.Voter {
			if id != s.id.nodeID {
				if err := s.awaitContact(ctx, id); err != nil {
					return transferred(err)
				}
			}
			return transferred(await(ctx, s.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(srv.Address))))
		}
	}
	return fmt.Errorf("%w: %s has no vote", ErrNotMember, id)
}

// awaitContact returns nil if a member answers heartbeats. Raft's replication to one that is
// away waits (sendWhenUp) and takes no notice of a transfer: a second transfer would hang
// for as long as that, and the leader refuses every write during a transfer.
func (s *Store) awaitContact(ctx context.Context, id string) error {
	limit := time.NewTimer(s.cfg.Election)
	defer limit.Stop()
	for {
		at, moved := s.acks.lastOr(raft.ServerID(id))
		if time.Since(at) < s.cfg.Election {
			return nil
		}
		select {
		case <-moved:
		case <-limit.C:
			return fmt.Errorf("%s does not answer", id)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func transferred(err error) error {
	if err != nil {
		return fmt.Errorf("transferring leadership: %w: %w", ErrNotReady, err)
	}
	return nil
}

// TakeSnapshot takes a snapshot now. Nothing new since the last one is fine.
func (s *Store) TakeSnapshot(ctx context.Context) error {
	if err := s.usable(); err != nil {
		return err
	}
	ctx, cancel := s.withDeadline(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.raft.Snapshot().Error() }()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
			return fmt.Errorf("taking snapshot: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("taking snapshot: %w", ctx.Err())
	}
}
