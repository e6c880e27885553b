package client

import (
	"context"
	"encoding/json"
	"time"
)

// Txn builds a transaction: one log entry, all or nothing. If every Compare holds,
// the operations of Then run, else those of Else; without Compare, Then. Operations
// see the earlier ones. A CAS of an operation that does not hold fails the whole with
// ErrCASConflict, and Error.Op says which it was.
//
//	result, err := c.Txn().
//		If(client.CompareModifyIndex("lock", "=", 0)).
//		Then(client.OpSet("lock", []byte("me")), client.OpGet("config")).
//		Else(client.OpGet("lock")).
//		Commit(ctx)
type Txn struct {
	client  *Client
	compare []Compare
	then    []Op
	els     []Op
}

// Txn starts a transaction.
func (c *Client) Txn() *Txn { return &Txn{client: c} }

// If adds conditions; all must hold.
func (t *Txn) If(compares ...Compare) *Txn {
	t.compare = append(t.compare, compares...)
	return t
}

// Then adds operations for when the conditions hold.
func (t *Txn) Then(ops ...Op) *Txn {
	t.then = append(t.then, ops...)
	return t
}

// Else adds operations for when they do not.
func (t *Txn) Else(ops ...Op) *Txn {
	t.els = append(t.els, ops...)
	return t
}

// Compare is a condition on one key; see CompareValue, CompareModifyIndex,
// CompareCreateIndex, CompareExists.
type Compare struct {
	key, target, op string
	value           any
	encoding        string
}

// CompareValue compares the key's value; op is =, !=, < or > in byte order. An absent
// key has no value: only != holds.
func CompareValue(key, op string, value []byte) Compare {
	text, encoding := encodeText(value)
	return Compare{key: key, target: "value", op: op, value: text, encoding: encoding}
}

// CompareModifyIndex compares the key's modify index; an absent key has 0.
func CompareModifyIndex(key, op string, index uint64) Compare {
	return Compare{key: key, target: "modify_index", op: op, value: index}
}

// CompareCreateIndex compares the key's create index; an absent key has 0.
func CompareCreateIndex(key, op string, index uint64) Compare {
	return Compare{key: key, target: "create_index", op: op, value: index}
}

// CompareExists asks whether the key is there.
func CompareExists(key string, exists bool) Compare {
	return Compare{key: key, target: "exists", op: "=", value: exists}
}

// Op is one operation of a transaction; see OpSet, OpGet, OpDelete, OpDeletePrefix,
// OpAcquire, OpRelease.
type Op struct {
	kind, key string
	value     []byte
	cas       *uint64
	flags     uint64
	ttl       time.Duration
	session   string
}

// OpSet writes a key.
func OpSet(key string, value []byte) Op {
	if value == nil {
		value = []byte{}
	}
	return Op{kind: "set", key: key, value: value}
}

// OpAcquire writes a key and makes the session its holder. ErrLockHeld, ErrLockDelay
// or ErrSessionNotFound fail the whole transaction.
func OpAcquire(key string, value []byte, session string) Op {
	op := OpSet(key, value)
	op.kind, op.session = "acquire", session
	return op
}

// OpRelease ends the hold of the session on a key; ErrNotHolder fails the whole
// transaction.
func OpRelease(key, session string) Op { return Op{kind: "release", key: key, session: session} }

// OpGet reads a key.
func OpGet(key string) Op { return Op{kind: "get", key: key} }

// OpDelete removes a key.
func OpDelete(key string) Op { return Op{kind: "delete", key: key} }

// OpDeletePrefix removes every key that starts with prefix.
func OpDeletePrefix(prefix string) Op { return Op{kind: "delete_prefix", key: prefix} }

// WithCAS makes the operation depend on the key's modify index; 0 = the key is absent.
func (o Op) WithCAS(index uint64) Op {
	o.cas = &index
	return o
}

// WithFlags sets the flags a set writes.
func (o Op) WithFlags(flags uint64) Op {
	o.flags = flags
	return o
}

// WithTTL is how long the key lives that a set or acquire writes.
func (o Op) WithTTL(d time.Duration) Op {
	o.ttl = d
	return o
}

// TxnResult is what a transaction did.
type TxnResult struct {
	// Succeeded: the conditions held, so Then ran; false: Else ran.
	Succeeded bool `json:"succeeded"`
	// Index is the index of the transaction.
	Index uint64 `json:"index"`
	// Results has one per operation that ran, in order.
	Results []OpResult `json:"results"`
}

// Commit runs the transaction. Options: IdempotencyKey, WithMeta.
func (t *Txn) Commit(ctx context.Context, options ...WriteOption) (TxnResult, error) {
	doc, err := t.document()
	if err != nil {
		return TxnResult{}, err
	}
	return t.client.CommitJSON(ctx, doc, options...)
}

// CommitJSON runs a transaction that is a JSON document of the HTTP API already.
func (c *Client) CommitJSON(ctx context.Context, doc []byte, options ...WriteOption) (TxnResult, error) {
	req := &request{method: "POST", path: "/txn", body: doc, contentType: "application/json"}
	var result TxnResult
	err := c.call(ctx, req.applyWrite(options), &result)
	return result, err
}

type compareJSON struct {
	Key         string `json:"key"`
	KeyEncoding string `json:"key_encoding,omitempty"`
	Target      string `json:"target"`
	Op          string `json:"op"`
	Value       any    `json:"value"`
	Encoding    string `json:"encoding,omitempty"`
}

type opJSON struct {
	Op          string   `json:"op"`
	Key         string   `json:"key"`
	KeyEncoding string   `json:"key_encoding,omitempty"`
	Value       *string  `json:"value,omitempty"`
	Encoding    string   `json:"encoding,omitempty"`
	CAS         *uint64  `json:"cas,omitempty"`
	Flags       uint64   `json:"flags,omitempty"`
	TTL         duration `json:"ttl,omitempty"`
	Session     string   `json:"session,omitempty"`
}

func (t *Txn) document() ([]byte, error) {
	doc := struct {
		Compare []compareJSON `json:"compare,omitempty"`
		Then    []opJSON      `json:"then,omitempty"`
		Else    []opJSON      `json:"else,omitempty"`
	}{}
	for _, cmp := range t.compare {
		if err := checkKey(cmp.key); err != nil {
			return nil, err
		}
		key, keyEncoding := encodeText([]byte(cmp.key))
		doc.Compare = append(doc.Compare, compareJSON{key, keyEncoding, cmp.target, cmp.op, cmp.value, cmp.encoding})
	}
	var err error
	if doc.Then, err = opsJSON(t.then); err != nil {
		return nil, err
	}
	if doc.Else, err = opsJSON(t.els); err != nil {
		return nil, err
	}
	return json.Marshal(doc)
}

func opsJSON(ops []Op) ([]opJSON, error) {
	var out []opJSON
	for _, op := range ops {
		if err := checkKey(op.key); err != nil {
			return nil, err
		}
		j := opJSON{Op: op.kind, CAS: op.cas, Flags: op.flags, TTL: duration(op.ttl), Session: op.session}
		j.Key, j.KeyEncoding = encodeText([]byte(op.key))
		if op.value != nil {
			text, encoding := encodeText(op.value)
			j.Value, j.Encoding = &text, encoding
		}
		out = append(out, j)
	}
	return out, nil
}
