package client

import (
	"context"
	"net/http"
)

// PutResult is where a key was written.
type PutResult struct {
	// ModifyIndex is the index of this write, CreateIndex of the one that created the key.
	ModifyIndex uint64 `json:"modify_index"`
	CreateIndex uint64 `json:"create_index"`
}

// Get reads a key; ErrNotFound if it is not there.
func (c *Client) Get(ctx context.Context, key string, options ...ReadOption) (Entry, error) {
	if err := checkKey(key); err != nil {
		return Entry{}, err
	}
	req := (&request{method: http.MethodGet, path: keyPath(key)}).applyRead(options)
	var entry Entry
	if err := c.call(ctx, req, &entry); err != nil {
		return Entry{}, err
	}
	entry.Key = key
	return entry, nil
}

// Put writes a key. Options: CAS, Flags, IdempotencyKey, WithMeta.
func (c *Client) Put(ctx context.Context, key string, value []byte, options ...WriteOption) (PutResult, error) {
	if err := checkKey(key); err != nil {
		return PutResult{}, err
	}
	if value == nil {
		value = []byte{}
	}
	req := (&request{
		method: http.MethodPut, path: keyPath(key), body: value, contentType: "application/octet-stream",
	}).applyWrite(options)
	var result PutResult
	err := c.call(ctx, req, &result)
	return result, err
}

// Delete removes a key and reports whether it was there. Options: CAS, IdempotencyKey, WithMeta.
func (c *Client) Delete(ctx context.Context, key string, options ...WriteOption) (bool, error) {
	if err := checkKey(key); err != nil {
		return false, err
	}
	req := (&request{method: http.MethodDelete, path: keyPath(key)}).applyWrite(options)
	var result struct {
		Deleted bool `json:"deleted"`
	}
	err := c.call(ctx, req, &result)
	return result.Deleted, err
}

// DeletePrefix removes every key that starts with prefix, all at once, and says how
// many there were. An empty prefix is refused: see DeleteAll.
func (c *Client) DeletePrefix(ctx context.Context, prefix string, options ...WriteOption) (int, error) {
	if prefix == "" {
		return 0, badRequest("an empty prefix is every key: use DeleteAll")
	}
	req := &request{method: http.MethodDelete, path: "/kv"}
	req.set("prefix", prefix)
	return c.deleteMany(ctx, req.applyWrite(options))
}

// DeleteAll removes every key, all at once, and says how many there were.
func (c *Client) DeleteAll(ctx context.Context, options ...WriteOption) (int, error) {
	req := &request{method: http.MethodDelete, path: "/kv"}
	req.set("all", "true")
	return c.deleteMany(ctx, req.applyWrite(options))
}

func (c *Client) deleteMany(ctx context.Context, req *request) (int, error) {
	var result struct {
		Deleted int `json:"deleted"`
	}
	err := c.call(ctx, req, &result)
	return result.Deleted, err
}
