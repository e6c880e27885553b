package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/api/apitest"
	"github.com/neogan74/konsul/cluster/clustertest"
	"github.com/neogan74/konsul/internal/backup"
	"github.com/neogan74/konsul/internal/encryption"
)

// startDoors is a real node of its own, whose backup directory is ./backups in a
// directory that has other things in it as well. keys may be nil.
func startDoors(t *testing.T, keys *encryption.FileKeys) *apitest.Server {
	t.Helper()
	t.Chdir(t.TempDir())
	dir, err := backup.New("./backups")
	if err != nil {
		t.Fatal(err)
	}
	dir.Encrypt(keys)
	n := clustertest.Started(t, clustertest.Options{Nodes: 1}).Nodes[0]
	cfg := api.Config{Data: api.DataConfig{Dir: dir, SpoolDir: filepath.Join(t.TempDir(), "spool")}}
	return apitest.Serve(t, api.New(cfg, n.Store, n.Manager))
}

// knock is a request that must be answered soon: a pipe must not make it wait.
func knock(t *testing.T, s *apitest.Server, target string, body any) (status int, code string) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, err := http.DefaultClient.Do(s.Request(http.MethodPost, target, bytes.NewReader(b)).WithContext(ctx))
	if err != nil {
		t.Fatalf("%s %.100s: %v", target, b, err)
	}
	defer resp.Body.Close()
	var out struct{ Error, Code string }
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatalf("%s %.100s: %v", target, b, err)
	}
	return resp.StatusCode, out.Code
}

// tree is all that is in the present directory: names, modes, contents, where links go.
func tree(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all[path] = info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			all[path] += fmt.Sprintf(" %x %v", sha256.Sum256(b), info.ModTime())
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			all[path] += " " + to
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// unchanged returns a check that the directory and the node's data are what they were.
func unchanged(t *testing.T, s *apitest.Server) func(after string) {
	t.Helper()
	state := func() string { return string(s.Get("/kv?prefix=&values=true&limit=10000").Want(200).Body) }
	files, data := tree(t), state()
	return func(after string) {
		t.Helper()
		now := tree(t)
		for path, was := range files {
			if now[path] != was {
				t.Fatalf("after %s, %s is %q, it was %q", after, path, now[path], was)
			}
			delete(now, path)
		}
		if len(now) > 0 {
			t.Fatalf("after %s, there is something new: %v", after, now)
		}
		if got := state(); got != data {
			t.Fatalf("after %s, the data are %.300s, they were %.300s", after, got, data)
		}
	}
}

// pitfalls puts a whole backup outside of the backup directory, and into the directory
// all that could lead to it, or block. It returns the names that lead nowhere good.
func pitfalls(t *testing.T) (names []string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll("outside/dir", 0o700))
	whole, err := os.ReadFile("backups/good.snap")
	must(err)
	must(os.WriteFile("outside/secret.snap", whole, 0o600))
	must(os.WriteFile("secret.snap", whole, 0o600))
	outside, err := filepath.Abs("outside")
	must(err)
	for name, to := range map[string]string{
		"abs": outside + "/secret.snap", "up": "../outside/secret.snap", "chain": "up", "dangling": "../outside/new.snap", "null": "/dev/null",
		"loop": "loop", "absdir": outside, "updir": "../outside", "parent": "..", "root": "/",
	} {
		must(os.Symlink(to, filepath.Join("backups", name)))
		names = append(names, name)
	}
	must(syscall.Mkfifo("backups/pipe", 0o600))
	must(os.Mkdir("backups/sub", 0o700))
	l, err := net.Listen("unix", "backups/socket")
	must(err)
	t.Cleanup(func() { _ = l.Close() })
	names = append(names, "pipe", "sub", "socket")
	// A device needs privileges.
	if err := syscall.Mknod("backups/device", syscall.S_IFCHR|0o600, 1<<8|3); err == nil {
		names = append(names, "device")
	} else if !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err)
	}
	for _, dir := range []string{"absdir", "updir"} {
		names = append(names, dir+"/secret.snap", dir+"/new.snap", dir+"/dir/new.snap", dir+"/new/new.snap")
	}
	return append(names,
		".", "..", "/", "./backups", "./backups/", "sub/", "sub/..", "../secret.snap", "../outside/secret.snap", "sub/../../secret.snap", "./backups/../secret.snap",
		"backups/../../x", outside+"/secret.snap", outside+"/new.snap", "/etc/passwd", "/dev/null", "/proc/self/environ", "root/etc/passwd", "parent/secret.snap",
		"parent/backups/good.snap", "good.snap/x", "a\x00b", "good.snap\x00", "a\nb", "a\r\nb", "a\x1b[31mb", "a\u0085b",
		strings.Repeat("a", 256), strings.Repeat("a", 2000), strings.Repeat("sub/", 400)+"x", strings.Repeat("../", 40)+"etc/passwd", ".konsul-0011223344556677.tmp")
}

