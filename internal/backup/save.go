package backup

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/internal/failpoint"
	"github.com/neogan74/konsul/internal/snapshot"
	"github.com/neogan74/konsul/internal/writeback"
)

const (
	// tempPrefix and tempSuffix are around the names of files that are being written.
	tempPrefix = ".konsul-"
	tempSuffix = ".tmp"
	// timeLayout is the time in a name: it sorts, and needs no quoting.
	timeLayout = "20060102T150405Z"
	extension  = ".snap"
	// scheduledPrefix begins the names of what a schedule saves and prunes.
	scheduledDir    = "scheduled"
	scheduledPrefix = scheduledDir + "/konsul-"
)

// DefaultName is how a backup is called if nobody says otherwise.
func DefaultName(h snapshot.Header) string { return name("konsul-", h) }

func name(prefix string, h snapshot.Header) string {
	s := fmt.Sprintf("%s%s-%d", prefix, time.Unix(0, h.CreatedAt).UTC().Format(timeLayout), h.Index)
	if h.Since > 0 {
		s += fmt.Sprintf("-since-%d", h.Since)
	}
	return s + extension
}

// Stream writes a backup to w and says what it wrote.
type Stream func(w io.Writer) (snapshot.Header, snapshot.Footer, error)

// Saved is a backup that is on disk.
type Saved struct {
	// Name is below the directory, with slashes.
	Name   string
	Header snapshot.Header
	Footer snapshot.Footer
}

// Save writes a backup under the name that nameOf gives it when it is written, in
// place of one that has it. It is written to a temporary file, made durable, and only
// then gets its name: after a crash there is the old file or the new one, whole, and
// what is left over goes at the next Sweep. Missing directories are made.
func (d *Dir) Save(stream Stream, nameOf func(snapshot.Header) string) (saved Saved, err error) {
	root, err := d.root(true)
	if err != nil {
		return saved, err
	}
	defer root.Close()
	// In the top directory: where it will stand is known when it is written.
	tmp := tempPrefix + randomName() + tempSuffix
	f, err := root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return saved, fmt.Errorf("making backup: %w", err)
	}
	defer func() {
		_ = f.Close() // written and synced, or of no use
		if err != nil {
			_ = root.Remove(tmp) // what stays is swept at the next start
		}
	}()
	// The lock tells a Sweep that somebody is still at it.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return saved, fmt.Errorf("locking %s: %w", tmp, err)
	}
	failpoint.Hit("backup.after-create")
	w := Seal(d.whileRoom(writeback.NewWriter(f)), d.keys)
	if saved.Header, saved.Footer, err = stream(w); err != nil {
		return saved, fmt.Errorf("writing backup: %w", err)
	}
	if err := w.Close(); err != nil {
		return saved, fmt.Errorf("writing backup: %w", err)
	}
	failpoint.Hit("backup.after-stream")
	if err := f.Sync(); err != nil {
		return saved, fmt.Errorf("syncing backup: %w", err)
	}
	failpoint.Hit("backup.after-sync")
	saved.Name = nameOf(saved.Header)
	if err := d.place(root, tmp, saved.Name); err != nil {
		return saved, fmt.Errorf("naming backup %s: %w", d.Shown(saved.Name), err)
	}
	return saved, nil
}

// place gives the finished file its name, durably.
func (d *Dir) place(root *os.Root, tmp, name string) error {
	if info, err := root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%w: it is there and not a file", ErrBadPath)
	}
	dir := path.Dir(name)
	if err := root.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrBadPath, err)
	}
	if err := root.Rename(tmp, name); err != nil {
		return fmt.Errorf("%w: %w", ErrBadPath, err)
	}
	failpoint.Hit("backup.after-rename")
	for ; ; dir = path.Dir(dir) { // the name, and those of directories made for it
		if err := syncDir(root, dir); err != nil {
			return err
		}
		if dir == "." {
			return nil
		}
	}
}

func syncDir(root *os.Root, name string) error {
	dir, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// CheckPlace says beforehand whether a backup may get a name, so that nobody
// streams a gigabyte to learn that. ErrBadPath.
func (d *Dir) CheckPlace(name string) error {
	root, err := d.root(true)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Lstat(name)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s is there and not a file", ErrBadPath, d.Shown(name))
	case err == nil:
		return nil
	}
	// The deepest directory that is there must be one, inside.
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		info, err := root.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return fmt.Errorf("%w: %s is not a directory", ErrBadPath, d.Shown(dir))
		case err == nil:
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: %s: %w", ErrBadPath, d.Shown(dir), err)
		}
		if info, err := root.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%w: %s is a link to nothing inside", ErrBadPath, d.Shown(dir))
		}
	}
	return nil
}

