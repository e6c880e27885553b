package harness

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Entry is a key with its record as the API shows it.
type Entry struct {
	Key         string `json:"key"`
	Value       string `json:"value"`
	Encoding    string `json:"encoding"`
	CreateIndex uint64 `json:"create_index"`
	ModifyIndex uint64 `json:"modify_index"`
	Flags       uint64 `json:"flags"`
	LockIndex   uint64 `json:"lock_index"`
	Session     string `json:"session"`
}

// Bytes is the value with its encoding undone.
func (e Entry) Bytes() []byte {
	if e.Encoding == "base64" {
		b, err := base64.StdEncoding.DecodeString(e.Value)
		if err != nil {
			return []byte("not base64: " + e.Value)
		}
		return b
	}
	return []byte(e.Value)
}

// KeyPath is the target of a key with every byte that is not plain text escaped.
func KeyPath(key string) string {
	var b strings.Builder
	b.WriteString("/kv/")
	for i := range len(key) {
		c := key[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '~', c == '/', c == '.':
			b.WriteByte(c)
		default:
			b.WriteString("%" + strings.ToUpper(hex2(c)))
		}
	}
	return b.String()
}

func hex2(c byte) string {
	const digits = "0123456789ABCDEF"
	return string([]byte{digits[c>>4], digits[c&15]})
}

// Written is the answer to a put.
type Written struct {
	ModifyIndex uint64 `json:"modify_index"`
	CreateIndex uint64 `json:"create_index"`
}

// Put writes the bytes of value; query is added to the target ("cas=0"), header as in Do.
func (c *Client) Put(ctx context.Context, key string, value []byte, query string, header ...string) (Written, error) {
	target := KeyPath(key)
	if query != "" {
		target += "?" + query
	}
	if value == nil {
		value = []byte{}
	}
	var w Written
	err := c.call(ctx, &w, http.MethodPut, target, value, append(header, "Content-Type", "application/octet-stream")...)
	return w, err
}

// Read gets a key; query as in Put ("consistency=stale").
func (c *Client) Read(ctx context.Context, key, query string) (Entry, error) {
	target := KeyPath(key)
	if query != "" {
		target += "?" + query
	}
	var e Entry
	err := c.call(ctx, &e, http.MethodGet, target, nil)
	return e, err
}

// Delete removes a key and says whether it was there.
func (c *Client) Delete(ctx context.Context, key string) (bool, error) {
	var out struct{ Deleted bool }
	err := c.call(ctx, &out, http.MethodDelete, KeyPath(key), nil)
	return out.Deleted, err
}

// call sends a request and decodes a 200 answer into v; other answers are an *APIError.
func (c *Client) call(ctx context.Context, v any, method, target string, body []byte, header ...string) error {
	a, err := c.Do(ctx, method, target, body, header...)
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return a.Err()
	}
	return a.JSON(v)
}

// List reads every entry under prefix, page by page; query as in Put.
func (c *Client) List(ctx context.Context, prefix, query string) ([]Entry, error) {
	var all []Entry
	after := ""
	for {
		q := url.Values{"prefix": {prefix}, "values": {"true"}, "limit": {strconv.Itoa(5000)}}
		if after != "" {
			q.Set("after", after)
		}
		var page struct {
			Entries []Entry
			Next    *string
		}
		target := "/kv?" + q.Encode()
		if query != "" {
			target += "&" + query
		}
		if err := c.call(ctx, &page, http.MethodGet, target, nil); err != nil {
			return nil, err
		}
		all = append(all, page.Entries...)
		if page.Next == nil {
			return all, nil
		}
		after = *page.Next
	}
}
