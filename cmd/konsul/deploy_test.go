package main

import (
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Dashboards and alerts about metrics that do not exist are silent, which is the worst they can be.
func TestDashboardsAndAlertsUseMetricsThatExist(t *testing.T) {
	n := start(t, nil, "--data-dir="+t.TempDir())
	defer n.stop()
	n.put("a", "b")
	resp, err := http.Get(n.url + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	exists := map[string]bool{
		"konsul_raft_peer_contact_seconds": true, // only on a leader that has peers
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(string(text), -1) {
		exists[m[1]] = true
	}
	for _, file := range []string{"../../deploy/grafana.json", "../../deploy/prometheus.rules.yml", "../../README.md"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		names := regexp.MustCompile(`\b(konsul|process|go)_[a-z_]+[a-z]\b`).FindAllString(string(text), -1)
		require.NotEmpty(t, names)
		for _, name := range names {
			family := name
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				family = strings.TrimSuffix(family, suffix)
			}
			require.True(t, exists[family], "%s names %s, which no node has", file, name)
		}
	}
}

// The README's table of options must be complete and right about the names.
func TestReadmeNamesEveryOption(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, stdout, _ := command(t, nil, "agent", "--help")
	for _, env := range regexp.MustCompile(`\[((?:KONSUL|BADGER)_\w+)\]`).FindAllStringSubmatch(stdout, -1) {
		name := env[1]
		if regexp.MustCompile(`^KONSUL_(TLS|ACL|ENCRYPTION)_`).MatchString(name) {
			continue // named as groups
		}
		short := strings.TrimPrefix(name, "KONSUL_RAFT_")
		listed := strings.Contains(string(text), "`"+name+"`") ||
			short != name && strings.Contains(string(text), strings.ToLower(short)+"`")
		require.True(t, listed, "%s is not in the README", name)
	}
}

// systemd is told not to restart what exits with the status of a wrong configuration. A panic must not
// look like that, with the environment that the unit gives; nor may it leave the data in a core dump.
func TestTheUnitRestartsWhatPanics(t *testing.T) {
	if os.Getenv("KONSUL_TEST_PANIC") != "" {
		go func() { panic("a bug") }() // of any goroutine, where no test recovers it
		select {}
	}
	text, err := os.ReadFile("../../deploy/konsul.service")
	require.NoError(t, err)
	unit := strings.Split(string(text), "\n")
	for _, line := range []string{"Restart=on-failure", "RestartPreventExitStatus=2", "LimitCORE=0"} {
		require.Contains(t, unit, line)
	}
	env := slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, "GOTRACEBACK=") })
	for _, line := range unit {
		if pair, ok := strings.CutPrefix(line, "Environment="); ok {
			env = append(env, pair)
		}
	}
	// A shell, for the limit: the child of a test may leave no core dump either.
	child := exec.Command("sh", "-c", `ulimit -c 0; exec "$0" -test.run='^TestTheUnitRestartsWhatPanics$'`, os.Args[0])
	child.Env = append(env, "KONSUL_TEST_PANIC=1")
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit), "%v\n%s", err, out)
	require.Contains(t, string(out), "a bug")
	status, _ := exit.Sys().(syscall.WaitStatus)
	require.True(t, status.Signaled(), "%v", err)
	require.Equal(t, syscall.SIGABRT, status.Signal())
}

// A binary that was built before a tag must not say afterwards that it is older than it is.
func TestMakeBuildsAnewForAnotherVersion(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("there is no make")
	}
	text, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("Makefile", text, 0o600))
	for _, name := range []string{"go.mod", "go.sum"} {
		require.NoError(t, os.WriteFile(name, nil, 0o600))
	}
	// Instead of the compiler: it tells how it was called.
	require.NoError(t, os.WriteFile("compiler", []byte("#!/bin/sh\necho \"$*\" >> calls; mkdir -p bin; touch bin/konsul\n"), 0o700))
	calls := func(version string) int {
		t.Helper()
		out, err := exec.Command("make", "build", "GO=./compiler", "VERSION="+version).CombinedOutput()
		require.NoError(t, err, "%s", out)
		made, err := os.ReadFile("calls")
		require.NoError(t, err)
		lines := strings.Split(strings.TrimSpace(string(made)), "\n")
		require.Contains(t, lines[len(lines)-1], "main.version="+version)
		return len(lines)
	}
	require.Equal(t, 1, calls("v1"))
	require.Equal(t, 1, calls("v1"), "nothing has changed")
	require.Equal(t, 2, calls("v2"))
	require.Equal(t, 2, calls("v2"), "nothing has changed")
}
