//go:build cluster

package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/neogan74/konsul/test/harness"
)

// step is something the users' guide says to do, and what must come of it ("..."
// stands for anything). A step without output prints what it likes.
type step struct{ what, do, want string }

// guide is what the users' guide has one type, from its top to its bottom. What stands
// in the guide as ./konsul, and the sleep after it, is "start" here: in the background,
// and waiting until it answers. "gone" waits as a person would, where a restart is more than
// `kill` and `./konsul` on the same directory. "#" marks what the guide does not type: it sets the stage,
// or looks at the result. Left out are systemctl, what the guide calls future, other
// hosts (wget, mount), and looking into the engine's files, whose names are its own.
var guide = []step{
	{"persistence by environment", `
KONSUL_PERSISTENCE_ENABLED=true \
KONSUL_PERSISTENCE_TYPE=badger \
KONSUL_DATA_DIR=./data \
start`, ""},
	{"a write", `curl -X POST http://localhost:8500/kv/test \
  -H "Content-Type: application/json" \
  -d '{"value": "persistent_data"}'`, `{"message":"key set","key":"test",...}`},
	{"is there after a restart", `
kill $(pgrep konsul)
start
curl http://localhost:8500/kv/test`, `{..."value":"persistent_data"...}`},
	{"persistence by a file", `
cat > config.yaml <<END
persistence:
  enabled: true
  type: badger
  data_dir: ./data
  sync_writes: true
  wal_enabled: true
END
kill $(pgrep konsul)
start --config config.yaml
curl http://localhost:8500/kv/test`, `{..."value":"persistent_data"...}`},
	{"for durability", `
kill $(pgrep konsul)
KONSUL_PERSISTENCE_ENABLED=true \
KONSUL_PERSISTENCE_TYPE=badger \
KONSUL_SYNC_WRITES=true \
KONSUL_WAL_ENABLED=true \
start
curl http://localhost:8500/kv/test`, `{..."value":"persistent_data"...}`},
	{"for speed", `
kill $(pgrep konsul)
KONSUL_PERSISTENCE_ENABLED=true \
KONSUL_PERSISTENCE_TYPE=badger \
KONSUL_SYNC_WRITES=false \
KONSUL_WAL_ENABLED=true \
start
curl http://localhost:8500/kv/test`, `{..."value":"persistent_data"...}`},
	{"balanced", `
kill $(pgrep konsul)
KONSUL_PERSISTENCE_ENABLED=true \
KONSUL_PERSISTENCE_TYPE=badger \
KONSUL_SYNC_WRITES=true \
KONSUL_WAL_ENABLED=true \
# a comment within
start
curl http://localhost:8500/kv/test`, `{..."value":"persistent_data"...}`},

	{"# keys and a service", `
curl -X PUT http://localhost:8500/kv/config/host -d 10.0.0.1
curl -X PUT http://localhost:8500/kv/config/port -d 8080
curl -X PUT http://localhost:8500/services/web -d '{"address":"10.0.0.1","port":8080}'`, ""},
	{"backup", `curl -X POST http://localhost:8500/backup \
  -H "Content-Type: application/json" \
  -d '{"path": "./backups/backup-2025-01-12.db"}'`,
		`{"message":"Backup completed successfully","path":"./backups/backup-2025-01-12.db","size_bytes":...,"duration_ms":...}`},
	{"# is a file of that size", `
curl -X POST http://localhost:8500/backup -d '{"path": "./backups/backup.db"}' > saved
grep -o '"size_bytes":[0-9]*' saved | tr -dc 0-9
stat -c ' %s' ./backups/backup.db`, "SAME"},
	{"# changes after it", `
curl -X PUT http://localhost:8500/kv/config/host -d changed
curl -X PUT http://localhost:8500/kv/later -d x
curl -X DELETE http://localhost:8500/services/web`, ""},
	{"restore", `curl -X POST http://localhost:8500/restore \
  -H "Content-Type: application/json" \
  -d '{"path": "./backups/backup-2025-01-12.db"}'`,
		`{"message":"Restore completed successfully","path":"./backups/backup-2025-01-12.db","duration_ms":...}`},
	{"# has what was saved", `curl http://localhost:8500/export | tr -d '\n'`,
		`{"kv":{"config/host":"10.0.0.1","config/port":"8080","test":"persistent_data"},"services":{"web":{"name":"web","address":"10.0.0.1","port":8080...}}}`},
	{"safe restore, with a start before it instead of after", `
kill $(pgrep konsul)
gone
cp -r ./data ./data.backup
start
curl -X PUT http://localhost:8500/kv/later -d x > /dev/null
curl -X POST http://localhost:8500/restore -d '{"path": "./backups/backup.db"}'
curl -w '%{http_code}' http://localhost:8500/kv/later || true`, `{"message":"Restore completed successfully",...}...404`},
	{"export", `curl http://localhost:8500/export > data.json
tr -d '\n' < data.json`, `{"kv":{"config/host":"10.0.0.1","config/port":"8080","test":...},"services":{"web":{"name":"web","address":"10.0.0.1","port":8080...}}}`},
	{"import", `
curl -X DELETE 'http://localhost:8500/kv?all=true'
curl -X DELETE http://localhost:8500/services/web
curl -X POST http://localhost:8500/import \
  -H "Content-Type: application/json" \
  -d @data.json
curl http://localhost:8500/export > again.json
cmp data.json again.json && echo the same`, `...{"message":...,"kv":3,"services":1...}...the same`},
	{"disk space", `du -sh ./data`, "..../data"},
	{"metrics", `curl http://localhost:8500/metrics > metrics
for name in \
  'konsul_persistence_operations_total{operation="set",status="success"}' \
  'konsul_persistence_operations_total{operation="get",status="success"}' \
  'konsul_persistence_operation_duration_seconds_count{operation="set"}' \
  'konsul_persistence_database_size_bytes{type="vlog"}' \
  'konsul_persistence_database_size_bytes{type="sst"}'
do grep -qF "$name " metrics || echo "no $name"; done
echo looked`, "looked"},
	{"health", `curl http://localhost:8500/health`,
		`{"status":"healthy",..."persistence":{"enabled":true,"type":"badger","healthy":true,"disk_usage_bytes":...,"num_keys":3,"num_services":1...}...}`},
	{"another data directory, which is the copy from before", `
kill $(pgrep konsul)
gone
mkdir -p var/lib/konsul
mv ./data.backup var/lib/konsul/data
KONSUL_DATA_DIR=$PWD/var/lib/konsul/data start
curl http://localhost:8500/kv/config/host`, `{..."value":"10.0.0.1"...}`},
	{"backups by a script", `
cat > backup.sh <<'END'
#!/bin/bash
BACKUP_DIR="$PWD/backups/konsul"
DATE=$(date +%Y%m%d-%H%M%S)
BACKUP_FILE="$BACKUP_DIR/konsul-$DATE.db"
curl -X POST http://localhost:8500/backup \
  -d "{\"path\": \"$BACKUP_FILE\"}"
find $BACKUP_DIR -name "konsul-*.db" -mtime +7 -delete
END
mkdir -p backups/konsul
touch -d '9 days ago' backups/konsul/konsul-20250101-000000.db
bash backup.sh
ls backups/konsul | wc -l`, `{"message":"Backup completed successfully","path":".../backups/konsul/konsul-...db",...}...1`},
	{"deleting", `curl -X DELETE http://localhost:8500/kv/old/data`, `{"message":"key deleted","key":"old/data","deleted":false}`},
	{"sync writes off", `
kill $(pgrep konsul)
gone
KONSUL_SYNC_WRITES=false start
curl http://localhost:8500/kv/test`, `{..."value":"persistent_data"...}`},
	{"single writes and a batch", `
curl -X POST http://localhost:8500/kv/key1 -d '{"value":"val1"}'
curl -X POST http://localhost:8500/kv/key2 -d '{"value":"val2"}'
curl -X POST http://localhost:8500/batch/set -d '{
  "items": {
    "key1": "val1",
    "key2": "val2"
  }
}'
curl http://localhost:8500/kv/key2?raw=true`, `..."count":2...val2`},
	{"from a backup after damage, with a start before it instead of after", `
kill $(pgrep konsul)
gone
mv ./data ./data.corrupted
mkdir -p ./data
start
curl -X POST http://localhost:8500/restore \
  -d '{"path": "./backups/backup.db"}'
curl http://localhost:8500/kv/test
stat -c %a ./data`, `{"message":"Restore completed successfully",...}...{..."value":"persistent_data"...}...700`},

	{"from memory to disk", `
kill $(pgrep konsul)
gone
rm -r ./data
KONSUL_PERSISTENCE_TYPE=memory start
curl -X PUT http://localhost:8500/kv/from -d memory
curl -X POST http://localhost:8500/admin/config \
  -d '{
    "persistence": {
      "enabled": true,
      "type": "badger"
    }
  }'
curl -X POST http://localhost:8500/admin/sync
ls -lh ./data
kill $(pgrep konsul)
start
curl http://localhost:8500/kv/from`, `...total...{..."value":"memory"...}`},
	{"from a version before", `
ln konsul konsul-old
./konsul-old export > data-backup.json
kill $(pgrep konsul)
gone
rm -r ./data
start
curl -X POST http://localhost:8500/import -d @data-backup.json
curl http://localhost:8500/kv/from`, `{..."kv":1...}...{..."value":"memory"...}`},

	{"tuned for writes", `
kill $(pgrep konsul)
BADGER_MEMTABLE_SIZE=128MB BADGER_VLOG_SIZE=128MB BADGER_L0_TABLES=10 start
curl http://localhost:8500/kv/from`, `{..."value":"memory"...}`},
	{"tuned for reads", `
kill $(pgrep konsul)
BADGER_BLOCK_CACHE=256MB BADGER_PREFETCH_SIZE=10 start
curl http://localhost:8500/kv/from`, `{..."value":"memory"...}`},
	{"tuned for little memory", `
kill $(pgrep konsul)
BADGER_MEMTABLE_SIZE=8MB BADGER_NUM_MEMTABLES=2 BADGER_BLOCK_CACHE=0 start
curl http://localhost:8500/kv/from`, `{..."value":"memory"...}`},
	{"permissions", `
stat -c %a ./data ./backups ./backups/backup.db
chmod 700 ./data
chown $(id -un):$(id -gn) ./data
chmod 600 ./backups/*.db
curl -X POST http://localhost:8500/restore -d '{"path": "./backups/backup.db"}'
curl http://localhost:8500/kv/test`, "700\n700\n600\n" + `{"message":"Restore completed successfully",...}...{..."value":"persistent_data"...}`},
}

