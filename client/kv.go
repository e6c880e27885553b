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
	// LockIndex of an Acquire is the index at which its session became the holder: a
	// fencing token that only grows from holder to holder.
	LockIndex uint64 `json:"lock_index,omitempty"`
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

// Put writes a key. Options: CAS, Flags, TTL, IdempotencyKey, WithMeta.
func (c *Client) Put(ctx context.Context, key string, value []byte, options ...WriteOption) (PutResult, error) {
	if value == nil {
		value = []byte{}
	}
	return c.put(ctx, key, value, options)
}

// Acquire writes a key and makes the session its holder. ErrLockHeld, ErrLockDelay and
// ErrSessionNotFound say why it did not. Once more by the holder it is a put: LockIndex
// stays. The hold is advisory: others can still write and delete the key. Options as
// for Put. Lock does the waiting and renewing around it.
func (c *Client) Acquire(ctx context.Context, key string, value []byte, session string, options ...WriteOption) (PutResult, error) {
	if session == "" {
		return PutResult{}, badRequest("which session is to hold the key?")
	}
	hold := writeOption(func(r *request) { r.set("acquire", session) })
	return c.Put(ctx, key, value, append(options[:len(options):len(options)], hold)...)
}

// Release ends the hold of the session on a key, without a lock delay, and leaves the
// value as it is. ErrNotHolder, ErrSessionNotFound.
func (c *Client) Release(ctx context.Context, key, session string, options ...WriteOption) error {
	_, err := c.releaseWith(ctx, key, nil, session, options)
	return err
}

// PutAndRelease is Put and Release at once. The value must not be empty: the server
// takes that for a release that leaves the value as it is.
func (c *Client) PutAndRelease(ctx context.Context, key string, value []byte, session string, options ...WriteOption) (PutResult, error) {
	if len(value) == 0 {
		return PutResult{}, badRequest("a release with a value needs one that is not empty")
	}
	return c.releaseWith(ctx, key, value, session, options)
}

func (c *Client) releaseWith(ctx context.Context, key string, value []byte, session string, options []WriteOption) (PutResult, error) {
	if session == "" {
		return PutResult{}, badRequest("which session is to release the key?")
	}
	release := writeOption(func(r *request) { r.set("release", session) })
	return c.put(ctx, key, value, append(options[:len(options):len(options)], release))
}

// put sends no body at all for a nil value.
func (c *Client) put(ctx context.Context, key string, value []byte, options []WriteOption) (PutResult, error) {
	if err := checkKey(key); err != nil {
		return PutResult{}, err
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
