package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// MaxKeyLen is the length of the longest key, in bytes.
const MaxKeyLen = 4096

// Entry is a key with everything kept about it.
type Entry struct {
	Key   string
	Value []byte
	// CreateIndex and ModifyIndex are the Raft indexes of the entries that created the
	// key and that wrote it last.
	CreateIndex, ModifyIndex uint64
	// Flags is the client's number.
	Flags uint64
	// LockIndex is the Raft index at which a session acquired the key last: a fencing
	// token. Session is who holds it, "" = nobody.
	LockIndex uint64
	Session   string
	// ExpiresIn is how long the key still lives; 0 = until it is deleted.
	ExpiresIn time.Duration
}

// entryJSON is an entry as the HTTP API writes it.
type entryJSON struct {
	Key         string   `json:"key"`
	KeyEncoding string   `json:"key_encoding,omitempty"`
	Value       string   `json:"value"`
	Encoding    string   `json:"encoding,omitempty"`
	CreateIndex uint64   `json:"create_index"`
	ModifyIndex uint64   `json:"modify_index"`
	Flags       uint64   `json:"flags"`
	LockIndex   uint64   `json:"lock_index,omitempty"`
	Session     string   `json:"session,omitempty"`
	ExpiresIn   duration `json:"expires_in,omitempty"`
}

// MarshalJSON writes the entry as the HTTP API does: a value that is not UTF-8 is
// base64, and "encoding" says so.
func (e Entry) MarshalJSON() ([]byte, error) {
	value, encoding := encodeText(e.Value)
	key, keyEncoding := encodeText([]byte(e.Key))
	return marshalPlain(entryJSON{key, keyEncoding, value, encoding,
		e.CreateIndex, e.ModifyIndex, e.Flags, e.LockIndex, e.Session, duration(e.ExpiresIn)})
}

// marshalPlain leaves <, > and & to the encoder around it.
func marshalPlain(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return out.Bytes(), err
}

// UnmarshalJSON reads what MarshalJSON writes.
func (e *Entry) UnmarshalJSON(b []byte) error {
	var j entryJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	key, err := decodeText(j.Key, j.KeyEncoding)
	if err != nil {
		return fmt.Errorf("decoding the key: %w", err)
	}
	value, err := decodeText(j.Value, j.Encoding)
	if err != nil {
		return fmt.Errorf("decoding the value of %q: %w", key, err)
	}
	*e = Entry{string(key), value, j.CreateIndex, j.ModifyIndex, j.Flags, j.LockIndex, j.Session, time.Duration(j.ExpiresIn)}
	return nil
}

// encodeText is how bytes go into JSON: as they are if they are UTF-8, else in base64.
func encodeText(b []byte) (s, encoding string) {
	if utf8.Valid(b) {
		return string(b), ""
	}
	return base64.StdEncoding.EncodeToString(b), "base64"
}

func decodeText(s, encoding string) ([]byte, error) {
	switch encoding {
	case "":
		return []byte(s), nil
	case "base64":
		return base64.StdEncoding.DecodeString(s)
	}
	return nil, fmt.Errorf("unknown encoding %q", encoding)
}

// textValue is a value inside a map: a string, or {"encoding":"base64","value":...}.
type textValue []byte

func (v textValue) MarshalJSON() ([]byte, error) {
	s, encoding := encodeText(v)
	if encoding == "" {
		return json.Marshal(s)
	}
	return json.Marshal(map[string]string{"value": s, "encoding": encoding})
}

func (v *textValue) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*v = textValue(s)
		return nil
	}
	var o struct{ Value, Encoding string }
	if err := json.Unmarshal(b, &o); err != nil {
		return err
	}
	value, err := decodeText(o.Value, o.Encoding)
	*v = value
	return err
}

// checkKey refuses what no server takes, before a request with another meaning is sent
// (an empty key would be the whole collection).
func checkKey(key string) error {
	if key == "" {
		return badRequest("a key has at least one byte")
	}
	if len(key) > MaxKeyLen {
		return badRequest("the key has %d bytes, at most %d are allowed", len(key), MaxKeyLen)
	}
	return nil
}

// keyPath is the path of a key: every byte percent-encoded that is neither unreserved
// nor '/'.
func keyPath(key string) string {
	return "/kv/" + escape(key, true)
}

// escape percent-encodes; slash says whether '/' stays.
func escape(s string, slash bool) string {
	const hex = "0123456789ABCDEF"
	out := make([]byte, 0, len(s)+len(s)/4)
	for i := range len(s) {
		b := s[i]
		if unreserved(b) || slash && b == '/' {
			out = append(out, b)
			continue
		}
		out = append(out, '%', hex[b>>4], hex[b&15])
	}
	return string(out)
}

// unreserved is RFC 3986, section 2.3.
func unreserved(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' ||
		b == '-' || b == '.' || b == '_' || b == '~'
}
