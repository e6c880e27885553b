package persistence

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/internal/persistence/record"
)

// The typed reads of the registry. What has expired is in no view once the tick that
// expired it is in the state; until then it is alive, whatever a clock says.

// statusCritical is konsul.command.v1.Check.CRITICAL.
const statusCritical = 3

// Instance is one instance of a service as it is at the view's index.
type Instance struct {
	*record.Service
	// Deadline is when it expires, in nanoseconds of cluster time; 0 = never.
	Deadline int64
	// Healthy: no check of the instance and none of its node is critical.
	Healthy bool
}

// Instances returns the live instances of a service, ordered by id; none is no error.
func (v *View) Instances(name string) ([]Instance, error) {
	return v.instances(ServiceInstances(name), NodeChecks)
}

// Services calls fn for every live instance of every service, ordered by name, then
// id. All are read before the first call. ErrStop ends it without an error.
func (v *View) Services(fn func(Instance) error) error {
	all, err := v.instances([]byte(ServicePrefix), func(string) []byte { return []byte(CheckPrefix) })
	if err != nil {
		return err
	}
	// The slash between name and id is not the lowest character of a name.
	slices.SortStableFunc(all, func(a, b Instance) int { return cmp.Compare(a.Name, b.Name) })
	for _, in := range all {
		if err := fn(in); err != nil {
			return endScan(err)
		}
	}
	return nil
}

