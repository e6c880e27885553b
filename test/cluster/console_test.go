//go:build cluster

package cluster

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// command is one "$ ..." line of a ```console block and the output printed below it.
type command struct {
	line      int
	text      string
	want      []string
	clustered bool // its block talks to the ports 8501-8503
}

// consoleBlocks reads the commands out of Markdown. A trailing backslash goes
// on in the next line, as in the shell.
func consoleBlocks(text string) (all []command) {
	in, first := false, 0
	for i, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			in, first = !in && strings.TrimSpace(line) == "```console", len(all)
		case !in:
		case strings.HasPrefix(line, "$ "):
			all = append(all, command{line: i + 1, text: line[2:]})
		case len(all) == first:
		case strings.HasSuffix(all[len(all)-1].text, "\\"):
			all[len(all)-1].text += "\n" + line
		default:
			c := &all[len(all)-1]
			c.want = append(c.want, line)
		}
	}
	for i := range all {
		all[i].clustered = regexp.MustCompile(`:850[123]`).MatchString(all[i].text)
	}
	return all
}

// The commands of the README print what it says ("..." stands for anything).
// They run against a node that was started bare, and against three nodes on the ports
// of `make cluster` where they name those; blocks that start servers are not ```console.
func TestReadmeRunsAsPrinted(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(harness.Root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := consoleBlocks(string(text))
	if len(all) == 0 {
		t.Fatal("the README has no console blocks")
	}
	startReadmeNodes(t, all)
	bin := t.TempDir()
	if err := os.Symlink(harness.Binary(t, harness.Plain), filepath.Join(bin, "konsul")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, c := range all {
		t.Logf("README.md:%d: $ %s", c.line, c.text)
		cmd := exec.Command("timeout", "-k", "1", "20", "bash", "-c", c.text)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+filepath.Join(harness.Root(), "bin")+":"+os.Getenv("PATH"))
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		runErr := cmd.Run()
		if !matches(strings.Join(c.want, "\n"), out.String()) {
			t.Errorf("README.md:%d: $ %s\nprints (%v)\n%s\nbut the README says\n%s", c.line, c.text, runErr, out.String(), strings.Join(c.want, "\n"))
		}
	}
}

// startReadmeNodes starts what the commands talk to, on the ports they name.
func startReadmeNodes(t *testing.T, all []command) {
	t.Helper()
	single := harness.New(t, harness.Options{Nodes: 1})
	bare(single.Nodes[0], "8500", "7000")
	single.Nodes[0].Start()
	single.WaitReady(30 * time.Second)
	for _, c := range all {
		if !c.clustered {
			continue
		}
		trio := harness.New(t, harness.Options{Nodes: 3})
		for i, n := range trio.Nodes {
			bare(n, fmt.Sprint(8501+i), fmt.Sprint(7001+i))
			n.SetEnv("KONSUL_JOIN", "127.0.0.1:8501,127.0.0.1:8502,127.0.0.1:8503")
			n.Start()
		}
		trio.WaitReady(60 * time.Second)
		return
	}
}

// bare moves a node to ports of 127.0.0.1 that users see in the README.
func bare(n *harness.Node, port, raft string) {
	n.SetEnv("KONSUL_HOST", "127.0.0.1")
	n.SetEnv("KONSUL_PORT", port)
	n.SetEnv("KONSUL_RAFT_BIND_ADDR", "127.0.0.1:"+raft)
	n.SetEnv("KONSUL_DATA_DIR", "")
	n.Client = harness.NewClient("127.0.0.1:" + port)
}

// matches compares output with what was printed; white space at the ends of
// lines and of the whole does not count.
func matches(want, got string) bool {
	clean := func(s string) string {
		lines := strings.Split(strings.ReplaceAll(s, "\r", ""), "\n")
		for i := range lines {
			lines[i] = strings.TrimRight(lines[i], " \t")
		}
		return strings.TrimSpace(strings.Join(lines, "\n"))
	}
	pattern := regexp.QuoteMeta(clean(want))
	pattern = strings.ReplaceAll(pattern, regexp.QuoteMeta("..."), "(?s:.*?)")
	return regexp.MustCompile("^" + pattern + "$").MatchString(clean(got))
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"a", "a\n", true}, {"a", "b", false}, {`{"index":...}`, `{"index":42}`, true}, {"a\n...\nd", "a\nb\nc\nd", true}, {"", "", true}, {"", "x", false}, {"[a]...", "[a]", true},
	} {
		if got := matches(c.want, c.got); got != c.ok {
			t.Errorf("matches(%q, %q) = %v", c.want, c.got, got)
		}
	}
}
