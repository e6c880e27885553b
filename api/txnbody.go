package api

import (
	"fmt"
	"strconv"

	"github.com/neogan74/konsul/api/internal/jsonwire"
	"github.com/neogan74/konsul/fsm/command"
)

// readTxn reads the body of POST /txn.
func (c *call) readTxn() (*command.Txn, error) {
	r, err := c.readJSON("request", maxTxnBody)
	if err != nil {
		return nil, err
	}
	txn := new(command.Txn)
	err = r.Object(func(name []byte) (err error) {
		switch string(name) {
		case "compare":
			txn.Compare, err = readList(r, "compare", readCompare)
		case "then":
			txn.Then, err = readList(r, "then", readOp)
		case "else":
			txn.Else, err = readList(r, "else", readOp)
		default:
			return r.Unknown(name)
		}
		return err
	})
	if err == nil {
		err = r.End()
	}
	if err != nil {
		return nil, err
	}
	if len(txn.Then)+len(txn.Else)+len(txn.Compare) == 0 {
		return nil, badRequest("the transaction is empty")
	}
	if len(txn.Then)+len(txn.Else) > command.MaxOps {
		return nil, tooLarge("number of operations", command.MaxOps)
	}
	return txn, nil
}

// readList reads an array of at most MaxOps elements; name and position go into errors.
func readList[T any](r *jsonwire.Reader, name string, read func(*jsonwire.Reader, string) (T, error)) (list []T, err error) {
	err = r.Array(func() error {
		if len(list) == command.MaxOps {
			return tooLarge("number of operations", command.MaxOps)
		}
		v, err := read(r, fmt.Sprintf("%s[%d]", name, len(list)))
		list = append(list, v)
		return err
	})
	return list, err
}

// operand is what operations and compares have in common.
type operand struct {
	key, value blob
	op, target string
	number     uint64
	truth      bool
	kind       byte // of the value: 's'tring, 'n'umber, 'b'ool; 0 = absent
	cas        *uint64
	flags      uint64
	ttl        int64
	session    string
}

func (o *operand) readValue(r *jsonwire.Reader) (err error) {
	switch k := r.Kind(); k {
	case 't', 'f':
		o.kind = 'b'
		o.truth, err = r.Bool()
	case '"':
		o.kind = 's'
		err = o.value.read(r)
	default:
		o.kind = 'n'
		o.number, err = r.Uint()
	}
	return err
}

// common reads a field that both have; handled is false if it is another one.
func (o *operand) common(r *jsonwire.Reader, name []byte) (handled bool, err error) {
	switch string(name) {
	case "key":
		err = o.key.read(r)
	case "key_encoding":
		err = o.key.readEncoding(r)
	case "op":
		o.op, err = r.String()
	case "value":
		err = o.readValue(r)
	case "encoding":
		err = o.value.readEncoding(r)
	default:
		return false, nil
	}
	return true, err
}

func (o *operand) decodeKey(where string) ([]byte, error) {
	key, err := o.key.decode(where + ".key")
	if err != nil {
		return nil, err
	}
	return key, checkKey(where+".key", key)
}

// decodeValue is the value if it is a string.
func (o *operand) decodeValue(where string) ([]byte, error) {
	if o.kind != 's' {
		return nil, badRequest("%s.value must be a string", where)
	}
	value, err := o.value.decode(where + ".value")
	if err != nil {
		return nil, err
	}
	return value, checkValue(where+".value", value)
}

func readOp(r *jsonwire.Reader, where string) (*command.Op, error) {
	var o operand
	err := r.Object(func(name []byte) error {
		if handled, err := o.common(r, name); handled {
			return err
		}
		var err error
		switch string(name) {
		case "cas":
			o.cas = new(uint64)
			*o.cas, err = r.Uint()
		case "flags":
			o.flags, err = r.Uint()
		case "ttl":
			o.ttl, err = readDuration(r, where+".ttl")
		case "session":
			o.session, err = r.String()
		default:
			return r.Unknown(name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return o.toOp(where)
}

func (o *operand) toOp(where string) (*command.Op, error) {
	kind, ok := kinds[o.op]
	if !ok {
		return nil, badRequest("%s.op must be set, get, delete, delete_prefix, acquire or release", where)
	}
	key, err := o.decodeKey(where)
	if err != nil {
		return nil, err
	}
	op := &command.Op{Kind: kind, Key: key, Flags: o.flags, Cas: o.cas, Ttl: o.ttl, Session: o.session}
	switch {
	case kind == command.Op_SET, kind == command.Op_ACQUIRE:
		op.Value, err = o.decodeValue(where)
	case kind == command.Op_RELEASE && o.kind != 0:
		op.HasValue = true
		op.Value, err = o.decodeValue(where)
	case o.kind != 0:
		err = badRequest("%s.value is only for set, acquire and release", where)
	}
	return op, err
}

func readCompare(r *jsonwire.Reader, where string) (*command.Compare, error) {
	var o operand
	err := r.Object(func(name []byte) (err error) {
		if handled, err := o.common(r, name); handled {
			return err
		}
		if string(name) != "target" {
			return r.Unknown(name)
		}
		o.target, err = r.String()
		return err
	})
	if err != nil {
		return nil, err
	}
	return o.toCompare(where)
}

func (o *operand) toCompare(where string) (*command.Compare, error) {
	target, ok := targets[o.target]
	if !ok {
		return nil, badRequest("%s.target must be value, modify_index, create_index or exists", where)
	}
	operator, ok := operators[o.op]
	if !ok {
		return nil, badRequest("%s.op must be =, !=, < or >", where)
	}
	key, err := o.decodeKey(where)
	if err != nil {
		return nil, err
	}
	cmp := &command.Compare{Key: key, Target: target, Operator: operator}
	switch target {
	case command.Compare_VALUE:
		cmp.Value, err = o.decodeValue(where)
	case command.Compare_EXISTS:
		cmp.Exists, err = o.asBool(where)
	default:
		cmp.Number, err = o.asNumber(where)
	}
	return cmp, err
}

// asNumber takes 7 and "7".
func (o *operand) asNumber(where string) (uint64, error) {
	switch o.kind {
	case 'n':
		return o.number, nil
	case 's':
		if n, err := strconv.ParseUint(string(o.value.bytes), 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, badRequest("%s.value must be a whole number", where)
}

// asBool takes true and "true".
func (o *operand) asBool(where string) (bool, error) {
	text := string(o.value.bytes)
	switch {
	case o.kind == 'b':
		return o.truth, nil
	case o.kind == 's' && (text == "true" || text == "false"):
		return text == "true", nil
	}
	return false, badRequest("%s.value must be true or false", where)
}
