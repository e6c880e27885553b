package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for what should happen at once.
const patience = 20 * time.Second

// testNode is the whole program, running in this process.
type testNode struct {
	t       *testing.T
	url     string
	signals chan os.Signal
	exit    chan int
	stderr  *syncBuffer
	cancel  context.CancelFunc
}

// launch runs the program without waiting for anything.
func launch(t *testing.T, env []string, args ...string) (*testNode, <-chan string) {
	t.Helper()
	n := &testNode{t: t, signals: make(chan os.Signal, 4), exit: make(chan int, 1), stderr: &syncBuffer{}}
	started := make(chan string, 1)
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	p := program{
		stdin: strings.NewReader(""), stdout: io.Discard, stderr: n.stderr, env: env, signals: n.signals,
		started: func(addr string) { started <- addr },
	}
	go func() { n.exit <- run(ctx, args, p, func() {}) }()
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			t.Logf("log of the node:\n%s", n.stderr)
		}
	})
	return n, started
}

// start runs the program until its API is ready, on ports of its own.
func start(t *testing.T, env []string, args ...string) *testNode {
	t.Helper()
	n, started := launch(t, env, append([]string{"--port=0", "--raft-bind-addr=127.0.0.1:0"}, args...)...)
	select {
	case addr := <-started:
		n.url = "http://" + addr
	case code := <-n.exit:
		t.Fatalf("the node ended with status %d:\n%s", code, n.stderr)
	case <-time.After(patience):
		t.Fatalf("the node did not start:\n%s", n.stderr)
	}
	require.Eventually(t, func() bool {
		resp, err := http.Get(n.url + "/health/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, patience, 10*time.Millisecond, "the node did not become ready")
	return n
}

func (n *testNode) put(key, value string) {
	n.t.Helper()
	req, err := http.NewRequest(http.MethodPut, n.url+"/kv/"+key, strings.NewReader(value))
	require.NoError(n.t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(n.t, err)
	defer resp.Body.Close()
	require.Equal(n.t, http.StatusOK, resp.StatusCode)
}

func (n *testNode) get(key string) string {
	n.t.Helper()
	resp, err := http.Get(n.url + "/kv/" + key + "?raw=true")
	require.NoError(n.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(n.t, err)
	return string(body)
}

// wait returns the exit status.
func (n *testNode) wait() int {
	n.t.Helper()
	select {
	case code := <-n.exit:
		return code
	case <-time.After(patience + stopTime):
		n.t.Fatalf("the node did not end:\n%s", n.stderr)
		return -1
	}
}

// stop asks as a service manager does.
func (n *testNode) stop() {
	n.t.Helper()
	n.signals <- syscall.SIGTERM
	require.Equal(n.t, 0, n.wait(), "exit status after SIGTERM:\n%s", n.stderr)
}

// syncBuffer is a buffer that the node writes while the test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// command runs a command that ends by itself.
func command(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, program{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, env: env}, func() {})
	return code, out.String(), errs.String()
}

// takenPort is a port on which somebody listens until the test ends.
func takenPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

func TestWrongUsageExitsWith2(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"unknown command", nil, []string{"agnet"}, "konsul: unknown command \"agnet\", did you mean `konsul agent`? (see konsul --help)\n"},
		{"command of a group", nil, []string{"get", "a"}, "did you mean `konsul kv get`?"},
		{"flag before an unknown command", nil, []string{"members", "--json"}, `"error":"unknown command \"members\", did you mean ` + "`konsul cluster peers`?"},
		{"unknown flag", nil, []string{"--prot=1"}, "--prot, did you mean --port?"},
		{"underscore", nil, []string{"--data_dir=x"}, "did you mean --data-dir?"},
		{"health of several", nil, []string{"health", "--http-addr", "a:1,b:2"}, "--http-addr ONE"},
		{"unknown flag of the agent", nil, []string{"agent", "--prot=1"}, "--prot"},
		{"argument for the agent", nil, []string{"agent", "now"}, "now"},
		{"reset of nothing", nil, []string{"cluster", "reset", "--http-addr", "a:1"}, "--data-dir is needed"},
		{"reset that asks nobody", nil, []string{"cluster", "reset", "--data-dir", "/nonexistent", "--http-addr", ", "}, "--http-addr is needed"},
		{"reset with a bad address", nil, []string{"cluster", "reset", "--data-dir", "/nonexistent", "--http-addr", "ftp://a"}, "ftp://a"},
		{"reset without time", nil, []string{"cluster", "reset", "--data-dir", "/nonexistent", "--http-addr", "a:1", "--timeout", "0"}, "--timeout"},
		{"recover without peers", nil, []string{"cluster", "recover", "--data-dir", "/nonexistent"}, "--peers"},
		{"recover that asks", nil, []string{"cluster", "recover", "--data-dir", "/nonexistent", "--peers", "p", "--http-addr", "a:1"}, "--http-addr is not for this command"},
		{"bad value", nil, []string{"--port=many"}, "http.port (flag --port)"},
		{"bad environment", []string{"KONSUL_PROT=1"}, nil, "did you mean KONSUL_PORT?"},
		{"missing file", nil, []string{"--config=/nonexistent.yaml"}, "/nonexistent.yaml"},
		{"what the engine refuses", nil, []string{"--persistence-badger-memtable-size=1MB"}, "persistence.badger.memtable_size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := command(t, c.env, c.args...)
			require.Equal(t, 2, code, stderr)
			require.Empty(t, stdout)
			require.Contains(t, stderr, c.want)
		})
	}
}

func TestPrintConfigShowsSources(t *testing.T) {
	for _, agent := range [][]string{nil, {"agent"}} {
		code, stdout, stderr := command(t, []string{"KONSUL_LOG_LEVEL=warn"}, append(agent, "--port=7777", "--print-config")...)
		require.Equal(t, 0, code, stderr)
		require.Regexp(t, `port: 7777\s+# flag --port`, stdout)
		require.Regexp(t, `level: "warn"\s+# environment KONSUL_LOG_LEVEL`, stdout)
		require.Regexp(t, `data_dir: "./data"\s+# default`, stdout)
	}
}

func TestVersionAndHelp(t *testing.T) {
	code, stdout, _ := command(t, nil, "version")
	require.Equal(t, 0, code)
	require.Contains(t, stdout, programVersion())
	code, stdout, _ = command(t, nil, "--version")
	require.Equal(t, 0, code)
	require.Equal(t, "konsul "+programVersion()+"\n", stdout)
	for _, c := range [][]string{{"--help"}, {"agent", "--help"}, {"health", "--help"}} {
		_, stdout, _ = command(t, nil, c...)
		require.Contains(t, stdout, "Examples:", c)
	}
	code, stdout, _ = command(t, nil, "__complete", "--log-level", "")
	require.Equal(t, 0, code)
	require.Contains(t, stdout, "trace\ndebug\n")
	code, stdout, _ = command(t, nil, "--help")
	require.Equal(t, 0, code)
	require.Contains(t, stdout, "--data-dir")
	require.NotContains(t, stdout, "--raft-commit-timeout", "the short help lists what is needed every day")
	code, stdout, _ = command(t, nil, "agent", "--help")
	require.Equal(t, 0, code)
	require.Contains(t, stdout, "--raft-commit-timeout")
	require.Contains(t, stdout, "[KONSUL_RAFT_COMMIT_TIMEOUT]")
}

func TestHealthCommand(t *testing.T) {
	code, _, stderr := command(t, nil, "health", "--http-addr", "127.0.0.1:1")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "not ready")
	n := start(t, nil, "--data-dir="+t.TempDir())
	code, stdout, stderr := command(t, nil, "health", "--http-addr", n.url)
	require.Equal(t, 0, code, stderr)
	require.Equal(t, "ready\n", stdout)
	n.stop()
}