// guideShell is the shell that the guide is typed into. The addresses of the guide are
// the node's through CURL_HOME/.curlrc; pgrep sees the shell's own processes only. When
// the test has ended, and with it the pipe on descriptor 3, all of them end.
const guideShell = `
(read -r -u 3; kill -KILL 0) &
pgrep() { command pgrep -g 0 -x "$@"; }
start() {
  ./konsul "$@" >> log 2>&1 &
  until curl http://localhost:8500/health/ready > /dev/null 2>&1; do
    kill -0 $! || { tail -5 log; return 1; }
    sleep 0.05
  done
}
gone() { while pgrep konsul > /dev/null; do sleep 0.05; done; }
`

// The users' guide, from its top to its bottom, in one session of one shell.
func TestTheUsersGuide(t *testing.T) {
	n := harness.New(t, harness.Options{Nodes: 1}).Nodes[0]
	outputs, err := runGuide(t, n)
	for i, s := range guide {
		got, ran := outputs[i]
		status, text, _ := strings.Cut(got, "\n")
		switch {
		case !ran:
			t.Errorf("%s: it did not come to that (%v)", s.what, err)
		case status != "0":
			t.Errorf("%s:\n$ %s\nended with status %s and printed\n%s", s.what, s.do, status, text)
		case s.want == "SAME":
			if f := strings.Fields(text); len(f) != 2 || f[0] != f[1] {
				t.Errorf("%s: %v", s.what, f)
			}
		case s.want != "" && !matches(s.want, text):
			t.Errorf("%s:\n$ %s\nprints\n%s\nand should print\n%s", s.what, s.do, text, s.want)
		}
	}
	if t.Failed() {
		n.LogFile = filepath.Join(n.Dir, "log") // what is printed of it
	}
}

