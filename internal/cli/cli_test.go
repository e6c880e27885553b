package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/neogan74/konsul/internal/cli"
)

// node answers "METHOD URI" from a table and remembers what it was asked.
type node struct {
	*httptest.Server
	mu      sync.Mutex
	answers map[string]string // "200 {...}"; a missing line is key_not_found
	asked   []string
	bodies  []string
	header  http.Header
}

func newNode(t *testing.T, answers map[string]string) *node {
	t.Helper()
	n := &node{answers: answers}
	n.Server = httptest.NewServer(n)
	t.Cleanup(n.Close)
	return n
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	line := r.Method + " " + r.RequestURI
	n.mu.Lock()
	n.asked, n.bodies, n.header = append(n.asked, line), append(n.bodies, string(body)), r.Header.Clone()
	answer, ok := n.answers[line]
	n.mu.Unlock()
	if !ok {
		answer = `404 {"error":"key not found","code":"key_not_found"}`
	}
	status := int(answer[0]-'0')*100 + int(answer[1]-'0')*10 + int(answer[2]-'0')
	w.WriteHeader(status)
	io.WriteString(w, answer[4:])
}

// outcome is what a run of the program came to.
type outcome struct {
	code           int
	stdout, stderr string // stderr includes the error, as main prints it
}

func run(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return runContext(ctx, stdin, args...)
}

// runContext is what main does around the commands.
func runContext(ctx context.Context, stdin string, args ...string) outcome {
	root := &cobra.Command{Use: "konsul", RunE: func(*cobra.Command, []string) error { return nil }, Args: cobra.NoArgs}
	root.AddCommand(cli.Commands("1.2.3")...)
	root.AddCommand(cli.BackupCommand(nil))
	cli.Prepare(root)
	var stdout, stderr bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	code := cli.Execute(ctx, root, args)
	return outcome{code, stdout.String(), stderr.String()}
}

func (o outcome) check(t *testing.T, code int, stdout string) {
	t.Helper()
	if o.code != code || o.stdout != stdout {
		t.Errorf("exit %d (%s)\n%s\nwant exit %d\n%s", o.code, o.stderr, o.stdout, code, stdout)
	}
}

const entry = `{"key":"k","value":"v\u0000<","create_index":3,"modify_index":9,"flags":4}`

