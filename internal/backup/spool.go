package backup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// spoolPrefix begins the names of spooled files, for the moment they have one.
const spoolPrefix = "spool-"

// spoolStep is how many bytes are spooled between two looks at the free space.
const spoolStep = 16 << 20

// Spool keeps what r gives in a file of dir, to be read as often as need be. The file
// has no name any more when Spool returns: its space is free when it is closed, however
// the process ends. room is asked again and again whether there is space for more.
func Spool(dir string, r io.Reader, room func() error) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spooling: %w", err)
	}
	f, err := os.CreateTemp(dir, spoolPrefix)
	if err != nil {
		return nil, fmt.Errorf("spooling: %w", err)
	}
	err = os.Remove(f.Name())
	for err == nil {
		if err = room(); err == nil {
			_, err = io.CopyN(f, r, spoolStep)
		}
	}
	if errors.Is(err, io.EOF) {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("spooling: %w", err)
	}
	return f, nil
}

// SweepSpool removes what a crash left of dir: at most a file that was about to lose
// its name. Nobody may be spooling there.
func SweepSpool(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), spoolPrefix) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
