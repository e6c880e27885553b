package jsonwire

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// MaxDepth bounds how deep objects and arrays may nest: the API's own
// documents need 3.
const MaxDepth = 16

// A SyntaxError says what is wrong with a document and where.
type SyntaxError struct {
	Offset int    // bytes before the mistake
	Field  string // in which it is, such as checks[0].interval; "" outside of all
	Text   string // "a string was expected"
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s (at byte %d)", e.Problem(), e.Offset)
}

// Problem is the error without the offset.
func (e *SyntaxError) Problem() string {
	if e.Field == "" {
		return e.Text
	}
	return e.Field + ": " + e.Text
}

// within says in which field, or element, of what is read the mistake is.
func within(err error, where string) error {
	var s *SyntaxError
	if errors.As(err, &s) {
		if s.Field != "" && s.Field[0] != '[' {
			where += "."
		}
		s.Field = where + s.Field
	}
	return err
}

// Reader pulls values from one JSON document. After an error it is useless.
// Slices it returns may point into the document.
type Reader struct {
	data  []byte
	pos   int
	depth int
	base  int // of data in a longer document, for errors
}

// NewReader reads data, which must not change while the Reader's results are used.
func NewReader(data []byte) *Reader { return &Reader{data: data} }

func (r *Reader) fail(format string, args ...any) error {
	return &SyntaxError{Offset: r.base + r.pos, Text: fmt.Sprintf(format, args...)}
}

// next skips white space and returns the byte there, 0 at the end.
func (r *Reader) next() byte {
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\r', '\n':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

func (r *Reader) expect(c byte, where string) error {
	if got := r.next(); got != c {
		if r.pos >= len(r.data) {
			return r.fail("the document ends where %q was expected %s", c, where)
		}
		return r.fail("found %q where %q was expected %s", rune(got), c, where)
	}
	r.pos++
	return nil
}

// End refuses anything but white space after the document.
func (r *Reader) End() error {
	if r.next(); r.pos < len(r.data) {
		return r.fail("data after the document")
	}
	return nil
}

// Unknown is the error for a field the API does not have.
func (r *Reader) Unknown([]byte) error {
	return r.fail("unknown field")
}

// Null reports whether the next value is null, and takes it if so.
func (r *Reader) Null() bool {
	if r.next() == 'n' && bytes.HasPrefix(r.data[r.pos:], []byte("null")) {
		r.pos += 4
		return true
	}
	return false
}

// Kind is the first byte of the next value: '{', '[', '"', a digit or '-', 't',
// 'f', 'n'; 0 at the end.
func (r *Reader) Kind() byte { return r.next() }

func (r *Reader) enter() error {
	if r.depth++; r.depth > MaxDepth {
		return r.fail("nested deeper than %d", MaxDepth)
	}
	return nil
}

// Object calls field for every member; field must read exactly one value. A
// name given twice is refused.
func (r *Reader) Object(field func(name []byte) error) error {
	if err := r.expect('{', "at the start of an object"); err != nil {
		return err
	}
	if err := r.enter(); err != nil {
		return err
	}
	defer func() { r.depth-- }()
	if r.next() == '}' {
		r.pos++
		return nil
	}
	var names nameSet
	for {
		name, err := r.Bytes()
		if err != nil {
			return err
		}
		if !names.add(name) {
			return r.fail("field %q is given twice", clip(name))
		}
		if err := r.expect(':', "after a field's name"); err != nil {
			return err
		}
		if err := field(name); err != nil {
			return within(err, clip(name))
		}
		if r.next() == ',' {
			r.pos++
			continue
		}
		return r.expect('}', "in an object")
	}
}

// Array calls elem for every element; elem must read exactly one value.
func (r *Reader) Array(elem func() error) error {
	if err := r.expect('[', "at the start of an array"); err != nil {
		return err
	}
	if err := r.enter(); err != nil {
		return err
	}
	defer func() { r.depth-- }()
	if r.next() == ']' {
		r.pos++
		return nil
	}
	for i := 0; ; i++ {
		if err := elem(); err != nil {
			return within(err, fmt.Sprintf("[%d]", i))
		}
		if r.next() == ',' {
			r.pos++
			continue
		}
		return r.expect(']', "in an array")
	}
}

// Uint reads a whole number that fits 64 bits: no sign, fraction or exponent.
func (r *Reader) Uint() (uint64, error) {
	r.next()
	start := r.pos
	for r.pos < len(r.data) && isNumberByte(r.data[r.pos]) {
		r.pos++
	}
	lit := r.data[start:r.pos]
	n, err := strconv.ParseUint(string(lit), 10, 64)
	if err != nil || lit[0] == '+' || (len(lit) > 1 && lit[0] == '0') {
		r.pos = start
		return 0, r.fail("a whole number from 0 to 18446744073709551615 was expected")
	}
	return n, nil
}

func isNumberByte(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// Bool reads true or false.
func (r *Reader) Bool() (bool, error) {
	r.next()
	rest := r.data[r.pos:]
	switch {
	case bytes.HasPrefix(rest, []byte("true")):
		r.pos += 4
		return true, nil
	case bytes.HasPrefix(rest, []byte("false")):
		r.pos += 5
		return false, nil
	}
	return false, r.fail("true or false was expected")
}

// String reads a string as a Go string.
func (r *Reader) String() (string, error) {
	b, err := r.Bytes()
	return string(b), err
}

// clip keeps a hostile name from filling an answer or a log.
func clip(name []byte) string {
	const most = 64
	if len(name) <= most {
		return string(name)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return string(name[:cut]) + "..."
}

// Skip reads one value of any kind, numbers being whole ones, and checks it.
func (r *Reader) Skip() error {
	var err error
	switch r.Kind() {
	case '{':
		return r.Object(func([]byte) error { return r.Skip() })
	case '[':
		return r.Array(r.Skip)
	case '"':
		_, err = r.Bytes()
	case 't', 'f':
		_, err = r.Bool()
	case 'n':
		if !r.Null() {
			err = r.fail("null was expected")
		}
	default:
		_, err = r.Uint()
	}
	return err
}
