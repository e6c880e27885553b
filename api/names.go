package api

import (
	"net/url"

	"github.com/go-chi/chi/v5"

	"github.com/neogan74/konsul/internal/persistence"
)

// pathParam is a part of the path, percent-decoded.
func (c *call) pathParam(name string) (string, error) {
	value := chi.URLParam(c.r, name)
	if c.r.URL.RawPath == "" {
		return value, nil
	}
	return url.PathUnescape(value) // the router worked on the raw path
}

// pathName is a part of the path that must be a name; what it names is for errors.
func (c *call) pathName(param, what string) (string, error) {
	name, err := c.pathParam(param)
	if err != nil {
		return "", badRequest("malformed %s: %v", what, err)
	}
	return name, checkName(what, name)
}

// queryName takes a parameter that must be a name, or otherwise if it is not there.
func (c *call) queryName(param, otherwise string) (string, error) {
	name, given := c.query.text(param)
	if !given {
		return otherwise, nil
	}
	return name, checkName("parameter "+param, name)
}

// checkName holds the name or id of a service, check, session or node to the limits.
func checkName(what, name string) error {
	if persistence.CheckName(name) == nil {
		return nil
	}
	f := badRequest("%s must be 1 to %d of A-Z a-z 0-9 . _ -", what, persistence.MaxNameLen)
	if len(name) > persistence.MaxNameLen {
		f.numbers = []number{{"limit", persistence.MaxNameLen}}
	}
	return f
}
