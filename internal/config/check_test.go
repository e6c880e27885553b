package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/neogan74/konsul/internal/config"
)

func TestWhatIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		yaml string
		args []string
		want []string // parts of the message; the first is the key
	}{
		{"unknown section", "htp: {port: 1}", nil, []string{"htp (file", "did you mean http?"}},
		{"key outside its section", "bind_addr: 'x:1'", nil, []string{"bind_addr", "did you mean raft.bind_addr?"}},
		{"dotted key", "http.port: 1", nil, []string{"http.port", "unknown key"}},
		{"section as a value", "http: 8500", nil, []string{"http (file", "is a section"}},
		{"value as a section", "http: {port: {a: 1}}", nil, []string{"http.port (file", "is a value"}},
		{"not YAML", "http: [", nil, []string{"--config", "not valid YAML"}},
		{"duplicate key", "log: {level: info}\nlog: {level: warn}", nil, []string{"not valid YAML"}},
		{"number for text", "raft: {node_id: 007}", nil, []string{"raft.node_id", "put it in quotes"}},
		{"yes for true", "persistence: {sync_writes: yes}", nil, []string{"persistence.sync_writes", "not true or false"}},
		{"number without a unit", "raft: {snapshot_interval: 30}", nil, []string{"raft.snapshot_interval", "not a duration"}},
		{"list for a scalar", "http: {port: [1]}", nil, []string{"http.port", "not a whole number"}},
		{"scalar for a list", "raft: {join: 7}", nil, []string{"raft.join", "not a list"}},
		{"flag twice", "", []string{"--port=1", "--http-port=2"}, []string{"http.port", "given twice"}},
		{"port out of range", "", []string{"--port=65536"}, []string{"http.port", "not a port"}},
		{"no host", "http: {host: ''}", nil, []string{"http.host", "0.0.0.0"}},
		{"everywhere without an address for others", "", []string{"--host=0.0.0.0", "--join=a:1"}, []string{"http.advertise_addr", "must be set"}},
		{"advertise everywhere", "", []string{"--http-advertise-addr=0.0.0.0:1"}, []string{"http.advertise_addr", "not an address"}},
		{"advertise port 0", "", []string{"--raft-advertise-addr=h:0"}, []string{"raft.advertise_addr", "port other than 0"}},
		{"raft advertises everywhere", "", []string{"--raft-advertise-addr=[::]:7000"}, []string{"raft.advertise_addr", "not an address"}},
		{"raft everywhere without an address for others", "", []string{"--raft-bind-addr=0.0.0.0:7000"}, []string{"raft.advertise_addr", "must be set"}},
		{"raft address without a port", "", []string{"--raft-bind-addr=localhost"}, []string{"raft.bind_addr", "not host:port"}},
		{"one port for both", "", []string{"--raft-bind-addr=127.0.0.1:8500"}, []string{"raft.bind_addr", "taken by the API"}},
		{"backups among the data", "", []string{"--data-dir=./d", "--persistence-backup-dir=d/"}, []string{"persistence.backup_dir (flag", "is persistence.data_dir (./d)"}},
		{"data below the backups", "", []string{"--data-dir=/srv/a/data", "--persistence-backup-dir=/srv"}, []string{"persistence.backup_dir", "contains persistence.data_dir"}},
		{"data below the root", "", []string{"--persistence-backup-dir=/"}, []string{"persistence.backup_dir", "contains persistence.data_dir"}},
		{"backups below the data", "", []string{"--data-dir=.", "--persistence-backup-dir=./raft/b"}, []string{"persistence.backup_dir (flag", "./raft/b lies among the node's own files in persistence.data_dir (.)"}},
		{"unknown type", "", []string{"--persistence-type=rocks"}, []string{"persistence.type", "badger, memory"}},
		{"no write-ahead log", "", []string{"--persistence-wal-enabled=false"}, []string{"persistence.wal_enabled", "Raft log is the write-ahead log"}},
		{"memory that joins", "", []string{"--persistence-type=memory", "--join=a:1"}, []string{"persistence.type", "raft.join"}},
		{"memory among three", "", []string{"--persistence-enabled=false", "--bootstrap-expect=3"}, []string{"persistence.enabled", "raft.bootstrap_expect"}},
		{"small memtable", "", []string{"--persistence-badger-memtable-size=7MB"}, []string{"persistence.badger.memtable_size", "less than 8MB"}},
		{"three without join", "", []string{"--bootstrap-expect=3"}, []string{"raft.bootstrap_expect", "raft.join"}},
		{"a cluster of its own beside one to join", "", []string{"--bootstrap-expect=1", "--join=a:1"}, []string{"raft.bootstrap_expect", "leave it out"}},
		{"negative expect", "", []string{"--bootstrap-expect=-1"}, []string{"raft.bootstrap_expect", "negative"}},
		{"join with a path", "", []string{"--join=http://a:1/kv"}, []string{"raft.join", "not host:port"}},
		{"join with a password", "", []string{"--join=http://u:p@a:1"}, []string{"raft.join"}},
		{"join over TLS", "", []string{"--join=https://a:1"}, []string{"raft.join"}},
		{"lease longer than heartbeat", "", []string{"--raft-leader-lease-timeout=2s"}, []string{"raft.leader_lease_timeout", "raft.heartbeat_timeout"}},
		{"election shorter than heartbeat", "", []string{"--raft-election-timeout=10ms"}, []string{"raft.election_timeout", "raft.heartbeat_timeout"}},
		{"log level", "", []string{"--log-level=loud"}, []string{"log.level", "trace, debug"}},
		{"TLS", "", []string{"--tls-cert-file=c"}, []string{"tls.cert_file", "not supported yet"}},
		{"ACL", "", []string{"--acl-enabled"}, []string{"acl.enabled", "not supported yet"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(t, c.yaml, nil, c.args...)
			require.ErrorIs(t, err, config.ErrInvalid)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestKubernetesPortVariableIsExplained(t *testing.T) {
	_, err := load(t, "", []string{"KONSUL_PORT=tcp://10.0.0.1:8500"})
	require.ErrorContains(t, err, "enableServiceLinks")
}

func TestWhatIsTaken(t *testing.T) {
	for name, args := range map[string][]string{
		"memory alone":                {"--persistence-type=memory"},
		"memory without a log":        {"--persistence-enabled=false", "--persistence-wal-enabled=false"},
		"later option at its default": {"--acl-enabled=false", "--tls-cert-file="},
		"everywhere, single node":     {"--host=0.0.0.0"},
		"everywhere, advertised":      {"--host=0.0.0.0", "--join=a:1", "--http-advertise-addr=me:8500"},
		"ports picked by the system":  {"--port=0", "--raft-bind-addr=127.0.0.1:0"},
		"no block cache":              {"--persistence-badger-block-cache=0"},
		"wait to be told to join":     {"--bootstrap-expect=0"},
		"join by URL":                 {"--join=http://a:1/"},
		"backups beside the data":     {"--data-dir=/srv/data", "--persistence-backup-dir=/srv/data-backups"},
	} {
		t.Run(name, func(t *testing.T) { mustLoad(t, "", nil, args...) })
	}
}

func TestLinksToTheDataAreFound(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "real", "data"), 0o700))
	require.NoError(t, os.Symlink("real", filepath.Join(dir, "link")))
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct{ data, backups, want string }{
		{"real/data", "link/data", "is persistence.data_dir"},
		{"link/data", "real/data/raft/to/come", "in persistence.data_dir"},
		{"link/data", "real/data/to/come", ""},
		{"link/to/come", "real", "contains persistence.data_dir"},
		{"real/to/come", "link/to/come", "is persistence.data_dir"},
		{"link/data", "real/backups", ""},
		{"real/data", "link/data-too", ""},
	} {
		_, err := load(t, "", nil, "--data-dir="+path(c.data), "--persistence-backup-dir="+path(c.backups))
		if c.want == "" {
			require.NoError(t, err, c)
			continue
		}
		require.ErrorIs(t, err, config.ErrInvalid)
		require.ErrorContains(t, err, c.want, c)
	}
}