// TestOutput: what each command prints, asks and sends.
func TestOutput(t *testing.T) {
	const peers = `{"peers":[
		{"id":"n1","address":"10.0.0.1:7000","api_address":"10.0.0.1:8500","voter":true,"leader":true,"last_contact_ms":0,"applied_index":120,"healthy":true},
		{"id":"node-two","address":"10.0.0.2:7000","api_address":"10.0.0.2:8500","voter":true,"leader":false,"last_contact_ms":12,"applied_index":119,"healthy":true},
		{"id":"n3","address":"10.0.0.3:7000","api_address":"","voter":false,"leader":false,"last_contact_ms":-1,"applied_index":0,"healthy":false}]`
	const peersTable = `NODE      RAFT ADDRESS   API ADDRESS    ROLE       HEALTHY  APPLIED  LAST CONTACT
n1        10.0.0.1:7000  10.0.0.1:8500  leader     yes      120      -
node-two  10.0.0.2:7000  10.0.0.2:8500  voter      yes      119      12 ms
n3        10.0.0.3:7000                 non-voter  no       -        -
`
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte("from\x00file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args   string
		stdin  string
		answer map[string]string
		body   string
		out    string
	}{
		"get":           {args: "kv get k", answer: map[string]string{"GET /kv/k": "200 " + entry}, out: "v\x00<"},
		"get raw":       {args: "kv get k --raw", answer: map[string]string{"GET /kv/k": "200 " + entry}, out: "v\x00<"},
		"get the past":  {args: "kv get k --at 7", answer: map[string]string{"GET /kv/k?at=7": "200 " + entry}, out: "v\x00<"},
		"get stale":     {args: "kv get k --stale", answer: map[string]string{"GET /kv/k?consistency=stale": "200 " + entry}, out: "v\x00<"},
		"get json":      {args: "kv get k --json", answer: map[string]string{"GET /kv/k": "200 " + entry}, out: entry + "\n"},
		"put":           {args: "kv put k v", answer: map[string]string{"PUT /kv/k": `200 {"modify_index":9,"create_index":3}`}, body: "v", out: "k is set (index 9)\n"},
		"put stdin":     {args: "kv put k -", stdin: "from\x00stdin", answer: map[string]string{"PUT /kv/k": `200 {"modify_index":9}`}, body: "from\x00stdin", out: "k is set (index 9)\n"},
		"put file":      {args: "kv put k @" + file, answer: map[string]string{"PUT /kv/k": `200 {"modify_index":9}`}, body: "from\x00file", out: "k is set (index 9)\n"},
		"put with all":  {args: "kv put k v --cas 0 --flags 7 --json", answer: map[string]string{"PUT /kv/k?cas=0&flags=7": `200 {"modify_index":9,"create_index":3}`}, body: "v", out: `{"key":"k","modify_index":9,"create_index":3}` + "\n"},
		"delete":        {args: "kv delete k", answer: map[string]string{"DELETE /kv/k": `200 {"deleted":true}`}, out: "k is deleted\n"},
		"delete none":   {args: "kv delete k", answer: map[string]string{"DELETE /kv/k": `200 {"deleted":false}`}, out: "k was not there\n"},
		"delete json":   {args: "kv delete k --json", answer: map[string]string{"DELETE /kv/k": `200 {"deleted":true}`}, out: `{"key":"k","deleted":true}` + "\n"},
		"delete prefix": {args: "kv delete a/ --prefix", answer: map[string]string{"DELETE /kv?prefix=a%2F": `200 {"deleted":12}`}, out: "12 keys are deleted\n"},
		"list": {args: "kv list", answer: map[string]string{"GET /kv?limit=1000": `200 {"keys":["a","b\nc"],"next":"b\nc"}`, "GET /kv?after=b%0Ac&limit=1000": `200 {"keys":["d"],"next":null}`},
			out: "a\n\"b\\nc\"\nd\n"},
		"list json":        {args: "kv list a --json", answer: map[string]string{"GET /kv?limit=1000&prefix=a": `200 {"keys":["YQ==","Yf8="],"keys_encoding":"base64","next":null}`}, out: "[\n  \"a\",\n  {\"key\":\"Yf8=\",\"key_encoding\":\"base64\"}\n]\n"},
		"list nothing":     {args: "kv list", answer: map[string]string{"GET /kv?limit=1000": `200 {"keys":[],"next":null}`}, out: ""},
		"list no json":     {args: "kv list --json", answer: map[string]string{"GET /kv?limit=1000": `200 {"keys":[],"next":null}`}, out: "[]\n"},
		"list values":      {args: "kv list --values", answer: map[string]string{"GET /kv?limit=200&values=true": "200 {\"entries\":[" + entry + "],\"next\":null}"}, out: "k  \"v\\x00<\"\n"},
		"list values json": {args: "kv list --values --json", answer: map[string]string{"GET /kv?limit=200&values=true": "200 {\"entries\":[" + entry + "],\"next\":null}"}, out: "[\n  " + entry + "\n]\n"},
		"txn": {args: "txn -", stdin: `{"then":[]}`, answer: map[string]string{"POST /txn": `200 {"succeeded":true,"index":5,"results":[{"op":"get","key":"k","found":true,"value":"v"},
			{"op":"set","key":"l","modify_index":5,"create_index":5},{"op":"delete_prefix","key":"p","deleted":3},{"op":"get","key":"m","found":false}]}`},
			body: `{"then":[]}`, out: "\"then\" ran (index 5)\n0:  k = v\n1:  l is set\n2:  3 deleted\n3:  nothing there\n"},
		"txn json": {args: "txn - --json", stdin: `{}`, answer: map[string]string{"POST /txn": `200 {"succeeded":false,"index":5,"results":[{"op":"delete","key":"k","deleted":true}]}`},
			out: `{"succeeded":false,"index":5,"results":[{"op":"delete","key":"k","deleted":true}]}` + "\n"},
		"peers": {args: "cluster peers", answer: map[string]string{"GET /cluster/peers": "200 " + peers + "}"}, out: peersTable},
		"status": {args: "cluster status", answer: map[string]string{"GET /cluster/status": `200 {"cluster_id":"c-1","node_id":"n1","state":"leader","has_state":true,"leader_id":"n1","leader_addr":"10.0.0.1:7000","term":3,"commit_index":121,"applied_index":120,` + peers[1:] + "}"},
			out: "cluster        c-1\nnode           n1 (leader)\nleader         n1 (10.0.0.1:7000)\nterm           3\ncommit index   121\napplied index  120\n\n" + peersTable},
		"join": {args: "cluster join h:8500", answer: map[string]string{"POST /cluster/join": `200 {"cluster_id":"c-1","node_id":"n4","leader_id":"n1","voter":false}`}, body: `{"join":["h:8500"]}`, out: "n4 has joined the cluster c-1\n"},
		"status without a cluster": {args: "cluster status", answer: map[string]string{"GET /cluster/status": `200 {"node_id":"n1","state":"follower","api_address":"h:1"}`},
			out: "cluster        \nnode           n1 (follower)\nleader         none\nterm           0\ncommit index   0\napplied index  0\n\nnot in a cluster yet: it joins when a node in raft.join lets it, or with `konsul cluster join ADDR --http-addr h:1`\n"},
		"status of a removed node": {args: "cluster status", answer: map[string]string{"GET /cluster/status": `200 {"node_id":"n1","state":"removed"}`},
			out: "cluster        \nnode           n1 (removed)\nleader         none\nterm           0\ncommit index   0\napplied index  0\n\nremoved from its cluster: to come back it needs an empty data directory\n"},
		"completion of nodes":    {args: "__complete cluster leave n", answer: map[string]string{"GET /cluster/peers": "200 " + peers + "}"}, out: "n1\tleader\nnode-two\tvoter\nn3\tnon-voter\n:4\n"},
		"completion of workload": {args: "__complete bench --workload g", out: "put\nget\nmixed\nbatch\nwatch\n:4\n"},
		"leave":                  {args: "cluster leave n4", answer: map[string]string{"DELETE /cluster/leave/n4": "200 {}"}, out: "n4 has left the cluster\n"},
		"leave itself":           {args: "cluster leave", answer: map[string]string{"GET /cluster/status": `200 {"node_id":"n3"}`, "DELETE /cluster/leave/n3": "200 {}"}, out: "n3 has left the cluster\n"},
		"transfer":               {args: "cluster transfer n2", answer: map[string]string{"POST /cluster/transfer": `200 {}`}, body: `{"to":"n2"}`, out: "n2 leads now\n"},
		"transfer to any":        {args: "cluster transfer", answer: map[string]string{"POST /cluster/transfer": `200 {"leader_id":"n3"}`}, body: `{}`, out: "n3 leads now\n"},
		"snapshot":               {args: "cluster snapshot", answer: map[string]string{"POST /cluster/snapshot": `200 {"index":44}`}, out: "snapshot taken at index 44\n"},
		"snapshot json":          {args: "cluster snapshot --json", answer: map[string]string{"POST /cluster/snapshot": `200 {"index":44}`}, out: "{\"index\":44}\n"},
		"completion a key":       {args: "__complete kv get a", answer: map[string]string{"GET /kv?consistency=stale&limit=200&prefix=a&separator=%2F": `200 {"keys":["a1","a/"],"next":null}`}, out: "a1\na/\n:6\n"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, tc.answer)
			t.Setenv("KONSUL_HTTP_ADDR", n.URL)
			run(t, tc.stdin, strings.Split(tc.args, " ")...).check(t, 0, tc.out)
			if len(n.asked) != len(tc.answer) {
				t.Errorf("asked %q", n.asked)
			}
			if tc.body != "" && n.bodies[len(n.bodies)-1] != tc.body {
				t.Errorf("sent %q", n.bodies)
			}
		})
	}
}

