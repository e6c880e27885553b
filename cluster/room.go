package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/neogan74/konsul/internal/peer"
	"github.com/neogan74/konsul/raftstore"
)

// makeRoom frees the address a node announces from the member that has it, if
// that one is not there any more. Silence does not show that: it may come back.
// Another node at its address does.
//
// A new node in its place is what a cleared data directory leaves behind: the
// member is removed. If the other node is a member too (moved), machines have
// exchanged addresses, and the member will announce its own new one: it is kept.
func (m *Manager) makeRoom(ctx context.Context, other raftstore.Server, servers []raftstore.Server, moved bool) error {
	if other.ID == m.cfg.NodeID {
		return fmt.Errorf("%s is the address of node %s, the leader: %w", other.Address, other.ID, ErrAddressInUse)
	}
	if err := m.replaced(ctx, other); err != nil {
		return err
	}
	if moved {
		m.log.Info("another member has the address of a member; waiting for its new one", "member", other.ID, "address", other.Address)
		if err := m.store.AddNonvoter(ctx, other.ID, nowhere(other.ID)); err != nil {
			return fmt.Errorf("freeing the address %s: %w", other.Address, err)
		}
		return nil
	}
	if err := m.checkQuorum(ctx, other, servers); err != nil {
		return fmt.Errorf("node %s had the address %s and is gone, but cannot be removed: %w", other.ID, other.Address, err)
	}
	m.log.Warn("another node has the address of a member; removing that member", "member", other.ID, "address", other.Address)
	return m.remove(ctx, other)
}

// nowhere stands for the address of a member that is elsewhere, nobody knows
// where yet. Raft needs one of its own for every member; .invalid never resolves (RFC 2606).
func nowhere(id string) string { return id + ".moved.invalid:1" }

// replaced is nil if a node other than the member answers at its address. A
// connection to the process that ended may still be kept, so it asks again.
func (m *Manager) replaced(ctx context.Context, other raftstore.Server) error {
	if other.Address == m.cfg.RaftAddr { // this node is there; it refuses its own calls
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.time.ask)
	defer cancel()
	b := backoff{min: 20 * time.Millisecond, max: 200 * time.Millisecond}
	for {
		info, err := m.ask(ctx, other.Address)
		switch {
		case err == nil && info.ID != other.ID, errors.Is(err, peer.ErrNoCluster), errors.Is(err, peer.ErrWrongCluster):
			return nil
		case err == nil:
			return fmt.Errorf("node %s answers at %s; let it leave first: %w", other.ID, other.Address, ErrAddressInUse)
		}
		if b.wait(ctx) != nil {
			return fmt.Errorf("%s belongs to node %s, which does not answer; if it is gone, remove it first: %w",
				other.Address, other.ID, ErrAddressInUse)
		}
	}
}
