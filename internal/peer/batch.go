package peer

import (
	"bufio"
	"context"
	"encoding/binary"
	"time"
)

// BatchHandler carries out requests that arrived together, without a goroutine and
// a timer for each. It runs on the goroutine that reads the connection, so it must
// not wait. Each request has to be answered, from anywhere, or handed to Handle.
type BatchHandler func(requests []*Request)

// Request is one of those that a BatchHandler got.
type Request struct {
	// Body is the handler's to keep.
	Body []byte
	// Deadline is when the caller stops waiting; zero = never.
	Deadline time.Time

	ss    *session
	ctx   context.Context // of the connection
	frame frame
}

// HandleBatch registers a method whose requests are carried out together. The
// caller's giving up does not reach them.
func (s *Server) HandleBatch(method uint16, h BatchHandler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unusedLocked(method)
	s.batches[method] = h
}

func (s *Server) batch(id uint16) BatchHandler {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.batches[id]
}

// From is the caller's node id as it introduced itself.
func (r *Request) From() string { return r.ss.from }

// Handle carries the request out by itself, on a goroutine. To be called before the
// BatchHandler returns.
func (r *Request) Handle(h Handler) { r.ss.begin(r.ctx, r.frame, h) }

// Answer ends the request. It does not wait, and nothing is sent before Flush.
func (r *Request) Answer(body []byte, err error) {
	it := r.ss.answer(r.frame.id, body, err)
	if !r.ss.w.add(it) {
		go r.ss.w.put(it) // the caller does not read, and may end the connection
	}
}

// SameCaller reports whether two requests came over one connection.
func (r *Request) SameCaller(o *Request) bool { return r.ss == o.ss }

// Flush sends the answers of all requests of r's connection.
func (r *Request) Flush() { r.ss.w.flush() }

// gathered are requests that were read together.
type gathered struct {
	ss       *session
	handler  BatchHandler
	method   uint16
	requests []*Request
}

// take keeps a request if its method has a BatchHandler.
func (g *gathered) take(ctx context.Context, f frame) bool {
	if g.handler == nil || g.method != f.method {
		h := g.ss.srv.batch(f.method)
		if h == nil {
			return false
		}
		g.carryOut()
		g.handler, g.method = h, f.method
	}
	r := &Request{Body: f.body, ss: g.ss, ctx: ctx, frame: f}
	if f.leftMS > 0 {
		r.Deadline = time.Now().Add(time.Duration(f.leftMS) * time.Millisecond)
	}
	g.requests = append(g.requests, r)
	return true
}

func (g *gathered) carryOut() {
	if len(g.requests) > 0 {
		g.handler(g.requests)
		g.requests = nil
	}
}

// buffered reports whether a whole frame can be read without waiting.
func buffered(r *bufio.Reader) bool {
	if r.Buffered() < lenSize {
		return false
	}
	head, err := r.Peek(lenSize)
	return err == nil && uint64(r.Buffered()) >= lenSize+uint64(binary.BigEndian.Uint32(head))
}
