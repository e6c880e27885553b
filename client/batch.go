package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"unicode/utf8"
)

// BatchSet writes all items at once, or none, and gives the index of the write. At
// most 1,024 items and 1 MiB.
func (c *Client) BatchSet(ctx context.Context, items map[string][]byte, options ...WriteOption) (uint64, error) {
	keys := slices.Collect(maps.Keys(items))
	names, encoding, err := jsonKeys(keys)
	if err != nil {
		return 0, err
	}
	doc := struct {
		Items        map[string]textValue `json:"items"`
		KeysEncoding string               `json:"keys_encoding,omitempty"`
	}{make(map[string]textValue, len(items)), encoding}
	for i, key := range keys {
		doc.Items[names[i]] = items[key]
	}
	req, err := postJSON("/batch/set", doc)
	if err != nil {
		return 0, err
	}
	var result struct {
		ModifyIndex uint64 `json:"modify_index"`
	}
	err = c.call(ctx, req.applyWrite(options), &result)
	return result.ModifyIndex, err
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
		Found        map[string]textValue `json:"found"`
		NotFound     []string             `json:"not_found"`
		KeysEncoding string               `json:"keys_encoding"`
	}
	if err := c.call(ctx, req.applyRead(options), &result); err != nil {
		return nil, nil, err
	}
	found = make(map[string][]byte, len(result.Found))
	for name, value := range result.Found {
		key, err := decodeText(name, result.KeysEncoding)
		if err != nil {
			return nil, nil, fmt.Errorf("decoding the keys found: %w", err)
		}
		found[string(key)] = value
	}
	if err := decodeKeys(result.NotFound, result.KeysEncoding); err != nil {
		return nil, nil, err
	}
	return found, result.NotFound, nil
}

func keysRequest(path string, keys []string) (*request, error) {
	names, encoding, err := jsonKeys(keys)
	if err != nil {
		return nil, err
	}
	return postJSON(path, struct {
		Keys         []string `json:"keys"`
		KeysEncoding string   `json:"keys_encoding,omitempty"`
	}{names, encoding})
}

// jsonKeys writes keys as text, or all of them in base64 if one is not UTF-8: in a
// JSON object only text can be a name.
func jsonKeys(keys []string) ([]string, string, error) {
	encoding := ""
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return nil, "", err
		}
		if !utf8.ValidString(key) {
			encoding = "base64"
		}
	}
	if encoding == "" {
		return keys, "", nil
	}
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = base64.StdEncoding.EncodeToString([]byte(key))
	}
	return names, encoding, nil
}

// decodeKeys undoes jsonKeys in place.
func decodeKeys(names []string, encoding string) error {
	if encoding == "" {
		return nil
	}
	for i, name := range names {
		key, err := decodeText(name, encoding)
		if err != nil {
			return fmt.Errorf("decoding a key: %w", err)
		}
		names[i] = string(key)
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
