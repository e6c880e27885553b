package backup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/neogan74/konsul/internal/encryption"
)

// spoolPrefix begins the names of spooled files, for the moment they have one.
const spoolPrefix = "spool-"

// Spool keeps what r gives in a file of dir, to be read as often as need be. The file
// has no name any more when Spool returns: its space is free when it is closed, however
// the process ends. room is asked again and again whether there is space for more. With
// keys what is not encrypted becomes so.
func Spool(dir string, keys *encryption.FileKeys, r io.Reader, room func() error) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spooling: %w", err)
	}
	f, err := os.CreateTemp(dir, spoolPrefix)
	if err != nil {
		return nil, fmt.Errorf("spooling: %w", err)
	}
	if err = os.Remove(f.Name()); err == nil {
		err = fill(f, keys, r, room)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("spooling: %w", err)
	}
	return f, nil
}

func fill(f io.Writer, keys *encryption.FileKeys, r io.Reader, room func() error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	if head, _ := in.Peek(encryption.HeadSize); encryption.Encrypted(head) {
		keys = nil // as it is
	}
	w := Seal(f, keys)
	for {
		if err := room(); err != nil {
			return err
		}
		switch _, err := io.CopyN(w, in, roomStep); {
		case errors.Is(err, io.EOF):
			return w.Close()
		case err != nil:
			return err
		}
	}
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
