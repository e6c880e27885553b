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

// adminConfig is POST /admin/config: the first step of the move from memory to disk. It
// changes nothing but what /admin/sync may do: everything else is configured at the start.
func (c *call) adminConfig() error {
	if err := c.query.done(); err != nil {
		return err
	}
	var body struct {
		Persistence *struct {
			Enabled *bool   `json:"enabled"`
			Type    *string `json:"type"`
		} `json:"persistence"`
	}
	if err := c.readInto(&body); err != nil {
		return err
	}
	p := body.Persistence
	if p == nil || p.Enabled == nil && p.Type == nil {
		return badRequest("persistence is missing: {\"persistence\":{\"enabled\":true,\"type\":\"badger\"}} is what can be said here")
	}
	if p.Enabled != nil && !*p.Enabled || p.Type != nil && *p.Type != "badger" {
		return badRequest("while the node runs it can only move to enabled=true with type badger; other options take a restart")
	}
	answer := struct {
		Message     string `json:"message"`
		Persistence struct {
			Enabled bool   `json:"enabled"`
			Type    string `json:"type"`
			DataDir string `json:"data_dir,omitempty"`
		} `json:"persistence"`
	}{Message: "nothing to change"}
	answer.Persistence.Enabled, answer.Persistence.Type = true, "badger"
	if dir := c.s.cfg.MoveTo; dir != "" {
		c.s.moving.Store(true)
		answer.Persistence.DataDir = dir
		answer.Message = "configuration accepted; POST /admin/sync writes the data, then restart with persistence.enabled=true and persistence.type=badger"
	}
	return c.sendReport(http.StatusOK, answer)
}

// adminSync is POST /admin/sync: everything is on disk when it answers, and from then on
// every write.
func (c *call) adminSync() error {
	if err := c.query.done(); err != nil {
		return err
	}
	if err := c.noBody(); err != nil {
		return err
	}
	dir := c.s.cfg.MoveTo
	if dir == "" {
		return c.sendReport(http.StatusOK, struct {
			Message string `json:"message"`
		}{"nothing to sync: this node's data is on disk"})
	}
	if !c.s.moving.Load() {
		return &failure{status: http.StatusConflict, code: "wrong_state",
			text: "this node is in memory, and nobody said otherwise: POST /admin/config with {\"persistence\":{\"enabled\":true,\"type\":\"badger\"}} first"}
	}
	c.patient(maxWait)
	ctx, cancel := c.waitContext()
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, maxWait)
	defer stop()
	done, err := c.s.node.Sync(ctx, dir)
	if err != nil {
		if c.s.draining() {
			return errDraining
		}
		return err
	}
	return c.sendReport(http.StatusOK, struct {
		Message    string `json:"message"`
		DataDir    string `json:"data_dir"`
		Index      uint64 `json:"index"`
		Keys       uint64 `json:"num_keys"`
		Services   uint64 `json:"num_services"`
		DurationMS int64  `json:"duration_ms"`
	}{"Sync completed successfully; every later write goes there, too", done.Dir, done.Index, done.Keys, done.Services, done.Took.Milliseconds()})
}
