package jsonwire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func parse(doc []byte) error {
	r := NewReader(doc)
	if err := r.Skip(); err != nil {
		return err
	}
	return r.End()
}

func TestReaderRefuses(t *testing.T) {
	for name, doc := range map[string]string{
		"nothing":               ``,
		"half an object":        `{"a":1`,
		"a missing colon":       `{"a" 1}`,
		"a trailing comma":      `{"a":1,}`,
		"a comma in an array":   `[1,]`,
		"trailing data":         `{} {}`,
		"a name twice":          `{"a":1,"a":2}`,
		"an escaped name twice": `{"a":1,"\u0061":2}`,
		"invalid UTF-8":         "\"\xff\"",
		"a lone surrogate":      `"\ud800"`,
		"a reversed pair":       `"\udc00\ud800"`,
		"a bad escape":          `"\x41"`,
		"a short escape":        `"\u00"`,
		"a raw control":         "\"a\nb\"",
		"an open string":        `"abc`,
		"an open escape":        `"abc\`,
		"a negative number":     `-1`,
		"a fraction":            `1.0`,
		"an exponent":           `1e3`,
		"a leading zero":        `01`,
		"a plus":                `+1`,
		"too large a number":    `18446744073709551616`,
		"a half word":           `tru`,
		"too deep":              strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1),
	} {
		if err := parse([]byte(doc)); err == nil {
			t.Errorf("%s: %q was accepted", name, doc)
		}
	}
}

func TestReaderFindsALateDuplicate(t *testing.T) {
	var doc bytes.Buffer
	doc.WriteString(`{`)
	for c := 'a'; c <= 'z'; c++ {
		doc.WriteString(`"` + string(c) + `":0,`)
	}
	if err := parse([]byte(doc.String() + `"zz":0}`)); err != nil {
		t.Fatalf("distinct names: %v", err)
	}
	if err := parse([]byte(doc.String() + `"b":0}`)); err == nil {
		t.Fatal("b was given twice and accepted")
	}
}

// FuzzReader: what the reader takes, encoding/json takes with the same meaning.
func FuzzReader(f *testing.F) {
	for _, s := range []string{
		`{"a":"b\u00e9\ud83d\ude00","c":[1,true,null]}`, `"\"\\\/\b\f\n\r\t"`, `{"":{}}`, `18446744073709551615`, " [ ] ",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if err := parse(doc); err != nil {
			return
		}
		if !json.Valid(doc) {
			t.Fatalf("%q was accepted and is not JSON", doc)
		}
		r := NewReader(doc)
		got, err := r.Bytes()
		if err != nil {
			return
		}
		var want string
		if err := json.Unmarshal(doc, &want); err != nil || want != string(got) {
			t.Fatalf("%q: read %q, encoding/json reads %q, %v", doc, got, want, err)
		}
	})
}

// FuzzAppendString: what is written is byte for byte what encoding/json writes.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "\x00\x1f\"\\/<>&", "é😀\u2028\u2029\u202a", "\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(s); err != nil {
			t.Fatal(err)
		}
		got := append(AppendString(nil, s), '\n')
		if !bytes.Equal(got, want.Bytes()) {
			t.Fatalf("%q: wrote %s, encoding/json writes %s", s, got, want.Bytes())
		}
		back, err := NewReader(got).Bytes()
		if err != nil || string(back) != s {
			t.Fatalf("%q read back as %q, %v", s, back, err)
		}
	})
}
