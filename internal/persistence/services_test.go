package persistence

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neogan74/konsul/internal/persistence/record"
)

// clock is a test's time for an engine by itself.
type clock struct{ at atomic.Int64 }

func (c *clock) elapsed(time.Time) time.Duration { return time.Duration(c.at.Load()) }

func openWithClock(t *testing.T, dir string, at time.Duration) (*BadgerEngine, *clock) {
	t.Helper()
	e, err := NewBadgerEngine(dir, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	c := &clock{}
	c.at.Store(int64(at))
	e.mu.Lock()
	e.elapsed = c.elapsed
	e.mu.Unlock()
	return e, c
}

// The time of an engine by itself goes on where it was, whatever has passed outside.
func TestServiceTimeGoesOn(t *testing.T) {
	dir := t.TempDir()
	e, now := openWithClock(t, dir, 0)
	if err := e.SetService("web", []byte("x"), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	now.at.Store(int64(8 * time.Second))
	if _, err := e.GetService("web"); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e, now = openWithClock(t, dir, 0)
	now.at.Store(int64(2*time.Second - 1))
	if _, err := e.GetService("web"); err != nil {
		t.Fatalf("early: %v", err)
	}
	now.at.Store(int64(2 * time.Second))
	for range 2 { // judged when read, then removed by a write
		if _, err := e.GetService("web"); !errors.Is(err, ErrServiceExpired) {
			t.Fatal(err)
		}
		if err := e.SetService("other", nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	now.at.Store(int64(2*time.Second + GoneFor))
	for range 2 {
		if _, err := e.GetService("web"); !errors.Is(err, ErrServiceNotFound) {
			t.Fatal(err)
		}
		if err := e.DeleteService("other"); err != nil {
			t.Fatal(err)
		}
	}
	v, err := e.db.View()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	err = v.ScanKeys(nil, nil, func(key []byte) error {
		if string(key) != timeKey {
			t.Errorf("%q is left", key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A service that was registered with fields reads as JSON.
func TestServiceBytes(t *testing.T) {
	in := Instance{Service: serviceRecord()}
	b, err := in.Bytes()
	if want := `{"name":"web","id":"web-1","address":"10.0.0.1","port":80,"tags":["a"],"meta":{"k":"v"}}`; err != nil || string(b) != want {
		t.Fatalf("%s, %v", b, err)
	}
}

// 10,000 services that expire at once are removed in pieces.
func TestManyServicesExpire(t *testing.T) {
	e := NewMemoryEngine()
	defer e.Close()
	c := &clock{}
	e.elapsed = c.elapsed
	const n = maxTidied*2 + 10
	e.mu.Lock()
	err := e.write(func(tx *Tx) error {
		for i := range n {
			name := "s" + string(rune('a'+i%26)) + time.Duration(i).String()
			if err := setService(tx, 0, name, nil, time.Second); err != nil {
				return err
			}
		}
		return nil
	})
	e.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	c.at.Store(int64(time.Second))
	if names, err := e.ListServices(); err != nil || len(names) != 0 {
		t.Fatalf("%d are shown, %v", len(names), err)
	}
	for want := uint64(n); ; {
		if got := e.db.Counts().Services; got != want {
			t.Fatalf("%d are there, want %d", got, want)
		}
		if want == 0 {
			break
		}
		want -= min(want, maxTidied)
		e.mu.Lock()
		e.tidy()
		e.mu.Unlock()
	}
}

func serviceRecord() *record.Service {
	return &record.Service{Name: "web", Id: "web-1", Address: "10.0.0.1", Port: 80, Tags: []string{"a"}, Meta: []*record.Pair{{Key: "k", Value: "v"}}}
}
