package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/statefile"
)

// What is kept in a data directory of what was there before. Under its name it is whole;
// while it is being made it has a suffix.
const (
	asidePrefix  = "damaged-"         // by `konsul cluster reset`
	movingSuffix = ".moving"          // what has it is the only copy of what is in it
	backupPrefix = "before-recovery-" // by `konsul cluster recover`
	makingSuffix = ".making"          // what has it can go
)

// MoveAside moves all that is in the data directory dir, but for the lock, into a
// directory in it, whose path it returns: then dir is that of a new node. The caller
// holds the lock.
//
// After a crash no node starts on dir until MoveAside was called again, which goes on
// where the last one ended.
func MoveAside(dir string) (string, error) {
	moving, err := movingDir(dir)
	if err != nil {
		return "", err
	}
	if moving == "" {
		moving = unusedName(dir, asidePrefix) + movingSuffix
		if err := os.Mkdir(moving, 0o700); err != nil {
			return "", fmt.Errorf("moving the old data aside: %w", err)
		}
		if err := syncDir(dir); err != nil {
			return "", err
		}
	}
	failpoint.Hit("reset.after-mkdir")
	if err := moveAll(dir, moving); err != nil {
		return "", fmt.Errorf("moving the old data aside; repeat the command: %w", err)
	}
	failpoint.Hit("reset.before-rename")
	to := strings.TrimSuffix(moving, movingSuffix)
	if err := os.Rename(moving, to); err != nil {
		return "", fmt.Errorf("moving the old data aside; repeat the command: %w", err)
	}
	failpoint.Hit("reset.after-rename")
	return to, syncDir(dir)
}

// MovedAside is where MoveAside has put what was in dir, if there is nothing else in dir.
func MovedAside(dir string) (to string, moved bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", false
	}
	for _, e := range entries {
		switch {
		case !Stays(e.Name()) || strings.HasSuffix(e.Name(), movingSuffix):
			return "", false
		case strings.HasPrefix(e.Name(), asidePrefix):
			to = filepath.Join(dir, e.Name()) // the last is the newest
		}
	}
	return to, to != ""
}

// Stays says whether what has this name in a data directory is not moved aside: besides that
// and what MoveAside has made there is nothing in the directory of a new node.
func Stays(name string) bool {
	// "2": of a year, and not a damaged snapshot.
	return name == lockFile || name == "lost+found" || strings.HasPrefix(name, asidePrefix+"2")
}

// moveAll moves what MoveAside moves. Durable on return.
func moveAll(dir, to string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if Stays(e.Name()) {
			continue
		}
		if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
		failpoint.Hit("reset.moved." + e.Name())
	}
	return errors.Join(syncDir(to), syncDir(dir))
}

// movingDir is the directory of a MoveAside that did not end; "" = there is none.
func movingDir(dir string) (string, error) {
	found, err := filepath.Glob(filepath.Join(globQuote(dir), asidePrefix+"2*"+movingSuffix))
	if err != nil || len(found) == 0 {
		return "", err
	}
	return found[0], nil
}

// globQuote makes a pattern that only dir matches.
func globQuote(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// unusedName is prefix and the time, and more if that is taken.
func unusedName(dir, prefix string) string {
	name := filepath.Join(dir, prefix+time.Now().UTC().Format("20060102-150405"))
	for n, try := 2, name; ; n++ {
		if _, err := os.Lstat(try); errors.Is(err, fs.ErrNotExist) {
			return try
		}
		try = fmt.Sprintf("%s-%d", name, n)
	}
}

// sweepDataDir removes what a kill has left of files and copies that were being made, also of
// records that other packages keep in dir: nobody writes them yet.
func sweepDataDir(dir string) error {
	if err := statefile.Sweep(dir); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(globQuote(dir), backupPrefix+"*"+makingSuffix))
	for _, path := range found {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		return fmt.Errorf("removing unfinished copies: %w", err)
	}
	return nil
}
