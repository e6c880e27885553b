package command

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/internal/persistence"
)

func (m *ServiceSet) validate() error {
	if err := checkIDs("name", m.Name, "id", m.Id); err != nil {
		return err
	}
	if err := checkOptionalID("node", m.Node); err != nil {
		return err
	}
	if err := checkText("address", m.Address, MaxServiceAddressLen); err != nil {
		return err
	}
	if m.Port > 65535 {
		return &LimitError{What: "port", Limit: 65535, Got: int(m.Port)}
	}
	if err := checkTTL("ttl", m.Ttl); err != nil {
		return err
	}
	if err := m.validateLists(); err != nil {
		return err
	}
	if size := proto.Size(m); size > MaxServiceBytes {
		return &LimitError{What: "service bytes", Limit: MaxServiceBytes, Got: size}
	}
	return nil
}

// validateLists checks tags, meta and checks.
func (m *ServiceSet) validateLists() error {
	switch {
	case len(m.Tags) > MaxTags:
		return &LimitError{What: "tags", Limit: MaxTags, Got: len(m.Tags)}
	case len(m.Meta) > MaxMeta:
		return &LimitError{What: "meta", Limit: MaxMeta, Got: len(m.Meta)}
	case len(m.Checks) > MaxChecks:
		return &LimitError{What: "checks", Limit: MaxChecks, Got: len(m.Checks)}
	}
	for i, tag := range m.Tags {
		if err := checkName("", tag, MaxTagLen); err != nil {
			return under(err, "tags", i)
		}
	}
	for i, p := range m.Meta {
		if err := p.validate(); err != nil {
			return under(err, "meta", i)
		}
		if i > 0 && m.Meta[i-1].Key >= p.Key {
			return &InvalidError{Field: "meta", Problem: fmt.Sprintf("has the key %q twice, or is not sorted", p.Key)}
		}
	}
	ids := make(map[string]bool, len(m.Checks))
	for i, c := range m.Checks {
		if err := c.validate(); err != nil {
			return under(err, "checks", i)
		}
		if ids[c.Id] {
			return &InvalidError{Field: "checks", Problem: fmt.Sprintf("have the id %q twice", c.Id)}
		}
		ids[c.Id] = true
	}
	return nil
}

func (p *Pair) validate() error {
	if p == nil {
		return &InvalidError{Field: "pair", Problem: "is missing"}
	}
	if err := checkName("key", p.Key, MaxMetaKeyLen); err != nil {
		return err
	}
	return checkText("value", p.Value, MaxMetaValueLen)
}

func (c *Check) validate() error {
	if c == nil {
		return &InvalidError{Field: "check", Problem: "is missing"}
	}
	if err := checkID("id", c.Id); err != nil {
		return err
	}
	if err := checkText("name", c.Name, MaxNameLen); err != nil {
		return err
	}
	if c.Status < Check_STATUS_UNSPECIFIED || c.Status > Check_CRITICAL {
		return &InvalidError{Field: "status", Problem: "is unknown"}
	}
	if n := max(c.PassingAfter, c.CriticalAfter); n > MaxCheckThreshold {
		return &LimitError{What: "passing_after or critical_after", Limit: MaxCheckThreshold, Got: int(n)}
	}
	switch c.Kind {
	case Check_TTL:
		return c.validateTTL()
	case Check_HTTP, Check_TCP:
		return c.validateActive()
	default:
		return &InvalidError{Field: "kind", Problem: "is missing or unknown"}
	}
}

func (c *Check) validateTTL() error {
	switch {
	case c.Ttl == 0:
		return &InvalidError{Field: "ttl", Problem: "is missing"}
	case c.Target != "" || c.Interval != 0 || c.Timeout != 0:
		return &InvalidError{Field: "target, interval and timeout", Problem: "are not for a check with a ttl"}
	case c.PassingAfter != 0 || c.CriticalAfter != 0:
		return &InvalidError{Field: "passing_after and critical_after", Problem: "are not for a check with a ttl"}
	}
	return checkTTL("ttl", c.Ttl)
}

// validateActive checks what a node runs.
func (c *Check) validateActive() error {
	interval, timeout := time.Duration(c.Interval), time.Duration(c.Timeout)
	switch {
	case c.Ttl != 0:
		return &InvalidError{Field: "ttl", Problem: "is only for a check of that kind"}
	case interval < MinCheckInterval || interval > MaxCheckInterval:
		return &InvalidError{Field: "interval", Problem: fmt.Sprintf("is %v, must be %v to %v", interval, MinCheckInterval, MaxCheckInterval)}
	case timeout < MinCheckTimeout || timeout > min(interval, MaxCheckTimeout):
		return &InvalidError{Field: "timeout",
			Problem: fmt.Sprintf("is %v, must be %v to %v", timeout, MinCheckTimeout, min(interval, MaxCheckTimeout))}
	}
	// In what people write, the target's name is the check's kind.
	if c.Kind == Check_TCP {
		if err := checkName("tcp", c.Target, MaxTargetLen); err != nil {
			return err
		}
		return checkHostPort(c.Target)
	}
	if err := checkName("http", c.Target, MaxTargetLen); err != nil {
		return err
	}
	u, err := url.Parse(c.Target)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return &InvalidError{Field: "http", Problem: "must be a URL that begins with http:// or https:// and has a host"}
	}
	return nil
}

