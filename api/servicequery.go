package api

import (
	"slices"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/internal/persistence"
)

// nodeChecks: a check of a node decides, too, whether the instances on it are healthy.
var nodeChecks = fsm.Filter{NodeChecks: true}

// selection says which instances of services are wanted.
type selection struct {
	healthy bool
	tags    []string // all of them
	meta    []string // all of them, each "key:value"
}

func (c *call) takeSelection() (s selection, err error) {
	s.tags, s.meta = c.query.texts("tag"), c.query.texts("meta")
	for _, m := range s.meta {
		if !slices.Contains([]byte(m), ':') {
			return s, badRequest("parameter meta must be key:value")
		}
	}
	s.healthy, err = c.query.flag("healthy")
	return s, err
}

func (s *selection) takes(in *persistence.Instance) bool {
	if s.healthy && !in.Healthy {
		return false
	}
	for _, tag := range s.tags {
		if !slices.Contains(in.Tags, tag) {
			return false
		}
	}
	for _, m := range s.meta {
		if !hasMeta(in, m) {
			return false
		}
	}
	return true
}

// hasMeta compares the whole, so that a colon in the key needs no rule.
func hasMeta(in *persistence.Instance, want string) bool {
	for _, p := range in.Meta {
		if len(p.Key)+1+len(p.Value) == len(want) && p.Key+":"+p.Value == want {
			return true
		}
	}
	return false
}

// serviceGet is GET /services/{name}.
func (c *call) serviceGet() error {
	name, err := c.pathName("name", "service name")
	if err != nil {
		return err
	}
	rr, err := c.readRequest()
	if err != nil {
		return err
	}
	wanted, err := c.takeSelection()
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	v, err := c.view(&rr, fsm.Filter{Service: name}, nodeChecks)
	if err != nil {
		return err
	}
	defer v.Close()
	all, err := liveInstances(v, name)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(in persistence.Instance) bool { return !wanted.takes(&in) })
	c.out = c.out[:0]
	if err := c.service(name, all); err != nil {
		return err
	}
	return c.endJSON()
}

// liveInstances is the instances of a service, of which there is at least one.
// Errors: ErrServiceExpired, ErrServiceNotFound.
func liveInstances(v View, name string) ([]persistence.Instance, error) {
	all, err := v.Instances(name)
	if err != nil || len(all) > 0 {
		return all, err
	}
	gone, err := v.ServiceGone(name)
	switch {
	case err != nil:
		return nil, err
	case gone:
		return nil, persistence.ErrServiceExpired
	}
	return nil, persistence.ErrServiceNotFound
}

// service appends a service: what its first instance is, and all of them. With a
// selection there may be none.
func (c *call) service(name string, all []persistence.Instance) error {
	c.out = appendString(c.out, `{"name":`, name)
	if len(all) > 0 {
		c.out = c.appendInstance(append(c.out, ','), &all[0])
	}
	c.out = append(c.out, `,"instances":[`...)
	for i := range all {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = c.appendInstance(append(c.out, '{'), &all[i])
		c.out = append(appendChecks(c.out, all[i].Checks), '}')
		if err := c.pushJSON(); err != nil {
			return err
		}
	}
	c.out = append(c.out, `]}`...)
	return nil
}

// appendInstance appends the fields of an instance, without braces and checks.
func (c *call) appendInstance(dst []byte, in *persistence.Instance) []byte {
	dst = appendString(dst, `"id":`, in.Id)
	dst = appendString(dst, `,"address":`, in.Address)
	dst = appendUint(dst, `,"port":`, uint64(in.Port))
	dst = append(dst, `,"tags":[`...)
	for i, tag := range in.Tags {
		dst = appendString(dst, comma(i), tag)
	}
	dst = append(dst, `],"meta":{`...)
	for i, p := range in.Meta {
		dst = append(appendString(dst, comma(i), p.Key), ':')
		dst = appendString(dst, "", p.Value)
	}
	dst = c.appendExpiry(appendTTL(append(dst, '}'), in.Ttl), in.Deadline)
	dst = appendUint(dst, `,"create_index":`, in.CreateIndex)
	dst = appendUint(dst, `,"modify_index":`, in.ModifyIndex)
	dst = appendString(dst, `,"node":`, in.Node)
	if len(in.Data) > 0 {
		dst = appendText(dst, `,"data":`, `,"data_encoding":"base64"`, in.Data)
	}
	return appendBool(dst, `,"healthy":`, in.Healthy)
}

// comma goes before an element of a list, but not before the first.
func comma(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

// serviceList is GET /services.
func (c *call) serviceList() error {
	rr, err := c.readRequest()
	if err != nil {
		return err
	}
	wanted, err := c.takeSelection()
	if err != nil {
		return err
	}
	detail, err := c.query.flag("detail")
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	v, err := c.view(&rr, fsm.Filter{Services: true}, nodeChecks)
	if err != nil {
		return err
	}
	defer v.Close()
	l := serviceLister{c: c, detail: detail}
	c.out = append(c.out[:0], `{"services":[`...)
	err = v.Services(func(in persistence.Instance) error {
		if !wanted.takes(&in) {
			return nil
		}
		return l.take(in)
	})
	if err == nil {
		err = l.flush()
	}
	if err != nil {
		return err
	}
	c.out = append(c.out, `]}`...)
	return c.endJSON()
}

// serviceLister gathers the instances of one service after the other.
type serviceLister struct {
	c      *call
	detail bool
	same   []persistence.Instance
	count  int
}

func (l *serviceLister) take(in persistence.Instance) error {
	if len(l.same) > 0 && l.same[0].Name != in.Name {
		if err := l.flush(); err != nil {
			return err
		}
	}
	if l.detail || len(l.same) == 0 {
		l.same = append(l.same, in)
	}
	return nil
}

// flush writes the service whose instances are gathered.
func (l *serviceLister) flush() error {
	if len(l.same) == 0 {
		return nil
	}
	c := l.c
	c.out = append(c.out, comma(l.count)...)
	l.count++
	if !l.detail {
		c.out = appendString(c.out, "", l.same[0].Name)
	} else if err := c.service(l.same[0].Name, l.same); err != nil {
		return err
	}
	l.same = l.same[:0]
	return c.pushJSON()
}
