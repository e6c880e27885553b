package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

type who struct{ node, cluster string }

func (w who) NodeID() string    { return w.node }
func (w who) ClusterID() string { return w.cluster }

const (
	echo  = 200
	fail  = 201
	plain = 202
	hang  = 203
)

// node is a listener with a few methods.
func node(t *testing.T, cluster string) *Listener {
	t.Helper()
	s := NewServer()
	s.Handle(echo, func(_ context.Context, from string, body []byte) ([]byte, error) {
		return append([]byte(from+":"), body...), nil
	})
	s.Handle(fail, func(context.Context, string, []byte) ([]byte, error) {
		return nil, fmt.Errorf("wrapped: %w", &Error{Code: 123, Text: "no", Detail: []byte("why")})
	})
	s.Handle(plain, func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("plain") })
	s.Handle(hang, func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	l, err := Listen(Options{BindAddr: "127.0.0.1:0", Identity: who{"server", cluster}, Logger: hclog.NewNullLogger()}, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func client(t *testing.T, cluster string) *Client {
	t.Helper()
	c := NewClient(&Dialer{Identity: who{"client", cluster}})
	t.Cleanup(c.Close)
	return c
}

func timeout(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestCallsManyAtATime(t *testing.T) {
	l, c := node(t, "c"), client(t, "c")
	ctx := timeout(t, 20*time.Second)
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			body := strings.Repeat("x", i)
			got, err := c.Call(ctx, l.Addr().String(), echo, []byte(body))
			if err != nil || string(got) != "client:"+body {
				t.Errorf("call %d: %d bytes, %v", i, len(got), err)
			}
		}()
	}
	wg.Wait()
}

func TestErrorsCrossTheWire(t *testing.T) {
	l, c := node(t, "c"), client(t, "c")
	ctx := timeout(t, 20*time.Second)
	for _, test := range []struct {
		method uint16
		want   Error
	}{
		{fail, Error{Code: 123, Text: "no", Detail: []byte("why")}},
		{plain, Error{Code: CodeInternal, Text: "plain"}},
		{999, Error{Code: CodeUnknownMethod, Text: "unknown method 999"}},
	} {
		_, err := c.Call(ctx, l.Addr().String(), test.method, nil)
		var got *Error
		if !errors.As(err, &got) || got.Code != test.want.Code || got.Text != test.want.Text || !bytes.Equal(got.Detail, test.want.Detail) {
			t.Errorf("method %d: %#v", test.method, err)
		}
	}
}

func TestWhatWasNotSentSaysSo(t *testing.T) {
	l, c := node(t, "c"), client(t, "c")
	addr := l.Addr().String()
	if _, err := c.Call(timeout(t, time.Second), "127.0.0.1:1", echo, nil); !errors.Is(err, ErrNotSent) || Sent(err) {
		t.Errorf("nobody listens: %v", err)
	}
	if _, err := c.Call(timeout(t, time.Second), addr, echo, make([]byte, MaxBody+1)); !errors.Is(err, ErrNotSent) {
		t.Errorf("too large: %v", err)
	}
	if _, err := c.Call(timeout(t, 50*time.Millisecond), addr, hang, nil); !errors.Is(err, ErrInterrupted) || !Sent(err) {
		t.Errorf("no answer in time: %v", err)
	}
	done := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		close(started)
		_, err := c.Call(context.Background(), addr, hang, nil)
		done <- err
	}()
	<-started
	// Once an echo has come back on the same connection, the call before it is very likely on its way.
	if _, err := c.Call(timeout(t, 5*time.Second), addr, echo, nil); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := <-done; err == nil {
		t.Error("a call to a node that is gone was answered")
	}
	if _, err := c.Call(timeout(t, time.Second), addr, echo, nil); err == nil {
		t.Error("a closed listener answered")
	}
}