// Sweep removes what crashes left half written. To be called at a start; other
// processes may be saving meanwhile.
func (d *Dir) Sweep(log hclog.Logger) {
	root, err := d.root(false)
	if err != nil {
		return // no directory, nothing to sweep
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		log.Warn("looking for unfinished backups", "dir", d.path, "error", err)
		return
	}
	for _, e := range entries {
		name := e.Name()
		if !e.Type().IsRegular() || !strings.HasPrefix(name, tempPrefix) || !strings.HasSuffix(name, tempSuffix) {
			continue
		}
		if abandoned(root, name) {
			log.Info("removing an unfinished backup", "name", name)
			if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				log.Warn("removing an unfinished backup", "name", name, "error", err)
			}
		}
	}
}

// abandoned says whether nobody is writing a temporary file any more.
func abandoned(root *os.Root, name string) bool {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// SaveScheduled is Save for the schedule, and then removes the oldest scheduled backups
// of the same cluster until keep are left; 0 keeps all. An error of the removing does not
// take the backup back.
func (d *Dir) SaveScheduled(stream Stream, keep int, log hclog.Logger) (Saved, error) {
	saved, err := d.Save(stream, func(h snapshot.Header) string { return name(scheduledPrefix, h) })
	if err != nil {
		return saved, err
	}
	if err := d.prune(saved, keep, log); err != nil {
		log.Warn("removing old scheduled backups", "error", err)
	}
	return saved, nil
}

// prune removes scheduled backups of the cluster that saved is of, the oldest first and
// never saved itself. One from saved's future (a clock was ahead) counts as older than all
// others: nobody knows how old it is. Backups under any other name, or of another cluster,
// are never touched: a cluster that begins anew with the directory of one that was lost
// must not remove what is left of it.
//
// Nor are files whose header cannot be read, be it that they are encrypted with a key that
// is not in the key file any more: they may be anybody's. The log names them.
func (d *Dir) prune(saved Saved, keep int, log hclog.Logger) error {
	if keep <= 0 {
		return nil
	}
	all, unread, err := d.scheduled(saved.Header.ClusterID)
	if err != nil {
		return err
	}
	if n := len(unread); n > 0 {
		log.Warn("scheduled backups that cannot be read, most likely for want of the key they were encrypted with, are never removed: remove those that nobody needs",
			"dir", d.Shown(scheduledDir), "count", n, "names", unread[:min(n, maxNamed)])
	}
	all = slices.DeleteFunc(all, func(i Info) bool { return i.Name == saved.Name })
	future := func(i Info) bool { return i.Header.CreatedAt > saved.Header.CreatedAt }
	slices.SortStableFunc(all, func(a, b Info) int {
		switch fa, fb := future(a), future(b); {
		case fa == fb:
			return 0 // in the order of the list
		case fa:
			return -1
		}
		return 1
	})
	for _, old := range all[:max(len(all)-(keep-1), 0)] {
		if err := d.Remove(old.Name); err != nil {
			return err
		}
	}
	return nil
}

// LastScheduled is when the newest scheduled backup of a cluster, up to now, was made; zero
// if there is none.
func (d *Dir) LastScheduled(cluster string, now time.Time) (time.Time, error) {
	all, _, err := d.scheduled(cluster)
	if err != nil {
		return time.Time{}, err
	}
	var last time.Time
	for _, i := range all {
		if at := time.Unix(0, i.Header.CreatedAt); at.After(last) && !at.After(now) {
			last = at
		}
	}
	return last, nil
}

// maxNamed is how many names go into one line of the log.
const maxNamed = 20

// scheduled lists what a cluster's schedule has saved, however much there is beside it, and
// what is called like that but cannot be read.
func (d *Dir) scheduled(cluster string) (all []Info, unread []string, err error) {
	all, err = d.list(scheduledDir, math.MaxInt, func(name string, _ error) {
		if strings.HasPrefix(name, scheduledPrefix) {
			unread = append(unread, path.Base(name))
		}
	})
	return slices.DeleteFunc(all, func(i Info) bool {
		return !strings.HasPrefix(i.Name, scheduledPrefix) || i.Header.ClusterID != cluster
	}), unread, err
}

func sortInfos(infos []Info) {
	slices.SortStableFunc(infos, func(a, b Info) int {
		if a.Header.CreatedAt != b.Header.CreatedAt {
			if a.Header.CreatedAt < b.Header.CreatedAt {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
}

func randomName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
