package fsm

import (
	"errors"
	"fmt"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// applyClusterInit gives the cluster its id, once. The same id again is fine
// (whoever proposes it may not know that it was), another one is refused.
func applyClusterInit(tx *entryTx, payload []byte) (*command.Result, error) {
	var m command.ClusterInit
	if err := command.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("decoding cluster init: %w", err)
	}
	res := &command.Result{Index: tx.Index(), Succeeded: true}
	b, found, err := tx.Get(persistence.ClusterKey())
	if err != nil {
		return nil, fmt.Errorf("reading cluster record: %w", err)
	}
	if !found {
		return res, setRecord(tx, persistence.ClusterKey(), &record.Cluster{Id: m.ClusterId, CreateIndex: tx.Index()})
	}
	var have record.Cluster
	if err := persistence.DecodeRecord(b, &have); err != nil {
		return nil, fmt.Errorf("reading cluster record: %w", err)
	}
	if have.Id != m.ClusterId {
		res.Code, res.Succeeded = command.Result_WRONG_CLUSTER, false
	}
	return res, nil
}

// ClusterID is the cluster's id as this node has applied it, or "" before the
// entry that sets it.
func (f *FSM) ClusterID() string {
	view, err := f.db.View()
	if err != nil {
		return ""
	}
	defer view.Close()
	id, err := clusterID(view)
	if err != nil {
		f.log.Error("reading cluster id", "error", err)
	}
	return id
}

func clusterID(view *persistence.View) (string, error) {
	b, found, err := view.Get(persistence.ClusterKey())
	if err != nil {
		if errors.Is(err, persistence.ErrKeyNotFound) {
			return "", nil
		}
		return "", fmt.Errorf("reading cluster record: %w", err)
	}
	if !found {
		return "", nil
	}
	var c record.Cluster
	if err := persistence.DecodeRecord(b, &c); err != nil {
		return "", fmt.Errorf("reading cluster record: %w", err)
	}
	return c.Id, nil
}
