package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// CheckStatus is passing, warning or critical.
type CheckStatus string

// The statuses of a check. An instance with a warning still counts as healthy.
const (
	Passing  CheckStatus = "passing"
	Warning  CheckStatus = "warning"
	Critical CheckStatus = "critical"
)

// CheckSpec is a check, as it is registered: one of TTL, HTTP and TCP.
type CheckSpec struct {
	// ID is unique within the instance or the node; "" = "ttl", "http" or "tcp".
	ID   string
	Name string
	// TTL: critical unless UpdateCheck comes at least this often.
	TTL time.Duration
	// HTTP is a URL to GET: 2xx passes, 429 is a warning, all else is critical.
	HTTP string
	// TCP is host:port to connect to.
	TCP string
	// Interval and Timeout of an HTTP or TCP check; 0 = the server's defaults, 10 s and 5 s.
	Interval, Timeout time.Duration
	// PassingAfter and CriticalAfter are how many results in a row it takes to change to
	// that; 0 is 1.
	PassingAfter, CriticalAfter int
	// Status is the first one; "" = critical.
	Status CheckStatus
}

// specJSON is a check as the HTTP API takes it.
type specJSON struct {
	ID            string      `json:"id,omitempty"`
	Name          string      `json:"name,omitempty"`
	TTL           duration    `json:"ttl,omitempty"`
	HTTP          string      `json:"http,omitempty"`
	TCP           string      `json:"tcp,omitempty"`
	Interval      duration    `json:"interval,omitempty"`
	Timeout       duration    `json:"timeout,omitempty"`
	PassingAfter  int         `json:"passing_after,omitempty"`
	CriticalAfter int         `json:"critical_after,omitempty"`
	Status        CheckStatus `json:"status,omitempty"`
}

func (s CheckSpec) json() specJSON {
	return specJSON{s.ID, s.Name, duration(s.TTL), s.HTTP, s.TCP, duration(s.Interval), duration(s.Timeout),
		s.PassingAfter, s.CriticalAfter, s.Status}
}

// MarshalJSON writes the check as the HTTP API takes it.
func (s CheckSpec) MarshalJSON() ([]byte, error) { return marshalPlain(s.json()) }

// Check is a check, as it was registered, and its last result.
type Check struct {
	// Node, Service and Instance say whose it is, where it is not clear: of a node, or of
	// an instance of a service.
	Node, Service, Instance string
	// CheckSpec is how it was registered, but that Status is the one it has now.
	CheckSpec
	// Kind is ttl, http or tcp.
	Kind string
	// Output is what the last result said.
	Output string
	// ModifyIndex is that of the last change of the status.
	CreateIndex, ModifyIndex uint64
}

// checkJSON is a check as the HTTP API writes it.
type checkJSON struct {
	Node     string `json:"node,omitempty"`
	Service  string `json:"service,omitempty"`
	Instance string `json:"instance,omitempty"`
	specJSON
	Kind        string `json:"kind"`
	Output      string `json:"output"`
	CreateIndex uint64 `json:"create_index,omitempty"`
	ModifyIndex uint64 `json:"modify_index"`
}

// MarshalJSON writes the check as the HTTP API does.
func (c Check) MarshalJSON() ([]byte, error) {
	return marshalPlain(checkJSON{c.Node, c.Service, c.Instance, c.json(), c.Kind, c.Output, c.CreateIndex, c.ModifyIndex})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (c *Check) UnmarshalJSON(b []byte) error {
	var j checkJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*c = Check{j.Node, j.Service, j.Instance, CheckSpec{j.ID, j.Name, time.Duration(j.TTL), j.HTTP, j.TCP,
		time.Duration(j.Interval), time.Duration(j.Timeout), j.PassingAfter, j.CriticalAfter, j.Status},
		j.Kind, j.Output, j.CreateIndex, j.ModifyIndex}
	return nil
}

// UpdateCheck is a result of a TTL check of an instance (id "" = the service's name): it
// sets the status and renews the TTL. ErrCheckNotFound, ErrServiceNotFound,
// ErrServiceExpired.
func (c *Client) UpdateCheck(ctx context.Context, service, id, check string, status CheckStatus, output string) error {
	path, err := servicePath(service)
	if err != nil {
		return err
	}
	if check == "" {
		return badRequest("a check has an id")
	}
	req, err := putJSON(path+"/checks/"+escape(check, false), checkResult{status, output})
	if err != nil {
		return err
	}
	req.setID(id)
	return c.call(ctx, req, nil)
}

// ServiceChecks lists the checks of all instances of a service.
func (c *Client) ServiceChecks(ctx context.Context, service string, options ...ReadOption) ([]Check, error) {
	path, err := servicePath(service)
	if err != nil {
		return nil, err
	}
	return c.checks(ctx, (&request{method: http.MethodGet, path: path + "/checks"}).applyRead(options))
}

// RegisterNodeCheck registers a check of the node that is asked, or replaces it: while
// it is critical, no service registered on that node is healthy. Use Node to say which.
func (c *Client) RegisterNodeCheck(ctx context.Context, id string, spec CheckSpec, options ...WriteOption) error {
	path, err := checkPath(id)
	if err != nil {
		return err
	}
	spec.ID = "" // it is in the path
	req, err := putJSON(path, spec)
	if err != nil {
		return err
	}
	return c.call(ctx, req.applyWrite(options), nil)
}

// UpdateNodeCheck is a result of a TTL check of the node that is asked.
func (c *Client) UpdateNodeCheck(ctx context.Context, id string, status CheckStatus, output string) error {
	path, err := checkPath(id)
	if err != nil {
		return err
	}
	req, err := putJSON(path+"/status", checkResult{status, output})
	if err != nil {
		return err
	}
	return c.call(ctx, req, nil)
}

// NodeChecks lists the checks of a node; "" = of all nodes.
func (c *Client) NodeChecks(ctx context.Context, node string, options ...ReadOption) ([]Check, error) {
	req := &request{method: http.MethodGet, path: "/checks"}
	if node != "" {
		req.set("node", node)
	}
	return c.checks(ctx, req.applyRead(options))
}

// DeregisterNodeCheck removes a check of a node; "" = of the node that is asked.
func (c *Client) DeregisterNodeCheck(ctx context.Context, node, id string, options ...WriteOption) error {
	path, err := checkPath(id)
	if err != nil {
		return err
	}
	req := &request{method: http.MethodDelete, path: path}
	if node != "" {
		req.set("node", node)
	}
	return c.call(ctx, req.applyWrite(options), nil)
}

func (c *Client) checks(ctx context.Context, req *request) ([]Check, error) {
	var answer struct {
		Checks []Check `json:"checks"`
	}
	err := c.call(ctx, req, &answer)
	return answer.Checks, err
}

type checkResult struct {
	Status CheckStatus `json:"status"`
	Output string      `json:"output,omitempty"`
}

func checkPath(id string) (string, error) {
	if id == "" {
		return "", badRequest("a check has an id")
	}
	return "/checks/" + escape(id, false), nil
}

// putJSON is a PUT with a document.
func putJSON(path string, body any) (*request, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, badRequest("encoding the request: %v", err)
	}
	return &request{method: http.MethodPut, path: path, body: encoded, contentType: "application/json"}, nil
}
