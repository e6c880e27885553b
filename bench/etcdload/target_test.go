package etcdload

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/neogan74/konsul/internal/loadgen"
)

// fake answers Put and Range as etcd would, on net/http's HTTP/2, which checks
// that what the client says is HTTP/2 at all.
type fake struct {
	mu    sync.Mutex
	keys  map[string]string
	fail  string // grpc-status to answer with
	stale int    // reads that asked for a serializable answer
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || len(body) < 5 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-5 || r.Header.Get("Content-Type") != "application/grpc" {
		http.Error(w, fmt.Sprintf("bad request %q %v", body, err), http.StatusBadRequest)
		return
	}
	fields := parse(body[5:])
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	f.mu.Lock()
	defer f.mu.Unlock()
	var answer []byte
	switch r.URL.Path {
	case pathPut:
		f.keys[fields[1]] = fields[2]
		answer = []byte{1<<3 | 2, 2, 8, 1}
	case pathRange:
		if fields[7] != "" {
			f.stale++
		}
		answer = []byte{1<<3 | 2, 2, 8, 1}
		if v, ok := f.keys[fields[1]]; ok {
			answer = append(answer, 2<<3|2)
			answer = binary.AppendUvarint(answer, uint64(len(v)))
			answer = append(answer, v...)
		}
	}
	_, _ = w.Write(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(answer))), answer...))
	w.Header().Set("Grpc-Status", f.fail)
	w.Header().Set("Grpc-Message", "as told")
}

// parse reads the fields of a message that the client writes.
func parse(b []byte) map[int]string {
	m := map[int]string{}
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		size, k := binary.Uvarint(b[n:])
		b = b[n+k:]
		if tag&7 == 2 {
			m[int(tag>>3)] = string(b[:size])
			b = b[size:]
		} else {
			m[int(tag>>3)] = fmt.Sprint(size)
		}
	}
	return m
}

func serve(t *testing.T) (*fake, string) {
	t.Helper()
	f := &fake{keys: map[string]string{}, fail: "0"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: f, Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return f, l.Addr().String()
}

func TestCallsOnOwnAndSharedConnections(t *testing.T) {
	for _, connections := range []int{0, 1, 3} {
		f, address := serve(t)
		target := &Target{Addresses: []string{address, address}, Prefix: "p/", Connections: connections}
		var wg sync.WaitGroup
		for id := range 9 {
			w, err := target.NewWorker(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer w.Close()
				for i := range 300 {
					op := loadgen.Op{Kind: loadgen.Put, Key: uint64(id*1000 + i), Value: bytes.Repeat([]byte{byte(i)}, 1+i*7)}
					if err := w.Do(t.Context(), &op); err != nil {
						t.Errorf("%d connections: put: %v", connections, err)
						return
					}
					op.Kind = loadgen.Get
					if err := w.Do(t.Context(), &op); err != nil {
						t.Errorf("%d connections: get: %v", connections, err)
						return
					}
				}
			})
		}
		wg.Wait()
		f.mu.Lock()
		for id := range 9 {
			for i := range 300 {
				if got := f.keys[fmt.Sprintf("p/%010d", id*1000+i)]; got != string(bytes.Repeat([]byte{byte(i)}, 1+i*7)) {
					t.Fatalf("key %d of %d has %d bytes", i, id, len(got))
				}
			}
		}
		f.mu.Unlock()
	}
}

func TestWhatTheServerSaysIsHeard(t *testing.T) {
	f, address := serve(t)
	target := &Target{Addresses: []string{address}, Prefix: "p/", Stale: true}
	w, err := target.NewWorker(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Do(t.Context(), &loadgen.Op{Key: 5}); !errors.Is(err, errMissing) {
		t.Errorf("a key that is not there: %v", err)
	}
	if f.stale != 1 {
		t.Errorf("%d serializable reads", f.stale)
	}
	f.mu.Lock()
	f.fail = "14"
	f.mu.Unlock()
	var status *statusError
	if err := w.Do(t.Context(), &loadgen.Op{Kind: loadgen.Put, Value: []byte("x")}); !errors.As(err, &status) || status.code != 14 || status.message != "as told" {
		t.Errorf("status 14: %v", err)
	}
}

func TestTheEndOfTheRunEndsACall(t *testing.T) {
	_, address := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	target := &Target{Addresses: []string{address}, Connections: 1}
	w, err := target.NewWorker(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, cancel)
	for w.Do(ctx, &loadgen.Op{Kind: loadgen.Put, Value: []byte("x")}) == nil {
	}
}
