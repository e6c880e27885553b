//go:build cluster

package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/internal/encryption"
	"github.com/neogan74/konsul/test/harness"
)

// Backups that earlier versions saved are in test/testdata/backup-*: a full one, an
// increment on it, what is in each, and the key if they are encrypted.
// KONSUL_WRITE_BACKUPS=NAME makes them of the version at hand.
const (
	keptFull, keptInc = "full.snap", "inc.snap"
	keptKey           = "key"
)

// kept is what stands beside the two files, by their names. Digests are not compared:
// another cluster has other members.
type kept map[string]expected

func TestBackupsOfEarlierVersions(t *testing.T) {
	if name := os.Getenv("KONSUL_WRITE_BACKUPS"); name != "" {
		writeBackups(t, filepath.Join(testdata, "backup-"+name), false)
		writeBackups(t, filepath.Join(testdata, "backup-"+name+"-encrypted"), true)
	}
	dirs, err := filepath.Glob(filepath.Join(testdata, "backup-*"))
	if err != nil || len(dirs) < 2 {
		t.Fatal("no backups of earlier versions", dirs, err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) { readBackups(t, dir) })
	}
}

// readBackups verifies, lists and restores what is in dir, into a running node and into
// an empty data directory.
func readBackups(t *testing.T, dir string) {
	t.Helper()
	var want kept
	b, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err == nil {
		err = json.Unmarshal(b, &want)
	}
	if err != nil || len(want) != 2 {
		t.Fatalf("%d files expected, %v", len(want), err)
	}
	n := harness.New(t, harness.Options{Nodes: 1}).Nodes[0]
	backups := filepath.Join(n.Dir, "backups")
	var withKey []string
	for _, name := range []string{keptFull, keptInc, keptKey} {
		err := copyFile(filepath.Join(dir, name), filepath.Join(backups, name))
		if name == keptKey && err == nil {
			n.SetEnv("KONSUL_ENCRYPTION_KEY_FILE", filepath.Join(backups, keptKey))
			withKey = []string{"--key-file", filepath.Join(backups, keptKey)}
		}
		if err != nil && (name != keptKey || !errors.Is(err, os.ErrNotExist)) {
			t.Fatal(err)
		}
	}
	for name, w := range want {
		out := konsulIn(t, n, 0, append([]string{"backup", "inspect", name, "--json"}, withKey...)...)
		if !strings.Contains(out, fmt.Sprintf(`"index":%d,`, w.Index)) {
			t.Errorf("%s is inspected as %s; it is of index %d", name, out, w.Index)
		}
		if withKey != nil {
			if out := konsulIn(t, n, 1, "backup", "inspect", name); !strings.Contains(out, "--key-file") {
				t.Errorf("without a key %s is inspected as %s", name, out)
			}
		}
	}
	n.Start()
	n.WaitReady(60 * time.Second)
	list, err := n.Get(soon(t), "/backups")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{fmt.Sprintf(`/full.snap","size_bytes":%d,"index":%d,`, sizeOf(t, dir, keptFull), want[keptFull].Index),
		fmt.Sprintf(`/inc.snap","size_bytes":%d,"index":%d,"since":%d,`, sizeOf(t, dir, keptInc), want[keptInc].Index, want[keptFull].Index)} {
		if !strings.Contains(string(list.Body), part) {
			t.Errorf("the list has no %s: %s", part, list.Body)
		}
	}
	mustPut(t, n, "not in it", "x")
	for _, name := range []string{keptInc, keptFull, keptInc} { // once more, for what an increment must take away
		chain := []string{keptFull}
		if name == keptInc {
			chain = append(chain, keptInc)
		}
		a, err := n.Post(soon(t), "/restore", map[string]any{"path": chain})
		if err == nil {
			err = a.Want(http.StatusOK)
		}
		if err != nil {
			t.Fatal(err)
		}
		sameAsKept(t, n, want[name], want[keptInc])
	}
	other := harness.New(t, harness.Options{Nodes: 1}).Nodes[0]
	konsulIn(t, n, 0, append([]string{"backup", "restore", keptFull, keptInc, "--data-dir", other.DataDir}, withKey...)...)
	if withKey != nil {
		other.SetEnv("KONSUL_ENCRYPTION_KEY_FILE", withKey[1])
	}
	other.Start()
	other.WaitReady(60 * time.Second)
	sameAsKept(t, other, want[keptInc], want[keptInc])
	mustPut(t, other, "goes on", "x")
}

// sameAsKept compares a node with what was in a backup; all has every key there is.
func sameAsKept(t *testing.T, n *harness.Node, want, all expected) {
	t.Helper()
	got := look(t, n, all.Entries)
	for key := range all.Entries {
		answer, ok := want.Entries[key]
		switch {
		case !ok && !strings.Contains(got.Entries[key], "key_not_found"):
			t.Errorf("%q is %s, it was not there", key, got.Entries[key])
		case ok && got.Entries[key] != answer:
			t.Errorf("%q is %s, it was %s", key, got.Entries[key], answer)
		}
	}
	for path, answer := range want.Answers {
		if withoutTime(got.Answers[path]) != withoutTime(answer) {
			t.Errorf("%s answers %s, it was %s", path, got.Answers[path], answer)
		}
	}
	list, err := n.List(soon(t), "", "")
	if err != nil {
		t.Fatal(err)
	}
	if uint64(len(list)) != want.Records {
		t.Errorf("there are %d keys, there were %d", len(list), want.Records)
	}
}

