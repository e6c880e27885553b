package api

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/neogan74/konsul/api/internal/jsonwire"
	"github.com/neogan74/konsul/fsm/command"
)

// maxInstances bounds the instances of one service in an import; a service with more
// would not fit in the memory that an import has.
const maxInstances = 1024

// service takes one member of services. Each instance is registered by an entry of its
// own, on this node, and its time to live begins anew.
func (im *importer) service(name []byte) error {
	im.begin(name)
	service := string(name)
	if err := checkName("service name", service); err != nil {
		return err
	}
	r, err := im.in.Value()
	if err != nil {
		return err
	}
	sets, err := im.readInstances(r, service)
	if err != nil {
		return err
	}
	for _, set := range sets {
		if err := command.Validate(command.Type_TYPE_SERVICE_SET, set); err != nil {
			return err
		}
	}
	if len(im.prefix) > 0 {
		im.inRecord = false
		return nil
	}
	if wanted, err := im.wants(service); err != nil || !wanted {
		return err
	}
	for _, set := range sets {
		if im.dry {
			break
		}
		res, err := im.apply(command.Type_TYPE_SERVICE_SET, set)
		if err != nil {
			return err
		}
		if res.Code != command.Result_OK {
			return refused(set, res)
		}
	}
	im.services++
	im.inRecord = false
	return nil
}

// wants says whether a service is to be registered, by what is to happen to one that
// exists. Unlike a key's, its existence is looked at before, not together with the write.
func (im *importer) wants(name string) (bool, error) {
	if im.conflict == overwrite {
		return true, nil
	}
	v, err := im.view()
	if err != nil {
		return false, err
	}
	defer v.Close()
	all, err := v.Instances(name)
	switch {
	case err != nil:
		return false, err
	case len(all) == 0:
		return true, nil
	case im.conflict == skip:
		im.skipped++
		im.inRecord = false
		return false, nil
	}
	return false, &failure{status: http.StatusConflict, code: "exists", field: "services." + name,
		text: fmt.Sprintf("service %q exists already, and on_conflict=fail", name)}
}

// readInstances reads a service as /export writes it. Where there are instances, what
// stands beside them repeats the first.
func (im *importer) readInstances(r *jsonwire.Reader, name string) ([]*command.ServiceSet, error) {
	outer := registrationReader{set: im.newSet(name)}
	var sets []*command.ServiceSet
	listed := false
	err := r.Object(func(field []byte) error {
		switch string(field) {
		case "name":
			given, err := r.String()
			if err == nil && given != name {
				err = badRequest("the name in it is %q", clipName([]byte(given)))
			}
			return err
		case "instances":
			listed = true
			return r.Array(func() error {
				if len(sets) == maxInstances {
					return tooLarge("number of instances", maxInstances)
				}
				in := registrationReader{set: im.newSet(name), where: fmt.Sprintf("instances[%d].", len(sets))}
				if err := r.Object(func(field []byte) error { return in.field(r, field) }); err != nil {
					return err
				}
				sets = append(sets, in.set)
				return in.done()
			})
		}
		return outer.field(r, field)
	})
	if err == nil {
		err = r.End()
	}
	if err != nil || listed {
		return sets, err
	}
	return []*command.ServiceSet{outer.set}, outer.done()
}

func (im *importer) newSet(name string) *command.ServiceSet {
	return &command.ServiceSet{Name: name, Id: name, Node: im.c.s.node.NodeID()}
}

// registrationReader reads the fields of one instance, in any order.
type registrationReader struct {
	set     *command.ServiceSet
	where   string // before the names of fields, for errors
	data    blob
	hasPort bool
}

func (rr *registrationReader) field(r *jsonwire.Reader, field []byte) (err error) {
	set := rr.set
	switch string(field) {
	case "id":
		set.Id, err = r.String()
	case "address":
		set.Address, err = r.String()
	case "port":
		rr.hasPort = true
		set.Port, err = readPort(r)
	case "tags":
		set.Tags, err = readStrings(r, rr.where+"tags", command.MaxTags)
	case "meta":
		set.Meta, err = readMeta(r)
	case "ttl":
		set.Ttl, err = readDuration(r, rr.where+"ttl")
	case "checks":
		set.Checks, err = readChecks(r)
	case "data":
		return rr.data.read(r)
	case "data_encoding":
		return rr.data.readEncoding(r)
	default:
		return r.Unknown(field)
	}
	return err
}

// done checks what cannot be checked field by field.
func (rr *registrationReader) done() (err error) {
	set := rr.set
	if rr.data.given {
		if set.Data, err = rr.data.decode(rr.where + "data"); err != nil {
			return err
		}
		set.Data = bytes.Clone(set.Data) // it may point into the window of the stream
	} else if set.Address == "" || !rr.hasPort {
		return badRequest("%saddress and port are required", rr.where)
	}
	return checkName(rr.where+"id", set.Id)
}
