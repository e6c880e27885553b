package api

import (
	"bytes"
	"net/http"
	"unicode/utf8"

	"github.com/neogan74/konsul/api/internal/jsonwire"
	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

const (
	defaultLimit = 1000
	maxLimit     = 10000
	// maxPage ends a page early, in bytes of keys and values.
	maxPage = 8 << 20
	// maxFolded is how many keys under one folded prefix are stepped over one by one
	// before the scan starts anew behind them.
	maxFolded = 64
)

// lister walks the keys of one answer.
type lister struct {
	prefix, separator []byte
	after             []byte // nil = from the start
	limit             int
	values            bool

	emit func(key []byte, kv *record.KV) error // kv is nil for a folded prefix and without values

	count, size int
	last        []byte // the name emitted last
	folded      bool   // last is a folded prefix
	more        bool   // there is something behind last
}

// kvList is GET /kv.
func (c *call) kvList() error {
	rr, err := c.readRequest()
	if err != nil {
		return err
	}
	var l lister
	if err := c.takeList(&l); err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	v, err := c.view(&rr, fsm.Filter{Prefix: l.prefix})
	if err != nil {
		return err
	}
	defer v.Close()
	if l.values {
		return c.listEntries(v, &l)
	}
	return c.listKeys(v, &l)
}

func (c *call) takeList(l *lister) error {
	prefix, _ := c.query.text("prefix")
	after, continued := c.query.text("after")
	separator, _ := c.query.text("separator")
	for _, p := range []struct{ name, value string }{{"prefix", prefix}, {"after", after}, {"separator", separator}} {
		if err := checkKeyLen("parameter "+p.name, len(p.value)); err != nil {
			return err
		}
	}
	l.prefix, l.separator = []byte(prefix), []byte(separator)
	if continued {
		l.after = []byte(after)
	}
	limit, given, err := c.query.number("limit")
	switch {
	case err != nil:
		return err
	case !given:
		limit = defaultLimit
	case limit < 1 || limit > maxLimit:
		return badRequest("parameter limit must be from 1 to %d", maxLimit)
	}
	l.limit = int(limit)
	l.values, err = c.query.flag("values")
	return err
}

// listKeys gathers the keys first: whether they go out as text or in base64 is one
// decision for the whole list, and a page is small without its values.
func (c *call) listKeys(v View, l *lister) error {
	var keys []byte
	var ends []int
	text := true
	l.emit = func(key []byte, _ *record.KV) error {
		keys = append(keys, key...)
		ends = append(ends, len(keys))
		text = text && utf8.Valid(key)
		return nil
	}
	if err := l.walk(v); err != nil {
		return err
	}
	write := jsonwire.AppendBase64
	if text {
		write = jsonwire.AppendString[[]byte]
	}
	c.out = append(c.out[:0], `{"keys":[`...)
	start := 0
	for i, end := range ends {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = write(c.out, keys[start:end])
		start = end
	}
	c.out = append(c.out, ']')
	if !text {
		c.out = append(c.out, `,"keys_encoding":"base64"`...)
	}
	c.appendNext(l, text)
	return c.json(http.StatusOK)
}

// appendNext ends a list with where the next page begins. It is written as text if
// the keys are; in base64, next_encoding says so.
func (c *call) appendNext(l *lister, text bool) {
	c.out = append(c.out, `,"next":`...)
	switch {
	case !l.more:
		c.out = append(c.out, "null"...)
	case text && utf8.Valid(l.last):
		c.out = jsonwire.AppendString(c.out, l.last)
	default:
		c.out = jsonwire.AppendBase64(c.out, l.last)
		c.out = append(c.out, `,"next_encoding":"base64"`...)
	}
	c.out = append(c.out, '}')
}

// listEntries streams: an answer of values is up to 8 MiB.
func (c *call) listEntries(v View, l *lister) error {
	c.out = append(c.out[:0], `{"entries":[`...)
	first := true
	l.emit = func(key []byte, kv *record.KV) error {
		if !first {
			c.out = append(c.out, ',')
		}
		first = false
		if kv == nil {
			c.out = append(appendKey(append(c.out, '{'), key), `,"prefix":true}`...)
		} else if err := c.entry(key, kv, c.pushJSON); err != nil {
			return err
		}
		return c.pushJSON()
	}
	if err := l.walk(v); err != nil {
		return err
	}
	c.out = append(c.out, ']')
	c.appendNext(l, true)
	return c.endJSON()
}

// walk emits keys and folded prefixes in order until the page is full.
func (l *lister) walk(v View) error {
	start, done := l.first()
	for !done {
		next, err := l.scan(v, start)
		if err != nil {
			return err
		}
		start, done = next, next == nil
	}
	return nil
}

// first is the stored key to start at: behind after, and behind everything that is
// folded into it or before it.
func (l *lister) first() (start []byte, done bool) {
	from := persistence.KVKey(l.prefix)
	if l.after == nil {
		return from, false
	}
	behind := append(persistence.KVKey(l.after), 0)
	if fold := l.foldOf(l.after); fold != nil {
		behind = successor(persistence.KVKey(fold))
	}
	if bytes.Compare(behind, from) > 0 {
		from = behind
	}
	return from, from == nil
}

// scan goes on from start. It returns where to scan anew, or nil at the end.
func (l *lister) scan(v View, start []byte) (next []byte, err error) {
	skipped := 0
	visit := func(stored, value []byte) error {
		key, ok := persistence.UserKey(stored)
		if !ok {
			return nil
		}
		name := key
		if fold := l.foldOf(key); fold != nil {
			if l.folded && bytes.Equal(fold, l.last) {
				if skipped++; skipped > maxFolded {
					next = successor(persistence.KVKey(fold))
					return persistence.ErrStop
				}
				return nil
			}
			name = fold
		}
		skipped = 0
		return l.take(key, name, value)
	}
	stored := persistence.KVKey(l.prefix)
	if l.values {
		err = v.Scan(stored, start, visit)
	} else {
		err = v.ScanKeys(stored, start, func(key []byte) error { return visit(key, nil) })
	}
	return next, err
}

// take emits one name, or ends the page.
func (l *lister) take(key, name, value []byte) error {
	if l.count == l.limit || (l.count > 0 && l.size+len(name)+len(value) > maxPage) {
		l.more = true
		return persistence.ErrStop
	}
	l.folded = l.foldOf(key) != nil
	var kv *record.KV
	l.size += len(name)
	if l.values && !l.folded {
		kv = new(record.KV)
		if err := persistence.DecodeRecord(value, kv); err != nil {
			return err
		}
		l.size += len(value)
	}
	l.count++
	l.last = append(l.last[:0], name...)
	return l.emit(name, kv)
}

// foldOf is the key up to and including the first separator behind the prefix; nil
// if there is none.
func (l *lister) foldOf(key []byte) []byte {
	if len(l.separator) == 0 || !bytes.HasPrefix(key, l.prefix) {
		return nil
	}
	i := bytes.Index(key[len(l.prefix):], l.separator)
	if i < 0 {
		return nil
	}
	return key[:len(l.prefix)+i+len(l.separator)]
}

// successor is the first key behind all that start with prefix; nil if there is none.
func successor(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			next := append([]byte(nil), prefix[:i+1]...)
			next[i]++
			return next
		}
	}
	return nil
}
