package api

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxParams bounds the parameters of a request: no endpoint has so many.
const maxParams = 16

// query holds the parameters of a request. Every parameter must be taken by the
// handler: one that no one knows is refused, because a misspelt cas would turn a
// conditional write into an unconditional one.
type query struct {
	params [maxParams]param
	n      int
}

type param struct {
	name, value string
	taken       bool
}

func (q *query) parse(raw string) error {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return badRequest("malformed query: %v", err)
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return badRequest("malformed query: %v", err)
		}
		if q.n == maxParams {
			return badRequest("more than %d parameters", maxParams)
		}
		if _, dup := q.find(name); dup && !repeatable(name) {
			return badRequest("parameter %q is given twice", name)
		}
		q.params[q.n] = param{name: name, value: value}
		q.n++
	}
	return nil
}

// repeatable says which parameters may be given more than once, all of which count.
func repeatable(name string) bool { return name == "tag" || name == "meta" }

func (q *query) find(name string) (*param, bool) {
	for i := range q.params[:q.n] {
		if q.params[i].name == name {
			return &q.params[i], true
		}
	}
	return nil, false
}

// text takes a parameter.
func (q *query) text(name string) (string, bool) {
	p, ok := q.find(name)
	if !ok {
		return "", false
	}
	p.taken = true
	return p.value, true
}

// texts takes a parameter that is repeatable.
func (q *query) texts(name string) (values []string) {
	for i := range q.params[:q.n] {
		if p := &q.params[i]; p.name == name {
			p.taken = true
			values = append(values, p.value)
		}
	}
	return values
}

// flag takes a boolean; "?raw" is the same as "?raw=true".
func (q *query) flag(name string) (bool, error) {
	v, ok := q.text(name)
	switch {
	case !ok || v == "false" || v == "0":
		return false, nil
	case v == "" || v == "true" || v == "1":
		return true, nil
	}
	return false, badRequest("parameter %s must be true or false", name)
}

// number takes a whole number from 0 on.
func (q *query) number(name string) (n uint64, given bool, err error) {
	v, ok := q.text(name)
	if !ok {
		return 0, false, nil
	}
	n, err = strconv.ParseUint(v, 10, 64)
	if err != nil {
		return 0, false, badRequest("parameter %s must be a whole number from 0 to 18446744073709551615", name)
	}
	return n, true, nil
}

// duration takes a Go duration ("30s") that is not negative.
func (q *query) duration(name string) (d time.Duration, given bool, err error) {
	v, ok := q.text(name)
	if !ok {
		return 0, false, nil
	}
	d, err = time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, false, badDuration("parameter "+name, "30s")
	}
	return d, true, nil
}

// done refuses the parameters nobody took.
func (q *query) done() error {
	for _, p := range q.params[:q.n] {
		if !p.taken {
			return badRequest("unknown parameter %q", p.name)
		}
	}
	return nil
}
