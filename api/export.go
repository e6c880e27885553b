package api

import (
	"context"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/neogan74/konsul/api/internal/jsonwire"
	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// The document of /export and /import:
//
//	{"kv":{KEY:VALUE,...},"kv_base64":{KEY:VALUE,...},"services":{...}}
//
// VALUE is a string, or an object with "value" and what else there is to say:
// "encoding":"base64", "flags", "ttl". In JSON only text can be a name, so keys that are
// not UTF-8 stand in base64 in an object of their own, which is left out if there are
// none: a key and another one's base64 cannot be taken for each other.

// maxTransfers bounds the exports and imports at the same time: each holds some
// megabytes, and an export holds back the history.
const maxTransfers = 4

// maxExport bounds one export: as long as it is read, nothing after its index can be
// forgotten.
const maxExport = time.Hour

var errTooManyTransfers = &failure{status: http.StatusTooManyRequests, code: "overloaded",
	text: "too many exports and imports at the same time", retryAfter: 5}

// enterTransfer takes one of the few places for exports and imports.
func (c *call) enterTransfer() (leave func(), err error) {
	if c.s.draining() {
		return nil, errDraining
	}
	select {
	case c.s.transfers <- struct{}{}:
		begin := time.Now()
		return func() { c.waited += time.Since(begin); <-c.s.transfers }, nil
	default:
		return nil, errTooManyTransfers
	}
}

// export is GET /export: all keys, or those with a prefix, and without one all
// services, at one version.
func (c *call) export() error {
	rr, err := c.readRequest()
	if err != nil {
		return err
	}
	if rr.blocking {
		return badRequest("parameter index is not for this endpoint")
	}
	prefix, _ := c.query.text("prefix")
	if err := checkKeyLen("parameter prefix", len(prefix)); err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	leave, err := c.enterTransfer()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := c.waitContext()
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, maxExport)
	defer stop()
	v, err := c.view(&rr, fsm.Filter{})
	if err != nil {
		return err
	}
	defer v.Close()
	x := exporter{c: c, ctx: ctx, v: v, prefix: []byte(prefix)}
	return x.run(prefix == "")
}

type exporter struct {
	c      *call
	ctx    context.Context
	v      View
	prefix []byte
	first  bool // of the object being written
}

func (x *exporter) run(services bool) error {
	c := x.c
	c.out = append(c.out[:0], `{"kv":{`...)
	odd, err := x.keys(true)
	if err != nil {
		return err
	}
	if odd {
		c.out = append(c.out, "\n},\"kv_base64\":{"...)
		if _, err := x.keys(false); err != nil {
			return err
		}
	}
	c.out = append(c.out, "\n},\"services\":{"...)
	read := persistence.KVKey(x.prefix)
	if services {
		if err := x.services(); err != nil {
			return err
		}
		read = nil // everything
	}
	// An iterator of the engine ends quietly at what it cannot read. What is cut off
	// before the last brace, nobody takes for the whole.
	if err := x.v.Whole(x.ctx, read); err != nil {
		return err
	}
	c.out = append(c.out, "\n}}"...)
	return c.endJSON()
}

// keys writes the keys that are text, or the others; odd says whether there were others
// than asked for.
func (x *exporter) keys(text bool) (odd bool, err error) {
	x.first = true
	n := 0
	err = x.v.Scan(persistence.KVKey(x.prefix), nil, func(stored, value []byte) error {
		// Here, and not only when something is sent: all of them may be of the other kind.
		if n++; n%exportCheckEvery == 0 {
			if err := x.ended(); err != nil {
				return err
			}
		}
		key, ok := persistence.UserKey(stored)
		if !ok {
			return nil
		}
		if utf8.Valid(key) != text {
			odd = true
			return nil
		}
		var kv record.KV
		if err := persistence.DecodeRecord(value, &kv); err != nil {
			return err
		}
		return x.key(key, &kv, text)
	})
	return odd, err
}

// name begins a member of the object being written.
func (x *exporter) name(b []byte, text bool) {
	c := x.c
	if !x.first {
		c.out = append(c.out, ',')
	}
	x.first = false
	c.out = append(c.out, '\n')
	if text {
		c.out = jsonwire.AppendString(c.out, b)
	} else {
		c.out = jsonwire.AppendBase64(c.out, b)
	}
	c.out = append(c.out, ':')
}

func (x *exporter) key(key []byte, kv *record.KV, text bool) error {
	c := x.c
	x.name(key, text)
	ttl := x.ttl(kv)
	if utf8.Valid(kv.Value) && kv.Flags == 0 && ttl == 0 {
		if _, err := c.text(kv.Value, c.pushJSON); err != nil {
			return err
		}
		return x.push()
	}
	c.out = append(c.out, `{"value":`...)
	coded, err := c.text(kv.Value, c.pushJSON)
	if err != nil {
		return err
	}
	if coded {
		c.out = append(c.out, `,"encoding":"base64"`...)
	}
	if kv.Flags != 0 {
		c.out = appendUint(c.out, `,"flags":`, kv.Flags)
	}
	c.out = append(appendTTL(c.out, int64(ttl)), '}')
	return x.push()
}

// push sends what has been gathered, if that is enough, and ends a transfer that
// nobody wants any more.
func (x *exporter) push() error {
	if len(x.c.out) < chunk {
		return nil
	}
	if err := x.ended(); err != nil {
		return err
	}
	return x.c.pushJSON()
}

// exportCheckEvery is how many keys are read before it is looked whether anybody waits for them.
const exportCheckEvery = 256

// ended is an error if nobody waits for the rest any more, or no longer may.
func (x *exporter) ended() error {
	err := x.ctx.Err()
	if err != nil && x.c.s.draining() {
		return errDraining
	}
	return err
}

// ttl is how long a key has to live, as it can be given to a key; 0 = for ever.
func (x *exporter) ttl(kv *record.KV) time.Duration {
	if kv.Deadline == 0 {
		return 0
	}
	now := x.c.now // with at: what was left then
	if !x.c.nowKnown {
		now = x.c.s.node.ClusterTime()
	}
	left := time.Duration(kv.Deadline - now).Truncate(time.Millisecond)
	return min(max(left, command.MinTTL), command.MaxTTL)
}
