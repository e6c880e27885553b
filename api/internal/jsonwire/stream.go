package jsonwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// streamBuffer is the window that a Stream begins with, in bytes; it grows with
// the longest value, up to the Stream's limit.
const streamBuffer = 64 << 10

// A TooLongError says that one value of a stream is longer than the reader takes.
type TooLongError struct {
	Offset int64 // bytes before the value
	Limit  int
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("a value longer than %d bytes (at byte %d)", e.Limit, e.Offset)
}

// Stream pulls the members of objects from a document of any length, one at a
// time, in the memory of the largest. It is as strict as Reader, but that it cannot
// find a name given twice in an object that it walks. After an error it is useless.
type Stream struct {
	in    io.Reader
	limit int
	buf   []byte
	pos   int   // of the next byte in buf
	base  int64 // of buf[0] in the document
	lines int   // line ends before buf[0]
	depth int
	err   error // of in; io.EOF at the end
}

// NewStream reads from in; a single name or value may have limit bytes as JSON.
// Errors of in come back as they are.
func NewStream(in io.Reader, limit int) *Stream {
	return &Stream{in: in, limit: limit, buf: make([]byte, 0, min(streamBuffer, limit+1))}
}

// Offset is how many bytes of the document have been used.
func (s *Stream) Offset() int64 { return s.base + int64(s.pos) }

// Line is the line, from 1, of a place that the Stream has just read, or is about to.
func (s *Stream) Line(offset int64) int {
	n := min(max(offset-s.base, 0), int64(len(s.buf)))
	return 1 + s.lines + bytes.Count(s.buf[:n], []byte{'\n'})
}

// fill reads more behind what is there, making room by forgetting what is before keep.
func (s *Stream) fill(keep int) error {
	if s.err != nil {
		return s.err
	}
	if len(s.buf) == cap(s.buf) {
		if keep > 0 {
			s.lines += bytes.Count(s.buf[:keep], []byte{'\n'})
			s.base += int64(keep)
			s.buf = append(s.buf[:0], s.buf[keep:]...)
			s.pos -= keep
		} else {
			bigger := make([]byte, len(s.buf), 2*cap(s.buf))
			copy(bigger, s.buf)
			s.buf = bigger
		}
	}
	for range 100 {
		n, err := s.in.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		s.err = err
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	s.err = io.ErrNoProgress
	return s.err
}

func (s *Stream) fail(format string, args ...any) error {
	if s.err != nil && !errors.Is(s.err, io.EOF) {
		return s.err
	}
	return &SyntaxError{Offset: int(s.Offset()), Text: fmt.Sprintf(format, args...)}
}

// next skips white space and returns the byte there, 0 at the end.
func (s *Stream) next() byte {
	for {
		for s.pos < len(s.buf) {
			switch c := s.buf[s.pos]; c {
			case ' ', '\t', '\r', '\n':
				s.pos++
			default:
				return c
			}
		}
		if s.fill(s.pos) != nil {
			return 0
		}
	}
}

func (s *Stream) expect(c byte, where string) error {
	got := s.next()
	if got == c {
		s.pos++
		return nil
	}
	if s.pos >= len(s.buf) {
		return s.fail("the document ends where %q was expected %s", c, where)
	}
	return s.fail("found %q where %q was expected %s", rune(got), c, where)
}

// Object calls member for every member; it must read exactly one value, with
// Object or Value. name is valid until then.
func (s *Stream) Object(member func(name []byte) error) error {
	if err := s.expect('{', "at the start of an object"); err != nil {
		return err
	}
	if s.depth++; s.depth > MaxDepth {
		return s.fail("nested deeper than %d", MaxDepth)
	}
	defer func() { s.depth-- }()
	if s.next() == '}' {
		s.pos++
		return nil
	}
	for {
		r, err := s.Value()
		if err != nil {
			return err
		}
		name, err := r.Bytes()
		if err != nil {
			return err
		}
		if err := s.colon(&name); err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
		if s.next() == ',' {
			s.pos++
			continue
		}
		return s.expect('}', "in an object")
	}
}

// colon reads the colon behind a name. Usually it is in the window; if the window
// must move for it, the name is saved first.
func (s *Stream) colon(name *[]byte) error {
	if s.pos >= len(s.buf) || s.buf[s.pos] != ':' {
		*name = append([]byte(nil), *name...)
	}
	return s.expect(':', "after a field's name")
}

// Value returns a reader of the next value, which is whole in memory until the
// Stream is used again. Only the end of the value is looked for here; the reader
// checks it, and must read all of it (Reader.End).
func (s *Stream) Value() (*Reader, error) {
	if s.next() == 0 && s.pos >= len(s.buf) {
		return nil, s.fail("the document ends where a value was expected")
	}
	start := s.pos
	scan := valueScanner{}
	for i := start; ; i++ {
		if i == len(s.buf) {
			if i-start > s.limit {
				return nil, &TooLongError{Offset: s.base + int64(start), Limit: s.limit}
			}
			had := s.base
			err := s.fill(start)
			moved := int(s.base - had)
			i, start = i-moved, start-moved
			if err != nil {
				if !errors.Is(err, io.EOF) {
					return nil, err
				}
				return s.take(start, i), nil // cut off: the reader says where
			}
		}
		if end, behind := scan.step(s.buf[i]); end {
			if behind {
				i++
			}
			if i-start > s.limit {
				return nil, &TooLongError{Offset: s.base + int64(start), Limit: s.limit}
			}
			return s.take(start, i), nil
		}
	}
}

func (s *Stream) take(start, end int) *Reader {
	s.pos = end
	r := NewReader(s.buf[start:end:end])
	r.base = int(s.base) + start
	r.depth = s.depth
	return r
}

// End refuses anything but white space after the document.
func (s *Stream) End() error {
	if s.next(); s.pos < len(s.buf) {
		return s.fail("data after the document")
	}
	if s.err != nil && !errors.Is(s.err, io.EOF) {
		return s.err
	}
	return nil
}

// valueScanner finds the end of a value, without judging it.
type valueScanner struct {
	depth           int
	text, escaped   bool
	plain, anything bool
}

// step takes the next byte; end says that the value ends, behind that it does so
// behind this byte and not before it.
func (v *valueScanner) step(c byte) (end, behind bool) {
	first := !v.anything
	v.anything = true
	switch {
	case v.text:
		switch {
		case v.escaped:
			v.escaped = false
		case c == '\\':
			v.escaped = true
		case c == '"':
			v.text = false
			return v.depth == 0, true
		}
		return false, false
	case v.plain:
		switch c {
		case ' ', '\t', '\r', '\n', ',', ':', ']', '}', '{', '[', '"':
			return true, false
		}
		return false, false
	}
	switch c {
	case '"':
		v.text = true
	case '{', '[':
		v.depth++
	case '}', ']':
		if first {
			return true, true // not a value: the reader says so
		}
		v.depth--
		return v.depth == 0, true
	default:
		v.plain = v.depth == 0
	}
	return false, false
}
