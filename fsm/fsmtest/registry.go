package fsmtest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// Lease is the model of a deadline: until when, and where it stands in the index.
type Lease struct{ Deadline, Indexed int64 }

// Registry is the newest state of services, checks, sessions and time in the model.
// Keys with a deadline and locks are in the keys themselves.
type Registry struct {
	Now      int64
	Services map[string]*record.Service // by name/id
	Checks   map[string]*record.Check   // of nodes, by node/id
	Sessions map[string]*record.Session // Held is not kept
	// Leases are by subject, those of markers included: the subject is all there is.
	Leases map[string]Lease
}

func newRegistry() Registry {
	return Registry{
		Services: map[string]*record.Service{},
		Checks:   map[string]*record.Check{},
		Sessions: map[string]*record.Session{},
		Leases:   map[string]Lease{},
	}
}

// after is now and ttl, and moves the time on.
func (m *Model) after(ttl int64) int64 {
	m.Registry.Now = max(m.Registry.Now, m.stamp)
	return m.Registry.Now + ttl
}

func (m *Model) lease(subject string, ttl int64) { m.leaseUntil(subject, m.after(ttl)) }

func (m *Model) leaseUntil(subject string, deadline int64) {
	l, found := m.Registry.Leases[subject]
	if !found || deadline < l.Indexed {
		l.Indexed = deadline
	}
	l.Deadline = deadline
	m.Registry.Leases[subject] = l
}

func (m *Model) registry(c Command) *command.Result {
	code, res := command.Result_OK, &command.Result{Index: m.Index}
	switch msg := c.Message.(type) {
	case *command.ServiceSet:
		m.serviceSet(msg, res)
	case *command.ServiceDelete:
		code = m.serviceDelete(msg, res)
	case *command.Heartbeat:
		s, found := m.Registry.Services[msg.Name+"/"+msg.Id]
		if !found {
			code = m.noService(msg.Name, msg.Id)
			break
		}
		res.CreateIndex, res.Ttl = s.CreateIndex, s.Ttl
		if s.Ttl > 0 {
			m.lease("svc:"+msg.Name+"/"+msg.Id, s.Ttl)
		}
	case *command.CheckSet:
		m.checkSet(msg, res)
	case *command.CheckDelete:
		name := msg.Node + "/" + msg.Id
		if _, found := m.Registry.Checks[name]; !found {
			code = command.Result_CHECK_NOT_FOUND
		}
		delete(m.Registry.Checks, name)
		delete(m.Registry.Leases, "chk:"+name)
	case *command.CheckUpdate:
		code = m.checkUpdate(msg, res)
	case *command.SessionCreate:
		if _, found := m.Registry.Sessions[msg.Id]; found {
			code = command.Result_EXISTS
			break
		}
		m.Registry.Sessions[msg.Id] = &record.Session{Id: msg.Id, Name: msg.Name, Node: msg.Node, Ttl: msg.Ttl,
			Behavior: uint32(msg.Behavior), LockDelay: msg.LockDelay, CreateIndex: m.Index, ModifyIndex: m.Index}
		if msg.Ttl > 0 {
			m.lease("ses:"+msg.Id, msg.Ttl)
		}
		res.CreateIndex = m.Index
	case *command.SessionRenew:
		s, found := m.Registry.Sessions[msg.Id]
		if !found {
			code = command.Result_SESSION_NOT_FOUND
			break
		}
		res.CreateIndex, res.Ttl = s.CreateIndex, s.Ttl
		if s.Ttl > 0 {
			m.lease("ses:"+msg.Id, s.Ttl)
		}
	case *command.SessionDestroy:
		if _, found := m.Registry.Sessions[msg.Id]; !found {
			code = command.Result_SESSION_NOT_FOUND
			break
		}
		m.change(func(state map[string]KV) { m.endSession(state, msg.Id) })
	case *command.Tick:
		m.change(func(state map[string]KV) { m.tick(state, res) })
	default:
		panic(fmt.Sprintf("no model of %T", msg))
	}
	res.Code, res.Succeeded = code, code == command.Result_OK
	return res
}

// change changes keys outside of a transaction.
func (m *Model) change(fn func(state map[string]KV)) {
	before := m.States[m.Index-1]
	state := maps.Clone(before)
	fn(state)
	m.States[m.Index] = state
	m.note(before, state)
}

