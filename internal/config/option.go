package config

import (
	"reflect"
	"strings"
	"time"
)

// Option is one setting and its three spellings.
//
// The YAML key follows the struct, the environment variable is in the tag (the names are older than
// the sections), and the flag is derived: "--" and the key with every dot and underscore turned into
// a dash. persistence.data_dir is therefore --persistence-data-dir; options in daily use have a short
// alias beside it (--data-dir).
type Option struct {
	Key   string // persistence.data_dir
	Env   string // KONSUL_DATA_DIR
	Flag  string // persistence-data-dir
	Alias string // data-dir, or empty
	Doc   string
	Later string // the feature this belongs to, if it is not there yet
	Kind  Kind

	field []int // path of the field in Config
}

// Kind is how an option's text is read.
type Kind string

// The kinds of options. The text is what the help shows as the flag's value.
const (
	KindString   Kind = "string"
	KindBool     Kind = "bool"
	KindInt      Kind = "int"
	KindUint     Kind = "uint"
	KindDuration Kind = "duration"
	KindSize     Kind = "size"
	KindList     Kind = "list"
)

// Options lists every option in the order of the struct.
func Options() []Option {
	return collect(reflect.TypeFor[Config](), "", nil)
}

func collect(t reflect.Type, prefix string, path []int) []Option {
	var all []Option
	for i := range t.NumField() {
		f := t.Field(i)
		key := prefix + f.Tag.Get("koanf")
		at := append(append([]int(nil), path...), i)
		if f.Type.Kind() == reflect.Struct {
			all = append(all, collect(f.Type, key+".", at)...)
			continue
		}
		all = append(all, Option{
			Key:   key,
			Env:   f.Tag.Get("env"),
			Flag:  strings.NewReplacer(".", "-", "_", "-").Replace(key),
			Alias: f.Tag.Get("alias"),
			Doc:   f.Tag.Get("doc"),
			Later: f.Tag.Get("later"),
			Kind:  kindOf(f.Type),
			field: at,
		})
	}
	return all
}

func kindOf(t reflect.Type) Kind {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return KindDuration
	case reflect.TypeFor[Size]():
		return KindSize
	case reflect.TypeFor[[]string]():
		return KindList
	}
	switch t.Kind() {
	case reflect.Bool:
		return KindBool
	case reflect.Int:
		return KindInt
	case reflect.Uint64:
		return KindUint
	case reflect.String:
		return KindString
	default:
		panic("config: no spelling for a field of type " + t.String())
	}
}

// value returns the option's field in c, settable.
func (o Option) value(c *Config) reflect.Value {
	return reflect.ValueOf(c).Elem().FieldByIndex(o.field)
}

// Get returns the option's value in c.
func (o Option) Get(c *Config) any { return o.value(c).Interface() }