// instances reads what is under a stored prefix, and its leases in the same order.
// checks says which prefix has the checks of a node.
func (v *View) instances(prefix []byte, checks func(node string) []byte) ([]Instance, error) {
	var found []Instance
	err := v.Scan(prefix, nil, func(stored, value []byte) error {
		s := new(record.Service)
		if err := decodeAt(stored, value, s); err != nil {
			return err
		}
		found = append(found, Instance{Service: s, Healthy: !anyCritical(s.Checks)})
		return nil
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	if err := v.addDeadlines(prefix, found); err != nil {
		return nil, err
	}
	return found, v.addNodeChecks(found, checks)
}

// addDeadlines goes along the leases and the instances at once: both are in the order
// of the instances' stored keys.
func (v *View) addDeadlines(prefix []byte, found []Instance) error {
	if !slices.ContainsFunc(found, func(in Instance) bool { return in.Ttl > 0 }) {
		return nil
	}
	next := 0
	return v.Scan(join(leasePrefix, prefix), nil, func(stored, value []byte) error {
		subject := stored[len(leasePrefix):]
		for next < len(found) {
			switch bytes.Compare(ServiceKey(found[next].Name, found[next].Id), subject) {
			case -1:
				next++
				continue
			case 0:
				var l record.Lease
				if err := decodeAt(stored, value, &l); err != nil {
					return err
				}
				found[next].Deadline = l.Deadline
			}
			return nil
		}
		return ErrStop
	})
}

// addNodeChecks makes instances unhealthy whose node has a critical check.
func (v *View) addNodeChecks(found []Instance, checks func(node string) []byte) error {
	read, critical := map[string]bool{}, map[string]bool{}
	for i := range found {
		in := &found[i]
		if in.Node == "" {
			continue
		}
		if prefix := string(checks(in.Node)); !read[prefix] {
			read[prefix] = true
			err := v.checks([]byte(prefix), func(node string, c *record.Check) error {
				critical[node] = critical[node] || c.Status == statusCritical
				return nil
			})
			if err != nil {
				return err
			}
		}
		in.Healthy = in.Healthy && !critical[in.Node]
	}
	return nil
}

func anyCritical(checks []*record.Check) bool {
	return slices.ContainsFunc(checks, func(c *record.Check) bool { return c.Status == statusCritical })
}

// ServiceGone says whether an instance of a service has expired within the last hour
// of cluster time, and was neither registered anew nor deregistered since.
func (v *View) ServiceGone(name string) (gone bool, err error) {
	err = v.ScanKeys(GoneInstances(name), nil, func([]byte) error {
		gone = true
		return ErrStop
	})
	return gone, err
}

// GetService is the read of Engine.GetService: the data of the instance that has the
// service's name for an id, or else of the first one.
// Errors: ErrServiceExpired, ErrServiceNotFound.
func (v *View) GetService(name string) ([]byte, error) { return v.getService(name, 0) }

// getService is GetService for who judges by a clock of its own: what was to expire
// by now has expired.
func (v *View) getService(name string, now int64) ([]byte, error) {
	all, err := v.Instances(name)
	if err != nil {
		return nil, err
	}
	var first *Instance
	gone := false
	for i := range all {
		in := &all[i]
		switch {
		case !in.alive(now):
			gone = gone || in.Deadline > now-int64(GoneFor)
		case first == nil || in.Id == name:
			first = in
		}
	}
	if first != nil {
		return first.Bytes()
	}
	if !gone {
		err = v.Scan(GoneInstances(name), nil, func(stored, value []byte) error {
			var l record.Lease
			err := decodeAt(stored, value, &l)
			gone = gone || l.Deadline > now
			return err
		})
	}
	switch {
	case err != nil:
		return nil, err
	case gone:
		return nil, ErrServiceExpired
	}
	return nil, ErrServiceNotFound
}

// alive says whether an instance lives at a time of who judges by a clock.
func (in *Instance) alive(now int64) bool { return in.Deadline == 0 || in.Deadline > now }

// Bytes is an instance as Engine.GetService returns it: the data it was given, or, if
// it was registered with fields, these as JSON.
func (in *Instance) Bytes() ([]byte, error) {
	if len(in.Data) > 0 {
		return in.Data, nil
	}
	out := struct {
		Name    string            `json:"name"`
		ID      string            `json:"id"`
		Address string            `json:"address"`
		Port    uint32            `json:"port"`
		Tags    []string          `json:"tags"`
		Meta    map[string]string `json:"meta"`
	}{in.Name, in.Id, in.Address, in.Port, in.Tags, map[string]string{}}
	if out.Tags == nil {
		out.Tags = []string{}
	}
	for _, p := range in.Meta {
		out.Meta[p.Key] = p.Value
	}
	return json.Marshal(out)
}

// ServiceNames is the read of Engine.ListServices: the names that have a live
// instance, in byte order.
func (v *View) ServiceNames() ([]string, error) { return v.serviceNames(0) }

func (v *View) serviceNames(now int64) ([]string, error) {
	names := []string{}
	err := v.Services(func(in Instance) error {
		if in.alive(now) && (len(names) == 0 || names[len(names)-1] != in.Name) {
			names = append(names, in.Name)
		}
		return nil
	})
	return names, err
}

// Session returns a session and when it ends, in nanoseconds of cluster time (0 =
// when it is destroyed); ErrSessionNotFound if there is none.
func (v *View) Session(id string) (*record.Session, int64, error) {
	key := SessionKey(id)
	value, found, err := v.Get(key)
	if err != nil {
		return nil, 0, err
	}
	if !found {
		return nil, 0, ErrSessionNotFound
	}
	s := new(record.Session)
	if err := decodeAt(key, value, s); err != nil {
		return nil, 0, err
	}
	deadline, err := v.deadline(key)
	return s, deadline, err
}

// Sessions calls fn for every session, ordered by id, with its end. ErrStop ends it
// without an error.
func (v *View) Sessions(fn func(s *record.Session, deadline int64) error) error {
	return v.Scan([]byte(SessionPrefix), nil, func(stored, value []byte) error {
		s := new(record.Session)
		if err := decodeAt(stored, value, s); err != nil {
			return err
		}
		deadline, err := v.deadline(stored)
		if err != nil {
			return err
		}
		return fn(s, deadline)
	})
}

// NodeChecks calls fn for every check of a node, or of all nodes for "", ordered by
// node, then id. The checks of services are in their instances. ErrStop ends it
// without an error.
func (v *View) NodeChecks(node string, fn func(node string, c *record.Check) error) error {
	return v.checks(NodeChecks(node), fn)
}

func (v *View) checks(prefix []byte, fn func(node string, c *record.Check) error) error {
	return v.Scan(prefix, nil, func(stored, value []byte) error {
		c := new(record.Check)
		if err := decodeAt(stored, value, c); err != nil {
			return err
		}
		node, _, _ := NodeCheckName(stored)
		return fn(node, c)
	})
}

// deadline is until when a subject's lease runs; 0 if it has none.
func (v *View) deadline(subject []byte) (int64, error) {
	key := LeaseKey(subject)
	value, found, err := v.Get(key)
	if err != nil || !found {
		return 0, err
	}
	var l record.Lease
	err = decodeAt(key, value, &l)
	return l.Deadline, err
}

// Time is the newest cluster time that an entry used, in nanoseconds since the cluster
// began. Deadlines are never before it by more than what a tick has yet to expire.
func (v *View) Time() (int64, error) {
	t, err := v.time()
	return t.GetNow(), err
}

// Swept is up to which cluster time, inclusive, the index of deadlines is empty.
func (v *View) Swept() (int64, error) {
	t, err := v.time()
	return t.GetSwept(), err
}

func (v *View) time() (*record.Time, error) {
	t := new(record.Time)
	value, found, err := v.Get(TimeKey())
	if err != nil || !found {
		return t, err
	}
	return t, decodeAt(TimeKey(), value, t)
}

// decodeAt is DecodeRecord with an error that names the stored key.
func decodeAt(stored, value []byte, m proto.Message) error {
	if err := DecodeRecord(value, m); err != nil {
		return fmt.Errorf("record %q: %w", stored, err)
	}
	return nil
}
