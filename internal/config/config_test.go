package config_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/neogan74/konsul/internal/config"
)

// load runs Load over a YAML text, an environment and a command line.
func load(t *testing.T, yaml string, env []string, args ...string) (*config.Result, error) {
	t.Helper()
	in := config.Input{Env: env}
	if yaml != "" {
		in.File = filepath.Join(t.TempDir(), "konsul.yaml")
		require.NoError(t, os.WriteFile(in.File, []byte(yaml), 0o600))
	}
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	in.Flags = config.Register(fs)
	require.NoError(t, fs.Parse(args))
	return config.Load(in)
}

func mustLoad(t *testing.T, yaml string, env []string, args ...string) *config.Result {
	t.Helper()
	r, err := load(t, yaml, env, args...)
	require.NoError(t, err)
	return r
}

func TestNothingConfiguredIsTheDefault(t *testing.T) {
	r := mustLoad(t, "", nil)
	require.Equal(t, config.Default(), r.Config)
	require.Equal(t, "default", r.Source("http.port"))
}

func TestFlagBeatsEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	file, env, flag := "http: {port: 1001}", []string{"KONSUL_PORT=1002"}, "--http-port=1003"
	for _, c := range []struct {
		name   string
		result *config.Result
		port   int
		source string
	}{
		{"nothing", mustLoad(t, "", nil), 8500, "default"},
		{"file", mustLoad(t, file, nil), 1001, "file "},
		{"file and environment", mustLoad(t, file, env), 1002, "environment KONSUL_PORT"},
		{"all three", mustLoad(t, file, env, flag), 1003, "flag --http-port"},
		{"file and flag", mustLoad(t, file, nil, flag), 1003, "flag --http-port"},
		{"alias", mustLoad(t, file, env, "--port", "1004"), 1004, "flag --port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.port, c.result.HTTP.Port)
			require.Contains(t, c.result.Source("http.port"), c.source)
		})
	}
}

// sample is a value other than the default for each kind of option.
func sample(o config.Option) string {
	switch o.Key {
	case "persistence.enabled", "persistence.sync_writes":
		return "false"
	case "persistence.type":
		return "memory"
	case "persistence.wal_enabled":
		return "true" // false is only taken in memory
	case "raft.election_timeout":
		return "11s"
	case "raft.leader_lease_timeout":
		return "123ms"
	case "raft.heartbeat_timeout":
		return "450ms"
	case "raft.bootstrap_expect":
		return "0"
	case "log.level":
		return "debug"
	case "log.format":
		return "json"
	}
	switch o.Kind {
	case config.KindBool:
		return "true"
	case config.KindInt, config.KindUint:
		return "33"
	case config.KindDuration:
		return "77s"
	case config.KindSize:
		return "77MB"
	default:
		return "host.example:7777"
	}
}

// nested writes a dotted key as YAML sections.
func nested(key, value string) string {
	path := strings.Split(key, ".")
	var b strings.Builder
	for i, p := range path {
		b.WriteString(strings.Repeat("  ", i) + p + ":")
		if i < len(path)-1 {
			b.WriteString("\n")
		}
	}
	return b.String() + " " + value + "\n"
}

func TestEveryOptionHasThreeSpellingsThatMeanTheSame(t *testing.T) {
	seen := map[string]string{}
	for _, o := range config.Options() {
		t.Run(o.Key, func(t *testing.T) {
			require.NotEmpty(t, o.Env)
			require.NotEmpty(t, o.Doc)
			for _, name := range []string{o.Key, o.Env, o.Flag} {
				require.Empty(t, seen[name], "%s is also a spelling of %s", name, seen[name])
				seen[name] = o.Key
			}
			v := sample(o)
			if o.Key == "raft.node_id" || o.Kind == config.KindString && !strings.Contains(o.Key, "_addr") && v == "host.example:7777" {
				v = "some-name"
			}
			yaml, yamlErr := load(t, nested(o.Key, v), nil)
			env, envErr := load(t, "", []string{o.Env + "=" + v})
			flag, flagErr := load(t, "", nil, "--"+o.Flag+"="+v)
			if o.Later != "" {
				for _, err := range []error{yamlErr, envErr, flagErr} {
					require.ErrorIs(t, err, config.ErrInvalid)
					require.ErrorContains(t, err, o.Key)
					require.ErrorContains(t, err, "not supported yet")
				}
				return
			}
			require.NoError(t, yamlErr)
			require.NoError(t, envErr)
			require.NoError(t, flagErr)
			require.Equal(t, env.Config, yaml.Config)
			require.Equal(t, env.Config, flag.Config)
			if o.Key != "persistence.wal_enabled" {
				require.NotEqual(t, config.Default(), env.Config, "the value had no effect")
			}
			require.Contains(t, yaml.Source(o.Key), "konsul.yaml")
			require.Equal(t, "environment "+o.Env, env.Source(o.Key))
			require.Equal(t, "flag --"+o.Flag, flag.Source(o.Key))
		})
	}
}

