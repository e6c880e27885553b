package client

import (
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Meta is what the headers of an answer say.
type Meta struct {
	// Index is the index up to which the answer is complete; for a write, its own.
	Index uint64
	// Node is the id of the node that answered, Leader the id of the leader it knows.
	Node, Leader string
	// Staleness is how old a stale answer may be.
	Staleness time.Duration
}

func metaOf(h http.Header) Meta {
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(h.Get(name), 10, 64)
		return n
	}
	return Meta{
		Index:  number("X-Konsul-Index"),
		Node:   h.Get("X-Konsul-Node"),
		Leader: h.Get("X-Konsul-Leader"),
		// A node that never heard of a leader says the largest number there is.
		Staleness: time.Duration(min(number("X-Konsul-Staleness-Ms"), math.MaxInt64/1_000_000)) * time.Millisecond,
	}
}

// ReadOption changes how something is read; see Stale, MaxStale, At, Wait, Healthy,
// WithMeta.
type ReadOption interface{ read(*request) }

// WriteOption changes how something is written; see CAS, Flags, TTL, IdempotencyKey, WithMeta.
type WriteOption interface{ write(*request) }

// Option is good for reads and writes.
type Option interface {
	ReadOption
	WriteOption
}

type readOption func(*request)

func (o readOption) read(r *request) { o(r) }

type writeOption func(*request)

func (o writeOption) write(r *request) { o(r) }

type option func(*request)

func (o option) read(r *request)  { o(r) }
func (o option) write(r *request) { o(r) }

// WithMeta puts what the answer's headers say into m, on success and for ErrNotFound.
func WithMeta(m *Meta) Option { return option(func(r *request) { r.meta = m }) }

// Stale reads what the asked node has, without asking the leader.
func Stale() ReadOption {
	return readOption(func(r *request) { r.set("consistency", "stale") })
}

// MaxStale is Stale with a bound: a node that is further behind does not answer.
func MaxStale(d time.Duration) ReadOption {
	return readOption(func(r *request) {
		r.set("consistency", "stale")
		r.set("max_stale", d.String())
	})
}

// At reads the past: the state right after the entry with this index.
func At(index uint64) ReadOption {
	return readOption(func(r *request) { r.setUint("at", index) })
}

// Wait makes the read block until a change with an index greater than index touched
// what it covers, or until wait has passed (0 = the server's default, 5 minutes; at
// most 10). Index is an entry's ModifyIndex or an earlier answer's Meta.Index.
func Wait(index uint64, wait time.Duration) ReadOption {
	return readOption(func(r *request) {
		r.setUint("index", index)
		if wait > 0 {
			r.set("wait", wait.String())
			r.extra = wait
			return
		}
		r.extra = 5 * time.Minute
	})
}

// CAS writes only if the key's ModifyIndex is index; 0 = only if the key is absent.
// Otherwise the error is ErrCASConflict. For Put and Delete.
func CAS(index uint64) WriteOption {
	return writeOption(func(r *request) { r.setUint("cas", index) })
}

// Flags is a number kept with the entry that means nothing to the server. For Put.
func Flags(flags uint64) WriteOption {
	return writeOption(func(r *request) { r.setUint("flags", flags) })
}

// TTL is how long the key lives; without it, until it is deleted. Each put decides
// anew. For Put and Acquire.
func TTL(d time.Duration) WriteOption {
	return writeOption(func(r *request) { r.set("ttl", d.String()) })
}

// IdempotencyKey names the write: the same key again within the server's window gives
// the first answer and applies nothing. It must be unique to this very write.
func IdempotencyKey(key string) WriteOption {
	return writeOption(func(r *request) { r.idempotencyKey = key })
}

func (r *request) set(name, value string) {
	if r.query == nil {
		r.query = url.Values{}
	}
	r.query.Set(name, value)
}

func (r *request) add(name, value string) {
	if r.query == nil {
		r.query = url.Values{}
	}
	r.query.Add(name, value)
}

func (r *request) setUint(name string, value uint64) {
	r.set(name, strconv.FormatUint(value, 10))
}

func (r *request) applyRead(options []ReadOption) *request {
	r.read = true
	for _, o := range options {
		o.read(r)
	}
	return r
}

// applyWrite is for writes to the key space, not to the cluster.
func (r *request) applyWrite(options []WriteOption) *request {
	r.keyable = true
	for _, o := range options {
		o.write(r)
	}
	return r
}
