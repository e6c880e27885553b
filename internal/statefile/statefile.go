// Package statefile keeps a node's small records: one JSON file each, replaced as a
// whole, with a checksum, so that a flipped bit is an error and not another truth.
//
//	{"format":1,"sum":"0a1b2c3d","data":{...}}
//
// sum is CRC-32C, in hex, over the format's digits and the bytes of data as they stand in the file. A newer
// version may add fields to data; what an older one must not ignore gets a new format.
package statefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/neogan74/konsul/internal/failpoint"
)

var (
	// ErrDamaged means that a file does not hold what was written to it.
	ErrDamaged = errors.New("file is damaged")
	// ErrTooNew means that a newer version wrote the file.
	ErrTooNew = errors.New("file was written by a newer version")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type envelope struct {
	Format int             `json:"format"`
	Sum    string          `json:"sum"`
	Data   json.RawMessage `json:"data"`
}

// Write replaces the file at path by v in a format of its kind. After a crash the
// file holds the old record or the new one; after return the new one survives a
// power cut.
func Write(path string, format int, v any) error {
	b, err := Encode(format, v)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := Replace(path, b); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// Encode is the content of a file that holds v.
func Encode(format int, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(envelope{Format: format, Sum: sum(format, data), Data: data})
	return append(b, '\n'), err
}

// Read reads the file at path into v; found is false if there is none. format is the
// newest one that the caller knows. Errors are ErrDamaged or ErrTooNew, with the
// path, or what the disk said.
func Read(path string, format int, v any) (found bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading %s: %w", path, err)
	}
	if err := Decode(b, format, v); err != nil {
		return true, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}

// Decode is Read for a file's content.
func Decode(b []byte, format int, v any) error {
	var e envelope
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&e); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if got := sum(e.Format, e.Data); got != e.Sum {
		return fmt.Errorf("%w: its checksum is %s, it says %q", ErrDamaged, got, e.Sum)
	}
	switch {
	case e.Format > format:
		return fmt.Errorf("%w: format %d, this one knows %d", ErrTooNew, e.Format, format)
	case e.Format < 1:
		return fmt.Errorf("%w: format %d", ErrDamaged, e.Format)
	}
	if err := json.Unmarshal(e.Data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

func sum(format int, data []byte) string {
	return fmt.Sprintf("%08x", crc32.Update(crc32.Checksum(fmt.Append(nil, format), castagnoli), castagnoli, data))
}

// unfinished is put to the name of a file that is being written.
const unfinished = ".tmp"

// Replace makes the file at path hold b, in one step; durable on return.
func Replace(path string, b []byte) error {
	tmp := path + unfinished
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	failpoint.Hit("write." + point(path))
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	failpoint.Hit("wrote." + point(path))
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return err
	}
	// A file system that shuts down during a sync may say only now that it did.
	_, err = os.ReadFile(path)
	return err
}

// point names a file to the failpoints: what it is called, and its directory.
func point(path string) string {
	return filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path)
}

// Sweep removes from dir what a kill inside Replace has left. Nobody may be writing
// there. Hidden files are somebody else's: unfinished backups. A directory that is not
// there has nothing.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing unfinished files: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || filepath.Ext(e.Name()) != unfinished || e.Name()[0] == '.' {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("removing unfinished files: %w", err)
		}
	}
	return nil
}
