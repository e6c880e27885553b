package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/neogan74/konsul/internal/peer"
)

// The methods of this package on internal/peer. Bodies are JSON: requests as
// in types.go, answers in an envelope.
const (
	methodInfo     uint16 = 100 // none -> nodeInfo; any node
	methodJoin     uint16 = 101 // JoinRequest -> JoinResponse; leader
	methodLeave    uint16 = 102 // idRequest -> none; leader
	methodTransfer uint16 = 103 // idRequest -> idRequest (who leads now); leader
	methodSnapshot uint16 = 104 // none -> indexResponse; leader
	methodRemoved  uint16 = 105 // idRequest -> none; the leader tells a node that it was removed
)

type idRequest struct {
	ID string `json:"id"`
}

type indexResponse struct {
	Index uint64 `json:"index"`
}

type none struct{}

// envelope carries an answer or an error with its code.
type envelope struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *wireError      `json:"error,omitempty"`
}

type wireError struct {
	Code  string `json:"code,omitempty"`
	Field string `json:"field,omitempty"`
	Text  string `json:"text"`
}

// register offers this node's methods to the others.
func (m *Manager) register(s *peer.Server) {
	s.Handle(methodInfo, handler(func(context.Context, none) (nodeInfo, error) { return m.info(), nil }))
	s.Handle(methodJoin, handler(leading(m, m.joinHere)))
	s.Handle(methodLeave, handler(leading(m, m.leaveHere)))
	s.Handle(methodTransfer, handler(leading(m, m.transferHere)))
	s.Handle(methodSnapshot, handler(leading(m, m.snapshotHere)))
	s.Handle(methodRemoved, handler(m.removedHere))
}

// removedHere hears of this node's removal. Another node may have the address by now.
func (m *Manager) removedHere(_ context.Context, req idRequest) (none, error) {
	if req.ID != "" && req.ID != m.cfg.NodeID { // "": an older version
		return none{}, fmt.Errorf("%s: %w", req.ID, ErrUnknownMember)
	}
	return none{}, m.markRemoved()
}

// handler makes a peer handler of a function.
func handler[Req, Resp any](fn func(context.Context, Req) (Resp, error)) peer.Handler {
	return func(ctx context.Context, _ string, body []byte) ([]byte, error) {
		var req Req
		if err := json.Unmarshal(body, &req); err != nil {
			return json.Marshal(envelope{Error: &wireError{Code: "bad_request", Field: "body", Text: err.Error()}})
		}
		resp, err := fn(ctx, req)
		if err != nil {
			return json.Marshal(envelope{Error: toWire(err)})
		}
		b, err := json.Marshal(resp)
		if err != nil {
			return nil, fmt.Errorf("encoding answer: %w", err)
		}
		return json.Marshal(envelope{Result: b})
	}
}

func toWire(err error) *wireError {
	var invalid *InvalidError
	if errors.As(err, &invalid) {
		return &wireError{Code: Code(err), Field: invalid.Field, Text: invalid.Why}
	}
	return &wireError{Code: Code(err), Text: err.Error()}
}

// call asks the node at a Raft address. An error of internal/peer means that
// there was no answer; any other is the node's own.
func call[Resp any](ctx context.Context, m *Manager, addr string, method uint16, req any) (Resp, error) {
	var resp Resp
	body, err := json.Marshal(req)
	if err != nil {
		return resp, fmt.Errorf("encoding request: %w", err)
	}
	b, err := m.peers.Call(ctx, addr, method, body)
	if err != nil {
		return resp, fmt.Errorf("asking %s: %w", addr, err)
	}
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return resp, fmt.Errorf("decoding answer of %s: %w", addr, err)
	}
	if e.Error != nil {
		return resp, fromCode(e.Error.Code, e.Error.Field, e.Error.Text)
	}
	if err := json.Unmarshal(e.Result, &resp); err != nil {
		return resp, fmt.Errorf("decoding answer of %s: %w", addr, err)
	}
	return resp, nil
}
