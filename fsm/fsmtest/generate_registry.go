package fsmtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/neogan74/konsul/fsm/command"
)

// registry makes a command of the registry, a tick included.
func (g *Generator) registry(model *Model) Command {
	r := g.Rand
	switch p := r.IntN(100); {
	case p < 20:
		return Command{Type: command.Type_TYPE_TICK, Message: &command.Tick{}}
	case p < 35:
		return Command{Type: command.Type_TYPE_SERVICE_SET, Message: g.service()}
	case p < 40:
		m := &command.ServiceDelete{Name: g.name()}
		if r.IntN(3) > 0 {
			m.Id = g.instance()
		}
		return Command{Type: command.Type_TYPE_SERVICE_DELETE, Message: m}
	case p < 55:
		return Command{Type: command.Type_TYPE_HEARTBEAT, Message: &command.Heartbeat{Name: g.name(), Id: g.instance()}}
	case p < 60:
		return Command{Type: command.Type_TYPE_CHECK_SET, Message: &command.CheckSet{Node: g.node(), Check: g.check(fmt.Sprint("c", r.IntN(2)))}}
	case p < 63:
		return Command{Type: command.Type_TYPE_CHECK_DELETE, Message: &command.CheckDelete{Node: g.node(), Id: fmt.Sprint("c", r.IntN(2))}}
	case p < 75:
		return Command{Type: command.Type_TYPE_CHECK_UPDATE, Message: g.update(model)}
	case p < 85:
		return Command{Type: command.Type_TYPE_SESSION_CREATE, Message: &command.SessionCreate{Id: fmt.Sprint("s", r.IntN(6)), Node: g.node(), Ttl: g.ttl(5),
			Behavior: command.SessionCreate_Behavior(r.IntN(2)), LockDelay: g.ttl(3)}}
	case p < 95:
		return Command{Type: command.Type_TYPE_SESSION_RENEW, Message: &command.SessionRenew{Id: g.session(model)}}
	default:
		return Command{Type: command.Type_TYPE_SESSION_DESTROY, Message: &command.SessionDestroy{Id: g.session(model)}}
	}
}

// name makes the name of a service; one is the beginning of another.
func (g *Generator) name() string     { return []string{"web", "web-1", "api"}[g.Rand.IntN(3)] }
func (g *Generator) instance() string { return []string{"a", "a-b", "b"}[g.Rand.IntN(3)] }

// session is mostly one that is there.
func (g *Generator) session(model *Model) string {
	if ids := slices.Sorted(maps.Keys(model.Registry.Sessions)); len(ids) > 0 && g.Rand.IntN(8) > 0 {
		return ids[g.Rand.IntN(len(ids))]
	}
	return fmt.Sprint("s", g.Rand.IntN(6))
}

// lockKey is often one that is held, or under a lock delay.
func (g *Generator) lockKey(model *Model) string {
	var busy []string
	for key, kv := range model.Keys() {
		if kv.Session != "" {
			busy = append(busy, key)
		}
	}
	for subject := range model.Registry.Leases {
		if key, ok := strings.CutPrefix(subject, "sys:delay:"); ok {
			busy = append(busy, key)
		}
	}
	if len(busy) == 0 || g.Rand.IntN(2) == 0 {
		return g.Key()
	}
	slices.Sort(busy)
	return busy[g.Rand.IntN(len(busy))]
}

// ttl is none every so often.
func (g *Generator) ttl(often int) int64 {
	if g.Rand.IntN(often) == 0 {
		return 0
	}
	return int64(100*time.Millisecond) + g.Rand.Int64N(int64(20*time.Second))
}

func (g *Generator) service() *command.ServiceSet {
	r := g.Rand
	m := &command.ServiceSet{Name: g.name(), Id: g.instance(), Node: g.node(), Address: "10.0.0.1", Port: uint32(r.IntN(3)), Ttl: g.ttl(4)}
	if r.IntN(3) == 0 {
		m.Tags, m.Meta = []string{"t"}, []*command.Pair{{Key: "k", Value: fmt.Sprint(r.IntN(3))}}
	}
	for i := range r.IntN(3) {
		m.Checks = append(m.Checks, g.check(fmt.Sprint("c", i)))
	}
	return m
}

// check makes few different definitions, so that many are registered again.
func (g *Generator) check(id string) *command.Check {
	c := &command.Check{Id: id, Kind: command.Check_TTL, Ttl: int64(2+g.Rand.IntN(2)) * int64(time.Second), Status: command.Check_Status(g.Rand.IntN(4))}
	if g.Rand.IntN(3) == 0 {
		c.Kind, c.Ttl, c.Target, c.Interval, c.Timeout = command.Check_TCP, 0, "h:1", int64(time.Second), int64(time.Second)
	}
	return c
}

func (g *Generator) update(model *Model) *command.CheckUpdate {
	r := g.Rand
	m := &command.CheckUpdate{Id: fmt.Sprint("c", r.IntN(2)), Status: command.Check_Status(1 + r.IntN(3))}
	if r.IntN(3) == 0 {
		m.Output = "output"
	}
	if r.IntN(4) == 0 {
		m.CreateIndex = uint64(r.IntN(int(model.Index) + 1))
	}
	if r.IntN(2) == 0 {
		m.Node = g.node()
		return m
	}
	m.Service, m.Instance = g.name(), g.instance()
	if names := slices.Sorted(maps.Keys(model.Registry.Services)); len(names) > 0 && r.IntN(4) > 0 {
		s := model.Registry.Services[names[r.IntN(len(names))]]
		m.Service, m.Instance = s.Name, s.Id
		if n := len(s.Checks); n > 0 && r.IntN(3) == 0 {
			m.CreateIndex = s.Checks[r.IntN(n)].CreateIndex
		}
	}
	return m
}
