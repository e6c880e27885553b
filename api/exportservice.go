package api

import (
	"time"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// services writes the services. A service with one instance of its own name is written
// as the users' guide has it; others have all their instances in "instances", and beside
// it what the first one is, for readers that know one only.
func (x *exporter) services() error {
	x.first = true
	var same []persistence.Instance
	flush := func() error {
		if len(same) == 0 {
			return nil
		}
		err := x.service(same)
		same = same[:0]
		return err
	}
	err := x.v.Services(func(in persistence.Instance) error {
		if len(same) > 0 && same[0].Name != in.Name {
			if err := flush(); err != nil {
				return err
			}
		}
		same = append(same, in)
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

func (x *exporter) service(all []persistence.Instance) error {
	c, name := x.c, all[0].Name
	x.name([]byte(name), true)
	c.out = append(appendString(c.out, `{"name":`, name), ',')
	c.out = appendRegistration(c.out, all[0].Service)
	if len(all) > 1 || all[0].Id != name {
		c.out = append(c.out, `,"instances":[`...)
		for i := range all {
			c.out = append(append(c.out, comma(i)...), '{')
			c.out = append(appendRegistration(c.out, all[i].Service), '}')
			if err := x.push(); err != nil {
				return err
			}
		}
		c.out = append(c.out, ']')
	}
	c.out = append(c.out, '}')
	return x.push()
}

// appendRegistration appends what an instance was registered with, without braces. The
// node is left out: whoever imports it runs its checks.
func appendRegistration(dst []byte, s *record.Service) []byte {
	if s.Id != s.Name {
		dst = append(appendString(dst, `"id":`, s.Id), ',')
	}
	dst = appendString(dst, `"address":`, s.Address)
	dst = appendUint(dst, `,"port":`, uint64(s.Port))
	for i, tag := range s.Tags {
		if i == 0 {
			dst = append(dst, `,"tags":[`...)
		}
		dst = appendString(dst, comma(i), tag)
	}
	if len(s.Tags) > 0 {
		dst = append(dst, ']')
	}
	for i, p := range s.Meta {
		if i == 0 {
			dst = append(dst, `,"meta":{`...)
		}
		dst = append(appendString(dst, comma(i), p.Key), ':')
		dst = appendString(dst, "", p.Value)
	}
	if len(s.Meta) > 0 {
		dst = append(dst, '}')
	}
	dst = appendTTL(dst, s.Ttl)
	if len(s.Data) > 0 {
		dst = appendText(dst, `,"data":`, `,"data_encoding":"base64"`, s.Data)
	}
	for i, check := range s.Checks {
		if i == 0 {
			dst = append(dst, `,"checks":[`...)
		}
		dst = append(appendDefinition(append(append(dst, comma(i)...), '{'), check), '}')
	}
	if len(s.Checks) > 0 {
		dst = append(dst, ']')
	}
	return dst
}

// appendDefinition appends what a check was registered with, and how it is.
func appendDefinition(dst []byte, c *record.Check) []byte {
	kind := command.Check_Kind(c.Kind)
	dst = appendString(dst, `"id":`, c.Id)
	if c.Name != "" {
		dst = appendString(dst, `,"name":`, c.Name)
	}
	dst = appendString(dst, `,"status":`, checkStatuses[command.Check_Status(c.Status)])
	if kind == command.Check_TTL {
		return appendTTL(dst, c.Ttl)
	}
	dst = appendString(dst, `,"`+checkKinds[kind]+`":`, c.Target)
	dst = appendDuration(dst, `,"interval":`, time.Duration(c.Interval))
	dst = appendDuration(dst, `,"timeout":`, time.Duration(c.Timeout))
	if c.PassingAfter > 0 {
		dst = appendUint(dst, `,"passing_after":`, uint64(c.PassingAfter))
	}
	if c.CriticalAfter > 0 {
		dst = appendUint(dst, `,"critical_after":`, uint64(c.CriticalAfter))
	}
	return dst
}