func (m *Model) serviceSet(msg *command.ServiceSet, res *command.Result) {
	name := msg.Name + "/" + msg.Id
	old := m.Registry.Services[name]
	s := &record.Service{Data: msg.Data, CreateIndex: m.Index, ModifyIndex: m.Index, Name: msg.Name, Id: msg.Id, Node: msg.Node,
		Address: msg.Address, Port: msg.Port, Tags: msg.Tags, Ttl: msg.Ttl}
	for _, p := range msg.Meta {
		s.Meta = append(s.Meta, &record.Pair{Key: p.Key, Value: p.Value})
	}
	if old != nil {
		s.CreateIndex = old.CreateIndex
	}
	delete(m.Registry.Leases, "sys:gone:"+name)
	keep := map[string]bool{}
	for _, def := range msg.Checks {
		c := m.newCheck(def)
		subject := "svc:" + name + "/" + def.Id
		keep[def.Id] = true
		at := slices.IndexFunc(old.GetChecks(), func(h *record.Check) bool { return h.Id == def.Id && alike(h, c) })
		if at >= 0 {
			c = old.Checks[at]
		} else {
			m.startCheck(subject, c)
		}
		s.Checks = append(s.Checks, c)
	}
	for _, c := range old.GetChecks() {
		if !keep[c.Id] {
			delete(m.Registry.Leases, "svc:"+name+"/"+c.Id)
		}
	}
	if msg.Ttl > 0 {
		m.lease("svc:"+name, msg.Ttl)
	} else {
		delete(m.Registry.Leases, "svc:"+name)
	}
	m.Registry.Services[name] = s
	m.serviceChange(name, false)
	res.CreateIndex = s.CreateIndex
}

func (m *Model) newCheck(def *command.Check) *record.Check {
	c := &record.Check{Id: def.Id, Name: def.Name, Kind: uint32(def.Kind), Target: def.Target, Interval: def.Interval, Timeout: def.Timeout,
		Ttl: def.Ttl, PassingAfter: def.PassingAfter, CriticalAfter: def.CriticalAfter, Status: uint32(def.Status), CreateIndex: m.Index, ModifyIndex: m.Index}
	if def.Status == command.Check_STATUS_UNSPECIFIED {
		c.Status = uint32(command.Check_CRITICAL)
	}
	return c
}

func (m *Model) startCheck(subject string, c *record.Check) {
	delete(m.Registry.Leases, subject)
	if c.Ttl > 0 && c.Status != uint32(command.Check_CRITICAL) {
		m.lease(subject, c.Ttl)
	}
}

// alike compares definitions by their text.
func alike(a, b *record.Check) bool {
	def := func(c *record.Check) string {
		return fmt.Sprintf("%q %d %q %d %d %d %d %d", c.Name, c.Kind, c.Target, c.Interval, c.Timeout, c.Ttl, c.PassingAfter, c.CriticalAfter)
	}
	return def(a) == def(b)
}

func (m *Model) serviceDelete(msg *command.ServiceDelete, res *command.Result) command.Result_Code {
	for _, name := range slices.Sorted(maps.Keys(m.Registry.Services)) {
		s := m.Registry.Services[name]
		if s.Name == msg.Name && (msg.Id == "" || s.Id == msg.Id) {
			m.removeService(name)
			res.Count++
		}
	}
	for subject := range m.Registry.Leases {
		if prefix := "sys:gone:" + msg.Name + "/"; subject == prefix+msg.Id || msg.Id == "" && len(subject) > len(prefix) && subject[:len(prefix)] == prefix {
			delete(m.Registry.Leases, subject)
		}
	}
	if res.Count == 0 {
		return command.Result_SERVICE_NOT_FOUND
	}
	return command.Result_OK
}

func (m *Model) removeService(name string) {
	for _, c := range m.Registry.Services[name].Checks {
		delete(m.Registry.Leases, "svc:"+name+"/"+c.Id)
	}
	delete(m.Registry.Leases, "svc:"+name)
	delete(m.Registry.Services, name)
	m.serviceChange(name, true)
}

func (m *Model) noService(name, id string) command.Result_Code {
	if _, gone := m.Registry.Leases["sys:gone:"+name+"/"+id]; gone {
		return command.Result_SERVICE_EXPIRED
	}
	return command.Result_SERVICE_NOT_FOUND
}

func (m *Model) checkSet(msg *command.CheckSet, res *command.Result) {
	name, c := msg.Node+"/"+msg.Check.Id, m.newCheck(msg.Check)
	if have := m.Registry.Checks[name]; have != nil && alike(have, c) {
		res.CreateIndex = have.CreateIndex
		return
	}
	m.startCheck("chk:"+name, c)
	m.Registry.Checks[name] = c
	res.CreateIndex = m.Index
}

func (m *Model) checkUpdate(msg *command.CheckUpdate, res *command.Result) command.Result_Code {
	subject := "chk:" + msg.Node + "/" + msg.Id
	c := m.Registry.Checks[msg.Node+"/"+msg.Id]
	name := msg.Service + "/" + msg.Instance
	if msg.Node == "" {
		subject = "svc:" + name + "/" + msg.Id
		s, found := m.Registry.Services[name]
		if !found {
			return m.noService(msg.Service, msg.Instance)
		}
		c = nil
		for _, have := range s.Checks {
			if have.Id == msg.Id {
				c = have
			}
		}
	}
	if c == nil || msg.CreateIndex != 0 && msg.CreateIndex != c.CreateIndex {
		return command.Result_CHECK_NOT_FOUND
	}
	res.CreateIndex = c.CreateIndex
	if m.setStatus(c, msg.Status, msg.Output) && msg.Node == "" {
		m.Registry.Services[name].ModifyIndex = m.Index
		m.serviceChange(name, false)
	}
	if c.Ttl > 0 {
		m.lease(subject, c.Ttl)
	}
	return command.Result_OK
}

