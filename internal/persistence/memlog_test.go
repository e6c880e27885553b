package persistence

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Badger cuts a log that it has flushed to nothing, and then removes it. Whoever comes
// between the two finds a log that promises nothing.
func TestALogThatIsBeingRemoved(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, logName(7))
	for _, left := range []int64{0, logHeaderLen - 1} {
		if err := os.WriteFile(path, make([]byte, left), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := markLog(path, logHeaderLen, 1, nil); !errors.Is(err, errLogEmpty) {
			t.Errorf("a log of %d bytes: %v", left, err)
		}
	}
	g := &generation{dir: dir}
	marks, _, err := g.markLogs(1, nil)
	if err != nil || len(marks) != 0 {
		t.Errorf("marks %v, %v", marks, err)
	}
}