// TestFailures: exit codes, and one line that says what failed and what to do.
func TestFailures(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	refused := refusing(t)
	for name, tc := range map[string]struct {
		args   string
		stdin  string
		answer map[string]string
		code   int
		says   []string
	}{
		"key not found":         {args: "kv get k", code: 3, says: []string{"kv get k: key not found"}},
		"member not found":      {args: "cluster leave n9", answer: map[string]string{"DELETE /cluster/leave/n9": `404 {"error":"no such member","code":"member_not_found"}`}, code: 3, says: []string{"no such member"}},
		"nobody there":          {args: "kv get k --http-addr " + refused, code: 1, says: []string{"kv get k: cannot connect to " + refused + ": connection refused", "Start one with `konsul`", "--http-addr"}},
		"conflict":              {args: "kv put k v --cas 5", answer: map[string]string{"PUT /kv/k?cas=5": `409 {"error":"the key has modify_index 12, not 5","code":"cas_conflict","modify_index":12}`}, code: 1, says: []string{"kv put k: the key has modify_index 12, not 5; read the key again"}},
		"compacted":             {args: "kv get k --at 2", answer: map[string]string{"GET /kv/k?at=2": `410 {"error":"index 2 is compacted","code":"compacted","oldest_index":30}`}, code: 1, says: []string{"begins at index 30"}},
		"unknown":               {args: "kv put k v", answer: map[string]string{"PUT /kv/k": `504 {"error":"no answer in time","code":"outcome_unknown"}`}, code: 1, says: []string{"may or may not have been applied"}},
		"token missing":         {args: "kv get k", answer: map[string]string{"GET /kv/k": `401 {"error":"no token","code":"unauthenticated"}`}, code: 1, says: []string{"KONSUL_TOKEN"}},
		"forbidden":             {args: "kv get k", answer: map[string]string{"GET /kv/k": `403 {"error":"no","code":"forbidden"}`}, code: 1, says: []string{"may not do this"}},
		"a long text":           {args: "kv get k", answer: map[string]string{"GET /kv/k": "400 {\"error\":\"two\\nlines\",\"code\":\"bad_request\"}"}, code: 1, says: []string{"two, lines"}},
		"key too long":          {args: "kv get " + strings.Repeat("k", 5000), code: 1, says: []string{"at most 4096"}},
		"no key":                {args: "kv get", code: 2, says: []string{"an argument is missing", "konsul kv get KEY", "(see konsul kv get --help)"}},
		"two keys":              {args: "kv get a b", code: 2, says: []string{"too many arguments"}},
		"unknown flag":          {args: "kv get k --shiny", code: 2, says: []string{"unknown flag: --shiny", "(see konsul kv get --help)"}},
		"bad flag value":        {args: "kv put k v --cas x", code: 2, says: []string{`--cas "x": it must be a number, 0 or more`}},
		"a slip in a flag":      {args: "kv get k --jsn", code: 2, says: []string{"unknown flag: --jsn, did you mean --json?"}},
		"a negative value":      {args: "kv put neg -5", code: 2, says: []string{"comes after --, as in: konsul kv put KEY -- -5"}},
		"an empty key":          {args: "kv put  x", code: 2, says: []string{"the key is empty"}},
		"which leaves":          {args: "cluster leave --http-addr a:1,b:2", code: 2, says: []string{"Name it: konsul cluster leave ID"}},
		"error as JSON":         {args: "kv get k --json", code: 3, says: []string{`{"error":"kv get k: key not found","code":"key_not_found"}` + "\n"}},
		"usage as JSON":         {args: "kv get --json", code: 2, says: []string{`"code":"usage"}`}},
		"timeout 0":             {args: "kv get k --timeout 0s", code: 2, says: []string{"more than 0"}},
		"not Konsul":            {args: "kv get k", answer: map[string]string{"GET /kv/k": "200 <html>"}, code: 1, says: []string{"does not answer like Konsul: is it its API address?"}},
		"another server's 404":  {args: "kv get k", answer: map[string]string{"GET /kv/k": "404 nothing"}, code: 1, says: []string{"does not answer like Konsul"}},
		"removed":               {args: "kv get k", answer: map[string]string{"GET /kv/k": `503 {"error":"node was removed from the cluster","code":"not_ready"}`}, code: 1, says: []string{"removed from the cluster"}},
		"of another group":      {args: "status", code: 2, says: []string{"did you mean `konsul cluster status`?"}},
		"unknown command":       {args: "fly", code: 2, says: []string{`konsul: unknown command "fly" (see konsul --help)` + "\n"}},
		"unknown kv command":    {args: "kv gett k", code: 2, says: []string{`unknown command "gett", did you mean "get"?`}},
		"no kv command":         {args: "kv", code: 2, says: []string{"get, put, delete, list, watch"}},
		"a later issue's":       {args: "cluster recover", code: 2, says: []string{`unknown command "recover"`}},
		"bad address":           {args: "kv get k --http-addr http://x/y", code: 2, says: []string{"more than a scheme"}},
		"both kinds of list":    {args: "kv list --keys-only --values", code: 2, says: []string{"either"}},
		"missing file":          {args: "kv put k @" + missing, code: 1, says: []string{"reading the value", missing}},
		"missing transaction":   {args: "txn " + missing, code: 1, says: []string{missing}},
		"transaction not JSON":  {args: "txn -", stdin: "{", code: 2, says: []string{"not valid JSON"}},
		"unknown shell":         {args: "completion csh", code: 2, says: []string{"csh"}},
		"unknown workload":      {args: "bench --workload fly", code: 2, says: []string{"put, get, mixed, batch or watch"}},
		"a batch too large":     {args: "bench --workload batch --batch-size 1025", code: 2, says: []string{"1 to 1024"}},
		"a batch of nothing":    {args: "bench --workload batch --batch-size 0", code: 2, says: []string{"at least 1"}},
		"a batch of more keys":  {args: "bench --workload batch --keys 99", code: 2, says: []string{"batches of 100 keys"}},
		"a batch over 1 MiB":    {args: "bench --workload batch --value-size 20000", code: 2, says: []string{"at most 1 MiB"}},
		"puts of a batch's":     {args: "bench --batch-size 5", code: 2, says: []string{"--workload batch"}},
		"gets of a watch's":     {args: "bench --workload get --writers 5", code: 2, says: []string{"--workload watch"}},
		"no writers":            {args: "bench --workload watch --writers 0", code: 2, says: []string{"at least 1"}},
		"values without room":   {args: "bench --workload watch --value-size 31", code: 2, says: []string{"needs 32"}},
		"a watch of nobody":     {args: "bench --workload watch --http-addr " + refused, code: 1, says: []string{"bench: ", "connection refused", "Start one"}},
		"unknown consistency":   {args: "bench --consistency some", code: 2, says: []string{"linearizable or stale"}},
		"requests and duration": {args: "bench --requests 5 --duration 5s", code: 2, says: []string{"not both"}},
		"bench without a node":  {args: "bench --http-addr " + refused, code: 1, says: []string{"bench: ", "connection refused", "Start one"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, tc.answer)
			t.Setenv("KONSUL_HTTP_ADDR", n.URL)
			o := run(t, tc.stdin, strings.Split(tc.args, " ")...)
			if o.code != tc.code || o.stdout != "" {
				t.Errorf("exit %d, output %q", o.code, o.stdout)
			}
			if strings.Count(o.stderr, "\n") != 1 {
				t.Errorf("not one line: %q", o.stderr)
			}
			for _, text := range tc.says {
				if !strings.Contains(o.stderr, text) {
					t.Errorf("%q does not say %q", o.stderr, text)
				}
			}
		})
	}
	if o := run(t, "", "kv", "delete", "", "--prefix"); o.code != 2 || !strings.Contains(o.stderr, "every key") {
		t.Errorf("an empty prefix: %+v", o)
	}
}