func checkHostPort(target string) error {
	host, port, err := net.SplitHostPort(target)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || perr != nil || n == 0 {
		return &InvalidError{Field: "tcp", Problem: "must be host:port, the port from 1 to 65535"}
	}
	return nil
}

func (m *ServiceDelete) validate() error {
	if err := checkID("name", m.Name); err != nil {
		return err
	}
	return checkOptionalID("id", m.Id)
}

func (m *Heartbeat) validate() error { return checkIDs("name", m.Name, "id", m.Id) }

func (m *CheckSet) validate() error {
	if err := checkID("node", m.Node); err != nil {
		return err
	}
	return m.Check.validate()
}

func (m *CheckDelete) validate() error { return checkIDs("node", m.Node, "id", m.Id) }

func (m *CheckUpdate) validate() error {
	if m.Node != "" && (m.Service != "" || m.Instance != "") {
		return &InvalidError{Field: "node", Problem: "is not for the check of a service"}
	}
	if m.Node != "" {
		if err := checkID("node", m.Node); err != nil {
			return err
		}
	} else if err := checkIDs("service", m.Service, "instance", m.Instance); err != nil {
		return err
	}
	if err := checkID("id", m.Id); err != nil {
		return err
	}
	if m.Status < Check_PASSING || m.Status > Check_CRITICAL {
		return &InvalidError{Field: "status", Problem: "is missing or unknown"}
	}
	return checkText("output", m.Output, MaxCheckOutput)
}

func (m *SessionCreate) validate() error {
	if err := checkID("id", m.Id); err != nil {
		return err
	}
	if err := checkOptionalID("name", m.Name); err != nil {
		return err
	}
	if err := checkOptionalID("node", m.Node); err != nil {
		return err
	}
	if err := checkTTL("ttl", m.Ttl); err != nil {
		return err
	}
	if m.Behavior != SessionCreate_RELEASE && m.Behavior != SessionCreate_DELETE {
		return &InvalidError{Field: "behavior", Problem: "is unknown"}
	}
	if d := time.Duration(m.LockDelay); d < 0 || d > MaxLockDelay {
		return &InvalidError{Field: "lock_delay", Problem: fmt.Sprintf("is %v, must be 0 to %v", d, MaxLockDelay)}
	}
	return nil
}

func (m *SessionRenew) validate() error { return checkID("id", m.Id) }

func (m *SessionDestroy) validate() error { return checkID("id", m.Id) }

// CutOutput makes a check's output fit for CheckUpdate: valid UTF-8, and no longer
// than MaxCheckOutput bytes. Whoever proposes one calls it.
func CutOutput(output string) string {
	output = strings.ToValidUTF8(output, "\uFFFD")
	if len(output) <= MaxCheckOutput {
		return output
	}
	end := MaxCheckOutput
	for !utf8.RuneStart(output[end]) {
		end--
	}
	return output[:end]
}

// checkTTL checks a time to live in nanoseconds; 0 is for ever.
func checkTTL(field string, ttl int64) error {
	if persistence.CheckTTL(time.Duration(ttl)) != nil {
		return &InvalidError{Field: field, Problem: fmt.Sprintf("is %v, must be 0 or %v to %v", time.Duration(ttl), MinTTL, MaxTTL)}
	}
	return nil
}

// checkID checks a name or id of the registry.
func checkID(field, s string) error {
	switch {
	case s == "":
		return &InvalidError{Field: field, Problem: "is empty"}
	case len(s) > MaxNameLen:
		return &LimitError{What: field, Limit: MaxNameLen, Got: len(s)}
	case persistence.CheckName(s) != nil:
		return &InvalidError{Field: field, Problem: "may only have A-Z a-z 0-9 . _ - in it"}
	}
	return nil
}

func checkOptionalID(field, s string) error {
	if s == "" {
		return nil
	}
	return checkID(field, s)
}

func checkIDs(field1, s1, field2, s2 string) error {
	if err := checkID(field1, s1); err != nil {
		return err
	}
	return checkID(field2, s2)
}

// checkText checks text that may be empty.
func checkText(field, s string, limit int) error {
	if s == "" {
		return nil
	}
	return checkName(field, s, limit)
}