// Every door that takes the name of a backup: whatever the name, nothing outside the
// directory is read or written, the answer is a documented one, and nothing changes.
func TestNoNameOpensADoor(t *testing.T) {
	s := startDoors(t, nil)
	s.Put("/kv/a", "saved")
	saveBackup(t, s, `{"path":"good.snap"}`)
	s.Put("/kv/a", "newer")
	names := pitfalls(t)
	same := unchanged(t, s)
	for _, name := range names {
		if status, code := knock(t, s, "/backup", map[string]any{"path": name}); status != 400 || code != "bad_request" {
			t.Errorf("saving %.60q: %d %s", name, status, code)
		}
		same(fmt.Sprintf("saving %.60q", name))
		for _, path := range []any{name, []string{"good.snap", name}, []string{name, "good.snap"}} {
			status, code := knock(t, s, "/restore", map[string]any{"path": path})
			if (status != 400 || code != "bad_request") && (status != 404 || code != "not_found") {
				t.Errorf("restoring %.60q: %d %s", path, status, code)
			}
		}
		same(fmt.Sprintf("restoring %.60q", name))
	}
	for _, body := range []any{map[string]any{"path": ""}, map[string]any{"path": []string{}}, map[string]any{"path": []string{""}}, map[string]any{"path": nil}, map[string]any{}} {
		if status, code := knock(t, s, "/restore", body); status != 400 || code != "bad_request" {
			t.Errorf("restoring %v: %d %s", body, status, code)
		}
	}
	for _, target := range []string{"/backups?path=..", "/backups?dir=/etc", "/backups/../outside", "/snapshot?path=../x"} {
		if a := s.Get(target); a.Status != 400 && a.Status != 404 {
			t.Errorf("%s: %d %s", target, a.Status, a.Body)
		}
	}
	s.Do(http.MethodPut, "/snapshot?path=../outside/secret.snap", "").Want(400, "bad_request")
	same("other doors")
	var list struct{ Backups []struct{ Path string } }
	if err := json.Unmarshal(s.Get("/backups").Want(200).Body, &list); err != nil || len(list.Backups) != 1 || list.Backups[0].Path != "./backups/good.snap" {
		t.Errorf("listed: %+v, %v", list, err)
	}
	same("the list")
	// And the name that is none: the default, in the directory.
	if got := saveBackup(t, s, `{"path":""}`); !strings.HasPrefix(got.Path, "./backups/konsul-") {
		t.Errorf("%+v", got)
	}
}

