package persistence

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/neogan74/konsul/internal/persistence/record"
)

// Exporter is an Engine that gives everything away at once, in the shape of the users'
// JSON: for tools and small stores. The API streams instead.
type Exporter interface {
	Engine
	// ExportData gives {"kv": {key: value}, "services": {name: data}} with all keys at one
	// version. A value is a string, or {"encoding": "base64", "value": ...}; keys that are
	// not UTF-8 are in "kv_base64", in base64; a service's data is decoded if it is JSON.
	ExportData() (map[string]any, error)
	// ImportData takes what ExportData gives, as it is or through JSON. Everything is
	// checked before anything is written, then written in batches: after an error of a
	// write some may be there. Errors: ErrBadData, those of the limits, those of BatchSet.
	ImportData(data map[string]any) error
}

// ExportData is ExportData of e, with the keys of v.
func ExportData(v *View, e Engine) (map[string]any, error) {
	kv, odd := map[string]any{}, map[string]any{}
	err := v.Scan([]byte(KVPrefix), nil, func(stored, value []byte) error {
		key, _ := UserKey(stored)
		var r record.KV
		if err := DecodeRecord(value, &r); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		if utf8.Valid(key) {
			kv[string(key)] = textOrBase64(r.Value)
		} else {
			odd[base64.StdEncoding.EncodeToString(key)] = textOrBase64(r.Value)
		}
		return nil
	})
	if err == nil {
		err = v.Whole(context.Background(), nil)
	}
	if err != nil {
		return nil, err
	}
	services, err := exportServices(e)
	if err != nil {
		return nil, err
	}
	data := map[string]any{"kv": kv, "services": services}
	if len(odd) > 0 {
		data["kv_base64"] = odd
	}
	return data, nil
}

func exportServices(e Engine) (map[string]any, error) {
	names, err := e.ListServices()
	if err != nil {
		return nil, err
	}
	services := map[string]any{}
	for _, name := range names {
		data, err := e.GetService(name)
		if errors.Is(err, ErrServiceNotFound) || errors.Is(err, ErrServiceExpired) {
			continue // it went since
		}
		if err != nil {
			return nil, err
		}
		var doc map[string]any
		if json.Unmarshal(data, &doc) == nil && doc != nil {
			services[name] = doc
		} else {
			services[name] = textOrBase64(data)
		}
	}
	return services, nil
}

func textOrBase64(b []byte) any {
	if utf8.Valid(b) {
		return string(b)
	}
	return map[string]any{"encoding": "base64", "value": base64.StdEncoding.EncodeToString(b)}
}

// ImportData is ImportData of e.
func ImportData(data map[string]any, e Engine) error {
	items, services := map[string][]byte{}, map[string][]byte{}
	for section, content := range data {
		members, ok := content.(map[string]any)
		if !ok && content != nil {
			return fmt.Errorf("%w: %s is no object", ErrBadData, section)
		}
		for name, value := range members {
			if err := importOne(section, name, value, items, services); err != nil {
				return err
			}
		}
		if section != "kv" && section != "kv_base64" && section != "services" {
			return fmt.Errorf("%w: there is no section %q", ErrBadData, section)
		}
	}
	if err := importKeys(items, e); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if err := e.SetService(name, services[name], 0); err != nil {
			return fmt.Errorf("service %q: %w", name, err)
		}
	}
	return nil
}

// importOne checks one key or service and notes it.
func importOne(section, name string, value any, items, services map[string][]byte) error {
	if section == "services" {
		data, err := importBytes(value)
		if doc, ok := value.(map[string]any); ok && (err != nil || len(doc) == 0) {
			data, err = json.Marshal(doc)
		}
		if err == nil {
			err = CheckName(name)
		}
		if err != nil {
			return fmt.Errorf("%w: service %q: %w", ErrBadData, name, err)
		}
		services[name] = data
		return nil
	}
	key := []byte(name)
	var err error
	if section == "kv_base64" {
		key, err = base64.StdEncoding.DecodeString(name)
	}
	b, verr := importBytes(value)
	if err = errors.Join(err, verr); err != nil {
		return fmt.Errorf("%w: key %q: %w", ErrBadData, name, err)
	}
	if err := errors.Join(CheckKey(key), CheckValue(b)); err != nil {
		return fmt.Errorf("key %q: %w", name, err)
	}
	items[string(key)] = b
	return nil
}

// importBytes undoes textOrBase64.
func importBytes(value any) ([]byte, error) {
	switch v := value.(type) {
	case string:
		return []byte(v), nil
	case []byte:
		return v, nil
	case map[string]any:
		text, ok := v["value"].(string)
		if v["encoding"] == "base64" && ok && len(v) == 2 {
			return base64.StdEncoding.DecodeString(text)
		}
	}
	return nil, errors.New(`it must be a string or {"encoding":"base64","value":...}`)
}

// importKeys writes in batches, in the order of keys.
func importKeys(items map[string][]byte, e Engine) error {
	batch, size := map[string][]byte{}, 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := e.BatchSet(batch)
		batch, size = map[string][]byte{}, 0
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(items)) {
		more := len(key) + len(items[key])
		if len(batch) == MaxOps || size+more > MaxEntryBytes-64*MaxOps { // 64 bytes around each
			if err := flush(); err != nil {
				return err
			}
		}
		batch[key] = items[key]
		size += more
	}
	return flush()
}

// ExportData implements Exporter.
func (s *standalone) ExportData() (map[string]any, error) {
	v, err := s.db.View()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return ExportData(v, s)
}

// ImportData implements Exporter.
func (s *standalone) ImportData(data map[string]any) error { return ImportData(data, s) }
