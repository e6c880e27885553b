package loadgen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"
)

// HTTPTarget is a Konsul cluster. The clients are spread over the addresses; one whose
// connection fails goes on with the next address.
type HTTPTarget struct {
	// Addresses are URLs, "http://host:port" or "https://host:port".
	Addresses []string
	// Token is sent with every request, if not empty.
	Token string
	// Prefix is before the number in the name of each key; only characters that are
	// unreserved in a URL, or '/'.
	Prefix string
	// Stale reads locally instead of linearizably.
	Stale bool
	// Timeout bounds an operation (see the package's trade-offs); 0 = 10 s.
	Timeout time.Duration
}

const defaultHTTPTimeout = 10 * time.Second

// KeyName is the name of a key.
func (t *HTTPTarget) KeyName(key uint64) string {
	return t.Prefix + fmt.Sprintf("%0*d", keyDigits, key)
}

// NewWorker connects to the address whose turn it is, or else to the next.
func (t *HTTPTarget) NewWorker(ctx context.Context, id int) (Worker, error) {
	if len(t.Addresses) == 0 {
		return nil, errors.New("no addresses")
	}
	w := &HTTPWorker{target: t, ctx: ctx, timeout: t.Timeout, next: id % len(t.Addresses)}
	if w.timeout <= 0 {
		w.timeout = defaultHTTPTimeout
	}
	var errs []error
	for range t.Addresses {
		err := w.connect()
		if err == nil {
			return w, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// dial connects to an address and formats the requests for it.
func (t *HTTPTarget) dial(ctx context.Context, address string, timeout time.Duration) (net.Conn, templates, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, templates{}, fmt.Errorf("address %q is not a URL", address)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var conn net.Conn
	switch u.Scheme {
	case "http":
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", withPort(u, "80"))
	case "https":
		conn, err = new(tls.Dialer).DialContext(ctx, "tcp", withPort(u, "443"))
	default:
		err = fmt.Errorf("address %q is neither http nor https", address)
	}
	if err != nil {
		return nil, templates{}, err
	}
	return conn, t.templates(u.Host), nil
}

func withPort(u *url.URL, port string) string {
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port)
}

const keyDigits = 10

// templates are requests that lack the digits of the key, and of a put the value.
type templates struct {
	get, put        []byte
	getKey, putKey  int // where the digits go
	putLen, putHead int // where the length of the value goes, and the value
	length          int // of the value in the head as it is
	batch           []byte
	batchHead       int // where the length of the body goes
	batchKey        string
}

// templates writes the requests out. A get asks for the bytes alone: what a client that
// wants the value would do, and the cheapest for both sides.
func (t *HTTPTarget) templates(host string) templates {
	end := " HTTP/1.1\r\nHost: " + host + "\r\n"
	if t.Token != "" {
		end += "Authorization: Bearer " + t.Token + "\r\n"
	}
	query := "?raw=true"
	if t.Stale {
		query += "&consistency=stale"
	}
	var out templates
	get, put := "GET /kv/"+t.Prefix, "PUT /kv/"+t.Prefix
	out.getKey, out.putKey = len(get), len(put)
	digits := fmt.Sprintf("%0*d", keyDigits, 0)
	out.get = []byte(get + digits + query + end + "\r\n")
	out.put = []byte(put + digits + end + "Content-Type: application/octet-stream\r\nContent-Length: ")
	out.putLen = len(out.put)
	out.batch = []byte("POST /batch/set" + end + "Content-Type: application/json\r\nContent-Length: ")
	out.batchHead, out.batchKey = len(out.batch), `"`+t.Prefix+digits+`":"`
	return out
}

// batchRequest writes a batch. Keys and values go into the JSON as they are: what a
// Prefix may have and what the values are made of needs no escaping.
func (t *templates) batchRequest(items []Item) []byte {
	const begin, end = `{"items":{`, "}}"
	length := len(begin) + len(end) + max(len(items)-1, 0)
	for i := range items {
		length += len(t.batchKey) + len(items[i].Value) + 1
	}
	t.batch = append(strconv.AppendInt(t.batch[:t.batchHead], int64(length), 10), "\r\n\r\n"+begin...)
	for i := range items {
		if i > 0 {
			t.batch = append(t.batch, ',')
		}
		at := len(t.batch) + len(t.batchKey) - len(`":"`) - keyDigits
		t.batch = append(t.batch, t.batchKey...)
		setKey(t.batch, at, items[i].Key)
		t.batch = append(append(t.batch, items[i].Value...), '"')
	}
	t.batch = append(t.batch, end...)
	return t.batch
}

// putRequest completes the put for one value; the head is rewritten only when the length changes.
func (t *templates) putRequest(value []byte) []byte {
	if t.putHead == 0 || t.length != len(value) {
		t.put = append(strconv.AppendInt(t.put[:t.putLen], int64(len(value)), 10), "\r\n\r\n"...)
		t.putHead, t.length = len(t.put), len(value)
	}
	t.put = append(t.put[:t.putHead], value...)
	return t.put
}

// setKey writes the digits of a key into a request.
func setKey(request []byte, at int, key uint64) {
	for i := at + keyDigits - 1; i >= at; i-- {
		request[i] = byte('0' + key%10)
		key /= 10
	}
}
