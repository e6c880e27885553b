package main

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
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
