package jsonwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// walk reads a document of objects down to depth, as the names and values it has.
func walk(s *Stream, depth int) (found []string, err error) {
	err = s.Object(func(name []byte) error {
		key := string(name)
		if depth > 1 {
			inner, err := walk(s, depth-1)
			found = append(append(found, key+"{"), append(inner, "}")...)
			return err
		}
		r, err := s.Value()
		if err != nil {
			return err
		}
		raw := string(r.data)
		if err := r.Skip(); err != nil {
			return err
		}
		found = append(found, key+"="+raw)
		return r.End()
	})
	return found, err
}

func TestStreamReadsInAnyPieces(t *testing.T) {
	doc := " { \"kv\" :{\n\"a\":\"1\",\"b\\n\" : {\"value\":\"\\\"}{\\\\\",\"n\":12} , \"c\":[1,[2]],\n\"d\":true},\"e\":{ } ,\"f\":{\"x\":null}} \n"
	want := `[kv{ a="1" b
={"value":"\"}{\\","n":12} c=[1,[2]] d=true } e{ } f{ x=null }]`
	for name, in := range map[string]io.Reader{
		"whole":        strings.NewReader(doc),
		"byte by byte": iotest.OneByteReader(strings.NewReader(doc)),
		"end with it":  iotest.DataErrReader(strings.NewReader(doc)),
	} {
		s := NewStream(in, 64)
		got, err := walk(s, 2)
		if err == nil {
			err = s.End()
		}
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v, want %s", name, got, err, want)
		}
	}
}

func TestStreamRefuses(t *testing.T) {
	for name, doc := range map[string]string{
		"nothing":             ``,
		"no object":           `[]`,
		"a value cut off":     `{"a":{"b":"c`,
		"an object cut off":   `{"a":{"b":"c"`,
		"a name cut off":      `{"a":{"b`,
		"a missing colon":     `{"a":{"b" "c"}}`,
		"a missing value":     `{"a":{"b":}}`,
		"a trailing comma":    `{"a":{"b":1,}}`,
		"a missing comma":     `{"a":{"b":1 "c":2}}`,
		"data behind":         `{"a":{}} x`,
		"a bracket too many":  `{"a":{"b":1]}}`,
		"a wrong bracket":     `{"a":{"b":[1}}}`,
		"a raw control":       "{\"a\":{\"b\":\"\n\"}}",
		"invalid UTF-8":       "{\"a\":{\"b\":\"\xff\"}}",
		"invalid UTF-8 names": "{\"a\":{\"\xff\":\"\"}}",
		"a half word":         `{"a":{"b":tru}}`,
		"a deep value":        `{"a":{"b":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}}`,
	} {
		s := NewStream(iotest.HalfReader(strings.NewReader(doc)), 64)
		_, err := walk(s, 2)
		if err == nil {
			err = s.End()
		}
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%s: %q: %v, want a SyntaxError", name, doc, err)
		}
	}
}

func TestStreamSaysWhere(t *testing.T) {
	doc := "{\"kv\":{\n" + strings.Repeat("\"k\":\"v\",\n", 50000) + "\"bad\":nul}}"
	s := NewStream(strings.NewReader(doc), 1000)
	_, err := walk(s, 2)
	var syntax *SyntaxError
	if !errors.As(err, &syntax) || syntax.Offset != strings.Index(doc, "nul") || s.Line(int64(syntax.Offset)) != 50002 {
		t.Fatalf("%v in line %d, want byte %d in line 50002", err, s.Line(int64(syntax.Offset)), strings.Index(doc, "nul"))
	}
}

func TestStreamBoundsAValue(t *testing.T) {
	for _, doc := range []string{
		`{"a":{"b":"` + strings.Repeat("x", 200<<10) + `"}}`,
		`{"a":{"b":"` + strings.Repeat("x", 200<<10),
		`{"a":{"b":` + strings.Repeat("[", 200<<10),
	} {
		s := NewStream(strings.NewReader(doc), 100<<10)
		_, err := walk(s, 2)
		var long *TooLongError
		if !errors.As(err, &long) || long.Offset != 10 || cap(s.buf) > 256<<10 {
			t.Errorf("%v with a buffer of %d", err, cap(s.buf))
		}
	}
}

func TestStreamPassesErrorsOn(t *testing.T) {
	broken := errors.New("broken")
	for cut := range 20 {
		doc := `{"a":{"b":"cdefgh"}}`
		s := NewStream(io.MultiReader(strings.NewReader(doc[:cut]), iotest.ErrReader(broken)), 64)
		if _, err := walk(s, 2); !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", cut, err)
		}
	}
}

// FuzzStream: a Stream takes what a Reader takes, and reads the same.
func FuzzStream(f *testing.F) {
	for _, s := range []string{`{"a":{"b":"c","d":[1,{"e":null}]}}`, `{"a":{}}`, ` {"a" : { "b\u00e9" : "\\\"" } } `, `{"a":{"b":1 }`} {
		f.Add([]byte(s), byte(3))
	}
	f.Fuzz(func(t *testing.T, doc []byte, step byte) {
		r := NewReader(doc)
		var want []string
		wantErr := r.Object(func(a []byte) error {
			want = append(want, string(a)+"{")
			err := r.Object(func(b []byte) error {
				r.next()
				start := r.pos
				err := r.Skip()
				want = append(want, string(b)+"="+string(doc[start:r.pos]))
				return err
			})
			want = append(want, "}")
			return err
		})
		if wantErr == nil {
			wantErr = r.End()
		}
		s := NewStream(&steps{bytes.NewReader(doc), int(step)%7 + 1}, 1<<20)
		got, err := walk(s, 2)
		if err == nil {
			err = s.End()
		}
		switch {
		case wantErr != nil && strings.Contains(wantErr.Error(), "given twice"): // a Stream cannot know
		case (err == nil) != (wantErr == nil):
			t.Fatalf("%q: %v, the Reader says %v", doc, err, wantErr)
		case err == nil && fmt.Sprint(got) != fmt.Sprint(want):
			t.Fatalf("%q: %q, the Reader reads %q", doc, got, want)
		}
	})
}

// steps reads n bytes at a time.
type steps struct {
	r io.Reader
	n int
}

func (s *steps) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.n)]) }
