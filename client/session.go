package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Behavior is what becomes of the keys of a session that ends.
type Behavior string

// The behaviors; the default is to release the keys.
const (
	ReleaseKeys Behavior = "release"
	DeleteKeys  Behavior = "delete"
)

// SessionSpec is a session to create.
type SessionSpec struct {
	// Name is for people.
	Name string
	// TTL is how long it lives without RenewSession; 0 = until it is destroyed.
	TTL time.Duration
	// Behavior: "" = ReleaseKeys.
	Behavior Behavior
	// LockDelay is how long nobody may acquire a key that the session held when it
	// was destroyed or expired: time for the former holder to notice. 0 = the server's
	// default, 15 s; negative = none.
	LockDelay time.Duration
}

// Session is what can hold keys.
type Session struct {
	ID, Name string
	// Node is the node that created it.
	Node      string
	TTL       time.Duration
	ExpiresIn time.Duration // 0 = it has no TTL
	Behavior  Behavior
	LockDelay time.Duration
	// Held is how many keys it holds.
	Held                     uint64
	CreateIndex, ModifyIndex uint64
}

// CreateSession creates a session. Only ID, TTL and ModifyIndex of the answer are sure
// to be set. If the answer is lost (ErrOutcomeUnknown), a session nobody knows may be
// left until its TTL has passed; an IdempotencyKey prevents that.
func (c *Client) CreateSession(ctx context.Context, s SessionSpec, options ...WriteOption) (Session, error) {
	doc := struct {
		TTL       *duration `json:"ttl,omitempty"`
		Behavior  Behavior  `json:"behavior,omitempty"`
		LockDelay *duration `json:"lock_delay,omitempty"`
		Name      string    `json:"name,omitempty"`
	}{Behavior: s.Behavior, Name: s.Name}
	if s.TTL != 0 {
		doc.TTL = (*duration)(&s.TTL)
	}
	if s.LockDelay != 0 {
		doc.LockDelay = new(duration(max(s.LockDelay, 0)))
	}
	req, err := postJSON("/sessions", doc)
	if err != nil {
		return Session{}, err
	}
	var session Session
	err = c.call(ctx, req.applyWrite(options), &session)
	return session, err
}

// RenewSession starts the TTL of a session anew; ErrSessionNotFound if it has ended.
func (c *Client) RenewSession(ctx context.Context, id string) error {
	path, err := sessionPath(id)
	if err != nil {
		return err
	}
	return c.call(ctx, &request{method: http.MethodPut, path: path + "/renew"}, nil)
}

// DestroySession ends a session: its keys are released or deleted, and the lock delay
// begins. ErrSessionNotFound if it has ended already.
func (c *Client) DestroySession(ctx context.Context, id string, options ...WriteOption) error {
	path, err := sessionPath(id)
	if err != nil {
		return err
	}
	return c.call(ctx, (&request{method: http.MethodDelete, path: path}).applyWrite(options), nil)
}

// Session reads one session; ErrSessionNotFound.
func (c *Client) Session(ctx context.Context, id string, options ...ReadOption) (Session, error) {
	path, err := sessionPath(id)
	if err != nil {
		return Session{}, err
	}
	var session Session
	err = c.call(ctx, (&request{method: http.MethodGet, path: path}).applyRead(options), &session)
	return session, err
}

// Sessions lists the sessions.
func (c *Client) Sessions(ctx context.Context, options ...ReadOption) ([]Session, error) {
	var answer struct {
		Sessions []Session `json:"sessions"`
	}
	err := c.call(ctx, (&request{method: http.MethodGet, path: "/sessions"}).applyRead(options), &answer)
	return answer.Sessions, err
}

// sessionJSON is a session as the HTTP API writes it.
type sessionJSON struct {
	ID          string   `json:"id"`
	Name        string   `json:"name,omitempty"`
	Node        string   `json:"node,omitempty"`
	TTL         duration `json:"ttl,omitempty"`
	ExpiresIn   duration `json:"expires_in,omitempty"`
	Behavior    Behavior `json:"behavior,omitempty"`
	LockDelay   duration `json:"lock_delay,omitempty"`
	Held        uint64   `json:"held"`
	CreateIndex uint64   `json:"create_index,omitempty"`
	ModifyIndex uint64   `json:"modify_index"`
}

// MarshalJSON writes the session as the HTTP API does.
func (s Session) MarshalJSON() ([]byte, error) {
	return marshalPlain(sessionJSON{s.ID, s.Name, s.Node, duration(s.TTL), duration(s.ExpiresIn),
		s.Behavior, duration(s.LockDelay), s.Held, s.CreateIndex, s.ModifyIndex})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Session) UnmarshalJSON(b []byte) error {
	var j sessionJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*s = Session{j.ID, j.Name, j.Node, time.Duration(j.TTL), time.Duration(j.ExpiresIn),
		j.Behavior, time.Duration(j.LockDelay), j.Held, j.CreateIndex, j.ModifyIndex}
	return nil
}

func sessionPath(id string) (string, error) {
	if id == "" {
		return "", badRequest("a session has an id")
	}
	return "/sessions/" + escape(id, false), nil
}