// In a container the health check has the environment of the node, and nothing else.
func TestHealthCommandGoesByTheNodesEnvironment(t *testing.T) {
	for _, c := range []struct{ addr, host, port, want string }{
		{"", "", "", "http://127.0.0.1:8500"},
		{"", "", "8600", "http://127.0.0.1:8600"},
		{"", "10.0.0.1", "", "http://10.0.0.1:8500"},
		{"", "0.0.0.0", "8600", "http://127.0.0.1:8600"},
		{"", "::", "8600", "http://127.0.0.1:8600"},
		{"", "fd00::1", "8600", "http://[fd00::1]:8600"},
		{"", "node1.example", "8600", "http://node1.example:8600"},
		{"http://a:1", "10.0.0.1", "8600", "http://a:1"},
	} {
		t.Setenv("KONSUL_HTTP_ADDR", c.addr)
		t.Setenv("KONSUL_HOST", c.host)
		t.Setenv("KONSUL_PORT", c.port)
		require.Equal(t, c.want, healthAddr(""), c)
		require.Equal(t, "flag:1", healthAddr("flag:1"))
	}
}

func TestPortsInUseNameTheOption(t *testing.T) {
	port := takenPort(t)
	n, _ := launch(t, nil, "--data-dir="+t.TempDir(), "--port="+port)
	require.Equal(t, 1, n.wait())
	require.Contains(t, n.stderr.String(), fmt.Sprintf("address 127.0.0.1:%s for the API is in use by another process", port))
	require.Contains(t, n.stderr.String(), "http.port")

	n, _ = launch(t, nil, "--data-dir="+t.TempDir(), "--port=0", "--raft-bind-addr=127.0.0.1:"+port)
	require.Equal(t, 1, n.wait())
	require.Contains(t, n.stderr.String(), fmt.Sprintf("address 127.0.0.1:%s for Raft is in use by another process", port))
	require.Contains(t, n.stderr.String(), "raft.bind_addr")
}
