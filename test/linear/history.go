package linear

import (
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// History is what all clients saw.
type History struct {
	mu      sync.Mutex
	started time.Time
	ops     []porcupine.Operation
	unknown int
	lost    int // reads without an answer and writes that were refused: they say nothing
}

// now is the time of a call or a return on the clock of the history.
func (h *History) now() int64 { return int64(time.Since(h.started)) }

func (h *History) add(client int, in input, call int64, out output) {
	end := h.now()
	if out.unknown {
		end = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if out.unknown {
		h.unknown++
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: end})
}

func (h *History) drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost++
}

// Check fails the test unless the history is linearizable; a picture of one
// that is not goes to the directory KONSUL_TEST_KEEP, or the temporary one.
func (h *History) Check(t testing.TB) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	begin := time.Now()
	result, info := porcupine.CheckOperationsVerbose(model, h.ops, 3*time.Minute)
	t.Logf("%d operations, %d of unknown outcome, %d without an answer; judged in %s: %s",
		len(h.ops), h.unknown, h.lost, time.Since(begin).Round(time.Millisecond), result)
	if result == porcupine.Ok {
		return
	}
	dir := os.Getenv("KONSUL_TEST_KEEP")
	if dir == "" {
		dir = os.TempDir()
	}
	path := filepath.Join(dir, "konsul-not-linearizable.html")
	if err := porcupine.VisualizePath(model, info, path); err != nil {
		t.Errorf("drawing the history: %v", err)
	}
	t.Fatalf("not linearizable (%s); see %s", result, path)
}

// Len is the number of operations so far.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}
