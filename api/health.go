package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/neogan74/konsul/raftstore"
)

// healthTimeout bounds what a health check may wait for this node's own answers.
const healthTimeout = time.Second

type healthReport struct {
	Status      string            `json:"status"` // healthy, degraded, unhealthy
	Reason      string            `json:"reason,omitempty"`
	Persistence persistenceReport `json:"persistence"`
	Raft        raftReport        `json:"raft"`
}

type persistenceReport struct {
	Enabled     bool   `json:"enabled"`
	Type        string `json:"type"`
	Healthy     bool   `json:"healthy"`
	DiskUsage   int64  `json:"disk_usage_bytes"` // everything in the data directory
	Disk        disk   `json:"disk"`
	NumKeys     uint64 `json:"num_keys"`
	NumServices uint64 `json:"num_services"`
}

type raftReport struct {
	Healthy       bool   `json:"healthy"`
	NodeID        string `json:"node_id"`
	State         string `json:"state"`
	LeaderID      string `json:"leader_id"`
	Term          uint64 `json:"term"`
	CommitIndex   uint64 `json:"commit_index"`
	AppliedIndex  uint64 `json:"applied_index"`
	LastContactMS int64  `json:"last_contact_ms"`
}

// health is GET /health. Unhealthy is a node that can no longer do its part
// whatever the others do; degraded is one that has to wait for something.
func (c *call) health() error {
	if err := c.query.done(); err != nil {
		return err
	}
	r := healthReport{Status: "healthy", Persistence: c.persistenceReport(), Raft: c.raftReport()}
	switch ready := c.ready(); {
	case !r.Persistence.Healthy:
		r.Status, r.Reason = "unhealthy", "the engine does not answer"
	case !r.Raft.Healthy:
		r.Status, r.Reason = "unhealthy", "the raft node is not running"
	case ready != nil:
		r.Status, r.Reason = "degraded", ready.Error()
	case c.s.node.Degraded() != nil:
		r.Status, r.Reason = "degraded", c.s.node.Degraded().Error()
	}
	if r.Status == "unhealthy" {
		return c.sendReport(http.StatusServiceUnavailable, r)
	}
	return c.sendReport(http.StatusOK, r)
}

func (c *call) persistenceReport() persistenceReport {
	node := c.s.node
	usage, err := node.Usage()
	if err == nil && node.Published() > 0 {
		err = c.touchEngine()
	}
	counts := node.Counts()
	parts := c.s.disk(usage)
	return persistenceReport{
		Enabled: c.s.cfg.PersistenceType != "memory", Type: c.s.cfg.PersistenceType, Healthy: err == nil,
		DiskUsage: parts.SST + parts.VLog + parts.Mem + parts.Raft + parts.Snapshots, Disk: parts,
		NumKeys: counts.Keys, NumServices: counts.Services,
	}
}

// touchEngine opens the newest version, as a read would.
func (c *call) touchEngine() error {
	v, err := c.s.node.ViewAt(c.s.node.Published())
	if err != nil {
		return err
	}
	v.Close()
	return nil
}

func (c *call) raftReport() raftReport {
	node := c.s.node
	leader, _, _ := node.Leader()
	state := node.State()
	return raftReport{
		Healthy: !strings.EqualFold(state, "shutdown"),
		NodeID:  node.NodeID(), State: state, LeaderID: leader, Term: node.Term(),
		CommitIndex: node.CommitIndex(), AppliedIndex: node.AppliedIndex(),
		LastContactMS: node.LastContact().Milliseconds(),
	}
}

// ready says why the node should not be sent requests; nil if it should.
func (c *call) ready() error {
	if c.s.draining() {
		return errDraining
	}
	if err := c.s.cluster.Trouble(); err != nil {
		return err
	}
	if _, _, known := c.s.node.Leader(); !known {
		return raftstore.ErrNoLeader // Ready would wait for one
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), healthTimeout)
	defer cancel()
	return c.s.node.Ready(ctx)
}

// healthLive is GET /health/live: the process answers.
func (c *call) healthLive() error {
	return c.sendReport(http.StatusOK, struct {
		Status string `json:"status"`
	}{"alive"})
}

// healthReady is GET /health/ready.
func (c *call) healthReady() error {
	if err := c.ready(); err != nil {
		f := c.failure(err)
		if f.status != http.StatusServiceUnavailable {
			f = &failure{status: http.StatusServiceUnavailable, code: "not_ready", text: err.Error(), retryAfter: retrySoon}
		}
		return f
	}
	return c.sendReport(http.StatusOK, struct {
		Status string `json:"status"`
	}{"ready"})
}
