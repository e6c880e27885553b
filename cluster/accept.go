package cluster

import "context"

// Bootstrap answers POST /cluster/bootstrap: a node that wants to form a
// cluster asks for this node's vote, or tells what was agreed. A refusal is an
// answer, not an error.
func (m *Manager) Bootstrap(_ context.Context, req BootstrapRequest) (BootstrapResponse, error) {
	if err := checkBootstrap(req); err != nil {
		return BootstrapResponse{}, err
	}
	resp, err := m.vote(req)
	resp.NodeID, resp.Incarnation, resp.HasState = m.cfg.NodeID, m.store.Incarnation(), m.store.HasState()
	return resp, err
}

func (m *Manager) vote(req BootstrapRequest) (BootstrapResponse, error) {
	switch {
	case m.store.Removed():
		return BootstrapResponse{Reason: "this node was removed from its cluster"}, nil
	case m.store.HasState():
		same := req.Value != nil && req.Value.ClusterID == m.store.ClusterID()
		return BootstrapResponse{OK: req.Phase == PhaseDecide && same, Reason: "this node has state"}, nil
	case req.Phase == PhaseDecide:
		if err := m.form(req.Value); err != nil {
			return BootstrapResponse{Reason: err.Error()}, err
		}
		return BootstrapResponse{OK: true}, nil
	case m.cfg.BootstrapExpect == 0 || req.Expect != m.cfg.BootstrapExpect:
		return BootstrapResponse{Reason: "this node expects another number of nodes"}, nil
	case m.store.ClusterID() != "" && m.votes.decided() == nil:
		return BootstrapResponse{Reason: "this node is joining cluster " + m.store.ClusterID()}, nil
	case req.Phase == PhasePrepare:
		return m.votes.prepare(req.Ballot)
	default:
		return m.votes.accept(req.Ballot, req.Value)
	}
}

// checkBootstrap refuses what no node of this version sends.
func checkBootstrap(req BootstrapRequest) error {
	switch req.Phase {
	case PhasePrepare:
		return checkBallot(req.Ballot)
	case PhaseAccept:
		if err := checkBallot(req.Ballot); err != nil {
			return err
		}
		return checkValue(req.Value)
	case PhaseDecide:
		return checkValue(req.Value)
	}
	return &InvalidError{Field: "phase", Why: "must be prepare, accept or decide"}
}

func checkBallot(b Ballot) error {
	if b.Round == 0 || b.Node == "" {
		return &InvalidError{Field: "ballot", Why: "needs a round and a node"}
	}
	return nil
}

func checkValue(v *BootstrapValue) error {
	if v == nil || v.ClusterID == "" || len(v.Members) == 0 || len(v.Members) > maxBootstrapMembers {
		return &InvalidError{Field: "value", Why: "needs a cluster id and members"}
	}
	for _, m := range v.Members {
		if m.ID == "" || m.Address == "" {
			return &InvalidError{Field: "value", Why: "every member needs an id and an address"}
		}
	}
	return nil
}