func TestContractNames(t *testing.T) {
	got := map[string]string{}
	for _, o := range config.Options() {
		got[o.Env] = o.Key
	}
	for env, key := range map[string]string{
		"KONSUL_HOST":                      "http.host",
		"KONSUL_PORT":                      "http.port",
		"KONSUL_HTTP_ADVERTISE_ADDR":       "http.advertise_addr",
		"KONSUL_PERSISTENCE_ENABLED":       "persistence.enabled",
		"KONSUL_PERSISTENCE_TYPE":          "persistence.type",
		"KONSUL_DATA_DIR":                  "persistence.data_dir",
		"KONSUL_BACKUP_DIR":                "persistence.backup_dir",
		"KONSUL_SYNC_WRITES":               "persistence.sync_writes",
		"KONSUL_WAL_ENABLED":               "persistence.wal_enabled",
		"KONSUL_MAINTENANCE_INTERVAL":      "persistence.maintenance_interval",
		"KONSUL_MIN_FREE_SPACE":            "persistence.min_free_space",
		"BADGER_MEMTABLE_SIZE":             "persistence.badger.memtable_size",
		"BADGER_NUM_MEMTABLES":             "persistence.badger.num_memtables",
		"BADGER_L0_TABLES":                 "persistence.badger.l0_tables",
		"BADGER_VLOG_SIZE":                 "persistence.badger.vlog_size",
		"BADGER_BLOCK_CACHE":               "persistence.badger.block_cache",
		"BADGER_PREFETCH_SIZE":             "persistence.badger.prefetch_size",
		"KONSUL_ENCRYPTION_KEY_FILE":       "persistence.encryption.key_file",
		"KONSUL_RAFT_NODE_ID":              "raft.node_id",
		"KONSUL_RAFT_BIND_ADDR":            "raft.bind_addr",
		"KONSUL_RAFT_ADVERTISE_ADDR":       "raft.advertise_addr",
		"KONSUL_BOOTSTRAP_EXPECT":          "raft.bootstrap_expect",
		"KONSUL_JOIN":                      "raft.join",
		"KONSUL_RAFT_SNAPSHOT_THRESHOLD":   "raft.snapshot_threshold",
		"KONSUL_RAFT_SNAPSHOT_INTERVAL":    "raft.snapshot_interval",
		"KONSUL_RAFT_TRAILING_LOGS":        "raft.trailing_logs",
		"KONSUL_RAFT_HEARTBEAT_TIMEOUT":    "raft.heartbeat_timeout",
		"KONSUL_RAFT_ELECTION_TIMEOUT":     "raft.election_timeout",
		"KONSUL_RAFT_LEADER_LEASE_TIMEOUT": "raft.leader_lease_timeout",
		"KONSUL_RAFT_COMMIT_TIMEOUT":       "raft.commit_timeout",
		"KONSUL_RAFT_MAX_APPEND_ENTRIES":   "raft.max_append_entries",
		"KONSUL_RAFT_SNAPSHOT_RETENTION":   "raft.snapshot_retention",
		"KONSUL_LEAVE_ON_TERMINATE":        "leave_on_terminate",
		"KONSUL_ACL_ENABLED":               "acl.enabled",
		"KONSUL_ACL_BOOTSTRAP_TOKEN_FILE":  "acl.bootstrap_token_file",
		"KONSUL_LOG_LEVEL":                 "log.level",
		"KONSUL_LOG_FORMAT":                "log.format",
	} {
		require.Equal(t, key, got[env], env)
	}
}

func TestJoinIsAListHoweverItIsWritten(t *testing.T) {
	want := []string{"a:1", "b:2"}
	require.Equal(t, want, mustLoad(t, "raft: {join: ['a:1', 'b:2']}", nil).Raft.Join)
	require.Equal(t, want, mustLoad(t, "raft: {join: 'a:1,b:2'}", nil).Raft.Join)
	require.Equal(t, want, mustLoad(t, "", []string{"KONSUL_JOIN=a:1, b:2,"}).Raft.Join)
	require.Equal(t, want, mustLoad(t, "", nil, "--join=a:1", "--raft-join=b:2").Raft.Join)
}

func TestBootstrapExpectDependsOnJoin(t *testing.T) {
	require.Equal(t, 1, mustLoad(t, "", nil).Raft.BootstrapExpect)
	require.Equal(t, 0, mustLoad(t, "", nil, "--join=a:1").Raft.BootstrapExpect)
	require.Equal(t, 3, mustLoad(t, "", nil, "--join=a:1", "--bootstrap-expect=3").Raft.BootstrapExpect)
	require.Equal(t, 0, mustLoad(t, "", nil, "--bootstrap-expect=0").Raft.BootstrapExpect)
}

