package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// maxInHand bounds the requests of one connection that are being carried out;
// more are answered CodeBusy at once.
const maxInHand = 16384

// Handler carries out one request. from is the caller's node id as it
// introduced itself. ctx ends with the caller's deadline, when the caller gives
// up, or when the connection breaks. body is the handler's to keep. An error
// that is an *Error crosses with its code, any other as CodeInternal.
type Handler func(ctx context.Context, from string, body []byte) ([]byte, error)

// Server holds the methods of this node.
type Server struct {
	mu      sync.RWMutex
	methods map[uint16]Handler
	batches map[uint16]BatchHandler
}

// NewServer returns a server without methods.
func NewServer() *Server {
	return &Server{methods: make(map[uint16]Handler), batches: make(map[uint16]BatchHandler)}
}

// Handle registers a method. Registering one twice is a mistake in the program: it panics.
func (s *Server) Handle(method uint16, h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unusedLocked(method)
	s.methods[method] = h
}

func (s *Server) unusedLocked(method uint16) {
	_, one := s.methods[method]
	_, batch := s.batches[method]
	if one || batch {
		panic(fmt.Sprintf("peer: method %d registered twice", method))
	}
}

func (s *Server) method(id uint16) Handler {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.methods[id]
}

// session is one accepted connection.
type session struct {
	srv  *Server
	from string
	w    *writer
	wg   sync.WaitGroup

	mu     sync.Mutex
	inHand map[uint64]context.CancelFunc
}

// serve answers the requests of conn until it breaks or ctx ends, and waits
// for the handlers.
func (s *Server) serve(ctx context.Context, conn net.Conn, from string) {
	ctx, cancel := context.WithCancel(ctx)
	ss := &session{srv: s, from: from, w: newWriter(conn), inHand: make(map[uint64]context.CancelFunc)}
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		_ = ss.w.run() // its error is the connection's end, which the reader sees too
		_ = conn.Close()
	}()
	_ = ss.read(ctx, conn)
	cancel()
	ss.w.close()
	_ = conn.Close()
	ss.wg.Wait()
	wg.Wait()
}

func (ss *session) read(ctx context.Context, conn net.Conn) error {
	r := bufio.NewReaderSize(conn, 64<<10)
	together := gathered{ss: ss}
	for {
		if !buffered(r) {
			together.carryOut()
		}
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		switch f.typ {
		case frameRequest:
			if !together.take(ctx, f) {
				ss.begin(ctx, f, ss.srv.method(f.method))
			}
		case frameCancel:
			ss.mu.Lock()
			stop := ss.inHand[f.id]
			ss.mu.Unlock()
			if stop != nil {
				stop()
			}
		case framePing:
			ss.w.put(item{size: lenSize + frameHeader, encode: func(b []byte) []byte {
				return appendEmpty(b, framePong, f.id)
			}})
		}
	}
}

// begin starts a handler.
func (ss *session) begin(ctx context.Context, f frame, h Handler) {
	if h == nil {
		ss.fail(f.id, &Error{Code: CodeUnknownMethod, Text: fmt.Sprintf("unknown method %d", f.method)})
		return
	}
	var stop context.CancelFunc
	if f.leftMS > 0 {
		ctx, stop = context.WithTimeout(ctx, time.Duration(f.leftMS)*time.Millisecond)
	} else {
		ctx, stop = context.WithCancel(ctx)
	}
	ss.mu.Lock()
	_, dup := ss.inHand[f.id]
	full := len(ss.inHand) >= maxInHand
	if !dup && !full {
		ss.inHand[f.id] = stop
	}
	ss.mu.Unlock()
	if dup || full {
		stop()
		ss.fail(f.id, &Error{Code: CodeBusy, Text: "too many requests in hand"})
		return
	}
	ss.wg.Add(1)
	go ss.run(ctx, stop, h, f)
}

func (ss *session) run(ctx context.Context, stop context.CancelFunc, h Handler, f frame) {
	defer ss.wg.Done()
	defer stop()
	body, err := h(ctx, ss.from, f.body)
	ss.mu.Lock()
	delete(ss.inHand, f.id)
	ss.mu.Unlock()
	if err != nil && errors.Is(err, ctx.Err()) {
		return // the caller's time is up, and it knows; an answer would race its clock
	}
	ss.w.put(ss.answer(f.id, body, err))
}

// answer is the frame that ends a request.
func (ss *session) answer(id uint64, body []byte, err error) item {
	switch {
	case err != nil:
		return failure(id, asError(err))
	case len(body) > MaxBody:
		return failure(id, &Error{Code: CodeTooLarge, Text: ErrTooLarge.Error()})
	}
	return item{size: lenSize + frameHeader + len(body), encode: func(b []byte) []byte {
		return appendResponse(b, id, body)
	}}
}

func (ss *session) fail(id uint64, e *Error) { ss.w.put(failure(id, e)) }

func failure(id uint64, e *Error) item {
	return item{size: 64 + len(e.Text) + len(e.Detail), encode: func(b []byte) []byte {
		return appendFailure(b, id, e)
	}}
}

func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeInternal, Text: err.Error()}
}
