package api

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/neogan74/konsul/api/internal/jsonwire"
)

// encoding/json takes a field's name in any case, and the last of {"path":"a","PATH":"b"}. So
// what it is to fill is read here before, with names as the tags have them.

// readFields reads an object that has only fields of the struct t.
func readFields(r *jsonwire.Reader, t reflect.Type) error {
	return r.Object(func(name []byte) error {
		for _, f := range reflect.VisibleFields(t) {
			if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag != "" && tag == string(name) {
				return readValue(r, f.Type)
			}
		}
		return r.Unknown(name)
	})
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// readValue reads a value for a field of type t; whether it fits is for encoding/json to say.
func readValue(r *jsonwire.Reader, t reflect.Type) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case reflect.PointerTo(t).Implements(unmarshaler):
	case t.Kind() == reflect.Struct && r.Kind() == '{':
		return readFields(r, t)
	case t.Kind() == reflect.Slice && r.Kind() == '[':
		return r.Array(func() error { return readValue(r, t.Elem()) })
	}
	return r.Skip()
}
