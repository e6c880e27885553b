package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Service is an instance of a service, as it is registered.
type Service struct {
	// Name of the service: 1 to 128 of A-Z a-z 0-9 . _ -
	Name string
	// ID tells the instances of a service apart; "" = the name.
	ID      string
	Address string
	Port    int
	Tags    []string
	Meta    map[string]string
	// TTL is how long it lives without a Heartbeat; 0 = until it is deregistered.
	TTL time.Duration
	// Checks decide whether it is healthy. The node that took the registration runs them.
	Checks []CheckSpec
}

// Instance is a live instance of a service.
type Instance struct {
	Name, ID string
	// Node is the node it was registered on, which runs its checks.
	Node    string
	Address string
	Port    int
	Tags    []string
	Meta    map[string]string
	TTL     time.Duration
	// ExpiresIn is how long it still lives without a heartbeat; 0 = it has no TTL.
	ExpiresIn time.Duration
	// Healthy: no check of the instance, and none of its node, is critical.
	Healthy bool
	Checks  []Check
	// CreateIndex and ModifyIndex are the indexes of its first registration and of its
	// last change. A heartbeat is none.
	CreateIndex, ModifyIndex uint64
	// Data is what a service without fields was stored with, by the engine's SetService.
	Data []byte
}

// RegisterResult is what was registered, and where.
type RegisterResult struct {
	Name        string `json:"name"`
	ID          string `json:"id"`
	ModifyIndex uint64 `json:"modify_index"`
}

// Register registers an instance, or replaces it. Options: IdempotencyKey, WithMeta.
func (c *Client) Register(ctx context.Context, s Service, options ...WriteOption) (RegisterResult, error) {
	path, err := servicePath(s.Name)
	if err != nil {
		return RegisterResult{}, err
	}
	req, err := putJSON(path, serviceJSON{s.ID, s.Address, s.Port, s.Tags, s.Meta, duration(s.TTL), s.Checks})
	if err != nil {
		return RegisterResult{}, err
	}
	var result RegisterResult
	err = c.call(ctx, req.applyWrite(options), &result)
	return result, err
}

// Heartbeat renews the TTL of an instance; id "" = the name. ErrServiceExpired: the TTL
// has passed, register it again. ErrServiceNotFound: it was never there, or
// deregistered. KeepAlive does it all.
func (c *Client) Heartbeat(ctx context.Context, name, id string) error {
	path, err := servicePath(name)
	if err != nil {
		return err
	}
	req := &request{method: http.MethodPut, path: path + "/heartbeat"}
	req.setID(id)
	return c.call(ctx, req, nil)
}

// Deregister removes an instance; id "" = all of the service. ErrServiceNotFound if
// there is none. Options: IdempotencyKey, WithMeta.
func (c *Client) Deregister(ctx context.Context, name, id string, options ...WriteOption) error {
	path, err := servicePath(name)
	if err != nil {
		return err
	}
	req := &request{method: http.MethodDelete, path: path}
	req.setID(id)
	return c.call(ctx, req.applyWrite(options), nil)
}

// Service reads the live instances of a service, in the order of their ids.
// ErrServiceExpired and ErrServiceNotFound if there are none. Options as for Get (Wait
// among them), and Healthy.
func (c *Client) Service(ctx context.Context, name string, options ...ReadOption) ([]Instance, error) {
	path, err := servicePath(name)
	if err != nil {
		return nil, err
	}
	req := (&request{method: http.MethodGet, path: path}).applyRead(options)
	var answer struct {
		Instances []Instance `json:"instances"`
	}
	if err := c.call(ctx, req, &answer); err != nil {
		return nil, err
	}
	for i := range answer.Instances {
		answer.Instances[i].Name = name
	}
	return answer.Instances, nil
}

// Services lists the names of the services with a live instance, sorted. Options as for
// Get, and Tag, ServiceMeta, Healthy.
func (c *Client) Services(ctx context.Context, options ...ReadOption) ([]string, error) {
	req := (&request{method: http.MethodGet, path: "/services"}).applyRead(options)
	var answer struct {
		Services []string `json:"services"`
	}
	err := c.call(ctx, req, &answer)
	return answer.Services, err
}

