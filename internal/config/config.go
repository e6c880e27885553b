// Package config turns a YAML file, the environment and flags into one checked [Config].
//
// Every option has one field, one default and three spellings; see [Options] for the rule.
// Nothing outside this package reads the environment or a configuration file.
package config

import (
	"time"

	"github.com/neogan74/konsul/internal/persistence"
)

// Config is everything that can be set on a node. No field holds a secret itself: where one is
// needed the option names a file, so a Config may be printed and logged as it is.
//
// Tags: koanf is the YAML key inside its section, env the environment variable, alias an optional
// short flag name beside the derived one, doc the help text. Later marks an option whose feature is
// not there yet: its spellings are known, but a value other than the default is refused, because
// accepting `tls.cert_file` and then speaking plain text would be worse than an error.
type Config struct {
	HTTP             HTTP        `koanf:"http"`
	Persistence      Persistence `koanf:"persistence"`
	Raft             Raft        `koanf:"raft"`
	LeaveOnTerminate bool        `koanf:"leave_on_terminate" env:"KONSUL_LEAVE_ON_TERMINATE" doc:"on SIGTERM also leave the cluster, not only stop"`
	TLS              TLS         `koanf:"tls"`
	ACL              ACL         `koanf:"acl"`
	Log              Log         `koanf:"log"`
	Backup           Backup      `koanf:"backup"`
}

// HTTP is the API listener.
type HTTP struct {
	Host          string `koanf:"host" env:"KONSUL_HOST" alias:"host" doc:"address the API listens on"`
	Port          int    `koanf:"port" env:"KONSUL_PORT" alias:"port" doc:"port the API listens on; 0 picks a free one"`
	AdvertiseAddr string `koanf:"advertise_addr" env:"KONSUL_HTTP_ADVERTISE_ADDR" doc:"host:port under which others reach this API (default: from host and port)"`
}

// Persistence says where and how durably the node keeps its data.
type Persistence struct {
	Enabled      bool          `koanf:"enabled" env:"KONSUL_PERSISTENCE_ENABLED" doc:"false keeps everything in memory: single node only, gone on exit"`
	Type         string        `koanf:"type" env:"KONSUL_PERSISTENCE_TYPE" doc:"badger or memory"`
	DataDir      string        `koanf:"data_dir" env:"KONSUL_DATA_DIR" alias:"data-dir" doc:"directory of the engine, the Raft log, snapshots and the node id"`
	BackupDir    string        `koanf:"backup_dir" env:"KONSUL_BACKUP_DIR" doc:"the only directory backups are written to and read from; not data_dir, nor above it"`
	SyncWrites   bool          `koanf:"sync_writes" env:"KONSUL_SYNC_WRITES" doc:"fsync the Raft log before a write is acknowledged"`
	WALEnabled   bool          `koanf:"wal_enabled" env:"KONSUL_WAL_ENABLED" doc:"must stay true with type badger: the Raft log is the write-ahead log"`
	Maintenance  time.Duration `koanf:"maintenance_interval" env:"KONSUL_MAINTENANCE_INTERVAL" doc:"how often garbage is collected and, when it is worth it and the node is quiet, the engine compacted; 0 only on request"`
	MinFreeSpace Size          `koanf:"min_free_space" env:"KONSUL_MIN_FREE_SPACE" doc:"with less free disk than this, the node refuses writes and hands leadership over; 0 turns it off"`
	Badger       Badger        `koanf:"badger"`
	Encryption   Encryption    `koanf:"encryption"`
}

// Badger is the tuning of the storage engine.
type Badger struct {
	MemTableSize  Size `koanf:"memtable_size" env:"BADGER_MEMTABLE_SIZE" doc:"size of one memtable; at least 8MB"`
	NumMemtables  int  `koanf:"num_memtables" env:"BADGER_NUM_MEMTABLES" doc:"memtables kept in memory before writes wait for the disk"`
	L0Tables      int  `koanf:"l0_tables" env:"BADGER_L0_TABLES" doc:"level 0 tables before compaction starts"`
	VlogSize      Size `koanf:"vlog_size" env:"BADGER_VLOG_SIZE" doc:"size of one value log file"`
	BlockCache    Size `koanf:"block_cache" env:"BADGER_BLOCK_CACHE" doc:"cache of table blocks, which are then compressed (snappy); 0 = neither"`
	PrefetchCount int  `koanf:"prefetch_size" env:"BADGER_PREFETCH_SIZE" doc:"values an iterator reads ahead"`
}

