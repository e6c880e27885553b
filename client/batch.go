package client

import (
	"context"
	"encoding/json"
	"net/http"
	"unicode/utf8"
)

// BatchSet writes all items at once, or none, and gives the index of the write. At
// most 1,024 items and 1 MiB.
func (c *Client) BatchSet(ctx context.Context, items map[string][]byte, options ...WriteOption) (uint64, error) {
	plain := make(map[string]string, len(items))
	for key, value := range items {
		if err := checkJSONKey(key); err != nil {
			return 0, err
		}
		if !utf8.Valid(value) {
			return c.batchSetTxn(ctx, items, options)
		}
		plain[key] = string(value)
	}
	req, err := postJSON("/batch/set", map[string]any{"items": plain})
	if err != nil {
		return 0, err
	}
	var result struct {
		ModifyIndex uint64 `json:"modify_index"`
	}
	err = c.call(ctx, req.applyWrite(options), &result)
	return result.ModifyIndex, err
}

// batchSetTxn writes values that are not text: a transaction says the encoding of each.
func (c *Client) batchSetTxn(ctx context.Context, items map[string][]byte, options []WriteOption) (uint64, error) {
	txn := c.Txn()
	for key, value := range items {
		txn.Then(OpSet(key, value))
	}
	result, err := txn.Commit(ctx, options...)
	return result.Index, err
}

// BatchDelete removes all the keys at once and says how many were there.
func (c *Client) BatchDelete(ctx context.Context, keys []string, options ...WriteOption) (int, error) {
	req, err := keysRequest("/batch/delete", keys)
	if err != nil {
		return 0, err
	}
	var result struct {
		Deleted int `json:"deleted"`
	}
	err = c.call(ctx, req.applyWrite(options), &result)
	return result.Deleted, err
}

// BatchGet reads the keys at one consistent version. What is not there is in notFound.
func (c *Client) BatchGet(ctx context.Context, keys []string, options ...ReadOption) (found map[string][]byte, notFound []string, err error) {
	req, err := keysRequest("/batch/get", keys)
	if err != nil {
		return nil, nil, err
	}
	var result struct {
		Found    map[string]textValue `json:"found"`
		NotFound []string             `json:"not_found"`
	}
	if err := c.call(ctx, req.applyRead(options), &result); err != nil {
		return nil, nil, err
	}
	found = make(map[string][]byte, len(result.Found))
	for key, value := range result.Found {
		found[key] = value
	}
	return found, result.NotFound, nil
}

func keysRequest(path string, keys []string) (*request, error) {
	for _, key := range keys {
		if err := checkJSONKey(key); err != nil {
			return nil, err
		}
	}
	return postJSON(path, map[string][]string{"keys": keys})
}

// checkJSONKey: inside JSON a key is text; bytes that are not would be changed silently.
func checkJSONKey(key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if !utf8.ValidString(key) {
		return badRequest("the key %q is not UTF-8: batches and transactions cannot carry it", key)
	}
	return nil
}

func postJSON(path string, body any) (*request, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, badRequest("encoding the request: %v", err)
	}
	return &request{method: http.MethodPost, path: path, body: encoded, contentType: "application/json"}, nil
}