// A directory that becomes a link out and a directory again, while backups are saved to
// it and restored from it.
func TestALinkThatComesAndGoes(t *testing.T) {
	s := startDoors(t, nil)
	s.Put("/kv/a", "saved")
	saveBackup(t, s, `{"path":"good.snap"}`)
	pitfalls(t)
	s.Put("/kv/a", "newer")
	if err := os.Mkdir("backups/real", 0o700); err != nil {
		t.Fatal(err)
	}
	before := tree(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = os.Rename("backups/real", "backups/swap")
				_ = os.Rename("backups/swap", "backups/real")
				_ = os.Symlink("../outside", "backups/swap")
				_ = os.Remove("backups/swap")
			}
		}
	}()
	for range 100 {
		knock(t, s, "/backup", map[string]any{"path": "swap/new.snap"})
		if status, code := knock(t, s, "/restore", map[string]any{"path": "swap/secret.snap"}); status != 400 && status != 404 {
			t.Fatalf("%d %s", status, code)
		}
	}
	close(stop)
	<-stopped
	now := tree(t)
	for path, was := range before {
		if strings.HasPrefix(path, "outside") && now[path] != was {
			t.Errorf("%s is %q, it was %q", path, now[path], was)
		}
	}
	for path := range now {
		if strings.HasPrefix(path, "outside") && before[path] == "" || strings.HasSuffix(path, ".tmp") {
			t.Errorf("there is %s", path)
		}
	}
	if got := string(s.Get("/kv/a?raw=true").Want(200).Body); got != "newer" {
		t.Errorf("a is %q", got)
	}
}

// Damage to a file in the backup directory, alone or in a chain, in the clear or
// encrypted, is found before anything changes. TestDamagedBackupsChangeNothing is about
// those that are sent.
func TestDamagedFilesChangeNothing(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(encryption.NewKeyLine()), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := encryption.ReadKeyFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for what, k := range map[string]*encryption.FileKeys{"in the clear": nil, "encrypted": keys.Files()} {
		t.Run(what, func(t *testing.T) { damageFiles(t, startDoors(t, k)) })
	}
}

func damageFiles(t *testing.T, s *apitest.Server) {
	t.Helper()
	for i := range 40 {
		s.Put(fmt.Sprintf("/kv/k%d", i), fmt.Sprint(rand.Uint64(), rand.Uint64()))
	}
	full := saveBackup(t, s, `{"path":"full.snap"}`)
	s.Put("/kv/k0", "changed")
	s.Do(http.MethodDelete, "/kv/k1", "").Want(200)
	saveBackup(t, s, fmt.Sprintf(`{"path":"inc.snap","since":%d}`, full.Index))
	s.Put("/kv/mine", "stays")
	files := map[string][]byte{}
	for _, name := range []string{"full.snap", "inc.snap"} {
		b, err := os.ReadFile(filepath.Join("backups", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = b
	}
	same := unchanged(t, s)
	codes := []string{"backup_corrupt", "not_a_backup", "backup_too_new", "backup_key"}
	refused := func(what, name string, damaged []byte) {
		t.Helper()
		if err := os.WriteFile("backups/bad.snap", damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		chain := []string{"full.snap", "inc.snap"}
		chain[slices.Index(chain, name)] = "bad.snap"
		if status, code := knock(t, s, "/restore", map[string]any{"path": chain}); status != 400 || !slices.Contains(codes, code) {
			t.Fatalf("%s with %s: %d %s", name, what, status, code)
		}
	}
	for name, file := range files {
		for range 100 {
			at, bit := rand.IntN(len(file)), byte(1)<<rand.IntN(8)
			damaged := bytes.Clone(file)
			damaged[at] ^= bit
			refused(fmt.Sprintf("bit %#x of byte %d of %d flipped", bit, at, len(file)), name, damaged)
		}
		for range 50 {
			at := rand.IntN(len(file))
			refused(fmt.Sprintf("%d of %d bytes", at, len(file)), name, file[:at])
		}
		refused("a byte more", name, append(bytes.Clone(file), 0))
	}
	if err := os.Remove("backups/bad.snap"); err != nil {
		t.Fatal(err)
	}
	same("damage")
	// As they are they are good.
	if status, code := knock(t, s, "/restore", map[string]any{"path": []string{"full.snap", "inc.snap"}}); status != 200 {
		t.Fatalf("%d %s", status, code)
	}
	s.Get("/kv/mine").Want(404)
	if got := string(s.Get("/kv/k0?raw=true").Want(200).Body); got != "changed" {
		t.Errorf("k0 is %q", got)
	}
}
