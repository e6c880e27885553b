package api

import (
	"net/http"

	"github.com/neogan74/konsul/fsm"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
	"github.com/neogan74/konsul/internal/persistence/record"
)

// serviceChecks is GET /services/{name}/checks: those of all instances.
func (c *call) serviceChecks() error {
	name, err := c.pathName("name", "service name")
	if err != nil {
		return err
	}
	rr, err := c.readRequest()
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	v, err := c.view(&rr, fsm.Filter{Service: name})
	if err != nil {
		return err
	}
	defer v.Close()
	all, err := liveInstances(v, name)
	if err != nil {
		return err
	}
	c.out = append(c.out[:0], `{"checks":[`...)
	n := 0
	for _, in := range all {
		for _, check := range in.Checks {
			c.out = appendString(append(c.out, comma(n)...), `{"service":`, name)
			c.out = appendString(c.out, `,"instance":`, in.Id)
			c.out = appendString(c.out, `,"node":`, in.Node)
			c.out = append(appendCheck(append(c.out, ','), check), '}')
			n++
			if err := c.pushJSON(); err != nil {
				return err
			}
		}
	}
	c.out = append(c.out, `]}`...)
	return c.endJSON()
}

// serviceCheckUpdate is PUT /services/{name}/checks/{check}.
func (c *call) serviceCheckUpdate() error {
	name, id, err := c.instanceNamed()
	if err != nil {
		return err
	}
	check, err := c.pathName("check", "check id")
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	result, err := c.readResult()
	if err != nil {
		return err
	}
	find := func(v View) (*record.Check, error) { return instanceCheck(v, name, id, check) }
	if err := c.onlyTTL(find); err != nil {
		return err
	}
	_, err = c.propose(command.Type_TYPE_CHECK_UPDATE, &command.CheckUpdate{
		Service: name, Instance: id, Id: check, Status: result.status, Output: result.output,
	})
	if err != nil {
		return err
	}
	c.out = appendString(c.out[:0], `{"message":"check updated","name":`, name)
	c.out = appendString(c.out, `,"id":`, id)
	return c.sendChecked(check, result.status)
}

func instanceCheck(v View, name, id, check string) (*record.Check, error) {
	for _, c := range serviceAt(v, name, id).GetChecks() {
		if c.Id == check {
			return c, nil
		}
	}
	return nil, nil
}

// onlyTTL refuses to update what a node finds out itself, as far as this node knows
// the check: of what kind it is does not change while it is registered.
func (c *call) onlyTTL(find func(View) (*record.Check, error)) error {
	v, err := c.s.node.ViewAt(c.s.node.Published())
	if err != nil {
		return nil // there is no state here just now
	}
	defer v.Close()
	check, err := find(v)
	if err != nil || check == nil || check.Kind == uint32(command.Check_TTL) {
		return err
	}
	return badRequest("check %s is of kind %s: its node finds its status out", check.Id, checkKinds[command.Check_Kind(check.Kind)])
}

// checkList is GET /checks: those of nodes.
func (c *call) checkList() error {
	rr, err := c.readRequest()
	if err != nil {
		return err
	}
	node, err := c.queryName("node", "")
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	v, err := c.view(&rr, fsm.Filter{Node: node, NodeChecks: node == ""})
	if err != nil {
		return err
	}
	defer v.Close()
	c.out = append(c.out[:0], `{"checks":[`...)
	n := 0
	err = v.NodeChecks(node, func(node string, check *record.Check) error {
		c.out = appendString(append(c.out, comma(n)...), `{"node":`, node)
		c.out = append(appendCheck(append(c.out, ','), check), '}')
		n++
		return c.pushJSON()
	})
	if err != nil {
		return err
	}
	c.out = append(c.out, `]}`...)
	return c.endJSON()
}

// checkRegister is PUT /checks/{id}: a check of the node that is asked.
func (c *call) checkRegister() error {
	id, err := c.pathName("check", "check id")
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	r, err := c.readJSON("check", maxAdminBody)
	if err != nil {
		return err
	}
	check, err := readCheck(r, "")
	if err == nil {
		err = r.End()
	}
	if err != nil {
		return err
	}
	if check.Id != id && check.Id != checkKinds[check.Kind] {
		return badRequest("id is %s, but the path says %s", check.Id, id)
	}
	check.Id = id
	node := c.s.node.NodeID()
	res, err := c.propose(command.Type_TYPE_CHECK_SET, &command.CheckSet{Node: node, Check: check})
	if err != nil {
		return err
	}
	c.out = appendString(c.out[:0], `{"message":"check registered","node":`, node)
	c.out = appendString(c.out, `,"id":`, id)
	c.out = appendUint(c.out, `,"modify_index":`, res.Index)
	c.out = append(c.out, '}')
	return c.json(http.StatusOK)
}

// nodeCheckNamed takes the node, by default the one that is asked, and the check.
func (c *call) nodeCheckNamed() (node, id string, err error) {
	if id, err = c.pathName("check", "check id"); err != nil {
		return "", "", err
	}
	node, err = c.queryName("node", c.s.node.NodeID())
	return node, id, err
}

// checkUpdate is PUT /checks/{id}/status.
func (c *call) checkUpdate() error {
	node, id, err := c.nodeCheckNamed()
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	result, err := c.readResult()
	if err != nil {
		return err
	}
	find := func(v View) (*record.Check, error) { return nodeCheck(v, node, id) }
	if err := c.onlyTTL(find); err != nil {
		return err
	}
	_, err = c.propose(command.Type_TYPE_CHECK_UPDATE, &command.CheckUpdate{
		Node: node, Id: id, Status: result.status, Output: result.output,
	})
	if err != nil {
		return err
	}
	c.out = appendString(c.out[:0], `{"message":"check updated","node":`, node)
	return c.sendChecked(id, result.status)
}

func nodeCheck(v View, node, id string) (found *record.Check, err error) {
	err = v.NodeChecks(node, func(_ string, check *record.Check) error {
		if check.Id != id {
			return nil
		}
		found = check
		return persistence.ErrStop
	})
	return found, err
}

// checkDeregister is DELETE /checks/{id}.
func (c *call) checkDeregister() error {
	node, id, err := c.nodeCheckNamed()
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	if err := c.noBody(); err != nil {
		return err
	}
	res, err := c.propose(command.Type_TYPE_CHECK_DELETE, &command.CheckDelete{Node: node, Id: id})
	if err != nil {
		return err
	}
	c.out = appendString(c.out[:0], `{"message":"check deregistered","node":`, node)
	c.out = appendString(c.out, `,"id":`, id)
	c.out = appendUint(c.out, `,"modify_index":`, res.Index)
	c.out = append(c.out, '}')
	return c.json(http.StatusOK)
}
