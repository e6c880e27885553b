package api

import (
	"slices"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

func isService(e *fsm.Event) bool { return e.Name != "" }

// appendServiceEvent appends an instance as an event shows it: as it was registered,
// with its checks. When it expires is not part of it, because a heartbeat is no change;
// and healthy is about its own checks, not those of its node, which have no events.
func (c *call) appendServiceEvent(s *record.Service) {
	in := persistence.Instance{Service: s, Healthy: !slices.ContainsFunc(s.Checks, isCritical)}
	c.out = appendString(c.out, `{"name":`, s.Name)
	c.out = c.appendInstance(append(c.out, ','), &in)
	c.out = append(appendChecks(c.out, s.Checks), '}')
}

func isCritical(c *record.Check) bool { return c.Status == uint32(command.Check_CRITICAL) }

// serviceAt is one instance in a view, nil if it is not there.
func serviceAt(v View, name, id string) (found *record.Service) {
	key := persistence.ServiceKey(name, id)
	err := v.Scan(key, nil, func(stored, value []byte) error {
		if string(stored) == string(key) {
			found = new(record.Service)
			if err := persistence.DecodeRecord(value, found); err != nil {
				return err
			}
		}
		return persistence.ErrStop
	})
	if err != nil {
		return nil
	}
	return found
}
