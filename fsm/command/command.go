// Package command is the language of the Raft log: what an entry's bytes mean,
// which entries may be proposed, and what applying one answers.
//
// The package holds no state and decides nothing about the store; that is
// package fsm. Whoever proposes an entry calls Validate and Encode; whoever
// applies one calls Decode.
package command

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// FormatV1 is the first byte of every entry.
const FormatV1 = 1

// prefixLen is the format byte and the type byte.
const prefixLen = 2

// ErrUndecodable is wrapped by every error of Decode and Unmarshal: the bytes
// are not an entry that this version understands. A replica that meets one in
// its log must stop: going on without it would make it differ from the others.
var ErrUndecodable = errors.New("undecodable log entry")

// Entry is one decoded log entry; see command.proto for its bytes.
type Entry struct {
	Type Type
	// Header is nil if the entry has none; its getters allow that.
	Header *Header
	// Payload is the message named after Type, not yet decoded. It aliases the
	// bytes given to Decode.
	Payload []byte
}

// Encode makes an entry's bytes. It checks what concerns the entry as a whole:
// the idempotency key and the total size. The message's own limits are
// Validate's, which the caller has asked before.
// Errors: *LimitError, *InvalidError.
func Encode(h *Header, t Type, m proto.Message) ([]byte, error) {
	var header []byte
	if key := h.GetIdempotencyKey(); key != "" {
		if err := checkIdempotencyKey(key); err != nil {
			return nil, err
		}
		var err error
		if header, err = proto.Marshal(h); err != nil {
			return nil, fmt.Errorf("encoding header: %w", err)
		}
	}
	opts := proto.MarshalOptions{Deterministic: true, UseCachedSize: true}
	size := prefixLen + protowire.SizeVarint(uint64(len(header))) + len(header) + proto.Size(m)
	if size > MaxEntryBytes {
		return nil, &LimitError{What: "entry bytes", Limit: MaxEntryBytes, Got: size}
	}
	b := make([]byte, 0, size)
	b = append(b, FormatV1, byte(t))
	b = binary.AppendUvarint(b, uint64(len(header)))
	b = append(b, header...)
	b, err := opts.MarshalAppend(b, m)
	if err != nil {
		return nil, fmt.Errorf("encoding %v: %w", t, err)
	}
	return b, nil
}

// Decode takes an entry's bytes apart. The payload is left to Unmarshal, so
// that an entry is decoded once and by the one who needs it.
func Decode(b []byte) (Entry, error) {
	var e Entry
	if len(b) < prefixLen+1 {
		return e, fmt.Errorf("%w: %d bytes", ErrUndecodable, len(b))
	}
	if b[0] != FormatV1 {
		return e, fmt.Errorf("%w: format %d", ErrUndecodable, b[0])
	}
	e.Type = Type(b[1])
	if _, known := Type_name[int32(e.Type)]; !known || e.Type == Type_TYPE_UNSPECIFIED {
		return e, fmt.Errorf("%w: type %d", ErrUndecodable, b[1])
	}
	n, used := binary.Uvarint(b[prefixLen:])
	rest := b[prefixLen:]
	if used <= 0 || n > uint64(len(rest)-used) {
		return e, fmt.Errorf("%w: header length", ErrUndecodable)
	}
	header := rest[used : used+int(n)]
	e.Payload = rest[used+int(n):]
	if n == 0 {
		return e, nil
	}
	e.Header = new(Header)
	if err := Unmarshal(header, e.Header); err != nil {
		return e, fmt.Errorf("header: %w", err)
	}
	return e, nil
}

// Unmarshal decodes a payload. A field or a name of an enumeration that this version
// does not know is an error too: it may change what the entry means, and a replica
// that ignored it would end up with other data than one that did not.
func Unmarshal(b []byte, m proto.Message) error {
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("%w: %w", ErrUndecodable, err)
	}
	if hasUnknown(m) {
		return fmt.Errorf("%w: a field of %s is from a newer version", ErrUndecodable,
			m.ProtoReflect().Descriptor().FullName())
	}
	return nil
}

// hasUnknown looks for unknown fields, at any depth. Txn is spelled out because it
// is the hot path.
func hasUnknown(m proto.Message) bool {
	txn, ok := m.(*Txn)
	if !ok {
		return unknownIn(m.ProtoReflect())
	}
	if len(txn.ProtoReflect().GetUnknown()) > 0 {
		return true
	}
	for _, c := range txn.Compare {
		if len(c.ProtoReflect().GetUnknown()) > 0 {
			return true
		}
	}
	for _, ops := range [2][]*Op{txn.Then, txn.Else} {
		for _, op := range ops {
			if len(op.ProtoReflect().GetUnknown()) > 0 {
				return true
			}
		}
	}
	return false
}

// unknownIn looks at a message of any kind and at those inside, also for names of an
// enumeration. There are no maps (they have no order that every version would encode)
// and no lists of enumerations.
func unknownIn(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.Enum() != nil && f.Enum().Values().ByNumber(m.Get(f).Enum()) == nil:
			return true
		case f.Message() == nil || !m.Has(f):
			continue
		}
		if !f.IsList() {
			if unknownIn(m.Get(f).Message()) {
				return true
			}
			continue
		}
		list := m.Get(f).List()
		for j := range list.Len() {
			if unknownIn(list.Get(j).Message()) {
				return true
			}
		}
	}
	return false
}

func checkIdempotencyKey(key string) error {
	if len(key) > MaxIdempotencyKeyLen {
		return &LimitError{What: "idempotency key", Limit: MaxIdempotencyKeyLen, Got: len(key)}
	}
	if !utf8.ValidString(key) {
		return &InvalidError{Field: "idempotency key", Problem: "is not valid UTF-8"}
	}
	return nil
}