func TestTimeoutsFollowTheHeartbeat(t *testing.T) {
	slow := mustLoad(t, "", nil, "--raft-heartbeat-timeout=5s").Raft
	require.Equal(t, 5*time.Second, slow.ElectionTimeout)
	require.Equal(t, 500*time.Millisecond, slow.LeaderLeaseTimeout)
	quick := mustLoad(t, "", nil, "--raft-heartbeat-timeout=50ms").Raft
	require.Equal(t, 500*time.Millisecond, quick.ElectionTimeout)
	require.Equal(t, 50*time.Millisecond, quick.LeaderLeaseTimeout)
}

func TestVariablesThatAreNotOptionsAreLeftAlone(t *testing.T) {
	mustLoad(t, "", []string{
		"KONSUL_HTTP_ADDR=http://x", "KONSUL_TOKEN=t", "KONSUL_FAILPOINTS=a=kill", "KONSUL_TEST_BINARY=x",
		"KONSUL_SERVICE_HOST=10.0.0.1", "KONSUL_SERVICE_PORT_HTTP=8500", "KONSUL_PORT_8500_TCP_ADDR=10.0.0.1",
		"KONSUL_LOCK_KEY=k", "KONSUL_LOCK_INDEX=7", "KONSUL_LOCK_SESSION=s", // `konsul lock k -- konsul agent`
		"KONSUL_JOIN=", "BADGER_HOME=/opt/other", "PATH=/bin", "not a pair",
	})
}

func TestConfigFileNamedByEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "k.yaml")
	require.NoError(t, os.WriteFile(file, []byte("log: {level: warn}"), 0o600))
	r, err := config.Load(config.Input{Env: []string{"KONSUL_CONFIG=" + file}})
	require.NoError(t, err)
	require.Equal(t, "warn", r.Log.Level)
}

func TestAllThatIsWrongIsReportedAtOnce(t *testing.T) {
	_, err := load(t, "http: {prot: 1}\nraft: {commit_timeout: 5}", []string{"KONSUL_LOG_LEVL=info", "KONSUL_PORT=high"}, "--raft-node-id=a/b")
	require.ErrorIs(t, err, config.ErrInvalid)
	for _, want := range []string{"http.prot (file ", "did you mean http.port?", "raft.commit_timeout (file ",
		"KONSUL_LOG_LEVL", "did you mean KONSUL_LOG_LEVEL?", "http.port (environment KONSUL_PORT)", "raft.node_id (flag --raft-node-id)"} {
		require.ErrorContains(t, err, want)
	}
	require.Len(t, strings.Split(err.Error(), "\n"), 5)
}

func TestPrintedConfigurationReadsBackAsTheSame(t *testing.T) {
	r := mustLoad(t, "", []string{"KONSUL_JOIN=a:1,b:2", "KONSUL_DATA_DIR=/with \"quotes\"/\tand: tabs # é"},
		"--raft-commit-timeout=1h5m", "--persistence-badger-block-cache=0", "--bootstrap-expect=3", "--node-id=0x1")
	var out bytes.Buffer
	require.NoError(t, r.Print(&out))
	again := mustLoad(t, out.String(), nil)
	require.Equal(t, r.Config, again.Config)
	require.Contains(t, out.String(), "# environment KONSUL_JOIN")
	require.Contains(t, out.String(), "# flag --bootstrap-expect")
	require.Contains(t, out.String(), "# default")
}

func TestSampleFileStatesTheDefaults(t *testing.T) {
	const path = "../../deploy/konsul.sample.yaml"
	r, err := config.Load(config.Input{File: path})
	require.NoError(t, err)
	require.Equal(t, config.Default(), r.Config)
	for _, o := range config.Options() {
		if o.Later == "" {
			require.Equal(t, "file "+path, r.Source(o.Key), "%s is missing from the sample", o.Key)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]config.Size{
		"0": 0, "123": 123, "7B": 7, "64MB": 64 << 20, "64MiB": 64 << 20, "64 mb": 64 << 20, "64m": 64 << 20, "2KB": 2048, "1GB": 1 << 30, "3TB": 3 << 40,
	} {
		got, err := config.ParseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		again, err := config.ParseSize(got.String())
		require.NoError(t, err)
		require.Equal(t, want, again)
	}
	for _, text := range []string{"", "MB", "-1MB", "1.5MB", "64QB", "64MBB", "9999999TB", "1 2MB"} {
		_, err := config.ParseSize(text)
		require.Error(t, err, text)
	}
}

func TestErrorsAreRecognisable(t *testing.T) {
	_, err := config.Load(config.Input{File: "/nonexistent/konsul.yaml"})
	require.True(t, errors.Is(err, config.ErrInvalid))
	require.ErrorContains(t, err, "/nonexistent/konsul.yaml")
}

func TestDurationsPrintShort(t *testing.T) {
	r := mustLoad(t, "", nil, "--raft-snapshot-interval=5m")
	require.Equal(t, 5*time.Minute, r.Raft.SnapshotInterval)
	var out bytes.Buffer
	require.NoError(t, r.Print(&out))
	require.Contains(t, out.String(), "snapshot_interval: 5m ")
}
