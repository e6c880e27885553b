package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/neogan74/konsul/internal/persistence"
)

// disk is what the node has on disk, by part, in bytes.
type disk struct {
	SST       int64 `json:"sst"`
	VLog      int64 `json:"vlog"`
	Mem       int64 `json:"mem"`
	Raft      int64 `json:"raft"`
	Snapshots int64 `json:"snapshots"`
	Backups   int64 `json:"backups"`
}

func (s *Server) disk(u persistence.Usage) disk {
	return disk{SST: u.SST, VLog: u.VLog, Mem: u.Mem, Raft: persistence.DirUsage(s.cfg.RaftDir),
		Snapshots: persistence.DirUsage(s.cfg.SnapshotDir), Backups: persistence.DirUsage(s.cfg.BackupDir)}
}

// adminGC is POST /admin/gc: the node asked collects the garbage of its value log.
func (c *call) adminGC() error { return c.maintain("garbage collected", c.s.node.CollectGarbage) }

// adminCompact is POST /admin/compact: the node asked compacts its engine.
func (c *call) adminCompact() error { return c.maintain("compacted", c.s.node.Compact) }

type maintained struct {
	Message    string `json:"message"`
	Before     disk   `json:"before"`
	After      *disk  `json:"after,omitempty"`
	Reclaimed  int64  `json:"reclaimed_bytes"`
	DurationMS int64  `json:"duration_ms"`
}

// maintain answers when the work is done, or with 202 if it takes longer than a request
// may: then it goes on by itself.
func (c *call) maintain(message string, work func(context.Context) (persistence.Maintained, error)) error {
	if err := c.query.done(); err != nil {
		return err
	}
	if err := c.noBody(); err != nil {
		return err
	}
	c.patient(maxWait)
	ctx, cancel := c.waitContext()
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, maxWait)
	defer stop()
	before := c.s.disk(persistence.Usage{})
	m, err := work(ctx)
	before.SST, before.VLog, before.Mem = m.Before.SST, m.Before.VLog, m.Before.Mem
	switch {
	case err == nil:
	case c.s.draining():
		return errDraining
	case errors.Is(err, context.DeadlineExceeded):
		return c.sendReport(http.StatusAccepted, maintained{Message: "it goes on in the background", Before: before})
	default:
		return err
	}
	after := c.s.disk(m.After)
	return c.sendReport(http.StatusOK, maintained{Message: message, Before: before, After: &after,
		Reclaimed: m.Before.Total() - m.After.Total(), DurationMS: m.Took.Milliseconds()})
}
