package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/neogan74/konsul/internal/snapshot"
)

// stream is a backup with n records.
func stream(h snapshot.Header, n int) Stream {
	return func(w io.Writer) (snapshot.Header, snapshot.Footer, error) {
		sw, err := snapshot.NewWriter(w, h)
		if err != nil {
			return h, snapshot.Footer{}, err
		}
		for i := range n {
			if err := sw.Write(snapshot.Record{Key: fmt.Appendf(nil, "kv:%06d", i), Version: h.Index, Value: []byte("value")}); err != nil {
				return h, snapshot.Footer{}, err
			}
		}
		f, err := sw.Close()
		return h, f, err
	}
}

func at(index uint64, second int) snapshot.Header {
	return snapshot.Header{ClusterID: "c", Index: index, CreatedAt: time.Date(2026, 1, 2, 3, 4, second, 0, time.UTC).UnixNano()}
}

func open(t *testing.T) *Dir {
	t.Helper()
	d, err := New(filepath.Join(t.TempDir(), "backups"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func save(t *testing.T, d *Dir, path string, h snapshot.Header) Saved {
	t.Helper()
	name, err := d.Resolve(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Save(stream(h, 10), func(snapshot.Header) string { return name })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// names are all files below the directory, hidden ones included.
func names(t *testing.T, d *Dir) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(d.abs, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(d.abs, p)
			found = append(found, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	d, err := New("./backups")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"a.snap": "a.snap", "./a.snap": "a.snap", "./backups/a.snap": "a.snap", "backups/x/a.snap": "x/a.snap",
		filepath.Join(d.abs, "a.snap"): "a.snap", "x//y/./a": "x/y/a", "naïve name.db": "naïve name.db", "..a": "..a",
	} {
		if got, err := d.Resolve(path); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{
		"", ".", "..", "../a", "x/../../a", "x/../a", "./backups/../../etc/passwd", "/etc/passwd", "/", d.abs, d.abs + "x/a",
		"backups", "./backups/", "a/", "a\x00b", "a\nb", "a\x1bb", strings.Repeat("a", 2000), d.abs + "/../a", ".konsul-0.tmp",
	} {
		if got, err := d.Resolve(path); !errors.Is(err, ErrBadPath) {
			t.Errorf("%q: %q, %v; want ErrBadPath", path, got, err)
		}
	}
}

func TestSaveAndOpen(t *testing.T) {
	d := open(t)
	first := save(t, d, "deep/er/a.snap", at(5, 1))
	second := save(t, d, "deep/er/a.snap", at(6, 2)) // in place of the first
	if first.Footer.Sum == second.Footer.Sum {
		t.Fatal("two backups with one checksum")
	}
	f, err := d.Open("deep/er/a.snap")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, footer, err := snapshot.Verify(f)
	if err != nil || h.Index != 6 || footer != second.Footer {
		t.Fatalf("%+v %+v %v", h, footer, err)
	}
	info, err := os.Stat(filepath.Join(d.abs, "deep/er/a.snap"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if got := names(t, d); len(got) != 1 {
		t.Fatalf("left over: %v", got)
	}
	if _, err := d.Open("nothing"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := d.Open("deep/er/a.snap/x"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
}

// TestNothingLeadsOut tries links, devices, pipes and directories, to read and to write.
func TestNothingLeadsOut(t *testing.T) {
	d := open(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	var whole bytes.Buffer
	if _, _, err := stream(at(1, 1), 1)(&whole); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, whole.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	save(t, d, "good.snap", at(1, 1))
	for link, to := range map[string]string{
		"abs": secret, "up": "../../" + filepath.Base(outside) + "/secret", "dir": outside, "updir": "..", "null": "/dev/null", "loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(d.abs, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(d.abs, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(d.abs, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"abs", "up", "dir/secret", "updir/x", "null", "loop", "pipe", "sub"} {
		if f, err := d.Open(path); !errors.Is(err, ErrBadPath) && !errors.Is(err, ErrNotFound) {
			t.Errorf("reading %s: %v", path, err)
			_ = f.Close()
		}
	}
	for _, path := range []string{"abs", "up", "dir/secret", "dir/new", "updir/new", "null", "loop", "pipe", "sub", "good.snap/x"} {
		if err := d.CheckPlace(path); !errors.Is(err, ErrBadPath) {
			t.Errorf("a place at %s: %v", path, err)
		}
		if _, err := d.Save(stream(at(9, 1), 1), func(snapshot.Header) string { return path }); !errors.Is(err, ErrBadPath) {
			t.Errorf("writing %s: %v", path, err)
		}
	}
	if b, err := os.ReadFile(secret); err != nil || !bytes.Equal(b, whole.Bytes()) {
		t.Fatal("a file outside was changed", err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Fatal("something was written outside", entries, err)
	}
	list, err := d.List()
	if err != nil || len(list) != 1 || list[0].Name != "good.snap" {
		t.Fatalf("%+v, %v", list, err)
	}
}

func TestAFailedSaveLeavesTheOldOne(t *testing.T) {
	d := open(t)
	save(t, d, "a", at(5, 1))
	broken := errors.New("broken")
	_, err := d.Save(func(w io.Writer) (snapshot.Header, snapshot.Footer, error) {
		_, _ = w.Write(make([]byte, 100_000))
		return snapshot.Header{}, snapshot.Footer{}, broken
	}, func(snapshot.Header) string { return "a" })
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if got := names(t, d); len(got) != 1 || got[0] != "a" {
		t.Fatalf("left over: %v", got)
	}
	list, err := d.List()
	if err != nil || len(list) != 1 || list[0].Header.Index != 5 {
		t.Fatalf("%+v %v", list, err)
	}
}

// TestSweep: what a crash left goes, what somebody is writing stays.
func TestSweep(t *testing.T) {
	d := open(t)
	save(t, d, "a", at(5, 1))
	if err := os.WriteFile(filepath.Join(d.abs, ".konsul-0123.tmp"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := d.Save(func(w io.Writer) (snapshot.Header, snapshot.Footer, error) {
		d.Sweep(hclog.NewNullLogger())
		if got := names(t, d); len(got) != 2 {
			t.Errorf("while one is written: %v", got)
		}
		return stream(at(6, 1), 1)(w)
	}, func(snapshot.Header) string { return "b" })
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, d); len(got) != 2 || got[0] != "a" || got[1] != "b" {
		t.Fatal(got)
	}
}

func TestScheduledBackupsArePruned(t *testing.T) {
	d := open(t)
	save(t, d, "mine.snap", at(1, 0))
	for i := range 5 {
		if _, err := d.SaveScheduled(stream(at(uint64(10+i), 1+i), 1), 3, hclog.NewNullLogger()); err != nil {
			t.Fatal(err)
		}
	}
	list, err := d.List()
	var indexes []uint64
	for _, i := range list {
		indexes = append(indexes, i.Header.Index)
	}
	if err != nil || fmt.Sprint(indexes) != "[1 12 13 14]" {
		t.Fatalf("%v, %v", indexes, err)
	}
	if last, err := d.LastScheduled("c", time.Now()); err != nil || last.Second() != 5 {
		t.Fatal(last, err)
	}
}

// A schedule counts and removes its own cluster's backups only: a new cluster with the
// directory of a lost one, or two with one directory, do not remove each other's.
func TestSchedulesOfTwoClustersInOneDirectory(t *testing.T) {
	d := open(t)
	lost := at(1000, 0)
	lost.ClusterID = "lost"
	for i := range 3 {
		lost.Index++
		lost.CreatedAt += int64(time.Second)
		if _, err := d.SaveScheduled(stream(lost, 1), 3, hclog.NewNullLogger()); err != nil {
			t.Fatal(i, err)
		}
	}
	now := time.Now()
	if last, err := d.LastScheduled("c", now); err != nil || !last.IsZero() {
		t.Errorf("the new cluster's last one was made at %v, %v", last, err)
	}
	saved := 0
	s := &Schedule{Dir: d, Cluster: func() string { return "c" }, Every: time.Nanosecond, Keep: 2, Log: hclog.NewNullLogger(), Save: func(context.Context) Stream {
		saved++
		return stream(snapshot.Header{ClusterID: "c", Index: uint64(saved), CreatedAt: now.Add(time.Duration(saved-60) * time.Second).UnixNano()}, 1)
	}}
	for range 6 {
		s.perhaps(t.Context())
	}
	list, err := d.List()
	var left []string
	for _, i := range list {
		left = append(left, fmt.Sprint(i.Header.ClusterID, i.Header.Index))
	}
	if want := "[lost1001 lost1002 lost1003 c5 c6]"; err != nil || fmt.Sprint(left) != want || saved != 6 {
		t.Errorf("%v are left after %d, want %s; %v", left, saved, want, err)
	}
	s.Cluster = func() string { return "" } // there is none yet
	if s.perhaps(t.Context()); saved != 6 {
		t.Error("a backup of no cluster was saved")
	}
}

// The clock was ahead for as many backups as are kept. What is saved when it is right again
// stays, and takes the place of one from the future; none is saved before it is due.
func TestRetentionAfterTheClockWasAheadForLong(t *testing.T) {
	d := open(t)
	now := time.Now()
	header := func(at time.Time, index uint64) snapshot.Header {
		return snapshot.Header{ClusterID: "c", Index: index, CreatedAt: at.UnixNano()}
	}
	for i := range 3 {
		if _, err := d.SaveScheduled(stream(header(now.Add(time.Duration(24+i)*time.Hour), uint64(i+1)), 1), 3, hclog.NewNullLogger()); err != nil {
			t.Fatal(err)
		}
	}
	saved := 0
	s := &Schedule{Dir: d, Cluster: func() string { return "c" }, Every: time.Hour, Keep: 3, Log: hclog.NewNullLogger(), Save: func(context.Context) Stream {
		saved++
		return stream(header(time.Now(), uint64(10+saved)), 1)
	}}
	for range 5 { // looks, a minute apart
		s.perhaps(t.Context())
	}
	if saved != 1 {
		t.Errorf("%d backups were saved within the hour", saved)
	}
	indexes := func() (all []uint64) {
		list, err := d.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range list {
			all = append(all, i.Header.Index)
		}
		return all
	}
	if got := fmt.Sprint(indexes()); got != "[11 2 3]" {
		t.Errorf("after the first: %v", got)
	}
	for i := range 3 { // later than the one above, and soon enough not to be from the future
		if _, err := d.SaveScheduled(stream(header(time.Now(), uint64(20+i)), 1), 3, hclog.NewNullLogger()); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(indexes()); got != "[20 21 22]" {
		t.Errorf("in the end: %v", got)
	}
}

// Room is asked for before the first byte and every 16 MiB; without it nothing is left.
func TestABackupEndsWhenThereIsNoRoom(t *testing.T) {
	d := open(t)
	save(t, d, "a", at(5, 1))
	full := errors.New("full")
	for _, c := range []struct {
		blocks, looks, most int // in MiB; the look that finds no room, 0 = none; how many there are
		err                 error
	}{{40, 0, 3, nil}, {40, 1, 1, full}, {40, 3, 3, full}, {16, 2, 1, nil}} {
		asked := 0
		d.KeepRoom(func(dir string) error {
			if asked++; dir != d.abs {
				t.Errorf("asked for %s", dir)
			}
			if asked == c.looks {
				return full
			}
			return nil
		})
		_, err := d.Save(func(w io.Writer) (snapshot.Header, snapshot.Footer, error) {
			for range c.blocks {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return snapshot.Header{}, snapshot.Footer{}, err
				}
			}
			return snapshot.Header{}, snapshot.Footer{}, nil
		}, func(snapshot.Header) string { return "b" })
		if !errors.Is(err, c.err) || asked != c.most {
			t.Errorf("%+v: %v after %d looks", c, err, asked)
		}
		if got := names(t, d); len(got) != 1 && err != nil {
			t.Errorf("%+v: left over: %v", c, got)
		}
		_ = d.Remove("b")
	}
}

// A backup that fails is tried again less and less often, and after one that went well soon.
func TestAScheduleThatFailsBacksOff(t *testing.T) {
	for every, want := range map[time.Duration][]time.Duration{
		24 * time.Hour: {0, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute, time.Hour, time.Hour, time.Hour},
		10 * time.Minute: {0, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute, 10 * time.Minute,
			10 * time.Minute, 10 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := open(t)
			ctx, cancel := context.WithCancel(t.Context())
			var pauses []time.Duration
			last := time.Now()
			s := &Schedule{Dir: d, Cluster: func() string { return "c" }, Mine: func() bool { return true }, Every: every, Keep: 3, Log: hclog.NewNullLogger(),
				Save: func(context.Context) Stream {
					pauses = append(pauses, time.Since(last))
					last = time.Now()
					switch len(pauses) {
					case len(want): // it goes well, and then not
						return stream(snapshot.Header{ClusterID: "c", Index: 1, CreatedAt: last.UnixNano()}, 1)
					case len(want) + 3:
						cancel()
					}
					return func(io.Writer) (h snapshot.Header, f snapshot.Footer, err error) {
						return h, f, errors.New("no space")
					}
				}}
			s.Run(ctx)
			all := append(slices.Clone(want), every, time.Minute, 2*time.Minute)
			if fmt.Sprint(pauses) != fmt.Sprint(all) {
				t.Errorf("every %v: tried after %v, want %v", every, pauses, all)
			}
		})
	}
}

func TestDefaultName(t *testing.T) {
	h := at(42, 5)
	if got := DefaultName(h); got != "konsul-20260102T030405Z-42.snap" {
		t.Fatal(got)
	}
	h.Since = 7
	if got := DefaultName(h); got != "konsul-20260102T030405Z-42-since-7.snap" {
		t.Fatal(got)
	}
}

func TestChain(t *testing.T) {
	var full, inc bytes.Buffer
	if _, _, err := stream(at(5, 1), 10)(&full); err != nil {
		t.Fatal(err)
	}
	h := at(8, 2)
	h.Since = 5
	if _, _, err := stream(h, 3)(&inc); err != nil {
		t.Fatal(err)
	}
	files := []File{bytes.NewReader(full.Bytes()), bytes.NewReader(inc.Bytes())}
	c, err := NewChain(t.Context(), nil, files, []string{"full", "inc"})
	if err != nil || c.Header.Index != 8 || c.Bytes != int64(full.Len()+inc.Len()) {
		t.Fatalf("%+v, %v", c, err)
	}
	var last int64
	src, err := c.Source(t.Context(), func(n int64) { last = n })
	if err != nil {
		t.Fatal(err)
	}
	if f, err := snapshot.Copy(io.Discard, src); err != nil || f.Records != 10 || last != c.Bytes {
		t.Fatalf("%+v %v, read %d of %d", f, err, last, c.Bytes)
	}
	if _, err := NewChain(t.Context(), nil, []File{files[1], files[0]}, []string{"inc", "full"}); !errors.Is(err, snapshot.ErrChain) {
		t.Fatal(err)
	}
	other := bytes.Clone(full.Bytes())
	other[len(other)/2] ^= 4
	if _, err := NewChain(t.Context(), nil, []File{bytes.NewReader(other)}, []string{"full"}); !errors.Is(err, snapshot.ErrCorrupt) || !strings.Contains(err.Error(), "full: ") {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewChain(ended, nil, files[:1], []string{"full"}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// A directory with many other backups does not hide the scheduled ones from the schedule.
func TestAScheduleBesideManyBackups(t *testing.T) {
	d := open(t)
	if _, err := d.SaveScheduled(stream(at(1, 1), 1), 2, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	if last, err := d.LastScheduled("c", time.Now()); err != nil || last.IsZero() {
		t.Fatal(last, err)
	}
	var b bytes.Buffer
	if _, _, err := stream(at(2, 2), 1)(&b); err != nil {
		t.Fatal(err)
	}
	for i := range maxListed {
		name := filepath.Join(d.abs, fmt.Sprintf("konsul-20260102T030405Z-%d.snap", i))
		if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if last, err := d.LastScheduled("c", time.Now()); err != nil || last.IsZero() {
		t.Errorf("LastScheduled: %v, %v: the schedule saves another one at every look", last, err)
	}
	for i := range 5 {
		if _, err := d.SaveScheduled(stream(at(uint64(10+i), 10+i), 1), 2, hclog.NewNullLogger()); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(d.abs, "scheduled", "*.snap")); len(left) != 2 {
		t.Errorf("%d scheduled backups are left, of which 2 are to be kept", len(left))
	}
}

// The clock was ahead while a backup was saved, and is right again. The schedule goes on as it
// is configured: one backup each hour, and those of the last hours stay.
func TestAScheduleAfterTheClockWasAhead(t *testing.T) {
	d := open(t)
	now := time.Now()
	header := func(at time.Time, index uint64) snapshot.Header {
		return snapshot.Header{ClusterID: "c", Index: index, CreatedAt: at.UnixNano()}
	}
	for h := 3; h > 0; h-- {
		if _, err := d.SaveScheduled(stream(header(now.Add(time.Duration(-h)*time.Hour), uint64(10-h)), 1), 0, hclog.NewNullLogger()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.SaveScheduled(stream(header(now.Add(24*time.Hour), 10), 1), 0, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	saved := 0
	s := &Schedule{Dir: d, Cluster: func() string { return "c" }, Every: time.Hour, Keep: 4, Log: hclog.NewNullLogger(), Save: func(context.Context) Stream {
		saved++
		return stream(header(time.Now(), uint64(10+saved)), 1)
	}}
	for range 5 { // looks, a minute apart
		s.perhaps(t.Context())
	}
	if saved > 1 {
		t.Errorf("%d backups were saved within the hour", saved)
	}
	left, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	old := 0
	for _, i := range left {
		if time.Unix(0, i.Header.CreatedAt).Before(now) {
			old++
		}
	}
	if old < 2 {
		t.Errorf("%d of the backups of the last hours are left, of 4 to be kept", old)
	}
}
