package client

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"strconv"
)

// ListOptions narrows a list.
type ListOptions struct {
	// Prefix of the keys; empty = all keys.
	Prefix string
	// After: only keys greater than this one, in byte order.
	After string
	// Separator folds keys that share a prefix up to it, as directories do: "a/b" and
	// "a/c" become "a/". Keys only.
	Separator string
	// PageSize is how many keys one request asks for; 0 = the server's default
	// (1,000), at most 10,000.
	PageSize int
	// OneVersion reads every page at the index of the first, so that a long list is one
	// consistent state; it fails with ErrCompacted if it outlives the history.
	OneVersion bool
}

// Page is a part of a list, at one consistent version.
type Page struct {
	// Keys, in byte order; only of ListKeys.
	Keys []string
	// Entries, in byte order of their keys; only of ListEntries.
	Entries []Entry
	// Next is the After of the next page; More says whether there is one.
	Next string
	More bool
	// Meta has the index of the version.
	Meta Meta
}

// ListKeys reads one page of keys.
func (c *Client) ListKeys(ctx context.Context, o ListOptions, options ...ReadOption) (Page, error) {
	return c.page(ctx, o, false, options)
}

// ListEntries reads one page of keys with their values.
func (c *Client) ListEntries(ctx context.Context, o ListOptions, options ...ReadOption) (Page, error) {
	return c.page(ctx, o, true, options)
}

// Keys goes through all keys, page by page. An error ends it.
func (c *Client) Keys(ctx context.Context, o ListOptions, options ...ReadOption) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for page, err := range c.pages(ctx, o, false, options) {
			if err != nil {
				yield("", err)
				return
			}
			for _, key := range page.Keys {
				if !yield(key, nil) {
					return
				}
			}
		}
	}
}

// List goes through all entries, page by page. An error ends it.
func (c *Client) List(ctx context.Context, o ListOptions, options ...ReadOption) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for page, err := range c.pages(ctx, o, true, options) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, entry := range page.Entries {
				if !yield(entry, nil) {
					return
				}
			}
		}
	}
}

func (c *Client) pages(ctx context.Context, o ListOptions, values bool, options []ReadOption) iter.Seq2[Page, error] {
	return func(yield func(Page, error) bool) {
		for {
			page, err := c.page(ctx, o, values, options)
			if !yield(page, err) || err != nil || !page.More {
				return
			}
			if o.OneVersion {
				options = append(options[:len(options):len(options)], At(page.Meta.Index))
				o.OneVersion = false
			}
			o.After = page.Next
		}
	}
}

func (c *Client) page(ctx context.Context, o ListOptions, values bool, options []ReadOption) (Page, error) {
	if values && o.Separator != "" {
		return Page{}, badRequest("a separator is for lists of keys, without values")
	}
	var page Page
	req := &request{method: http.MethodGet, path: "/kv"}
	for name, value := range map[string]string{"prefix": o.Prefix, "after": o.After, "separator": o.Separator} {
		if value != "" {
			req.set(name, value)
		}
	}
	if o.PageSize > 0 {
		req.set("limit", strconv.Itoa(o.PageSize))
	}
	if values {
		req.set("values", "true")
	}
	req.applyRead(options)
	asked := req.meta
	req.meta = &page.Meta
	var answer struct {
		Keys         []string `json:"keys"`
		KeysEncoding string   `json:"keys_encoding"`
		Entries      []Entry  `json:"entries"`
		Next         *string  `json:"next"`
		NextEncoding string   `json:"next_encoding"`
	}
	if err := c.call(ctx, req, &answer); err != nil {
		return Page{}, err
	}
	if err := decodeKeys(answer.Keys, answer.KeysEncoding); err != nil {
		return Page{}, err
	}
	page.Keys, page.Entries = answer.Keys, answer.Entries
	if answer.Next != nil && *answer.Next != "" {
		next, err := decodeText(*answer.Next, answer.NextEncoding)
		if err != nil {
			return Page{}, fmt.Errorf("decoding next: %w", err)
		}
		page.Next, page.More = string(next), true
	}
	if asked != nil {
		*asked = page.Meta
	}
	return page, nil
}
