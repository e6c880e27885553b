package api

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/neogan74/konsul/api/internal/jsonwire"
	"github.com/neogan74/konsul/fsm/command"
)

// maxServiceBody is for the largest registration, of which JSON may make six times as much.
const maxServiceBody = 6*command.MaxServiceBytes + 4096

// serviceRegister is PUT /services/{name}.
func (c *call) serviceRegister() error {
	name, err := c.pathName("name", "service name")
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	set, err := c.readService(name)
	if err != nil {
		return err
	}
	res, err := c.propose(command.Type_TYPE_SERVICE_SET, set)
	if err != nil {
		return err
	}
	c.out = appendString(c.out[:0], `{"message":"service registered","name":`, set.Name)
	c.out = appendString(c.out, `,"id":`, set.Id)
	c.out = appendUint(c.out, `,"modify_index":`, res.Index)
	c.out = append(c.out, '}')
	return c.json(http.StatusOK)
}

// readService reads a registration. The instance belongs to the node that is asked,
// whoever is the leader: that node runs its checks.
func (c *call) readService(name string) (*command.ServiceSet, error) {
	r, err := c.readJSON("service", maxServiceBody)
	if err != nil {
		return nil, err
	}
	set := &command.ServiceSet{Name: name, Id: name, Node: c.s.node.NodeID()}
	hasPort := false
	err = r.Object(func(field []byte) (err error) {
		switch string(field) {
		case "id":
			set.Id, err = r.String()
		case "address":
			set.Address, err = r.String()
		case "port":
			hasPort = true
			set.Port, err = readPort(r)
		case "tags":
			set.Tags, err = readStrings(r, "tags", command.MaxTags)
		case "meta":
			set.Meta, err = readMeta(r)
		case "ttl":
			set.Ttl, err = readDuration(r, "ttl")
		case "checks":
			set.Checks, err = readChecks(r)
		default:
			return r.Unknown(field)
		}
		return err
	})
	if err == nil {
		err = r.End()
	}
	switch {
	case err != nil:
		return nil, err
	case set.Address == "":
		return nil, badRequest("address is missing or empty")
	case !hasPort:
		return nil, badRequest("port is missing")
	}
	return set, checkName("id", set.Id)
}

func readPort(r *jsonwire.Reader) (uint32, error) {
	n, err := r.Uint()
	if err != nil || n > 65535 {
		return 0, badRequest("port must be a whole number from 0 to 65535")
	}
	return uint32(n), nil
}

// readStrings reads an array of at most limit strings.
func readStrings(r *jsonwire.Reader, name string, limit int) (list []string, err error) {
	err = r.Array(func() error {
		if len(list) == limit {
			return tooLarge("number of "+name, limit)
		}
		s, err := r.String()
		list = append(list, s)
		return err
	})
	return list, err
}

// readMeta reads an object of strings; the result is sorted, as the command wants it.
func readMeta(r *jsonwire.Reader) (meta []*command.Pair, err error) {
	err = r.Object(func(name []byte) error {
		if len(meta) == command.MaxMeta {
			return tooLarge("number of meta", command.MaxMeta)
		}
		value, err := r.String()
		meta = append(meta, &command.Pair{Key: string(name), Value: value})
		return err
	})
	slices.SortFunc(meta, func(a, b *command.Pair) int { return cmp.Compare(a.Key, b.Key) })
	return meta, err
}

// serviceHeartbeat is PUT /services/{name}/heartbeat.
func (c *call) serviceHeartbeat() error {
	name, id, err := c.instanceNamed()
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	if err := c.noBody(); err != nil {
		return err
	}
	res, err := c.propose(command.Type_TYPE_HEARTBEAT, &command.Heartbeat{Name: name, Id: id})
	if err != nil {
		return err
	}
	c.out = appendString(c.out[:0], `{"message":"heartbeat received","name":`, name)
	c.out = appendString(c.out, `,"id":`, id)
	c.out = append(appendRenewed(c.out, res), '}')
	return c.json(http.StatusOK)
}

// instanceNamed takes the service and the instance, which is by default the one with
// the service's name.
func (c *call) instanceNamed() (name, id string, err error) {
	if name, err = c.pathName("name", "service name"); err != nil {
		return "", "", err
	}
	id, err = c.queryName("id", name)
	return name, id, err
}

// noBody refuses what nobody would read, but for {} and nothing.
func (c *call) noBody() error {
	if c.r.ContentLength == 0 {
		return nil
	}
	if err := c.readBody("request", maxAdminBody); err != nil || len(c.body) == 0 {
		return err
	}
	r := jsonwire.NewReader(c.body)
	if err := r.Object(r.Unknown); err != nil {
		return err
	}
	return r.End()
}

// serviceDeregister is DELETE /services/{name}: one instance, or all of them.
func (c *call) serviceDeregister() error {
	name, err := c.pathName("name", "service name")
	if err != nil {
		return err
	}
	id, err := c.queryName("id", "")
	if err != nil {
		return err
	}
	if err := c.query.done(); err != nil {
		return err
	}
	if err := c.noBody(); err != nil {
		return err
	}
	res, err := c.propose(command.Type_TYPE_SERVICE_DELETE, &command.ServiceDelete{Name: name, Id: id})
	if err != nil {
		return err
	}
	c.out = appendString(c.out[:0], `{"message":"service deregistered","name":`, name)
	if id != "" {
		c.out = appendString(c.out, `,"id":`, id)
	}
	c.out = appendUint(c.out, `,"deleted":`, res.Count)
	c.out = appendUint(c.out, `,"modify_index":`, res.Index)
	c.out = append(c.out, '}')
	return c.json(http.StatusOK)
}
