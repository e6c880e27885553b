package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neogan74/konsul/test/harness"
)

// TestExportAndImport is what a person types to move data from one cluster to another.
func TestExportAndImport(t *testing.T) {
	from, to := harness.Start(t, harness.Options{}), harness.Start(t, harness.Options{})
	at := func(c *harness.Cluster) string { return "--http-addr=" + c.Nodes[0].HTTP }
	for _, kv := range [][2]string{{"app/a", "1"}, {"app/\xff", "\x00\xfe"}, {"other", "é"}} {
		if o := run(t, "", "kv", "put", at(from), "--", kv[0], kv[1]); o.code != 0 {
			t.Fatalf("%+v", o)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "data.json")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if o := run(t, "", "export", at(from), file); o.code != 0 || !strings.HasPrefix(o.stdout, "exported to "+file) {
		t.Fatalf("%+v", o)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "", "export", at(from)).check(t, 0, string(text))
	run(t, "", "import", at(to), "--dry-run", file).check(t, 0, "would import 3 keys and 0 services\n")
	run(t, "", "kv", "list", at(to)).check(t, 0, "")
	run(t, string(text), "import", at(to), "-").check(t, 0, "imported 3 keys and 0 services\n")
	run(t, "", "export", at(to)).check(t, 0, string(text))
	run(t, "", "import", at(to), "--on-conflict", "skip", "--prefix", "app/", file).check(t, 0, "imported 0 keys and 0 services, 2 that exist are skipped\n")
	run(t, "", "import", at(to), "--json", file).check(t, 0, `{"kv":3,"services":0,"skipped":0}`+"\n")
	for _, c := range []struct {
		code  int
		stdin string
		args  []string
		says  string
	}{
		{1, "", []string{"import", at(to), "--on-conflict", "fail", file}, `key "app/a" exists already`},
		{1, `{"kv":{"a":1}}`, []string{"import", at(to), "-"}, `line 1 (byte 11), "a": malformed JSON`},
		{1, "", []string{"import", at(to), filepath.Join(dir, "none")}, "no such file"},
		{1, "", []string{"import", at(to), dir}, "is a directory"},
		{1, "", []string{"export", at(to), dir}, "is a directory"},
		{1, "", []string{"export", at(to), filepath.Join(dir, "none", "x")}, "no such file"},
		{2, "", []string{"import", at(to), "--on-conflict", "ask", file}, "overwrite, skip or fail"},
		{2, "", []string{"import", at(to)}, "an argument is missing"},
		{1, "", []string{"export", "--http-addr=127.0.0.1:1", file}, "cannot connect"},
	} {
		if o := run(t, c.stdin, c.args...); o.code != c.code || !strings.Contains(o.stderr, c.says) {
			t.Errorf("%v: %+v, want exit %d and %q", c.args, o, c.code, c.says)
		}
	}
	if now, err := os.ReadFile(file); err != nil || string(now) != string(text) {
		t.Errorf("an export that failed changed the file: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
