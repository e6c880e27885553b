package etcdload

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"golang.org/x/net/http2/hpack"
)

// conn is one HTTP/2 connection. Writing is under mu; reading is done by one
// goroutine at a time, and what reading changes is its own or under mu.
type conn struct {
	net    net.Conn
	reader *bufio.Reader
	stop   func() bool

	mu      sync.Mutex
	cond    *sync.Cond // window grew, or the connection ended
	out     []byte
	window  int64 // what the connection may still send
	initial int64 // what a new stream may send
	next    uint32
	put     []byte // header blocks
	get     []byte
	err     error
	pending map[uint32]*call

	decoder *hpack.Decoder
	status  int // of the header block being decoded; -1 = none in it
	message string
	unacked uint32 // received bytes for which no window was given back
}

// call is one request under way.
type call struct {
	done    chan error // of a shared connection
	body    []byte     // what came of the answer
	status  int        // grpc-status, -1 until it came
	message string
}

// dial connects; every stream has the same header blocks from then on.
func dial(ctx context.Context, address string) (*conn, error) {
	var d net.Dialer
	n, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &conn{net: n, reader: bufio.NewReaderSize(n, 64<<10), window: defaultWindow, initial: defaultWindow, next: 1, pending: map[uint32]*call{}, status: -1}
	c.cond = sync.NewCond(&c.mu)
	c.decoder = hpack.NewDecoder(4096, c.field)
	hello := append([]byte(preface), appendFrameHead(nil, 6, frameSettings, 0, 0)...)
	hello = binary.BigEndian.AppendUint16(hello, settingInitialWindow)
	hello = binary.BigEndian.AppendUint32(hello, largeWindow)
	hello = appendWindow(hello, 0, largeWindow)
	if _, err := n.Write(hello); err != nil {
		_ = n.Close()
		return nil, err
	}
	c.stop = context.AfterFunc(ctx, func() { _ = n.Close() })
	return c, nil
}

func (c *conn) close() {
	c.stop()
	_ = c.net.Close()
}

// blocks returns the header block for a path. The first of a connection fills the
// server's dynamic table, every later one consists of indexes into it.
func headerBlock(path, authority string, enc *hpack.Encoder, buf *bytes.Buffer) []byte {
	buf.Reset()
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", authority},
		{"content-type", "application/grpc"}, {"user-agent", "konsul-bench"}, {"te", "trailers"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // a bytes.Buffer does not fail
	}
	return bytes.Clone(buf.Bytes())
}

// field receives a decoded header.
func (c *conn) field(f hpack.HeaderField) {
	switch f.Name {
	case "grpc-status":
		if n, err := strconv.Atoi(f.Value); err == nil {
			c.status = n
		}
	case "grpc-message":
		c.message = f.Value
	}
}

var errNoStatus = errors.New("the answer has no grpc-status")

// statusError is an answer with a gRPC status other than 0.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string     { return fmt.Sprintf("grpc status %d: %s", e.code, e.message) }
func (e *statusError) ErrorCode() string { return "grpc_" + strconv.Itoa(e.code) }

// send starts a call: one write with headers and message. It waits while the
// window is too small (reading must go on elsewhere, or by pump).
func (c *conn) send(block func(c *conn) []byte, message []byte, cl *call, pump func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && (c.window < int64(len(message)) || c.initial < int64(len(message))) {
		if pump == nil {
			c.cond.Wait()
			continue
		}
		c.mu.Unlock()
		err := pump()
		c.mu.Lock()
		if err != nil {
			return err
		}
	}
	if c.err != nil {
		return c.err
	}
	id := c.next
	c.next += 2
	c.window -= int64(len(message))
	head := block(c)
	c.out = append(appendFrameHead(c.out[:0], len(head), frameHeaders, flagEndHeaders, id), head...)
	c.out = append(appendFrameHead(c.out, len(message), frameData, flagEndStream, id), message...)
	c.pending[id] = cl
	if _, err := c.net.Write(c.out); err != nil {
		return err
	}
	return nil
}

// reply writes what the connection itself has to say.
func (c *conn) reply(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.net.Write(b)
	return err
}
