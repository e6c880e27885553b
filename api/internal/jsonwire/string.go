package jsonwire

import (
	"unicode/utf16"
	"unicode/utf8"
)

// Bytes reads a string. Without escapes the result points into the document.
// Invalid UTF-8 and lone surrogates are refused, never replaced.
func (r *Reader) Bytes() ([]byte, error) {
	if r.next() != '"' {
		return nil, r.fail("a string was expected")
	}
	start := r.pos + 1
	for i := start; i < len(r.data); i++ {
		switch c := r.data[i]; {
		case c == '"':
			r.pos = i + 1
			return r.checked(start, r.data[start:i:i])
		case c == '\\':
			return r.escaped(start, i)
		case c < ' ':
			r.pos = i
			return nil, r.fail("a control character in a string must be escaped")
		}
	}
	r.pos = len(r.data)
	return nil, r.fail("the document ends inside a string")
}

// checked returns s if it is valid UTF-8; start is where it came from.
func (r *Reader) checked(start int, s []byte) ([]byte, error) {
	if utf8.Valid(s) {
		return s, nil
	}
	r.pos = start
	return nil, r.fail("a string that is not valid UTF-8: send it in base64")
}

// escaped reads the string that begins at start and has its first escape at i.
func (r *Reader) escaped(start, i int) ([]byte, error) {
	out := append(make([]byte, 0, i-start+64), r.data[start:i]...)
	for i < len(r.data) {
		c := r.data[i]
		switch {
		case c == '"':
			r.pos = i + 1
			return r.checked(start, out)
		case c < ' ':
			r.pos = i
			return nil, r.fail("a control character in a string must be escaped")
		case c != '\\':
			out = append(out, c)
			i++
		default:
			var err error
			if out, i, err = r.escape(out, i); err != nil {
				return nil, err
			}
		}
	}
	r.pos = len(r.data)
	return nil, r.fail("the document ends inside a string")
}

var plainEscapes = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// escape appends what the escape sequence at i stands for and returns the
// position behind it.
func (r *Reader) escape(out []byte, i int) ([]byte, int, error) {
	r.pos = i
	if i+1 >= len(r.data) {
		return nil, 0, r.fail("the document ends inside a string")
	}
	if c := plainEscapes[r.data[i+1]]; c != 0 {
		return append(out, c), i + 2, nil
	}
	u, ok := r.hex4(i)
	if !ok {
		return nil, 0, r.fail("an unknown escape in a string")
	}
	i += 6
	if !utf16.IsSurrogate(u) {
		return utf8.AppendRune(out, u), i, nil
	}
	low, ok := r.hex4(i)
	pair := utf16.DecodeRune(u, low)
	if !ok || pair == utf8.RuneError {
		return nil, 0, r.fail("half of a surrogate pair in a string")
	}
	return utf8.AppendRune(out, pair), i + 6, nil
}

// hex4 reads \uXXXX at i.
func (r *Reader) hex4(i int) (rune, bool) {
	if i+6 > len(r.data) || r.data[i] != '\\' || r.data[i+1] != 'u' {
		return 0, false
	}
	var u rune
	for _, c := range r.data[i+2 : i+6] {
		switch {
		case c >= '0' && c <= '9':
			u = u<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			u = u<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			u = u<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return u, true
}

// nameSet finds a name given twice: a short list first, a map for the big
// objects of a batch.
type nameSet struct {
	few  [8][]byte
	n    int
	many map[string]struct{}
}

// add reports whether name is new.
func (s *nameSet) add(name []byte) bool {
	if s.many == nil {
		for _, have := range s.few[:s.n] {
			if string(have) == string(name) {
				return false
			}
		}
		if s.n < len(s.few) {
			s.few[s.n] = name
			s.n++
			return true
		}
		s.many = make(map[string]struct{}, 64)
		for _, have := range s.few {
			s.many[string(have)] = struct{}{}
		}
	}
	if _, dup := s.many[string(name)]; dup {
		return false
	}
	s.many[string(name)] = struct{}{}
	return true
}