// Instances lists the live instances of all services, in the order of their names and
// ids. Options as for Services.
func (c *Client) Instances(ctx context.Context, options ...ReadOption) ([]Instance, error) {
	req := (&request{method: http.MethodGet, path: "/services"}).applyRead(options)
	req.set("detail", "true")
	var answer struct {
		Services []struct {
			Name      string     `json:"name"`
			Instances []Instance `json:"instances"`
		} `json:"services"`
	}
	if err := c.call(ctx, req, &answer); err != nil {
		return nil, err
	}
	var all []Instance
	for _, s := range answer.Services {
		for i := range s.Instances {
			s.Instances[i].Name = s.Name
		}
		all = append(all, s.Instances...)
	}
	return all, nil
}

// Healthy selects instances of which no check, and none of their node, is critical. For
// Service, Instances and Services.
func Healthy() ReadOption {
	return readOption(func(r *request) { r.set("healthy", "true") })
}

// Tag selects instances with this tag; several must all be there. For Service, Instances
// and Services.
func Tag(tag string) ReadOption {
	return readOption(func(r *request) { r.add("tag", tag) })
}

// ServiceMeta selects instances whose Meta has this value; several must all hold. For
// Service, Instances and Services.
func ServiceMeta(key, value string) ReadOption {
	return readOption(func(r *request) { r.add("meta", key+":"+value) })
}

// serviceJSON is a registration in the HTTP API.
type serviceJSON struct {
	ID      string            `json:"id,omitempty"`
	Address string            `json:"address"`
	Port    int               `json:"port"`
	Tags    []string          `json:"tags,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
	TTL     duration          `json:"ttl,omitempty"`
	Checks  []CheckSpec       `json:"checks,omitempty"`
}

// instanceJSON is an instance as the HTTP API writes it.
type instanceJSON struct {
	Name         string            `json:"name,omitempty"`
	ID           string            `json:"id"`
	Node         string            `json:"node,omitempty"`
	Address      string            `json:"address"`
	Port         int               `json:"port"`
	Tags         []string          `json:"tags"`
	Meta         map[string]string `json:"meta"`
	TTL          duration          `json:"ttl,omitempty"`
	ExpiresIn    duration          `json:"expires_in,omitempty"`
	Healthy      bool              `json:"healthy"`
	Checks       []Check           `json:"checks"`
	CreateIndex  uint64            `json:"create_index"`
	ModifyIndex  uint64            `json:"modify_index"`
	Data         string            `json:"data,omitempty"`
	DataEncoding string            `json:"data_encoding,omitempty"`
}

// MarshalJSON writes the instance as the HTTP API does.
func (i Instance) MarshalJSON() ([]byte, error) {
	data, encoding := encodeText(i.Data)
	j := instanceJSON{i.Name, i.ID, i.Node, i.Address, i.Port, i.Tags, i.Meta,
		duration(i.TTL), duration(i.ExpiresIn), i.Healthy, i.Checks, i.CreateIndex, i.ModifyIndex, data, encoding}
	if j.Tags == nil {
		j.Tags = []string{}
	}
	if j.Meta == nil {
		j.Meta = map[string]string{}
	}
	if j.Checks == nil {
		j.Checks = []Check{}
	}
	return marshalPlain(j)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (i *Instance) UnmarshalJSON(b []byte) error {
	var j instanceJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	var data []byte
	var err error
	if j.Data != "" {
		data, err = decodeText(j.Data, j.DataEncoding)
	}
	*i = Instance{j.Name, j.ID, j.Node, j.Address, j.Port, j.Tags, j.Meta,
		time.Duration(j.TTL), time.Duration(j.ExpiresIn), j.Healthy, j.Checks, j.CreateIndex, j.ModifyIndex, data}
	return err
}

// servicePath refuses an empty name, which would be the whole collection. What else a
// name may be is for the server to say.
func servicePath(name string) (string, error) {
	if name == "" {
		return "", badRequest("a service has a name")
	}
	return "/services/" + escape(name, false), nil
}

func (r *request) setID(id string) {
	if id != "" {
		r.set("id", id)
	}
}