// Encryption is encryption at rest.
type Encryption struct {
	KeyFile string `koanf:"key_file" env:"KONSUL_ENCRYPTION_KEY_FILE" doc:"file with the keys for encryption at rest, the one in use first (konsul keygen makes one); from a node's first start on, or never"`
}

// Raft is the node's place in the cluster and the pace of the protocol.
type Raft struct {
	NodeID             string        `koanf:"node_id" env:"KONSUL_RAFT_NODE_ID" alias:"node-id" doc:"name of this node (default: random, kept in the data directory)"`
	BindAddr           string        `koanf:"bind_addr" env:"KONSUL_RAFT_BIND_ADDR" doc:"host:port the cluster's own protocol listens on"`
	AdvertiseAddr      string        `koanf:"advertise_addr" env:"KONSUL_RAFT_ADVERTISE_ADDR" doc:"host:port under which other nodes reach bind_addr; host names are kept, not resolved (default: bind_addr)"`
	BootstrapExpect    int           `koanf:"bootstrap_expect" env:"KONSUL_BOOTSTRAP_EXPECT" alias:"bootstrap-expect" doc:"nodes to wait for before the first election (default: 1 without join, 0 with)"`
	Join               []string      `koanf:"join" env:"KONSUL_JOIN" alias:"join" doc:"API addresses of the cluster's nodes, comma separated; its own may be among them"`
	SnapshotThreshold  uint64        `koanf:"snapshot_threshold" env:"KONSUL_RAFT_SNAPSHOT_THRESHOLD" doc:"log entries since the last snapshot that make the next one due; from 256 MiB of data on, a quarter of that written does"`
	SnapshotInterval   time.Duration `koanf:"snapshot_interval" env:"KONSUL_RAFT_SNAPSHOT_INTERVAL" doc:"how often to look whether a snapshot is due"`
	TrailingLogs       uint64        `koanf:"trailing_logs" env:"KONSUL_RAFT_TRAILING_LOGS" doc:"log entries kept after a snapshot, for followers that are a little behind"`
	HeartbeatTimeout   time.Duration `koanf:"heartbeat_timeout" env:"KONSUL_RAFT_HEARTBEAT_TIMEOUT" doc:"silence of the leader after which a follower stands for election"`
	ElectionTimeout    time.Duration `koanf:"election_timeout" env:"KONSUL_RAFT_ELECTION_TIMEOUT" doc:"how long a candidate waits for votes before it tries again"`
	LeaderLeaseTimeout time.Duration `koanf:"leader_lease_timeout" env:"KONSUL_RAFT_LEADER_LEASE_TIMEOUT" doc:"how long a leader stays in office without hearing from a majority"`
	CommitTimeout      time.Duration `koanf:"commit_timeout" env:"KONSUL_RAFT_COMMIT_TIMEOUT" doc:"idle time after which followers are told the newest commit index"`
	MaxAppendEntries   int           `koanf:"max_append_entries" env:"KONSUL_RAFT_MAX_APPEND_ENTRIES" doc:"most log entries in one message to a follower"`
	SnapshotRetention  int           `koanf:"snapshot_retention" env:"KONSUL_RAFT_SNAPSHOT_RETENTION" doc:"Raft snapshots kept on disk"`
}

// TLS is encryption on the wire.
type TLS struct {
	CertFile     string  `koanf:"cert_file" env:"KONSUL_TLS_CERT_FILE" later:"TLS" doc:"certificate of the API"`
	KeyFile      string  `koanf:"key_file" env:"KONSUL_TLS_KEY_FILE" later:"TLS" doc:"private key of the API's certificate"`
	ClientCAFile string  `koanf:"client_ca_file" env:"KONSUL_TLS_CLIENT_CA_FILE" later:"TLS" doc:"authorities whose client certificates the API accepts"`
	Raft         RaftTLS `koanf:"raft"`
}

// RaftTLS is mutual TLS between nodes.
type RaftTLS struct {
	CertFile string `koanf:"cert_file" env:"KONSUL_TLS_RAFT_CERT_FILE" later:"TLS" doc:"certificate of this node towards other nodes"`
	KeyFile  string `koanf:"key_file" env:"KONSUL_TLS_RAFT_KEY_FILE" later:"TLS" doc:"private key of that certificate"`
	CAFile   string `koanf:"ca_file" env:"KONSUL_TLS_RAFT_CA_FILE" later:"TLS" doc:"authorities that sign the nodes' certificates"`
}

