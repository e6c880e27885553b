package cluster

import (
	"fmt"
	"slices"
	"sync"
)

// votes is this node's part in the agreement on which cluster to form: the
// acceptor of a single-decree Paxos. What it promised or accepted is on disk
// before it is said.
type votes struct {
	dir string

	mu    sync.Mutex
	state stateFile
}

func openVotes(dir string) (*votes, error) {
	s, err := loadState(dir)
	return &votes{dir: dir, state: s}, err
}

// less orders ballots.
func (b Ballot) less(o Ballot) bool {
	return b.Round < o.Round || b.Round == o.Round && b.Node < o.Node
}

// member is the one with that id, or nil.
func (v *BootstrapValue) member(id string) *BootstrapMember {
	if v == nil {
		return nil
	}
	for i := range v.Members {
		if v.Members[i].ID == id {
			return &v.Members[i]
		}
	}
	return nil
}

// has says whether the node with that id is one of the members, in that data directory.
func (v *BootstrapValue) has(id, incarnation string) bool {
	member := v.member(id)
	return member != nil && member.Incarnation == incarnation
}

// answer fills in what the acceptor knows.
func (v *votes) answer(ok bool, reason string) BootstrapResponse {
	return BootstrapResponse{
		OK: ok, Reason: reason, Promised: v.state.Promised, Accepted: v.state.Accepted,
		Value: v.state.Value, Decided: v.state.Decided,
	}
}

// prepare promises to accept nothing below the ballot and tells what was accepted.
func (v *votes) prepare(b Ballot) (BootstrapResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state.Decided {
		return v.answer(false, "already decided"), nil
	}
	if !v.state.Promised.less(b) && v.state.Promised != b {
		return v.answer(false, "promised to "+v.state.Promised.Node), nil
	}
	next := v.state
	next.Promised = b
	if err := v.commit(next); err != nil {
		return BootstrapResponse{}, err
	}
	return v.answer(true, ""), nil
}

// accept votes for the value, unless a later ballot was promised.
func (v *votes) accept(b Ballot, value *BootstrapValue) (BootstrapResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state.Decided {
		return v.answer(false, "already decided"), nil
	}
	if b.less(v.state.Promised) {
		return v.answer(false, "promised to "+v.state.Promised.Node), nil
	}
	next := v.state
	next.Promised, next.Accepted, next.Value = b, b, value
	if err := v.commit(next); err != nil {
		return BootstrapResponse{}, err
	}
	return v.answer(true, ""), nil
}

// decide notes that the value is what a majority accepted.
func (v *votes) decide(value *BootstrapValue) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state.Decided {
		if v.state.Value.ClusterID != value.ClusterID {
			return fmt.Errorf("cluster %s was decided here, not %s", v.state.Value.ClusterID, value.ClusterID)
		}
		return nil
	}
	next := v.state
	next.Value, next.Decided = value, true
	return v.commit(next)
}

// decided is the final value, or nil.
func (v *votes) decided() *BootstrapValue {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.state.Decided {
		return nil
	}
	return v.state.Value
}

// current is a copy of what is kept.
func (v *votes) current() stateFile {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.state
}

// remember keeps where the other members are.
func (v *votes) remember(others []string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if slices.Equal(v.state.Others, others) {
		return nil
	}
	next := v.state
	next.Others = others
	return v.commit(next)
}

func (v *votes) commit(next stateFile) error {
	if err := next.save(v.dir); err != nil {
		return err
	}
	v.state = next
	return nil
}
