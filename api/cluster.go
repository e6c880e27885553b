package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/neogan74/konsul/cluster"
	"github.com/neogan74/konsul/raftstore"
)

// sendJSON answers with a struct: for what is asked rarely.
func (c *call) sendJSON(v any) error { return c.sendReport(http.StatusOK, v) }

func (c *call) sendReport(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding answer: %w", err)
	}
	c.out = append(c.out[:0], b...)
	return c.json(status)
}

// adminContext bounds what takes long.
func (c *call) adminContext() (context.Context, context.CancelFunc) {
	c.patient(c.s.cfg.AdminTimeout)
	return context.WithTimeout(c.r.Context(), c.s.cfg.AdminTimeout)
}

// readContext bounds what asks other nodes.
func (c *call) readContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.r.Context(), c.s.cfg.ReadTimeout)
}

func (c *call) clusterStatus() error {
	if err := c.query.done(); err != nil {
		return err
	}
	ctx, cancel := c.readContext()
	defer cancel()
	st := c.s.cluster.Status(ctx)
	if st.Version == "" {
		st.Version = c.s.cfg.Version
	}
	if st.Peers == nil {
		st.Peers = []cluster.Peer{}
	}
	return c.sendJSON(st)
}

func (c *call) clusterLeader() error {
	if err := c.query.done(); err != nil {
		return err
	}
	info, err := c.s.cluster.LeaderInfo()
	if err != nil {
		return err
	}
	return c.sendJSON(info)
}

func (c *call) clusterPeers() error {
	if err := c.query.done(); err != nil {
		return err
	}
	ctx, cancel := c.readContext()
	defer cancel()
	peers := c.s.cluster.Peers(ctx)
	if peers == nil {
		peers = []cluster.Peer{}
	}
	return c.sendJSON(struct {
		Peers []cluster.Peer `json:"peers"`
	}{peers})
}

// clusterDigest hashes the whole state: one at a time, for the sake of the rest.
func (c *call) clusterDigest() error {
	at, given, err := c.query.number("at")
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	ctx, cancel := c.adminContext()
	defer cancel()
	defer context.AfterFunc(c.s.stopping, cancel)()
	if given { // before its turn: an index that never comes must not keep others waiting
		if err := c.s.node.WaitPublished(ctx, at); err != nil {
			return err
		}
	}
	select {
	case c.s.digests <- struct{}{}:
		defer func() { <-c.s.digests }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if !given {
		at = c.s.node.Published()
	}
	sum, records, err := c.s.node.Digest(ctx, at)
	if err != nil {
		return err
	}
	return c.sendJSON(struct {
		Index   uint64 `json:"index"`
		Digest  string `json:"digest"`
		Records uint64 `json:"records"`
	}{at, hex.EncodeToString(sum[:]), records})
}

// joinBody is both kinds of POST /cluster/join: add that node here, or, with join,
// make this node join there.
type joinBody struct {
	cluster.JoinRequest
	Join []string `json:"join"`
}

func (c *call) clusterJoin() error {
	var body joinBody
	if err := c.adminBody(&body); err != nil {
		return err
	}
	ctx, cancel := c.adminContext()
	defer cancel()
	var res cluster.JoinResponse
	var err error
	switch {
	case len(body.Join) == 0:
		res, err = c.s.cluster.Join(ctx, body.JoinRequest)
	case body.JoinRequest != cluster.JoinRequest{}:
		err = badRequest("join is for making this node join; the other fields are for adding a node: not both")
	default:
		res, err = c.joinOne(ctx, body.Join)
	}
	if errors.Is(err, raftstore.ErrRemoved) {
		return &failure{status: http.StatusConflict, code: "removed", text: err.Error()}
	}
	if err != nil {
		return outcome(err)
	}
	return c.sendJSON(struct {
		Message string `json:"message"`
		cluster.JoinResponse
	}{"node joined", res})
}

// joinOne tries the addresses in turn.
func (c *call) joinOne(ctx context.Context, addrs []string) (res cluster.JoinResponse, err error) {
	for _, addr := range addrs {
		if res, err = c.s.cluster.SendJoin(ctx, addr); err == nil || ctx.Err() != nil {
			return res, err
		}
	}
	return res, err
}

func (c *call) clusterBootstrap() error {
	var body cluster.BootstrapRequest
	if err := c.adminBody(&body); err != nil {
		return err
	}
	ctx, cancel := c.readContext()
	defer cancel()
	res, err := c.s.cluster.Bootstrap(ctx, body)
	if err != nil {
		return err
	}
	return c.sendJSON(res)
}

func (c *call) clusterLeave() error {
	if err := c.query.done(); err != nil {
		return err
	}
	if err := c.noBody(); err != nil {
		return err
	}
	id, err := c.pathParam("id")
	if err != nil {
		return badRequest("malformed node id: %v", err)
	}
	if id == "" {
		return badRequest("node id is empty")
	}
	ctx, cancel := c.adminContext()
	defer cancel()
	if err := c.s.cluster.Leave(ctx, id); err != nil {
		return outcome(err)
	}
	return c.sendJSON(struct {
		Message string `json:"message"`
		NodeID  string `json:"node_id"`
	}{"node left", id})
}

func (c *call) clusterTransfer() error {
	var body struct {
		To string `json:"to"`
	}
	if err := c.adminBody(&body); err != nil {
		return err
	}
	ctx, cancel := c.adminContext()
	defer cancel()
	leader, err := c.s.cluster.Transfer(ctx, body.To)
	if err != nil {
		return outcome(err)
	}
	return c.sendJSON(struct {
		Message  string `json:"message"`
		LeaderID string `json:"leader_id"`
	}{"leadership transferred", leader})
}

func (c *call) clusterSnapshot() error {
	if err := c.adminBody(&struct{}{}); err != nil {
		return err
	}
	begin := time.Now()
	ctx, cancel := c.adminContext()
	defer cancel()
	index, err := c.s.cluster.TakeSnapshot(ctx)
	if err != nil {
		return outcome(err)
	}
	return c.sendJSON(struct {
		Message  string `json:"message"`
		Index    uint64 `json:"index"`
		Duration int64  `json:"duration_ms"`
	}{"snapshot taken", index, time.Since(begin).Milliseconds()})
}

// adminBody reads an administrative request. An empty body is {}.
func (c *call) adminBody(v any) error {
	if err := c.query.done(); err != nil {
		return err
	}
	if c.r.ContentLength == 0 {
		return nil
	}
	return c.readInto(v)
}