// A node that takes the request and says nothing.
func TestTimeout(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer server.Close()
	for _, args := range [][]string{{"kv", "get", "k"}, {"cluster", "leave", "n1"}, {"kv", "list"}} {
		o := run(t, "", append(args, "--timeout", "200ms", "--http-addr", server.URL)...)
		if o.code != 1 || !strings.Contains(o.stderr, "no answer from "+server.Listener.Addr().String()+" within 2") || strings.Contains(o.stderr, "deadline") {
			t.Errorf("%v: %+v", args, o)
		}
	}
}

func TestWrongPorts(t *testing.T) {
	n := newNode(t, map[string]string{})
	o := run(t, "", "kv", "put", "k", "v", "--http-addr", strings.Replace(n.URL, "http:", "https:", 1))
	if o.code != 1 || !strings.Contains(o.stderr, "name it with "+n.URL) {
		t.Errorf("https to http: %+v", o)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			c.Read(make([]byte, 16))
			c.Close()
		}
	}()
	o = run(t, "", "kv", "put", "k", "v", "--http-addr", l.Addr().String())
	if o.code != 1 || !strings.Contains(o.stderr, "port of Raft") {
		t.Errorf("hung up: %+v", o)
	}
}

func TestJoinOfAMember(t *testing.T) {
	own := newNode(t, map[string]string{"GET /cluster/status": `200 {"cluster_id":"c-1","node_id":"n4","state":"follower","has_state":true}`})
	other := newNode(t, map[string]string{"GET /cluster/status": `200 {"cluster_id":"c-1","node_id":"n1","state":"leader","has_state":true}`})
	run(t, "", "cluster", "join", other.URL, "--http-addr", own.URL).check(t, 0, "n4 is a member of the cluster c-1 already\n")
}

