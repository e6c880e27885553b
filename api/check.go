package api

import (
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/neogan74/konsul/api/internal/jsonwire"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// How often an active check runs, and how long it may take, unless it says so itself.
const (
	defaultInterval = 10 * time.Second
	defaultTimeout  = 5 * time.Second
)

var checkKinds = map[command.Check_Kind]string{
	command.Check_TTL: "ttl", command.Check_HTTP: "http", command.Check_TCP: "tcp",
}

var checkStatuses = map[command.Check_Status]string{
	command.Check_PASSING: "passing", command.Check_WARNING: "warning", command.Check_CRITICAL: "critical",
}

func readStatus(r *jsonwire.Reader, where string) (command.Check_Status, error) {
	text, err := r.String()
	if err != nil {
		return 0, err
	}
	for status, name := range checkStatuses {
		if name == text {
			return status, nil
		}
	}
	return 0, badRequest("%sstatus must be passing, warning or critical", where)
}

// readChecks reads the checks of a registration.
func readChecks(r *jsonwire.Reader) (checks []*command.Check, err error) {
	err = r.Array(func() error {
		if len(checks) == command.MaxChecks {
			return tooLarge("number of checks", command.MaxChecks)
		}
		check, err := readCheck(r, fmt.Sprintf("checks[%d].", len(checks)))
		checks = append(checks, check)
		return err
	})
	return checks, err
}

// checkReader gathers what a check is.
type checkReader struct {
	check command.Check
	where string // before the names of fields, for errors
	kinds int    // how many of ttl, http and tcp are there
	timed bool   // a timeout is given
}

// readCheck reads one check and fills in the defaults.
func readCheck(r *jsonwire.Reader, where string) (*command.Check, error) {
	cr := checkReader{where: where}
	if err := r.Object(func(name []byte) error { return cr.field(r, name) }); err != nil {
		return nil, err
	}
	c := &cr.check
	if cr.kinds != 1 {
		return nil, badRequest("%sttl, http or tcp: a check has exactly one of them", where)
	}
	if c.Id == "" {
		c.Id = checkKinds[c.Kind]
	}
	if c.Kind == command.Check_TTL {
		return c, nil
	}
	if c.Interval == 0 {
		c.Interval = int64(defaultInterval)
	}
	if !cr.timed {
		c.Timeout = min(int64(defaultTimeout), c.Interval)
	}
	return c, nil
}

func (cr *checkReader) field(r *jsonwire.Reader, name []byte) (err error) {
	c := &cr.check
	switch string(name) {
	case "id":
		if c.Id, err = r.String(); err == nil {
			err = checkName(cr.where+"id", c.Id)
		}
	case "name":
		c.Name, err = r.String()
	case "ttl":
		cr.kinds, c.Kind = cr.kinds+1, command.Check_TTL
		c.Ttl, err = readDuration(r, cr.where+"ttl")
	case "http":
		cr.kinds, c.Kind = cr.kinds+1, command.Check_HTTP
		c.Target, err = r.String()
	case "tcp":
		cr.kinds, c.Kind = cr.kinds+1, command.Check_TCP
		c.Target, err = r.String()
	case "interval":
		c.Interval, err = readDuration(r, cr.where+"interval")
		if err == nil && c.Interval == 0 {
			err = badRequest("%sinterval must not be 0", cr.where)
		}
	case "timeout":
		cr.timed = true
		c.Timeout, err = readDuration(r, cr.where+"timeout")
	case "passing_after":
		c.PassingAfter, err = readCount(r)
	case "critical_after":
		c.CriticalAfter, err = readCount(r)
	case "status":
		c.Status, err = readStatus(r, cr.where)
	default:
		return r.Unknown(name)
	}
	return err
}

// readCount reads a small number; what is too large for it is too large for all limits.
func readCount(r *jsonwire.Reader) (uint32, error) {
	n, err := r.Uint()
	return uint32(min(n, math.MaxInt32)), err
}

// appendChecks appends the checks of an instance.
func appendChecks(dst []byte, checks []*record.Check) []byte {
	dst = append(dst, `,"checks":[`...)
	for i, c := range checks {
		dst = append(appendCheck(append(append(dst, comma(i)...), '{'), c), '}')
	}
	return append(dst, ']')
}

// appendCheck appends the fields of a check, without braces: what it said last, and
// how it was registered.
func appendCheck(dst []byte, c *record.Check) []byte {
	kind := command.Check_Kind(c.Kind)
	dst = appendString(dst, `"id":`, c.Id)
	dst = appendString(dst, `,"name":`, c.Name)
	dst = appendString(dst, `,"kind":`, checkKinds[kind])
	dst = appendString(dst, `,"status":`, checkStatuses[command.Check_Status(c.Status)])
	dst = appendString(dst, `,"output":`, c.Output)
	dst = appendUint(dst, `,"create_index":`, c.CreateIndex)
	dst = appendUint(dst, `,"modify_index":`, c.ModifyIndex)
	if kind == command.Check_TTL {
		return appendTTL(dst, c.Ttl)
	}
	dst = appendString(dst, `,"`+checkKinds[kind]+`":`, c.Target)
	dst = appendDuration(dst, `,"interval":`, time.Duration(c.Interval))
	dst = appendDuration(dst, `,"timeout":`, time.Duration(c.Timeout))
	if c.PassingAfter > 1 {
		dst = appendUint(dst, `,"passing_after":`, uint64(c.PassingAfter))
	}
	if c.CriticalAfter > 1 {
		dst = appendUint(dst, `,"critical_after":`, uint64(c.CriticalAfter))
	}
	return dst
}

// checkResult is the body that updates a check.
type checkResult struct {
	status command.Check_Status
	output string
}

func (c *call) readResult() (res checkResult, err error) {
	r, err := c.readJSON("result", maxAdminBody)
	if err != nil {
		return res, err
	}
	err = r.Object(func(name []byte) (err error) {
		switch string(name) {
		case "status":
			res.status, err = readStatus(r, "")
		case "output":
			res.output, err = r.String()
		default:
			return r.Unknown(name)
		}
		return err
	})
	if err == nil {
		err = r.End()
	}
	if err == nil && res.status == 0 {
		err = badRequest("status is missing")
	}
	res.output = command.CutOutput(res.output)
	return res, err
}

// sendChecked answers an update of a check; the fields before say whose.
func (c *call) sendChecked(check string, status command.Check_Status) error {
	c.out = appendString(c.out, `,"check":`, check)
	c.out = appendString(c.out, `,"status":`, checkStatuses[status])
	c.out = append(c.out, '}')
	return c.json(http.StatusOK)
}