// runGuide types the guide and returns each step's status, on the first line, and output.
func runGuide(t *testing.T, n *harness.Node) (map[int]string, error) {
	t.Helper()
	if err := os.Symlink(harness.Binary(t, harness.Plain), filepath.Join(n.Dir, "konsul")); err != nil {
		t.Fatal(err)
	}
	host, _, _ := strings.Cut(n.HTTP, ":")
	rc := fmt.Sprintf("silent\nshow-error\nfail-with-body\nmax-time = 20\nconnect-to = \"localhost:8500:%s\"\n", n.HTTP)
	if err := os.WriteFile(filepath.Join(n.Dir, ".curlrc"), []byte(rc), 0o600); err != nil {
		t.Fatal(err)
	}
	script := strings.Builder{}
	script.WriteString(guideShell)
	for i, s := range guide {
		fmt.Fprintf(&script, "printf '\\n@@ %d\\n'\n{ %s\n} > out 2>&1\necho $?\ncat out\n", i, strings.TrimSpace(s.do))
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd := exec.Command("bash", "-c", script.String())
	cmd.Dir, cmd.ExtraFiles = n.Dir, []*os.File{r}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "KONSUL_") && !strings.HasPrefix(kv, "BADGER_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "CURL_HOME="+n.Dir, "KONSUL_HOST="+host, "KONSUL_RAFT_BIND_ADDR="+n.Raft, "KONSUL_HTTP_ADDR=http://"+n.HTTP,
		// It starts often, and each time waits for nobody's heartbeat.
		"KONSUL_RAFT_HEARTBEAT_TIMEOUT=200ms", "KONSUL_RAFT_ELECTION_TIMEOUT=200ms", "KONSUL_RAFT_LEADER_LEASE_TIMEOUT=100ms")
	out, err := os.Create(filepath.Join(n.Dir, "all"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Not only the shell: what it has started as well.
	end := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	defer end()
	defer time.AfterFunc(2*time.Minute, end).Stop()
	runErr := cmd.Wait()
	all, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	outputs := map[int]string{}
	for part := range strings.SplitSeq("\n"+string(all), "\n@@ ") {
		number, text, _ := strings.Cut(part, "\n")
		var i int
		if _, err := fmt.Sscan(number, &i); err == nil && text != "" {
			outputs[i] = text
		}
	}
	return outputs, runErr
}
