package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/neogan74/konsul/api/internal/jsonwire"
	"github.com/neogan74/konsul/fsm/command"
)

// Bodies larger than these are refused, in bytes. JSON may spend six bytes on one
// of a value (\u0000), and a third more in base64.
const (
	maxValueBody = command.MaxValueLen
	maxPutBody   = 6*command.MaxValueLen + 4096
	maxTxnBody   = 8 << 20
	maxAdminBody = 64 << 10
	// firstRead is the room made before anything has arrived.
	firstRead = 64 << 10
)

// readBody reads the whole body into c.body. One that says it is larger than limit
// is refused before any of it is read.
func (c *call) readBody(what string, limit int) error {
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return unsupported("content encoding %q is not supported", enc)
	}
	size := c.r.ContentLength
	if size > int64(limit) {
		return tooLarge(what, limit)
	}
	if size < 0 || size > firstRead {
		size = firstRead // a promise of more costs memory only once it is kept
	}
	c.body = grow(c.body[:0], int(size)+1)
	for {
		n, err := c.r.Body.Read(c.body[len(c.body):cap(c.body)])
		c.body = c.body[:len(c.body)+n]
		switch {
		case len(c.body) > limit:
			return tooLarge(what, limit)
		case err == io.EOF:
			return nil
		case err != nil:
			return c.bodyError(err)
		}
		if len(c.body) == cap(c.body) {
			c.body = grow(c.body, cap(c.body))
		}
	}
}

func (c *call) bodyError(err error) error {
	if c.r.Context().Err() != nil {
		return errClientGone
	}
	return badRequest("the request's body did not arrive: %v", err)
}

// grow makes room for n more bytes.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, len(b)+n), b...)
}

func unsupported(format string, args ...any) *failure {
	return &failure{status: http.StatusUnsupportedMediaType, code: "unsupported_media_type", text: fmt.Sprintf(format, args...)}
}

const (
	mediaJSON = "application/json"
	// mediaForm is what curl -d says if it is not told better.
	mediaForm = "application/x-www-form-urlencoded"
)

// isJSON says whether the body calls itself JSON, or one of others.
func isJSON(contentType string, others ...string) bool {
	if contentType == mediaJSON {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && (mediaType == mediaJSON || slices.Contains(others, mediaType))
}

// readJSON reads a body that must be JSON; without a content type, or with the one
// that curl sends unasked, it is taken as such.
func (c *call) readJSON(what string, limit int) (*jsonwire.Reader, error) {
	ct := c.r.Header.Get("Content-Type")
	if ct != "" && !isJSON(ct, mediaForm) {
		return nil, unsupported("content type %q is not supported: send application/json", ct)
	}
	if err := c.readBody(what, limit); err != nil {
		return nil, err
	}
	return jsonwire.NewReader(c.body), nil
}

// readInto reads a small administrative request into the struct that v points to; every
// field of it has a tag. The document is checked with jsonwire first, so that it is as
// strict as all others.
func (c *call) readInto(v any) error {
	r, err := c.readJSON("request", maxAdminBody)
	if err != nil {
		return err
	}
	if err := readFields(r, reflect.TypeOf(v).Elem()); err != nil {
		return err
	}
	if err := r.End(); err != nil {
		return err
	}
	if err := json.Unmarshal(c.body, v); err != nil {
		return badRequest("malformed JSON: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// blob is a string of a request that may be in base64.
type blob struct {
	bytes    []byte
	given    bool
	encoding string
}

func (b *blob) read(r *jsonwire.Reader) (err error) {
	b.given = true
	b.bytes, err = r.Bytes()
	return err
}

func (b *blob) readEncoding(r *jsonwire.Reader) (err error) {
	b.encoding, err = r.String()
	return err
}

// decode undoes the encoding; name is the field, for errors.
func (b *blob) decode(name string) ([]byte, error) {
	switch b.encoding {
	case "", "utf-8":
		return b.bytes, nil
	case "base64":
		out, err := base64.StdEncoding.AppendDecode(nil, b.bytes)
		if err != nil {
			return nil, badRequest("%s is not valid base64: %v", name, err)
		}
		return out, nil
	}
	return nil, badRequest("the encoding of %s must be base64 or absent", name)
}

// checkKey holds a key to the limits; a key too long is a bad request, not a large one.
func checkKey(name string, key []byte) error {
	if len(key) == 0 {
		return badRequest("%s is empty", name)
	}
	return checkKeyLen(name, len(key))
}

func checkKeyLen(name string, n int) error {
	if n > command.MaxKeyLen {
		f := badRequest("%s too long: %d bytes, at most %d", name, n, command.MaxKeyLen)
		f.numbers = []number{{"limit", command.MaxKeyLen}}
		return f
	}
	return nil
}

func checkValue(name string, value []byte) error {
	if len(value) > command.MaxValueLen {
		return tooLarge(name, command.MaxValueLen)
	}
	return nil
}