// ACL is access control by token.
type ACL struct {
	Enabled            bool   `koanf:"enabled" env:"KONSUL_ACL_ENABLED" later:"access control" doc:"require tokens"`
	BootstrapTokenFile string `koanf:"bootstrap_token_file" env:"KONSUL_ACL_BOOTSTRAP_TOKEN_FILE" later:"access control" doc:"file with the first token"`
}

// Backup is the schedule of backups into persistence.backup_dir.
type Backup struct {
	Schedule time.Duration `koanf:"schedule" env:"KONSUL_BACKUP_SCHEDULE" doc:"how often a full backup is saved in backup_dir; 0 is never"`
	Keep     int           `koanf:"keep" env:"KONSUL_BACKUP_KEEP" doc:"scheduled backups kept; 0 keeps all"`
	Node     string        `koanf:"node" env:"KONSUL_BACKUP_NODE" doc:"id of the node that saves them; leader is whichever leads"`
}

// Log is what the node writes to standard error.
type Log struct {
	Level  string `koanf:"level" env:"KONSUL_LOG_LEVEL" doc:"trace, debug, info, warn or error; read again on SIGHUP"`
	Format string `koanf:"format" env:"KONSUL_LOG_FORMAT" doc:"text for people, json for machines"`
}

// Values of persistence.type.
const (
	TypeBadger = "badger"
	TypeMemory = "memory"
)

// BackupByLeader is the value of backup.node for the leader, whoever that is.
const BackupByLeader = "leader"

// Default returns the configuration of a node nobody configured: a durable single node on the
// loopback interface. The only home of defaults; bootstrap_expect is settled in [Load], where it
// is known whether there is anything to join.
func Default() Config {
	engine := persistence.DefaultBadgerOptions()
	return Config{
		HTTP: HTTP{Host: "127.0.0.1", Port: 8500},
		Persistence: Persistence{
			Enabled:      true,
			Type:         TypeBadger,
			DataDir:      "./data",
			BackupDir:    "./backups",
			SyncWrites:   true,
			WALEnabled:   true,
			Maintenance:  5 * time.Minute,
			MinFreeSpace: 256 << 20,
			Badger: Badger{
				MemTableSize:  Size(engine.MemTableSize),
				NumMemtables:  engine.NumMemtables,
				L0Tables:      engine.NumLevelZeroTables,
				VlogSize:      Size(engine.ValueLogFileSize),
				BlockCache:    Size(engine.BlockCacheSize),
				PrefetchCount: engine.PrefetchSize,
			},
		},
		Raft: Raft{
			BindAddr:        "127.0.0.1:7000",
			BootstrapExpect: 1,
			// A snapshot streams the whole state; that it is looked for only every SnapshotInterval
			// keeps it from running all the time under load.
			SnapshotThreshold: 8192,
			SnapshotInterval:  30 * time.Second,
			TrailingLogs:      10240,
			// A dead leader is noticed after 0.5 to 1 s (Raft picks a random point between one and
			// two timeouts), so even a split vote is over well within 3 s. Heartbeats go out every
			// tenth of the timeout and touch no disk: a slow fsync does not cost the leader its office.
			HeartbeatTimeout:   500 * time.Millisecond,
			ElectionTimeout:    500 * time.Millisecond,
			LeaderLeaseTimeout: 500 * time.Millisecond,
			CommitTimeout:      50 * time.Millisecond,
			MaxAppendEntries:   512,
			SnapshotRetention:  2,
		},
		Log:    Log{Level: "info", Format: "text"},
		Backup: Backup{Keep: 7, Node: BackupByLeader},
	}
}

// InMemory says whether the node forgets everything when it stops: persistence turned off, or the
// memory engine asked for.
func (c *Config) InMemory() bool {
	return !c.Persistence.Enabled || c.Persistence.Type == TypeMemory
}

// EngineOptions translates the tuning.
func (b Badger) EngineOptions() persistence.BadgerOptions {
	return persistence.BadgerOptions{
		MemTableSize: int64(b.MemTableSize), NumMemtables: b.NumMemtables, NumLevelZeroTables: b.L0Tables,
		ValueLogFileSize: int64(b.VlogSize), BlockCacheSize: int64(b.BlockCache), PrefetchSize: b.PrefetchCount,
	}
}

// Headroom is how much free disk the engine needs, with this tuning, to finish what it
// has begun. A min_free_space below it lets writes in that the engine then waits with.
func (c *Config) Headroom() Size { return Size(c.Persistence.Badger.EngineOptions().Headroom()) }
