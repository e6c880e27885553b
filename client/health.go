package client

import (
	"context"
	"encoding/json"
	"net/http"
)

// Health is how a node is.
type Health struct {
	// Status is healthy, degraded or unhealthy.
	Status      string            `json:"status"`
	Persistence PersistenceHealth `json:"persistence"`
	// Raft is what the node says about Raft.
	Raft json.RawMessage `json:"raft,omitempty"`
}

// PersistenceHealth is how a node's engine is.
type PersistenceHealth struct {
	Enabled        bool   `json:"enabled"`
	Type           string `json:"type"`
	Healthy        bool   `json:"healthy"`
	DiskUsageBytes int64  `json:"disk_usage_bytes"`
	NumKeys        uint64 `json:"num_keys"`
	NumServices    uint64 `json:"num_services"`
}

// Health asks a node how it is. An unhealthy node is an answer, not an error.
func (c *Client) Health(ctx context.Context) (Health, error) {
	req := &request{method: http.MethodGet, path: "/health", read: true,
		accept: func(status int) bool { return status == http.StatusServiceUnavailable }}
	var health Health
	err := c.call(ctx, req, &health)
	return health, err
}

// Live reports whether a node's process answers.
func (c *Client) Live(ctx context.Context) error {
	return c.get(ctx, "/health/live", nil)
}

// Ready reports whether a node knows a leader and is caught up; it does not wait for
// it: the error is ErrNotReady or ErrNoLeader if it is not so.
func (c *Client) Ready(ctx context.Context) error {
	once := *c
	once.retryTimeout = 0
	return once.get(ctx, "/health/ready", nil)
}