func TestReconnects(t *testing.T) {
	l, c := node(t, "c"), client(t, "c")
	ctx := timeout(t, 20*time.Second)
	for range 5 {
		for {
			if _, err := c.Call(ctx, l.Addr().String(), echo, nil); err == nil {
				break
			} else if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
		l.DropConnections()
	}
}

func TestForeignersAreRefused(t *testing.T) {
	for _, test := range []struct {
		name, server, client string
		want                 error
	}{
		{"another cluster", "a", "b", ErrWrongCluster},
		{"the server has not joined", "", "b", ErrNoCluster},
		{"the client has not joined", "a", "", ErrNoCluster},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := node(t, test.server)
			for _, kind := range []Kind{KindRaft, KindRPC} {
				d := &Dialer{Identity: who{"client", test.client}}
				_, _, err := d.Dial(timeout(t, 5*time.Second), l.Addr().String(), kind)
				if !errors.Is(err, test.want) {
					t.Errorf("kind %d: %v", kind, err)
				}
			}
		})
	}
}

func TestRaftStreamsAreAccepted(t *testing.T) {
	l := node(t, "c")
	d := &Dialer{Identity: who{"client", "c"}}
	conn, id, err := d.Dial(timeout(t, 5*time.Second), l.Addr().String(), KindRaft)
	if err != nil || id != "server" {
		t.Fatalf("dialling %q: %v", id, err)
	}
	defer conn.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := in.Read(b); err != nil || string(b) != "hello" {
		t.Fatalf("read %q: %v", b, err)
	}
	_ = l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("accepting after Close: %v", err)
	}
}

func TestGarbageIsHungUpOn(t *testing.T) {
	l := node(t, "c")
	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "KNSL\x02\x01", "KNSL\x01\x09\x01c\x01x", "KNSL\x01\x02\x01c\x01x\xff\xff\xff\xff"} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(garbage))
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 1024)
		for err == nil {
			_, err = conn.Read(buf)
		}
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			t.Errorf("%q: still connected", garbage)
		}
		_ = conn.Close()
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(appendRequest(nil, 1, 2, 3, []byte("body")))
	f.Add(appendResponse(nil, 1, []byte("body")))
	f.Add(appendFailure(nil, 1, &Error{Code: 5, Text: "text", Detail: []byte("detail")}))
	f.Add(appendEmpty(nil, frameCancel, 7))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := readFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again []byte
		switch fr.typ {
		case frameRequest:
			again = appendRequest(nil, fr.id, fr.method, fr.leftMS, fr.body)
		case frameResponse:
			again = appendResponse(nil, fr.id, fr.body)
		case frameFailure:
			if len(fr.err.Text) >= maxText-1 || len(fr.err.Detail) > maxText {
				return // cut on purpose
			}
			again = appendFailure(nil, fr.id, fr.err)
		default:
			return
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

func FuzzHandshake(f *testing.F) {
	f.Add([]byte("KNSL\x01\x02\x01c\x06client"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, z := net.Pipe()
		defer a.Close()
		go func() {
			_ = a.SetDeadline(time.Now().Add(time.Second))
			_, _ = a.Write(b)
			_, _ = a.Read(make([]byte, 1024))
			_ = a.Close()
		}()
		h, err := receive(z, who{"server", "c"})
		if err == nil && (h.clusterID != "c" || h.nodeID == "") {
			t.Fatalf("let in: %+v", h)
		}
		_ = z.Close()
	})
}

func BenchmarkCall(b *testing.B) {
	s := NewServer()
	s.Handle(echo, func(_ context.Context, _ string, body []byte) ([]byte, error) { return body, nil })
	l, err := Listen(Options{BindAddr: "127.0.0.1:0", Identity: who{"server", "c"}, Logger: hclog.NewNullLogger()}, s)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	c := NewClient(&Dialer{Identity: who{"client", "c"}})
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	body := make([]byte, 256)
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Call(ctx, l.Addr().String(), echo, body); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// Connections that say nothing must not keep out those that do.
func TestSilentConnectionsKeepNobodyOut(t *testing.T) {
	l := node(t, "c")
	begin := time.Now()
	for range 5 * maxHandshakes {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	got, err := client(t, "c").Call(timeout(t, 10*time.Second), l.Addr().String(), echo, []byte("x"))
	if err != nil || string(got) != "client:x" {
		t.Fatalf("%q, %v", got, err)
	}
	if took := time.Since(begin); took >= handshakeTimeout {
		t.Errorf("it had to wait %v, until the others timed out", took)
	}
	begin = time.Now()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took >= handshakeTimeout-time.Second {
		t.Errorf("closing took %v", took)
	}
}
