package peer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	batched = 210
	refused = 211
	slowly  = 212
	big     = 213
)

// batches is a node with methods that are carried out together.
func batches(t *testing.T) (l *Listener, calls, requests *atomic.Int64) {
	t.Helper()
	l = node(t, "c")
	calls, requests = new(atomic.Int64), new(atomic.Int64)
	l.server.HandleBatch(batched, func(rs []*Request) {
		calls.Add(1)
		requests.Add(int64(len(rs)))
		go func() { // answered later, in another order, from elsewhere
			for i := len(rs) - 1; i >= 0; i-- {
				rs[i].Answer([]byte(rs[i].From()+":"+string(rs[i].Body)), nil)
			}
			rs[0].Flush()
		}()
	})
	l.server.HandleBatch(refused, func(rs []*Request) {
		for _, r := range rs {
			r.Answer(nil, fmt.Errorf("wrapped: %w", &Error{Code: 123, Text: "no"}))
			r.Flush()
		}
	})
	l.server.HandleBatch(slowly, func(rs []*Request) {
		for _, r := range rs {
			r.Handle(func(ctx context.Context, from string, body []byte) ([]byte, error) {
				time.Sleep(time.Millisecond)
				return append([]byte(from+" waited:"), body...), ctx.Err()
			})
		}
	})
	l.server.HandleBatch(big, func(rs []*Request) {
		for _, r := range rs {
			r.Answer(make([]byte, MaxBody+1), nil)
			r.Flush()
		}
	})
	return l, calls, requests
}

func TestBatchesAnswerEachRequest(t *testing.T) {
	l, calls, requests := batches(t)
	c := client(t, "c")
	ctx := timeout(t, 20*time.Second)
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			body := strings.Repeat("x", i)
			method, want := uint16(batched), "client:"+body
			switch i % 10 {
			case 1:
				method = echo
			case 2:
				method, want = slowly, "client waited:"+body
			}
			got, err := c.Call(ctx, l.Addr().String(), method, []byte(body))
			if err != nil || string(got) != want {
				t.Errorf("call %d: %d bytes, %v", i, len(got), err)
			}
		}()
	}
	wg.Wait()
	if requests.Load() != 800 {
		t.Errorf("%d requests", requests.Load())
	}
	t.Logf("%d requests in %d batches", requests.Load(), calls.Load())
}

func TestErrorsOfBatchesCrossTheWire(t *testing.T) {
	l, _, _ := batches(t)
	c := client(t, "c")
	var remote *Error
	_, err := c.Call(timeout(t, 5*time.Second), l.Addr().String(), refused, nil)
	if !errors.As(err, &remote) || remote.Code != 123 {
		t.Errorf("refused: %v", err)
	}
	_, err = c.Call(timeout(t, 5*time.Second), l.Addr().String(), big, nil)
	if !errors.As(err, &remote) || remote.Code != CodeTooLarge {
		t.Errorf("too large an answer: %v", err)
	}
}

func TestBatchesAreToldTheDeadline(t *testing.T) {
	l, _, _ := batches(t)
	c := client(t, "c")
	const left = 215
	l.server.HandleBatch(left, func(rs []*Request) {
		for _, r := range rs {
			r.Answer([]byte(fmt.Sprint(r.Deadline.IsZero(), time.Until(r.Deadline) > 3*time.Second)), nil)
			r.Flush()
		}
	})
	if got, err := c.Call(timeout(t, 5*time.Second), l.Addr().String(), left, nil); err != nil || string(got) != "false true" {
		t.Errorf("with a deadline: %s, %v", got, err)
	}
	if got, err := c.Call(context.Background(), l.Addr().String(), left, nil); err != nil || string(got) != "true false" {
		t.Errorf("without one: %s, %v", got, err)
	}
}

// An answer to a caller that is gone, or that does not read, holds up nobody.
func TestAnswersNeverWait(t *testing.T) {
	ss := &session{w: newWriter(nil)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 10 {
			r := &Request{ss: ss, frame: frame{id: uint64(i)}}
			r.Answer(make([]byte, MaxBody), nil)
			r.Flush()
		}
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("an answer waits for a caller that does not read")
	}
	ss.w.close() // what waited for room ends
	(&Request{ss: ss}).Answer(nil, nil)
}

func TestAMethodIsRegisteredOnce(t *testing.T) {
	s := NewServer()
	s.HandleBatch(1, func([]*Request) {})
	for name, again := range map[string]func(){
		"batch": func() { s.HandleBatch(1, func([]*Request) {}) },
		"plain": func() { s.Handle(1, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: registered twice", name)
				}
			}()
			again()
		}()
	}
}
