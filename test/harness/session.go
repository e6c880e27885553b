package harness

import (
	"context"
	"net/http"
	"time"
)

// CreateSession makes a session and returns its id.
func (c *Client) CreateSession(ctx context.Context, ttl, lockDelay time.Duration) (string, error) {
	a, err := c.Post(ctx, "/sessions", map[string]string{"ttl": ttl.String(), "lock_delay": lockDelay.String()})
	if err != nil {
		return "", err
	}
	var out struct {
		ID string `json:"id"`
	}
	if err := a.Want(http.StatusCreated); err != nil {
		return "", err
	}
	return out.ID, a.JSON(&out)
}

// RenewSession begins the TTL of a session anew.
func (c *Client) RenewSession(ctx context.Context, id string) error {
	return c.call(ctx, new(struct{}), http.MethodPut, "/sessions/"+id+"/renew", nil)
}

// DestroySession ends a session.
func (c *Client) DestroySession(ctx context.Context, id string) error {
	return c.call(ctx, new(struct{}), http.MethodDelete, "/sessions/"+id, nil)
}

// Acquire makes a session hold a key, writes value and returns the lock_index.
func (c *Client) Acquire(ctx context.Context, key, session string, value []byte) (uint64, error) {
	var out struct {
		LockIndex uint64 `json:"lock_index"`
	}
	err := c.call(ctx, &out, http.MethodPut, KeyPath(key)+"?acquire="+session, value, "Content-Type", "application/octet-stream")
	return out.LockIndex, err
}

// Release ends the hold of a session on a key.
func (c *Client) Release(ctx context.Context, key, session string) error {
	return c.call(ctx, new(struct{}), http.MethodPut, KeyPath(key)+"?release="+session, nil)
}