func (m *Model) setStatus(c *record.Check, status command.Check_Status, output string) (changed bool) {
	changed = c.Status != uint32(status) || c.Output != output
	if c.Status != uint32(status) {
		c.Status, c.ModifyIndex = uint32(status), m.Index
	}
	c.Output = output
	return changed
}

// tick ends everything that is due, in the order of the index of deadlines.
func (m *Model) tick(state map[string]KV, res *command.Result) {
	m.after(0)
	now := m.Registry.Now
	type entry struct {
		at      int64
		subject string
	}
	var due []entry
	for subject, l := range m.Registry.Leases {
		due = append(due, entry{l.Indexed, subject})
	}
	for key, kv := range state {
		if kv.Deadline != 0 {
			due = append(due, entry{kv.Deadline, "kv:" + key})
		}
	}
	due = slices.DeleteFunc(due, func(e entry) bool { return e.at > now })
	slices.SortFunc(due, func(a, b entry) int {
		if a.at != b.at {
			return order(uint64(a.at), uint64(b.at))
		}
		if a.subject < b.subject {
			return -1
		}
		return 1
	})
	for _, e := range due {
		res.Count += m.endDue(state, e.subject, now)
	}
}

func (m *Model) endDue(state map[string]KV, subject string, now int64) uint64 {
	of, _ := persistence.ParseSubject([]byte(subject))
	if of.Key != nil {
		kv, found := state[string(of.Key)]
		if !found || kv.Deadline > now {
			return 0
		}
		delete(state, string(of.Key))
		return 1
	}
	l, found := m.Registry.Leases[subject]
	if !found {
		return 0
	}
	if l.Deadline > now {
		m.Registry.Leases[subject] = Lease{l.Deadline, l.Deadline}
		return 0
	}
	delete(m.Registry.Leases, subject)
	switch {
	case of.Session != "":
		m.endSession(state, of.Session)
	case of.Check != "" && of.Node != "":
		m.setStatus(m.Registry.Checks[of.Node+"/"+of.Check], command.Check_CRITICAL, "TTL expired")
	case of.Check != "":
		name := of.Service + "/" + of.Instance
		s := m.Registry.Services[name]
		for _, c := range s.Checks {
			if c.Id == of.Check && m.setStatus(c, command.Check_CRITICAL, "TTL expired") {
				s.ModifyIndex = m.Index
				m.serviceChange(name, false)
			}
		}
	case of.Service != "":
		m.removeService(of.Service + "/" + of.Instance)
		m.lease("sys:gone:"+of.Service+"/"+of.Instance, int64(persistence.GoneFor))
	}
	return 1
}

func (m *Model) endSession(state map[string]KV, id string) {
	s := m.Registry.Sessions[id]
	for key, kv := range state {
		if kv.Session != id {
			continue
		}
		if s.Behavior == uint32(command.SessionCreate_DELETE) {
			delete(state, key)
		} else {
			kv.Session, kv.Modify = "", m.Index
			state[key] = kv
		}
		if s.LockDelay > 0 {
			m.lease("sys:delay:"+key, s.LockDelay)
		}
	}
	delete(m.Registry.Sessions, id)
	delete(m.Registry.Leases, "ses:"+id)
}

// Dump is what the function Dump must find.
func (m *Model) Dump() []string {
	var lines []string
	for key, kv := range m.Keys() {
		if kv.Deadline != 0 {
			lines = append(lines, dumpDue(kv.Deadline, "kv:"+key))
		}
		if kv.Session != "" {
			lines = append(lines, "sys:held:"+kv.Session+"/"+key)
		}
	}
	for subject, l := range m.Registry.Leases {
		lines = append(lines, dumpDue(l.Indexed, subject),
			dumpLease(string(persistence.LeaseKey([]byte(subject))), l.Deadline, l.Indexed))
	}
	for name, s := range m.Registry.Services {
		lines = append(lines, dumpMessage("svc:"+name, s))
	}
	for name, c := range m.Registry.Checks {
		lines = append(lines, dumpMessage("chk:"+name, c))
	}
	for id, s := range m.Registry.Sessions {
		s.Held = 0
		for _, kv := range m.Keys() {
			if kv.Session == id {
				s.Held++
			}
		}
		lines = append(lines, dumpMessage("ses:"+id, s))
	}
	slices.Sort(lines)
	return lines
}
