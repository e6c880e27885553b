package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/neogan74/konsul/internal/config"
)

func TestNodeWithoutConfigurationKeepsItsData(t *testing.T) {
	t.Chdir(t.TempDir())
	first := start(t, nil)
	first.put("greeting", "hello")
	require.Equal(t, "hello", first.get("greeting"))
	info, err := os.Stat("data")
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	first.stop()

	second := start(t, nil)
	require.Equal(t, "hello", second.get("greeting"))
	second.put("greeting", "again")
	second.cancel() // ends like a signal
	require.Equal(t, 0, second.wait())

	third := start(t, nil)
	require.Equal(t, "again", third.get("greeting"))
	third.stop()
}

func TestBannerSaysWhoWhereAndHowDurable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	n := start(t, nil, "--data-dir="+dir, "--node-id=banner-test")
	n.stop()
	log := n.stderr.String()
	for _, want := range []string{"version=" + programVersion(), "api=" + strings.TrimPrefix(n.url, "http://"), "raft_advertised=127.0.0.1:",
		"id=banner-test", "data_dir=" + dir, "fsync before a write is acknowledged", "cluster_id=", "stopping: signal=terminated", "stopped"} {
		require.Contains(t, log, want)
	}
	require.NotContains(t, log, "[WARN]  konsul: ")
	require.NotContains(t, log, "[ERROR]")
}

func TestWarningsAboutWeakerPromises(t *testing.T) {
	n := start(t, nil, "--data-dir="+t.TempDir(), "--persistence-sync-writes=false")
	n.stop()
	require.Contains(t, n.stderr.String(), "sync_writes is off")
	require.Contains(t, n.stderr.String(), "not a power cut")
}

func TestMemoryModeWritesNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	n := start(t, []string{"KONSUL_PERSISTENCE_ENABLED=false"})
	n.put("a", "b")
	require.Equal(t, "b", n.get("a"))
	n.stop()
	require.Contains(t, n.stderr.String(), "everything is in memory")
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestDataDirectoryOpenToOthersIsTightened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.Mkdir(dir, 0o755))
	n := start(t, nil, "--data-dir="+dir)
	n.stop()
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	require.Contains(t, n.stderr.String(), "others could read the data directory")
}

func TestDirectoryOfOthersIsLeftAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600))
	n, _ := launch(t, nil, "--data-dir="+dir, "--port=0", "--raft-bind-addr=127.0.0.1:0")
	require.Equal(t, 2, n.wait())
	require.Contains(t, n.stderr.String(), "thesis.tex")
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode().Perm())
}

// After `konsul cluster reset` nothing but the old data is there; if it is in somebody else's directory, its
// mode is what it was.
func TestDirectoryOpenToOthersAfterAReset(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	moving := filepath.Join(dir, "damaged-20260102-030405.moving")
	require.NoError(t, os.MkdirAll(filepath.Join(moving, "raft"), 0o755))
	n, _ := launch(t, nil, "--data-dir="+dir, "--port=0", "--raft-bind-addr=127.0.0.1:0")
	require.Equal(t, 1, n.wait())
	require.Contains(t, n.stderr.String(), "konsul cluster reset")
	require.NoError(t, os.Rename(moving, strings.TrimSuffix(moving, ".moving")))
	require.NoError(t, os.Chmod(dir, 0o755))
	start(t, nil, "--data-dir="+dir).stop()
}

func TestOneNodePerDataDirectory(t *testing.T) {
	dir := t.TempDir()
	first := start(t, nil, "--data-dir="+dir)
	second, _ := launch(t, nil, "--data-dir="+dir, "--port=0", "--raft-bind-addr=127.0.0.1:0")
	require.Equal(t, 1, second.wait())
	require.Contains(t, second.stderr.String(), "--data-dir")
	require.Contains(t, second.stderr.String(), dir)
	first.stop()
}

// Clients cannot take the files that the engine needs: beyond half of them they wait.
func TestConnectionsAreBounded(t *testing.T) {
	var was syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was))
	few := was
	few.Cur = 600
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	t.Chdir(t.TempDir())
	n := start(t, nil)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was))
	addr := strings.TrimPrefix(n.url, "http://")
	var idle []net.Conn
	connect := func() net.Conn {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	for range 400 {
		idle = append(idle, connect())
	}
	last := connect()
	_, err := io.WriteString(last, "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	answer := make([]byte, 12)
	require.NoError(t, last.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	_, err = io.ReadFull(last, answer)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "more than half of the files are taken by connections")
	for _, conn := range idle[:200] {
		require.NoError(t, conn.Close())
	}
	require.NoError(t, last.SetReadDeadline(time.Now().Add(patience)))
	_, err = io.ReadFull(last, answer)
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 200", string(answer))
}

func TestJSONLogIsJSON(t *testing.T) {
	n := start(t, []string{"KONSUL_LOG_FORMAT=json"}, "--data-dir="+t.TempDir())
	n.stop()
	for line := range strings.SplitSeq(strings.TrimSpace(n.stderr.String()), "\n") {
		require.True(t, json.Valid([]byte(line)), line)
	}
}

func TestHangupReadsTheLogLevelAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "konsul.yaml")
	require.NoError(t, os.WriteFile(file, []byte("log: {level: info}"), 0o600))
	n := start(t, nil, "--config="+file, "--data-dir="+t.TempDir())
	require.NotContains(t, n.stderr.String(), "[DEBUG]")

	require.NoError(t, os.WriteFile(file, []byte("log: {level: debug}\nhttp: {host: 127.0.0.2}"), 0o600))
	n.signals <- syscall.SIGHUP
	n.logs("configuration read again: log_level=debug")
	n.logs("a changed option takes effect at the next start only: option=http.host")

	require.NoError(t, os.WriteFile(file, []byte("log: {levl: debug}"), 0o600))
	n.signals <- syscall.SIGHUP
	n.logs("configuration was not read again, the old one stays")
	n.put("still", "here")
	n.stop()
	require.Contains(t, n.stderr.String(), "[DEBUG]")
}

