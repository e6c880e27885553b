package api

import (
	"errors"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/neogan74/konsul/api/internal/jsonwire"
	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// batch is the body of the three batch endpoints. In JSON only text can be the name
// of a field, so keys that are not UTF-8 come all in base64, with keys_encoding.
type batch struct {
	keys     []blob
	values   []blob // of items, one for each key
	encoding string
	listed   bool // keys or items was there
}

// readBatch reads {"keys":[...]} or {"items":{...}}, whichever field says.
func (c *call) readBatch(field string) (*batch, error) {
	r, err := c.readJSON("request", maxTxnBody)
	if err != nil {
		return nil, err
	}
	b := new(batch)
	err = r.Object(func(name []byte) (err error) {
		switch {
		case string(name) == field && field == "items":
			return b.readItems(r)
		case string(name) == field:
			return b.readKeys(r)
		case string(name) == "keys_encoding":
			b.encoding, err = r.String()
			return err
		}
		return r.Unknown(name)
	})
	if err == nil {
		err = r.End()
	}
	if err != nil {
		return nil, err
	}
	return b, b.check(field)
}

func (b *batch) readKeys(r *jsonwire.Reader) error {
	b.listed = true
	return r.Array(func() error {
		key, err := r.Bytes()
		if err != nil {
			return err
		}
		return b.addKey(key)
	})
}

func (b *batch) addKey(key []byte) error {
	if len(b.keys) == command.MaxOps {
		return tooLarge("number of keys", command.MaxOps)
	}
	b.keys = append(b.keys, blob{bytes: key})
	return nil
}

func (b *batch) readItems(r *jsonwire.Reader) error {
	b.listed = true
	return r.Object(func(name []byte) error {
		if err := b.addKey(name); err != nil {
			return err
		}
		var value blob
		if err := readItem(r, &value); err != nil {
			return err
		}
		b.values = append(b.values, value)
		return nil
	})
}

// readItem reads "text" or {"encoding":"base64","value":"..."}.
func readItem(r *jsonwire.Reader, value *blob) error {
	if r.Kind() != '{' {
		return value.read(r)
	}
	return r.Object(func(name []byte) error {
		switch string(name) {
		case "value":
			return value.read(r)
		case "encoding":
			return value.readEncoding(r)
		}
		return r.Unknown(name)
	})
}

// check decodes keys and values in place and holds them to the limits.
func (b *batch) check(field string) (err error) {
	if !b.listed || len(b.keys) == 0 {
		return badRequest("%s is missing or empty", field)
	}
	for i := range b.keys {
		k := &b.keys[i]
		k.encoding = b.encoding
		if k.bytes, err = k.decode("a key"); err != nil {
			return err
		}
		if err := checkKey("a key", k.bytes); err != nil {
			return err
		}
	}
	for i := range b.values {
		v := &b.values[i]
		if !v.given {
			return badRequest("an item has no value")
		}
		if v.bytes, err = v.decode("a value"); err != nil {
			return err
		}
		if err := checkValue("value", v.bytes); err != nil {
			return err
		}
	}
	return nil
}

// ops makes one operation of each key.
func (b *batch) ops(kind command.Op_Kind) []*command.Op {
	all := make([]command.Op, len(b.keys))
	list := make([]*command.Op, len(b.keys))
	for i := range all {
		all[i].Kind, all[i].Key = kind, b.keys[i].bytes
		if b.values != nil {
			all[i].Value = b.values[i].bytes
		}
		list[i] = &all[i]
	}
	return list
}

// batchSet is POST /batch/set.
func (c *call) batchSet() error {
	res, n, err := c.batchWrite("items", command.Op_SET)
	if err != nil {
		return err
	}
	c.out = append(c.out[:0], `{"message":"keys set"`...)
	c.out = appendUint(c.out, `,"count":`, uint64(n))
	c.out = appendUint(c.out, `,"modify_index":`, res.Index)
	c.out = append(c.out, '}')
	return c.json(http.StatusOK)
}

// batchDelete is POST /batch/delete.
func (c *call) batchDelete() error {
	res, n, err := c.batchWrite("keys", command.Op_DELETE)
	if err != nil {
		return err
	}
	var deleted uint64
	for _, r := range res.Results {
		deleted += r.GetDeleted()
	}
	c.out = append(c.out[:0], `{"message":"keys deleted"`...)
	c.out = appendUint(c.out, `,"count":`, uint64(n))
	c.out = appendUint(c.out, `,"deleted":`, deleted)
	c.out = append(c.out, '}')
	return c.json(http.StatusOK)
}

func (c *call) batchWrite(field string, kind command.Op_Kind) (*command.Result, int, error) {
	if err := c.query.done(); err != nil {
		return nil, 0, err
	}
	b, err := c.readBatch(field)
	if err != nil {
		return nil, 0, err
	}
	res, err := c.apply(&command.Txn{Then: b.ops(kind)})
	return res, len(b.keys), err
}

// maxFound bounds the values of one /batch/get, in bytes: as much as a page of a list.
const maxFound = maxPage

// keepFound is how many bytes of values are kept between counting them and sending
// them; more are read twice, or many requests at a time would hold gigabytes.
const keepFound = 128 << 10

// batchGet is POST /batch/get. 1,024 values can be half a gigabyte, so they are counted
// before the answer begins.
func (c *call) batchGet() error {
	rr, err := c.readRequest()
	if err != nil {
		return err
	}
	if rr.blocking {
		return badRequest("parameter index is not for this endpoint")
	}
	if err := c.query.done(); err != nil {
		return err
	}
	b, err := c.readBatch("keys")
	if err != nil {
		return err
	}
	v, err := c.view(&rr, fsm.Filter{})
	if err != nil {
		return err
	}
	defer v.Close()
	found, missing, err := lookUp(v, b)
	if err != nil {
		return err
	}
	return c.sendFound(v, b, found, missing)
}

// found is a key of /batch/get that is there; kv is nil if it is to be read again.
type found struct {
	key []byte
	kv  *record.KV
}

// lookUp finds out which keys are there, each once, and how large all is.
func lookUp(v View, b *batch) (there []found, missing [][]byte, err error) {
	seen := make(map[string]struct{}, len(b.keys))
	size := 0
	for _, k := range b.keys {
		if _, again := seen[string(k.bytes)]; again {
			continue
		}
		seen[string(k.bytes)] = struct{}{}
		kv, err := v.KV(k.bytes)
		if errors.Is(err, persistence.ErrKeyNotFound) {
			missing = append(missing, k.bytes)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if size += len(kv.Value); size > maxFound {
			return nil, nil, tooLarge("the values of these keys together are", maxFound)
		}
		if size > keepFound {
			kv = nil
		}
		there = append(there, found{k.bytes, kv})
	}
	return there, missing, nil
}

func (c *call) sendFound(v View, b *batch, there []found, missing [][]byte) (err error) {
	write := jsonwire.AppendString[[]byte]
	if !b.text() {
		write = jsonwire.AppendBase64
	}
	c.out = append(c.out[:0], `{"found":{`...)
	for i, f := range there {
		if f.kv == nil {
			if f.kv, err = v.KV(f.key); err != nil {
				return err
			}
		}
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = append(write(c.out, f.key), ':')
		if err := c.item(f.kv); err != nil {
			return err
		}
	}
	c.out = append(c.out, `},"not_found":[`...)
	for i, key := range missing {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = write(c.out, key)
	}
	c.out = append(c.out, ']')
	if !b.text() {
		c.out = append(c.out, `,"keys_encoding":"base64"`...)
	}
	c.out = append(c.out, `,"index":`...)
	c.out = strconv.AppendUint(c.out, v.Index(), 10)
	c.out = append(c.out, '}')
	return c.endJSON()
}

// text says whether every key can be shown as text.
func (b *batch) text() bool {
	for _, k := range b.keys {
		if !utf8.Valid(k.bytes) {
			return false
		}
	}
	return true
}

// item appends a value as /batch/set takes it: text, or an object in base64.
func (c *call) item(kv *record.KV) error {
	coded := !utf8.Valid(kv.GetValue())
	if coded {
		c.out = append(c.out, `{"encoding":"base64","value":`...)
	}
	if _, err := c.text(kv.GetValue(), c.pushJSON); err != nil {
		return err
	}
	if coded {
		c.out = append(c.out, '}')
	}
	return c.pushJSON()
}
