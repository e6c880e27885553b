package command

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
)

// Validate checks a message against the limits of the format and for sense. To
// be called before proposing it; nothing that passed here can fail to apply.
// Errors: *LimitError, *InvalidError.
func Validate(t Type, m proto.Message) error {
	var err error
	switch m := m.(type) {
	case *Txn:
		err = expect(t, Type_TYPE_TXN, m.validate)
	case *ClusterInit:
		err = expect(t, Type_TYPE_CLUSTER_INIT, m.validate)
	case *MemberSet:
		err = expect(t, Type_TYPE_MEMBER_SET, m.validate)
	case *MemberRemove:
		err = expect(t, Type_TYPE_MEMBER_REMOVE, m.validate)
	case *Tick:
		err = expect(t, Type_TYPE_TICK, func() error { return nil })
	case *ServiceSet:
		err = expect(t, Type_TYPE_SERVICE_SET, m.validate)
	case *ServiceDelete:
		err = expect(t, Type_TYPE_SERVICE_DELETE, m.validate)
	case *Heartbeat:
		err = expect(t, Type_TYPE_HEARTBEAT, m.validate)
	case *CheckSet:
		err = expect(t, Type_TYPE_CHECK_SET, m.validate)
	case *CheckDelete:
		err = expect(t, Type_TYPE_CHECK_DELETE, m.validate)
	case *CheckUpdate:
		err = expect(t, Type_TYPE_CHECK_UPDATE, m.validate)
	case *SessionCreate:
		err = expect(t, Type_TYPE_SESSION_CREATE, m.validate)
	case *SessionRenew:
		err = expect(t, Type_TYPE_SESSION_RENEW, m.validate)
	case *SessionDestroy:
		err = expect(t, Type_TYPE_SESSION_DESTROY, m.validate)
	case *Restore:
		err = expect(t, Type_TYPE_RESTORE, m.validate)
	default:
		err = &InvalidError{Field: "command", Problem: fmt.Sprintf("%T is not one", m)}
	}
	if err != nil {
		return err
	}
	if size := proto.Size(m); size > MaxEntryBytes {
		return &LimitError{What: "entry bytes", Limit: MaxEntryBytes, Got: size}
	}
	return nil
}

func expect(got, want Type, validate func() error) error {
	if got != want {
		return &InvalidError{Field: "command type", Problem: fmt.Sprintf("is %v but the message is for %v", got, want)}
	}
	return validate()
}

func (m *Txn) validate() error {
	if n := len(m.Then) + len(m.Else); n > MaxOps {
		return &LimitError{What: "operations", Limit: MaxOps, Got: n}
	}
	if n := len(m.Compare); n > MaxOps {
		return &LimitError{What: "compares", Limit: MaxOps, Got: n}
	}
	for i, c := range m.Compare {
		if err := c.validate(); err != nil {
			return under(err, "compare", i)
		}
	}
	for i, op := range m.Then {
		if err := op.validate(); err != nil {
			return under(err, "then", i)
		}
	}
	for i, op := range m.Else {
		if err := op.validate(); err != nil {
			return under(err, "else", i)
		}
	}
	return nil
}

func (c *Compare) validate() error {
	if c == nil {
		return &InvalidError{Field: "compare", Problem: "is missing"}
	}
	if err := checkKey(c.Key); err != nil {
		return err
	}
	if len(c.Value) > MaxValueLen {
		return &LimitError{What: "value", Limit: MaxValueLen, Got: len(c.Value)}
	}
	switch c.Operator {
	case Compare_EQUAL, Compare_NOT_EQUAL:
	case Compare_LESS, Compare_GREATER:
		if c.Target == Compare_EXISTS {
			return &InvalidError{Field: "operator", Problem: "must be equal or not equal for exists"}
		}
	default:
		return &InvalidError{Field: "operator", Problem: "is missing or unknown"}
	}
	switch c.Target {
	case Compare_VALUE, Compare_MODIFY_INDEX, Compare_CREATE_INDEX, Compare_EXISTS:
		return nil
	default:
		return &InvalidError{Field: "target", Problem: "is missing or unknown"}
	}
}