func (n *testNode) logs(want string) {
	n.t.Helper()
	require.Eventually(n.t, func() bool { return strings.Contains(n.stderr.String(), want) }, patience, 5*time.Millisecond, want)
}

func TestWatchesEndAndRequestsFinishWhenTheNodeStops(t *testing.T) {
	n := start(t, nil, "--data-dir="+t.TempDir())
	resp, err := http.Get(n.url + "/watch?prefix=a")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	before := time.Now()
	n.stop()
	require.Less(t, time.Since(before), 5*time.Second, "an open watch held the node up")
}

// newTestAgent is an agent that a test drives directly. Its node is in memory, because what these
// tests are about leaves it running.
func newTestAgent(t *testing.T, started func(string)) *agent {
	t.Helper()
	cfg, err := config.Load(config.Input{})
	require.NoError(t, err)
	cfg.Persistence.Enabled = false
	cfg.HTTP.Port, cfg.Raft.BindAddr = 0, "127.0.0.1:0"
	return newAgent(cfg, nil, program{stderr: &syncBuffer{}, started: started})
}

func TestFatalErrorOfTheStateMachineEndsTheProgram(t *testing.T) {
	started := make(chan string, 1)
	a := newTestAgent(t, func(addr string) { started <- addr })
	ended := make(chan error, 1)
	go func() { ended <- a.run(t.Context()) }()
	<-started
	go a.die(errors.New("entry 7 cannot be applied"))
	require.ErrorContains(t, <-ended, "fatal: this node cannot go on: entry 7 cannot be applied")
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	signals := make(chan os.Signal, 2)
	a := newTestAgent(t, func(string) {
		signals <- syscall.SIGTERM
		signals <- syscall.SIGTERM
		<-t.Context().Done() // a node that does not get down while the test runs
	})
	a.p.signals, a.sameSignal = signals, 0
	require.ErrorContains(t, a.run(context.Background()), "terminated again: ended at once")
}

// timeout(1) signals its child and then the whole group.
func TestTheSameSignalTwiceStopsAsOnce(t *testing.T) {
	signals := make(chan os.Signal, 3)
	a := newTestAgent(t, func(string) {
		signals <- syscall.SIGTERM
		signals <- syscall.SIGTERM
		signals <- syscall.SIGINT
	})
	a.p.signals, a.sameSignal = signals, time.Hour
	require.NoError(t, a.run(context.Background()))
}

func TestStartErrorsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	first := start(t, nil, "--data-dir="+dir)
	defer first.stop()
	second, _ := launch(t, nil, "--data-dir="+dir, "--port=0", "--raft-bind-addr=127.0.0.1:0")
	require.Equal(t, 1, second.wait())
	last := lastLine(second.stderr.String())
	require.Contains(t, last, "data directory is in use")
	require.Contains(t, last, "--data-dir")
	require.Equal(t, 1, strings.Count(strings.ToLower(last), "another konsul"), last)

	denied := explainPermission(&config.Result{Config: config.Default()}, &os.PathError{Op: "mkdir", Path: "/srv/x", Err: syscall.EACCES})
	for _, want := range []string{"mkdir /srv/x: permission denied", "user ", "owner of ./data", "--data-dir"} {
		require.ErrorContains(t, denied, want)
	}
}

// `kill PID; konsul` is a restart, although the one is still stopping when the other starts.
func TestARestartWaitsForTheStop(t *testing.T) {
	dir := t.TempDir()
	first := start(t, nil, "--data-dir="+dir)
	first.put("a", "1")
	second, started := launch(t, nil, "--data-dir="+dir, "--port=0", "--raft-bind-addr=127.0.0.1:0")
	require.Eventually(t, func() bool { return strings.Contains(second.stderr.String(), "waiting for the node") }, patience, 5*time.Millisecond)
	first.stop()
	select {
	case <-started:
	case code := <-second.exit:
		t.Fatalf("it ended with status %d:\n%s", code, second.stderr)
	case <-time.After(patience):
		t.Fatalf("it did not start:\n%s", second.stderr)
	}
	second.stop()
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
