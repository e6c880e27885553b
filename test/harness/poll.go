package harness

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// stop marks an error that makes further polling useless.
type stop struct{ error }

func (s stop) Unwrap() error { return s.error }

// Stop wraps an error so that Poll gives up at once.
func Stop(err error) error { return stop{err} }

// Poll calls fn every 20 ms until it returns nil; after d it returns fn's last error.
func Poll(d time.Duration, fn func() error) error {
	deadline := time.Now().Add(d)
	for {
		err := fn()
		if err == nil {
			return nil
		}
		if s := (stop{}); errors.As(err, &s) {
			return s.error
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("gave up after %s: %w", d, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// Eventually is Poll that ends the test with what was awaited.
func Eventually(t testing.TB, d time.Duration, what string, fn func() error) {
	t.Helper()
	if err := Poll(d, fn); err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}

// Hold lets a fault or a load last for d, or until ctx ends. It is never used
// to wait for something that can be polled.
func Hold(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
