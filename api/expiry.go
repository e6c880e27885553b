package api

import (
	"time"

	"github.com/neogan74/konsul/api/internal/jsonwire"
	"github.com/neogan74/konsul/fsm/command"
)

// Times to live go in and out as Go writes durations ("1m30s"). When something ends is
// stored in cluster time, which is nobody's wall clock, so an answer says how long it
// has to live instead: at least so long, because nothing ever expires early.

// appendExpiry appends "expires_in" for what has a deadline.
func (c *call) appendExpiry(dst []byte, deadline int64) []byte {
	if deadline == 0 {
		return dst
	}
	if !c.nowKnown {
		c.now, c.nowKnown = c.s.node.ClusterTime(), true
	}
	left := max(time.Duration(deadline-c.now), 0) // 0: it is due, and the tick is on its way
	return appendDuration(dst, `,"expires_in":`, left.Truncate(time.Millisecond))
}

// appendTTL appends "ttl", unless it is for ever.
func appendTTL(dst []byte, ttl int64) []byte {
	if ttl == 0 {
		return dst
	}
	return appendDuration(dst, `,"ttl":`, time.Duration(ttl))
}

// appendRenewed appends for how long something lives that was just renewed.
func appendRenewed(dst []byte, res *command.Result) []byte {
	if res.Ttl == 0 {
		return dst
	}
	return appendDuration(dst, `,"expires_in":`, time.Duration(res.Ttl))
}

// readDuration reads a duration that is not negative, in nanoseconds.
func readDuration(r *jsonwire.Reader, name string) (int64, error) {
	if r.Kind() != '"' {
		return 0, badDuration(name, `"30s"`)
	}
	text, err := r.String()
	if err != nil {
		return 0, err
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, badDuration(name, `"30s"`)
	}
	return int64(d), nil
}

func badDuration(name, example string) error {
	return badRequest("%s must be a duration such as %s, and not negative", name, example)
}

func checkTTL(name string, ttl int64) error {
	if d := time.Duration(ttl); d != 0 && (d < command.MinTTL || d > command.MaxTTL) {
		return badRequest("%s is %v, must be 0 or %v to %v", name, d, command.MinTTL, command.MaxTTL)
	}
	return nil
}

// setTTL sets the time to live of what is put; name is for errors.
func (one *single) setTTL(name string, ttl int64) error {
	if err := checkTTL(name, ttl); err != nil {
		return err
	}
	one.op.Ttl = ttl
	if ttl != 0 && one.op.Kind == command.Op_RELEASE {
		return badRequest("%s is not for a release", name)
	}
	return nil
}