func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestFlagsBeforeEnvironment(t *testing.T) {
	good := newNode(t, map[string]string{"GET /kv/k": "200 " + entry})
	t.Setenv("KONSUL_HTTP_ADDR", refusing(t))
	t.Setenv("KONSUL_TOKEN", "from the environment")
	run(t, "", "kv", "get", "k", "--http-addr", refusing(t)+", "+good.URL, "--token", "from the flag").check(t, 0, "v\x00<")
	if got := good.header.Get("Authorization"); got != "Bearer from the flag" {
		t.Errorf("token %q", got)
	}
	run(t, "", "kv", "get", "k", "--http-addr", good.URL).check(t, 0, "v\x00<")
	if got := good.header.Get("Authorization"); got != "Bearer from the environment" {
		t.Errorf("token %q", got)
	}
}

func TestWatch(t *testing.T) {
	const frames = "id: 5\nevent: put\ndata: " + `{"key":"a b","value":"x\ny","create_index":5,"modify_index":5,"flags":0}` + "\n\nid: 6\nevent: delete\ndata: {\"key\":\"a b\"}\n\n"
	for flag, want := range map[string]string{
		"":       "5  put  a b  \"x\\ny\"\n6  delete  a b\n",
		"--json": `{"type":"put","index":5,"key":"a b","entry":{"key":"a b","value":"x\ny","create_index":5,"modify_index":5,"flags":0}}` + "\n" + `{"type":"delete","index":6,"key":"a b"}` + "\n",
	} {
		n := newNode(t, map[string]string{"GET /watch?from=4&prefix=a": "200 " + frames,
			"GET /watch?prefix=a": "410 {\"error\":\"too old\",\"code\":\"compacted\",\"oldest_index\":9}"})
		args := []string{"kv", "watch", "a", "--from", "4", "--http-addr", n.URL}
		if flag != "" {
			args = append(args, flag)
		}
		o := run(t, "", args...)
		o.check(t, 1, want)
		if !strings.Contains(o.stderr, "resuming\n") || !strings.Contains(o.stderr, "begins at index 9") {
			t.Errorf("said %q", o.stderr)
		}
	}
}

func TestAnInterruptedWatchIsNoFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Konsul-Index", "4")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	runContext(ctx, "", "kv", "watch", "--http-addr", server.URL).check(t, 0, "")
}

func TestVersionAndCompletion(t *testing.T) {
	if o := run(t, "", "version"); o.code != 0 || !strings.HasPrefix(o.stdout, "konsul 1.2.3 (go") {
		t.Errorf("%+v", o)
	}
	var v map[string]string
	if o := run(t, "", "version", "--json"); json.Unmarshal([]byte(o.stdout), &v) != nil || v["version"] != "1.2.3" {
		t.Errorf("%+v", o)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if o := run(t, "", "completion", shell); o.code != 0 || !strings.Contains(o.stdout, "konsul") {
			t.Errorf("%s: exit %d, %s", shell, o.code, o.stderr)
		}
	}
}

// TestHelpHasExamples: every command that does something shows how.
func TestHelpHasExamples(t *testing.T) {
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Short == "" || !cmd.HasSubCommands() && cmd.Example == "" {
			t.Errorf("%s has no short help or no example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	for _, cmd := range cli.Commands("x") {
		visit(cmd)
	}
	if o := run(t, "", "kv", "put", "--help"); o.code != 0 || !strings.Contains(o.stdout, "--http-addr") || !strings.Contains(o.stdout, "@logo.png") {
		t.Errorf("%+v", o)
	}
}

func TestBench(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"modify_index":1}`)
	}))
	defer server.Close()
	o := run(t, "", "bench", "--workload", "mixed", "--clients", "4", "--requests", "400", "--warmup", "0s", "--keys", "50", "--json", "--http-addr", server.URL)
	var r struct {
		Requests int64            `json:"requests"`
		OpsPerS  float64          `json:"ops_per_s"`
		Errors   map[string]int64 `json:"errors"`
		Latency  map[string]any   `json:"latency_us"`
	}
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil || o.code != 0 {
		t.Fatalf("%+v, %v", o, err)
	}
	if r.Requests != 400 || r.OpsPerS <= 0 || len(r.Errors) != 0 || r.Latency["p99.9"] == nil {
		t.Errorf("result %+v", r)
	}
	o = run(t, "", "bench", "--duration", "50ms", "--warmup", "0s", "--http-addr", server.URL)
	if o.code != 0 || !strings.HasPrefix(o.stdout, "put, 16 clients, 10000 keys, values of 256 bytes: ") || !strings.Contains(o.stdout, "LATENCY  p50") {
		t.Errorf("%+v", o)
	}
	failing := newNode(t, map[string]string{})
	o = run(t, "", "bench", "--requests", "20", "--warmup", "0s", "--http-addr", failing.URL)
	if o.code != 1 || !strings.Contains(o.stdout, "key_not_found  20") || !strings.Contains(o.stderr, "no request succeeded") {
		t.Errorf("%+v", o)
	}
}