// konsulIn runs a command in the node's backup directory and returns all it prints.
func konsulIn(t *testing.T, n *harness.Node, code int, args ...string) string {
	t.Helper()
	cmd := exec.Command(n.Binary(), args...)
	cmd.Dir = filepath.Join(n.Dir, "backups")
	out, _ := cmd.CombinedOutput() // the exit status says more
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("konsul %s: exit %d, want %d: %s", strings.Join(args, " "), got, code, out)
	}
	return string(out)
}

func sizeOf(t *testing.T, dir, name string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A backup of a format that is not known yet is refused as such, through every door,
// and changes nothing; so is an encrypted one.
func TestABackupOfALaterVersion(t *testing.T) {
	c := harness.New(t, harness.Options{Nodes: 1})
	n := c.Nodes[0]
	key := filepath.Join(n.Dir, "key")
	if err := os.WriteFile(key, []byte(encryption.NewKeyLine()), 0o600); err != nil {
		t.Fatal(err)
	}
	n.SetEnv("KONSUL_ENCRYPTION_KEY_FILE", key)
	n.Start()
	n.WaitReady(60 * time.Second)
	mustPut(t, n, "mine", "stays")
	clear, err := os.ReadFile(filepath.Join(testdata, "backup-0.1", keptFull))
	if err != nil {
		t.Fatal(err)
	}
	clear[9]++ // the number of the format
	keys, err := encryption.ReadKeyFile(key)
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	w, err := keys.Files().Writer(&sealed)
	if err == nil {
		_, err = w.Write(clear)
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{"clear.snap": clear, "sealed.snap": sealed.Bytes()} {
		path := filepath.Join(n.Dir, "backups", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		for what, ask := range map[string]func() (*harness.Answer, error){
			"POST /restore": func() (*harness.Answer, error) {
				return n.Post(soon(t), "/restore", map[string]any{"path": name})
			},
			"PUT /snapshot": func() (*harness.Answer, error) { return n.Do(soon(t), http.MethodPut, "/snapshot", file) },
		} {
			a, err := ask()
			if err == nil {
				err = a.Want(http.StatusBadRequest)
			}
			if err != nil || !strings.Contains(string(a.Body), `"backup_too_new"`) {
				t.Errorf("%s of %s: %v, %s", what, name, err, a.Body)
			}
		}
		for _, args := range [][]string{{"inspect", name}, {"restore", name, "--http-addr", n.HTTP}, {"restore", name, "--data-dir", filepath.Join(n.Dir, "fresh")}} {
			if out := konsulIn(t, n, 1, append(append([]string{"backup"}, args...), "--key-file", key)...); !strings.Contains(out, "too new") {
				t.Errorf("%v: %s", args, out)
			}
		}
	}
	if entries, err := os.ReadDir(filepath.Join(n.Dir, "fresh")); err == nil {
		t.Errorf("there is a data directory: %v", entries)
	}
	if err := wantValue(n, "mine", "stays", 0); err != nil {
		t.Error(err)
	}
}

// writeBackups fills a node with some of everything and keeps its backups.
func writeBackups(t *testing.T, to string, encrypted bool) {
	t.Helper()
	n := harness.New(t, harness.Options{Nodes: 1}).Nodes[0]
	n.SetEnv("KONSUL_RAFT_NODE_ID", "n1")
	if err := os.MkdirAll(to, 0o750); err != nil {
		t.Fatal(err)
	}
	if encrypted {
		key := filepath.Join(to, keptKey)
		if err := os.WriteFile(key, []byte(encryption.NewKeyLine()), 0o600); err != nil {
			t.Fatal(err)
		}
		abs, err := filepath.Abs(key)
		if err != nil {
			t.Fatal(err)
		}
		n.SetEnv("KONSUL_ENCRYPTION_KEY_FILE", abs)
	}
	n.Start()
	n.WaitReady(60 * time.Second)
	all := kept{}
	save := func(name string, since uint64, keys map[string]string) {
		t.Helper()
		a, err := n.Post(soon(t), "/backup", map[string]any{"path": name, "since": since})
		if err == nil {
			err = a.Want(http.StatusOK)
		}
		var made struct{ Index, Keys uint64 }
		if err == nil {
			err = a.JSON(&made)
		}
		if err == nil {
			err = copyFile(filepath.Join(n.Dir, "backups", name), filepath.Join(to, name))
		}
		if err != nil {
			t.Fatal(err)
		}
		e := look(t, n, maps.Clone(keys))
		e.Index, e.Records = made.Index, made.Keys
		all[name] = e
	}
	keys := fillWithSome(t, n, func(keys map[string]string) { save(keptFull, 0, keys) })
	if _, err := n.Delete(soon(t), "dir/07"); err != nil { // it is in the full one
		t.Fatal(err)
	}
	mustPut(t, n, "dir/08", "changed")
	save(keptInc, all[keptFull].Index, keys)
	b, err := json.MarshalIndent(all, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(to, "expected.json"), append(b, '\n'), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
