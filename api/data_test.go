package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/api/apitest"
	"github.com/neogan74/konsul/internal/backup"
	"github.com/neogan74/konsul/internal/snapshot"
	"github.com/neogan74/konsul/raftstore"
)

// startData is a server with a backup directory below a directory of the test.
func startData(t *testing.T) (*apitest.Server, *apitest.Local, string) {
	t.Helper()
	t.Chdir(t.TempDir())
	dir, err := backup.New("./backups")
	if err != nil {
		t.Fatal(err)
	}
	local := apitest.NewLocal(t)
	s := apitest.Start(t, api.Config{Data: api.DataConfig{Dir: dir, SpoolDir: filepath.Join(t.TempDir(), "spool")}}, local, nil)
	return s, local, "./backups"
}

type saved struct {
	Message string `json:"message"`
	Path    string `json:"path"`
	Size    int64  `json:"size_bytes"`
	Index   uint64 `json:"index"`
	Since   uint64 `json:"since"`
	SHA256  string `json:"sha256"`
}

func saveBackup(t *testing.T, s *apitest.Server, body string) saved {
	t.Helper()
	var out saved
	if err := json.Unmarshal(s.Do(http.MethodPost, "/backup", body).Want(200).Body, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// The users' guide, as it is written.
func TestBackupAndRestoreAsInTheGuide(t *testing.T) {
	s, _, _ := startData(t)
	s.Put("/kv/config/host", "10.0.0.1")
	b := saveBackup(t, s, `{"path": "./backups/backup-2025-01-12.db"}`)
	if b.Message != "Backup completed successfully" || b.Path != "./backups/backup-2025-01-12.db" || b.Size == 0 || len(b.SHA256) != 64 {
		t.Errorf("%+v", b)
	}
	s.Put("/kv/config/host", "10.0.0.2")
	s.Put("/kv/other", "x")
	var r struct {
		Message string
		Path    string
		Index   uint64
	}
	if err := json.Unmarshal(s.Do(http.MethodPost, "/restore", `{"path": "./backups/backup-2025-01-12.db"}`).Want(200).Body, &r); err != nil {
		t.Fatal(err)
	}
	if r.Message != "Restore completed successfully" || r.Path != "./backups/backup-2025-01-12.db" || r.Index <= b.Index {
		t.Errorf("%+v", r)
	}
	if got := string(s.Get("/kv/config/host?raw=true").Want(200).Body); got != "10.0.0.1" {
		t.Errorf("restored %q", got)
	}
	s.Get("/kv/other").Want(404)
}

func TestIncrementalBackupsAndTheirList(t *testing.T) {
	s, _, _ := startData(t)
	s.Put("/kv/a", "1")
	s.Put("/kv/b", "1")
	full := saveBackup(t, s, "")
	s.Do(http.MethodDelete, "/kv/a", "").Want(200)
	s.Put("/kv/c", "2")
	inc := saveBackup(t, s, fmt.Sprintf(`{"path":"x/inc.snap","since":%d}`, full.Index))
	if inc.Since != full.Index {
		t.Errorf("%+v", inc)
	}
	s.Put("/kv/d", "3")
	list := string(s.Get("/backups").Want(200).Body)
	for _, want := range []string{full.Path, "./backups/x/inc.snap", fmt.Sprintf(`"since":%d`, full.Index), `"node":"local"`} {
		if !strings.Contains(list, want) {
			t.Errorf("the list has no %s: %s", want, list)
		}
	}
	s.Do(http.MethodPost, "/restore", fmt.Sprintf(`{"path":["x/inc.snap",%q]}`, full.Path)).Want(400, "backup_chain")
	s.Do(http.MethodPost, "/restore", `{"path":"x/inc.snap"}`).Want(400, "backup_chain")
	s.Get("/kv/d").Want(200)
	s.Do(http.MethodPost, "/restore", fmt.Sprintf(`{"path":[%q,"x/inc.snap"]}`, full.Path)).Want(200)
	s.Get("/kv/a").Want(404)
	s.Get("/kv/b").Want(200)
	s.Get("/kv/c").Want(200)
	s.Get("/kv/d").Want(404)
	s.Do(http.MethodPost, "/backup", fmt.Sprintf(`{"since":%d}`, full.Index)).Want(410, "compacted")
	s.Do(http.MethodPost, "/backup", `{"since":99999999}`).Want(400)
}

func TestSnapshotStreams(t *testing.T) {
	s, _, _ := startData(t)
	for i := range 200 {
		s.Put(fmt.Sprintf("/kv/k%d", i), strings.Repeat("v", 3000))
	}
	a := s.Get("/snapshot").Want(200)
	h, f, err := snapshot.Verify(bytes.NewReader(a.Body))
	if err != nil || h.ClusterID != "test" || h.Keys != 200 || f.Size != int64(len(a.Body)) {
		t.Fatalf("%+v %+v %v", h, f, err)
	}
	if got := a.Header.Get("X-Konsul-Index"); got != fmt.Sprint(h.Index) {
		t.Errorf("X-Konsul-Index: %s, want %d", got, h.Index)
	}
	s.Put("/kv/k0", "changed")
	s.Do(http.MethodPut, "/snapshot", string(a.Body)).Want(200)
	if got := s.Get("/kv/k0?raw=true").Want(200).Body; len(got) != 3000 {
		t.Errorf("%d bytes", len(got))
	}
	s.Get("/snapshot?since=1&since=2").Want(400)
	s.Get("/snapshot?since=x").Want(400)
	s.Get("/snapshot?consistency=any").Want(400)
	s.Get("/snapshot?since=99999999").Want(400)
	if _, _, err := snapshot.Verify(bytes.NewReader(s.Get("/snapshot?consistency=stale").Want(200).Body)); err != nil {
		t.Error(err)
	}
}

// Whatever is damaged, cut off, foreign or too new is refused before anything changes.
func TestDamagedBackupsChangeNothing(t *testing.T) {
	s, local, _ := startData(t)
	for i := range 60 {
		s.Put(fmt.Sprintf("/kv/k%d", i), fmt.Sprint(rand.Uint64(), rand.Uint64()))
	}
	file := s.Get("/snapshot").Want(200).Body
	s.Put("/kv/mine", "stays")
	before := local.DB.Published()
	rnd := rand.New(rand.NewPCG(1, 2))
	refused := func(what string, file []byte) {
		t.Helper()
		a := s.Do(http.MethodPut, "/snapshot", string(file))
		if a.Status != 400 || !strings.Contains(string(a.Body), "backup") {
			t.Fatalf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	for range 1000 {
		at := rnd.IntN(len(file))
		damaged := bytes.Clone(file)
		damaged[at] ^= byte(1 + rnd.IntN(255))
		refused(fmt.Sprintf("byte %d flipped", at), damaged)
	}
	for range 500 {
		at := rnd.IntN(len(file))
		refused(fmt.Sprintf("cut off at %d", at), file[:at])
	}
	refused("with a byte more", append(bytes.Clone(file), 0))
	newer := bytes.Clone(file)
	newer[9]++
	s.Do(http.MethodPut, "/snapshot", string(newer)).Want(400, "backup_too_new")
	s.Do(http.MethodPut, "/snapshot", "{}").Want(400, "not_a_backup")
	if at := local.DB.Published(); at != before {
		t.Errorf("something was written: index %d, before %d", at, before)
	}
	s.Get("/kv/mine").Want(200)
}

func TestBackupPathsStayInside(t *testing.T) {
	s, _, dir := startData(t)
	saveBackup(t, s, `{"path":"good.snap"}`)
	if err := os.Symlink("/etc", filepath.Join(dir, "etc")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"../x", "/etc/passwd", "etc/passwd", "./backups/../../x", "a\\u0000b", "a\\nb", "sub/", "..", ".", "backups/"} {
		body := fmt.Sprintf(`{"path":"%s"}`, path)
		s.Do(http.MethodPost, "/backup", body).Want(400, "bad_request")
		if a := s.Do(http.MethodPost, "/restore", body); a.Status != 400 && a.Status != 404 {
			t.Errorf("restoring %s: %d %s", path, a.Status, a.Body)
		}
	}
	s.Do(http.MethodPost, "/restore", `{"path":"nothing.snap"}`).Want(404, "not_found")
	s.Do(http.MethodPost, "/restore", `{}`).Want(400, "bad_request")
	s.Do(http.MethodPost, "/restore", `{"path":7}`).Want(400, "bad_request")
	s.Do(http.MethodPost, "/restore", `{"file":"x"}`).Want(400, "bad_request")
}

func TestWithoutABackupDirectory(t *testing.T) {
	s, _ := apitest.StartLocal(t)
	s.Do(http.MethodPost, "/backup", "").Want(404, "not_found")
	s.Get("/backups").Want(404, "not_found")
	s.Do(http.MethodPost, "/restore", `{"path":"a"}`).Want(404, "not_found")
}

// A full disk under the spool is said as such, and leaves nothing.
func TestAFullDiskIsSaid(t *testing.T) {
	full := errors.New("no room")
	dir := t.TempDir()
	_, err := backup.Spool(dir, nil, io.LimitReader(rand.NewChaCha8([32]byte{}), 1<<30), func() error { return full })
	if !errors.Is(err, full) {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Fatal(left, err)
	}
}

// A backup that would take the last of the disk is refused, and leaves nothing behind.
func TestABackupWithoutRoom(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := backup.New("./backups")
	if err != nil {
		t.Fatal(err)
	}
	dir.KeepRoom(raftstore.BackupRoom(t.TempDir(), 1<<60))
	s := apitest.Start(t, api.Config{Data: api.DataConfig{Dir: dir}}, apitest.NewLocal(t), nil)
	s.Put("/kv/a", "1")
	a := s.Do(http.MethodPost, "/backup", "{}").Want(503, "disk_full")
	if a.Header.Get("Retry-After") == "" {
		t.Errorf("%v", a.Header)
	}
	if left, err := os.ReadDir("backups"); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}