func (o *Op) validate() error {
	if o == nil {
		return &InvalidError{Field: "operation", Problem: "is missing"}
	}
	switch o.Kind {
	case Op_SET:
		if o.Session != "" {
			return &InvalidError{Field: "session", Problem: "is only for acquire and release"}
		}
		return o.validateWrite()
	case Op_ACQUIRE:
		if err := checkID("session", o.Session); err != nil {
			return err
		}
		return o.validateWrite()
	case Op_RELEASE:
		return o.validateRelease()
	case Op_GET, Op_DELETE:
		if err := o.refuse(o.Kind == Op_GET); err != nil {
			return err
		}
		return checkKey(o.Key)
	case Op_DELETE_PREFIX:
		if len(o.Key) > MaxKeyLen {
			return &LimitError{What: "prefix", Limit: MaxKeyLen, Got: len(o.Key)}
		}
		return o.refuse(true)
	default:
		return &InvalidError{Field: "kind", Problem: "is missing or unknown"}
	}
}

// validateWrite is for what writes a value.
func (o *Op) validateWrite() error {
	if len(o.Value) > MaxValueLen {
		return &LimitError{What: "value", Limit: MaxValueLen, Got: len(o.Value)}
	}
	if o.HasValue {
		return &InvalidError{Field: "has_value", Problem: "is only for release"}
	}
	if err := checkTTL("ttl", o.Ttl); err != nil {
		return err
	}
	return checkKey(o.Key)
}

func (o *Op) validateRelease() error {
	if err := checkID("session", o.Session); err != nil {
		return err
	}
	switch {
	case o.Ttl != 0:
		return &InvalidError{Field: "ttl", Problem: "is only for set and acquire"}
	case len(o.Value) > MaxValueLen:
		return &LimitError{What: "value", Limit: MaxValueLen, Got: len(o.Value)}
	case !o.HasValue && (len(o.Value) > 0 || o.Flags != 0):
		return &InvalidError{Field: "value or flags", Problem: "are given to release, but has_value is not"}
	}
	return checkKey(o.Key)
}

// refuse complains about fields that the operation would ignore: whoever set
// them meant something that is not going to happen.
func (o *Op) refuse(cas bool) error {
	switch {
	case len(o.Value) > 0 || o.HasValue:
		return &InvalidError{Field: "value", Problem: "is only for set, acquire and release"}
	case o.Flags != 0:
		return &InvalidError{Field: "flags", Problem: "are only for set, acquire and release"}
	case o.Ttl != 0:
		return &InvalidError{Field: "ttl", Problem: "is only for set and acquire"}
	case o.Session != "":
		return &InvalidError{Field: "session", Problem: "is only for acquire and release"}
	case cas && o.Cas != nil:
		return &InvalidError{Field: "cas", Problem: "is not for get and delete_prefix"}
	}
	return nil
}

func (m *ClusterInit) validate() error { return checkName("cluster_id", m.ClusterId, MaxNodeIDLen) }

func (m *MemberSet) validate() error {
	if err := checkName("id", m.Id, MaxNodeIDLen); err != nil {
		return err
	}
	if err := checkName("raft_address", m.RaftAddress, MaxAddressLen); err != nil {
		return err
	}
	if m.ApiAddress != "" { // "" = a member that does not serve HTTP, or not yet
		if err := checkName("api_address", m.ApiAddress, MaxAddressLen); err != nil {
			return err
		}
	}
	if m.Incarnation == "" {
		return nil
	}
	return checkName("incarnation", m.Incarnation, MaxNodeIDLen)
}

func (m *MemberRemove) validate() error { return checkName("id", m.Id, MaxNodeIDLen) }

func checkKey(key []byte) error {
	if len(key) == 0 {
		return &InvalidError{Field: "key", Problem: "is empty"}
	}
	if len(key) > MaxKeyLen {
		return &LimitError{What: "key", Limit: MaxKeyLen, Got: len(key)}
	}
	return nil
}

func checkName(field, s string, limit int) error {
	switch {
	case s == "":
		return &InvalidError{Field: field, Problem: "is empty"}
	case len(s) > limit:
		return &LimitError{What: field, Limit: limit, Got: len(s)}
	case !utf8.ValidString(s):
		return &InvalidError{Field: field, Problem: "is not valid UTF-8"}
	}
	return nil
}

// under says where in a list an error is.
func under(err error, list string, i int) error {
	where := fmt.Sprintf("%s[%d].", list, i)
	var limit *LimitError
	var invalid *InvalidError
	switch {
	case errors.As(err, &limit):
		limit.What = strings.TrimSuffix(where+limit.What, ".")
	case errors.As(err, &invalid):
		invalid.Field = strings.TrimSuffix(where+invalid.Field, ".")
	}
	return err
}
