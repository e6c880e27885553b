// Package backup keeps backups as files: in one directory that no name can lead out
// of, written whole or not at all, listed, checked, and thinned out by age. What is in
// them is package snapshot's. DESIGN.md has the rules.
package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/internal/snapshot"
)

var (
	// ErrBadPath means that a name does not name a file in the backup directory. It is
	// wrapped with what is wrong with it.
	ErrBadPath = errors.New("not a path in the backup directory")
	// ErrNotFound means that there is no such backup.
	ErrNotFound = errors.New("no such backup")
)

// maxName bounds a name, in bytes.
const maxName = 1024

// Dir is a backup directory. Nothing outside of it is read or written, whatever
// names are asked for. Any goroutine may use it, and several processes may share one.
type Dir struct {
	path string // as configured
	abs  string
	keys *encryption.FileKeys   // nil = not encrypted
	room func(dir string) error // nil = not asked
}

// New makes a Dir of a path, which need not be there yet.
func New(path string) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("backup directory: %w", err)
	}
	return &Dir{path: strings.TrimSuffix(path, "/"), abs: abs}, nil
}

// Path is the directory as it was configured.
func (d *Dir) Path() string { return d.path }

// Shown is how a file in the directory is called towards people: below the path
// as it was configured.
func (d *Dir) Shown(name string) string { return d.path + "/" + name }

// Resolve turns what a user calls a backup into its name inside the directory. Three
// ways of writing it are understood: inside the directory ("a.snap"), with the
// directory as configured before it ("./backups/a.snap"), and absolute. ErrBadPath.
func (d *Dir) Resolve(path string) (string, error) {
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("%w (%s): %q %s", ErrBadPath, d.path, path, why)
	}
	switch {
	case path == "":
		return bad("is empty")
	case len(path) > maxName:
		return "", fmt.Errorf("%w: a name of %d bytes, at most %d", ErrBadPath, len(path), maxName)
	case strings.ContainsFunc(path, unicode.IsControl):
		return bad("has a control character in it")
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == ".." {
			return bad("has .. in it")
		}
	}
	clean := filepath.Clean(path)
	inside := clean
	if filepath.IsAbs(clean) {
		var ok bool
		if inside, ok = strings.CutPrefix(clean, d.abs+"/"); !ok {
			return bad("lies elsewhere")
		}
	} else if rest, ok := strings.CutPrefix(clean, filepath.Clean(d.path)+"/"); ok {
		inside = rest
	}
	switch {
	case inside == "." || clean == d.abs || clean == filepath.Clean(d.path) || strings.HasSuffix(path, "/"):
		return bad("is a directory")
	case !filepath.IsLocal(inside):
		return bad("lies elsewhere")
	case strings.HasPrefix(filepath.Base(inside), tempPrefix):
		return bad("is the name of an unfinished backup")
	}
	return inside, nil
}

// root opens the directory; make says to create it if need be.
func (d *Dir) root(create bool) (*os.Root, error) {
	if create {
		if err := makeDir(d.abs); err != nil {
			return nil, fmt.Errorf("making the backup directory: %w", err)
		}
	}
	root, err := os.OpenRoot(d.abs)
	if err != nil {
		return nil, fmt.Errorf("opening the backup directory: %w", err)
	}
	return root, nil
}

// makeDir makes a directory for the owner only, durably.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	p, err := os.Open(parent)
	if err != nil {
		return err
	}
	return errors.Join(p.Sync(), p.Close())
}

// Open opens a backup for reading, by what a user calls it. ErrBadPath, ErrNotFound.
func (d *Dir) Open(path string) (*os.File, error) {
	name, err := d.Resolve(path)
	if err != nil {
		return nil, err
	}
	root, err := d.root(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, d.Shown(name))
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return d.open(root, name)
}

// open opens a regular file and nothing else. O_NONBLOCK: a pipe must not make it wait.
func (d *Dir) open(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil, fmt.Errorf("%w: %s", ErrNotFound, d.Shown(name))
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("opening backup %s: %w", d.Shown(name), err)
	case err != nil: // above all a symbolic link that leads out
		return nil, fmt.Errorf("%w: %s: %w", ErrBadPath, d.Shown(name), err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("opening backup %s: %w", d.Shown(name), err)
	}
	if !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, fmt.Errorf("%w: %s is not a file", ErrBadPath, d.Shown(name))
	}
	return f, nil
}

// Info describes a backup.
type Info struct {
	// Name is below the directory, with slashes.
	Name   string
	Size   int64
	Header snapshot.Header
}

// maxListed bounds a listing; a directory with more backups has other troubles.
const maxListed = 10_000

// List describes all backups in the directory, the oldest first. It reads only their
// headers; Inspect verifies. What is no backup is left out.
func (d *Dir) List() ([]Info, error) {
	return d.list(".", maxListed, func(string, error) {})
}

// list is List of what is in the directory below, and at most so many. leftOut is told
// which files were opened and why they are not in it.
func (d *Dir) list(below string, most int, leftOut func(name string, err error)) ([]Info, error) {
	root, err := d.root(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var found []Info
	err = fs.WalkDir(root.FS(), below, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case name == ".":
			return err
		case err != nil: // it went meanwhile, or may not be read
			return nil //nolint:nilerr // the others are still there
		case !entry.Type().IsRegular() || strings.HasPrefix(entry.Name(), tempPrefix):
			return nil
		case len(found) == most:
			return fs.SkipAll
		}
		info, err := d.describe(root, name)
		switch {
		case err == nil:
			found = append(found, info)
		case !errors.Is(err, ErrNotFound): // it went meanwhile
			leftOut(name, err)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing backups: %w", err)
	}
	sortInfos(found)
	return found, nil
}

func (d *Dir) describe(root *os.Root, name string) (Info, error) {
	f, err := d.open(root, name)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	clear, err := Unseal(f, d.keys)
	if err != nil {
		return Info{}, err
	}
	r, err := snapshot.NewReader(clear)
	if err != nil {
		return Info{}, err
	}
	return Info{Name: name, Size: stat.Size(), Header: r.Header()}, nil
}

// Remove removes a backup, by its name in the directory.
func (d *Dir) Remove(name string) error {
	root, err := d.root(false)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(name); err != nil {
		return fmt.Errorf("removing backup %s: %w", d.Shown(name), err)
	}
	return nil
}

// Locate is for a path that is given to an engine: inside dir if there is one, and
// else wherever it leads. ErrBadPath.
func Locate(dir, path string) (*Dir, string, error) {
	if dir == "" {
		if path == "" || strings.HasSuffix(path, "/") {
			return nil, "", fmt.Errorf("%w: %q is not the name of a file", ErrBadPath, path)
		}
		dir, path = filepath.Dir(path), filepath.Base(path)
	}
	d, err := New(dir)
	if err != nil {
		return nil, "", err
	}
	name, err := d.Resolve(path)
	return d, name, err
}
