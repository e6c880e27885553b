package command_test

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
)

// typeOf is the type of entry that a message belongs to.
func typeOf(m proto.Message) command.Type {
	for typ, of := range messages() {
		if of.ProtoReflect().Descriptor() == m.ProtoReflect().Descriptor() {
			return typ
		}
	}
	return 0 // it is none
}

func service(change func(*command.ServiceSet)) *command.ServiceSet {
	s := &command.ServiceSet{Name: "web", Id: "web-1", Node: "n1", Address: "10.0.0.1", Port: 80, Ttl: int64(time.Second),
		Tags: []string{"t"}, Meta: []*command.Pair{{Key: "a", Value: "1"}, {Key: "b"}}}
	change(s)
	return s
}

func check(change func(*command.Check)) *command.CheckSet {
	c := &command.Check{Id: "c", Kind: command.Check_HTTP, Target: "http://h/", Interval: int64(10 * time.Second), Timeout: int64(time.Second)}
	change(c)
	return &command.CheckSet{Node: "n1", Check: c}
}

func TestValidateRegistry(t *testing.T) {
	long := strings.Repeat("n", 128)
	type cases map[string]proto.Message
	for name, m := range (cases{
		"a service":       service(func(*command.ServiceSet) {}),
		"the least":       &command.ServiceSet{Name: "a", Id: "b"},
		"long names":      service(func(s *command.ServiceSet) { s.Name, s.Id, s.Node = long, long, long }),
		"all of a name":   service(func(s *command.ServiceSet) { s.Name = "aZ09._-" }),
		"the longest ttl": service(func(s *command.ServiceSet) { s.Ttl = int64(command.MaxTTL) }),
		"http":            check(func(*command.Check) {}),
		"https":           check(func(c *command.Check) { c.Target = "https://[::1]:8443/x?y" }),
		"tcp":             check(func(c *command.Check) { c.Kind, c.Target = command.Check_TCP, "[::1]:80" }),
		"ttl": check(func(c *command.Check) {
			proto.Reset(c)
			c.Id, c.Kind, c.Ttl = "c", command.Check_TTL, int64(time.Second)
		}),
		"a session":       &command.SessionCreate{Id: "s", Ttl: int64(command.MinTTL), LockDelay: int64(time.Minute)},
		"output of 4 KiB": &command.CheckUpdate{Node: "n", Id: "c", Status: command.Check_PASSING, Output: strings.Repeat("x", 4096)},
	}) {
		if err := command.Validate(typeOf(m), m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, m := range (cases{
		"no name":          service(func(s *command.ServiceSet) { s.Name = "" }),
		"no id":            service(func(s *command.ServiceSet) { s.Id = "" }),
		"a slash":          service(func(s *command.ServiceSet) { s.Name = "a/b" }),
		"a letter":         service(func(s *command.ServiceSet) { s.Id = "ü" }),
		"a long name":      service(func(s *command.ServiceSet) { s.Name = long + "n" }),
		"a node":           service(func(s *command.ServiceSet) { s.Node = "n/1" }),
		"a long address":   service(func(s *command.ServiceSet) { s.Address = strings.Repeat("a", 256) }),
		"bytes as address": service(func(s *command.ServiceSet) { s.Address = "\xff" }),
		"port 65536":       service(func(s *command.ServiceSet) { s.Port = 65536 }),
		"65 tags":          service(func(s *command.ServiceSet) { s.Tags = make([]string, 65) }),
		"an empty tag":     service(func(s *command.ServiceSet) { s.Tags = []string{""} }),
		"a long tag":       service(func(s *command.ServiceSet) { s.Tags = []string{long + "n"} }),
		"meta not sorted":  service(func(s *command.ServiceSet) { s.Meta[0], s.Meta[1] = s.Meta[1], s.Meta[0] }),
		"meta twice":       service(func(s *command.ServiceSet) { s.Meta[1] = s.Meta[0] }),
		"no pair":          service(func(s *command.ServiceSet) { s.Meta[1] = nil }),
		"a long value":     service(func(s *command.ServiceSet) { s.Meta[0].Value = strings.Repeat("v", 1025) }),
		"a negative ttl":   service(func(s *command.ServiceSet) { s.Ttl = -1 }),
		"a short ttl":      service(func(s *command.ServiceSet) { s.Ttl = int64(command.MinTTL) - 1 }),
		"a long ttl":       service(func(s *command.ServiceSet) { s.Ttl = int64(command.MaxTTL) + 1 }),
		"64 KiB of data":   service(func(s *command.ServiceSet) { s.Data = make([]byte, 64<<10) }),
		"no check":         service(func(s *command.ServiceSet) { s.Checks = []*command.Check{nil} }),
		"17 checks":        service(func(s *command.ServiceSet) { s.Checks = make([]*command.Check, 17) }),
		"a check twice": service(func(s *command.ServiceSet) {
			c := check(func(*command.Check) {}).Check
			s.Checks = []*command.Check{c, c}
		}),
		"no kind":            check(func(c *command.Check) { c.Kind = 0 }),
		"an unknown status":  check(func(c *command.Check) { c.Status = 4 }),
		"ftp":                check(func(c *command.Check) { c.Target = "ftp://h/" }),
		"no host":            check(func(c *command.Check) { c.Target = "http:///x" }),
		"no url":             check(func(c *command.Check) { c.Target = "://" }),
		"no target":          check(func(c *command.Check) { c.Target = "" }),
		"no port":            check(func(c *command.Check) { c.Kind, c.Target = command.Check_TCP, "host" }),
		"port 0":             check(func(c *command.Check) { c.Kind, c.Target = command.Check_TCP, "host:0" }),
		"port http":          check(func(c *command.Check) { c.Kind, c.Target = command.Check_TCP, "host:http" }),
		"a short interval":   check(func(c *command.Check) { c.Interval = int64(time.Second) - 1 }),
		"a long interval":    check(func(c *command.Check) { c.Interval = int64(24*time.Hour) + 1 }),
		"timeout > interval": check(func(c *command.Check) { c.Timeout = c.Interval + 1 }),
		"timeout > 1m":       check(func(c *command.Check) { c.Interval, c.Timeout = int64(time.Hour), int64(time.Minute)+1 }),
		"no timeout":         check(func(c *command.Check) { c.Timeout = 0 }),
		"http with ttl":      check(func(c *command.Check) { c.Ttl = int64(time.Second) }),
		"ttl with target":    check(func(c *command.Check) { c.Kind, c.Ttl = command.Check_TTL, int64(time.Second) }),
		"ttl without":        check(func(c *command.Check) { c.Kind = command.Check_TTL }),
		"passing_after 101":  check(func(c *command.Check) { c.PassingAfter = 101 }),
		"check of nobody":    &command.CheckSet{Node: "n1"},
		"check of no node":   &command.CheckSet{Check: check(func(*command.Check) {}).Check},
		"update of nobody":   &command.CheckUpdate{Id: "c", Status: command.Check_PASSING},
		"update of two":      &command.CheckUpdate{Node: "n", Service: "s", Instance: "i", Id: "c", Status: command.Check_PASSING},
		"update to nothing":  &command.CheckUpdate{Node: "n", Id: "c"},
		"output of 4097":     &command.CheckUpdate{Node: "n", Id: "c", Status: command.Check_PASSING, Output: strings.Repeat("x", 4097)},
		"heartbeat of none":  &command.Heartbeat{Name: "web"},
		"delete of none":     &command.ServiceDelete{},
		"no session id":      &command.SessionCreate{},
		"a session's name":   &command.SessionCreate{Id: "s", Name: "a b"},
		"a lock delay":       &command.SessionCreate{Id: "s", LockDelay: -1},
		"a long lock delay":  &command.SessionCreate{Id: "s", LockDelay: int64(command.MaxLockDelay) + 1},
		"a behavior":         &command.SessionCreate{Id: "s", Behavior: 2},
		"renewal of none":    &command.SessionRenew{},
		"destroy of none":    &command.SessionDestroy{},
		"set with session":   txn(&command.Op{Kind: command.Op_SET, Key: []byte("k"), Session: "s"}),
		"set has value":      txn(&command.Op{Kind: command.Op_SET, Key: []byte("k"), HasValue: true}),
		"set for 1 ns":       txn(&command.Op{Kind: command.Op_SET, Key: []byte("k"), Ttl: 1}),
		"acquire by nobody":  txn(&command.Op{Kind: command.Op_ACQUIRE, Key: []byte("k")}),
		"acquire nothing":    txn(&command.Op{Kind: command.Op_ACQUIRE, Session: "s"}),
		"release by nobody":  txn(&command.Op{Kind: command.Op_RELEASE, Key: []byte("k")}),
		"release a value":    txn(&command.Op{Kind: command.Op_RELEASE, Key: []byte("k"), Session: "s", Value: []byte("v")}),
		"release with ttl":   txn(&command.Op{Kind: command.Op_RELEASE, Key: []byte("k"), Session: "s", HasValue: true, Ttl: int64(time.Second)}),
		"get with ttl":       txn(&command.Op{Kind: command.Op_GET, Key: []byte("k"), Ttl: int64(time.Second)}),
		"delete by a holder": txn(&command.Op{Kind: command.Op_DELETE, Key: []byte("k"), Session: "s"}),
	}) {
		err := command.Validate(typeOf(m), m)
		var limit *command.LimitError
		var invalid *command.InvalidError
		if !errors.As(err, &limit) && !errors.As(err, &invalid) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
}

func TestCutOutput(t *testing.T) {
	for name, s := range map[string]string{
		"short": "ok", "empty": "", "long": strings.Repeat("x", 5000), "runes": strings.Repeat("é", 3000), "odd runes": "x" + strings.Repeat("日", 2000), "bytes": "a\xffb" + strings.Repeat("x\xff", 5000),
	} {
		got := command.CutOutput(s)
		if len(got) > command.MaxCheckOutput || !utf8.ValidString(got) {
			t.Errorf("%s: %d bytes", name, len(got))
		}
		if len(s) <= command.MaxCheckOutput && utf8.ValidString(s) && got != s {
			t.Errorf("%s became %q", name, got)
		}
		if len(s) > command.MaxCheckOutput && len(got) < command.MaxCheckOutput-3 {
			t.Errorf("%s was cut to %d bytes", name, len(got))
		}
	}
}
