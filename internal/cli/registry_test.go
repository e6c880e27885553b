package cli_test

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/neogan74/konsul/internal/cli"
)

const (
	instance = `{"id":"web-1","address":"10.0.0.7","port":80,"tags":["a","b"],"meta":{"z":"1","y":"2"},"ttl":"30s","expires_in":"12.34s",` +
		`"create_index":3,"modify_index":9,"node":"n1","healthy":false,"checks":[{"id":"http","kind":"http","status":"critical","output":"500","modify_index":8}]}`
	other   = `{"id":"web-2","address":"::1","port":8080,"tags":[],"meta":{},"create_index":4,"modify_index":4,"node":"n1","healthy":true,"checks":[]}`
	session = `{"id":"s-1","name":"job","node":"n1","ttl":"15s","expires_in":"9.04s","behavior":"release","lock_delay":"5s","held":2,"create_index":3,"modify_index":4}`
)

// TestRegistryOutput: what the commands for services and sessions ask, send and print.
func TestRegistryOutput(t *testing.T) {
	const table = `ID     ADDRESS      HEALTH                     EXPIRES IN  TAGS  META     NODE
web-1  10.0.0.7:80  unhealthy (http critical)  12.3s       a,b   y=2,z=1  n1
web-2  [::1]:8080   healthy                    -           -     -        n1
`
	all := `200 {"services":[{"name":"web","id":"web-1","instances":[` + instance + "," + other + `]}]}`
	for name, tc := range map[string]struct {
		args, line, answer, body, out string
	}{
		"register": {args: "service register web --address 10.0.0.7 --port 80", line: "PUT /services/web", answer: `200 {"name":"web","id":"web","modify_index":9}`,
			body: `{"address":"10.0.0.7","port":80}`, out: "web is registered (index 9)\n"},
		"register all": {args: "service register web --id web-1 --address h --port 80 --ttl 30s --tag a --tag b,c --meta z=1 --meta y=a=b " +
			"--check-http http://h/ --check-tcp h:80 --check-ttl 1m --check-interval 5s --check-timeout 1s --json",
			line: "PUT /services/web", answer: `200 {"name":"web","id":"web-1","modify_index":9}`,
			body: `{"id":"web-1","address":"h","port":80,"tags":["a","b,c"],"meta":{"y":"a=b","z":"1"},"ttl":"30s","checks":[` +
				`{"http":"http://h/","interval":"5s","timeout":"1s"},{"tcp":"h:80","interval":"5s","timeout":"1s"},{"ttl":"1m0s"}]}`,
			out: `{"name":"web","id":"web-1","modify_index":9}` + "\n"},
		"get":      {args: "service get web", line: "GET /services/web", answer: `200 {"instances":[` + instance + "," + other + `]}`, out: table},
		"get json": {args: "service get web --json", line: "GET /services/web", answer: `200 {"instances":[` + other + `]}`, out: `{"name":"web","instances":[{"name":"web","id":"web-2","node":"n1","address":"::1","port":8080,"tags":[],"meta":{},"healthy":true,"checks":[],"create_index":4,"modify_index":4}]}` + "\n"},
		"get healthy, and there is none": {args: "service get web --healthy --stale --json", line: "GET /services/web?consistency=stale&healthy=true", answer: `200 {"instances":[]}`,
			out: `{"name":"web","instances":[]}` + "\n"},
		"list":      {args: "service list", line: "GET /services", answer: `200 {"services":["api","web"]}`, out: "api\nweb\n"},
		"list json": {args: "service list --tag a --tag b --meta z=1 --healthy --json", line: "GET /services?healthy=true&meta=z%3A1&tag=a&tag=b", answer: `200 {"services":["web"]}`, out: `{"services":["web"]}` + "\n"},
		"list detail": {args: "service list --detail", line: "GET /services?detail=true", answer: all, out: `SERVICE  ID     ADDRESS      HEALTH                     EXPIRES IN  TAGS  META     NODE
web      web-1  10.0.0.7:80  unhealthy (http critical)  12.3s       a,b   y=2,z=1  n1
web      web-2  [::1]:8080   healthy                    -           -     -        n1
`},
		"list nothing":      {args: "service list --json", line: "GET /services", answer: `200 {"services":[]}`, out: `{"services":[]}` + "\n"},
		"heartbeat":         {args: "service heartbeat web --id web-1", line: "PUT /services/web/heartbeat?id=web-1", answer: `200 {}`, out: "web/web-1 is renewed\n"},
		"heartbeat json":    {args: "service heartbeat web --json", line: "PUT /services/web/heartbeat", answer: `200 {}`, out: `{"id":"web","name":"web"}` + "\n"},
		"deregister":        {args: "service deregister web", line: "DELETE /services/web", answer: `200 {}`, out: "web is deregistered\n"},
		"deregister one":    {args: "service deregister web --id web-1 --json", line: "DELETE /services/web?id=web-1", answer: `200 {}`, out: `{"id":"web-1","name":"web"}` + "\n"},
		"check":             {args: "service check web ttl", line: "PUT /services/web/checks/ttl", answer: `200 {}`, body: `{"status":"passing"}`, out: "check ttl of web is passing\n"},
		"check of one":      {args: "service check web ttl --id web-1 --status warning --output slow", line: "PUT /services/web/checks/ttl?id=web-1", answer: `200 {}`, body: `{"status":"warning","output":"slow"}`, out: "check ttl of web/web-1 is warning\n"},
		"session create":    {args: "session create", line: "POST /sessions", answer: `201 {"id":"s-1","ttl":"0s","modify_index":4}`, body: `{"behavior":"release"}`, out: "s-1\n"},
		"session create id": {args: "session create --ttl 15s --name job --behavior delete --lock-delay 0s --json", line: "POST /sessions", answer: `201 {"id":"s-1","ttl":"15s","modify_index":4}`, body: `{"ttl":"15s","behavior":"delete","lock_delay":"0s","name":"job"}`, out: `{"id":"s-1","modify_index":4,"ttl":"15s"}` + "\n"},
		"session renew":     {args: "session renew s-1", line: "PUT /sessions/s-1/renew", answer: `200 {}`, out: "s-1 is renewed\n"},
		"session destroy":   {args: "session destroy s-1", line: "DELETE /sessions/s-1", answer: `200 {}`, out: "s-1 is destroyed\n"},
		"session get":       {args: "session get s-1 --json", line: "GET /sessions/s-1", answer: "200 " + session, out: session + "\n"},
		"session list": {args: "session list", line: "GET /sessions", answer: `200 {"sessions":[` + session + `,{"id":"s-2","behavior":"delete","lock_delay":"0s"}]}`,
			out: "ID   NAME  TTL  EXPIRES IN  BEHAVIOR  LOCK DELAY  KEYS  NODE\ns-1  job   15s  9s          release   5s          2     n1\ns-2  -     -    -           delete    0s          0     -\n"},
		"session list json": {args: "session list --json", line: "GET /sessions", answer: `200 {"sessions":[]}`, out: `{"sessions":[]}` + "\n"},
		"put with a ttl":    {args: "kv put k v --ttl 90s", line: "PUT /kv/k?ttl=1m30s", answer: `200 {"modify_index":9}`, body: "v", out: "k is set (index 9)\n"},
		"put and acquire":   {args: "kv put k v --acquire s-1 --json", line: "PUT /kv/k?acquire=s-1", answer: `200 {"modify_index":9,"create_index":3,"lock_index":9}`, body: "v", out: `{"key":"k","modify_index":9,"create_index":3,"lock_index":9}` + "\n"},
		"put and release":   {args: "kv put k v --release s-1", line: "PUT /kv/k?release=s-1", answer: `200 {"modify_index":9}`, body: "v", out: "k is set and released (index 9)\n"},
		"get a held key": {args: "kv get k --detail", line: "GET /kv/k", answer: `200 {"key":"k","value":"a\nb","create_index":3,"modify_index":9,"flags":0,"lock_index":9,"session":"s-1","expires_in":"1m0s"}`,
			out: "key              k\nvalue            \"a\\nb\"\ncreate index     3\nmodify index     9\nflags            0\nexpires in       1m0s\nlock index       9\nheld by session  s-1\n"},
		"get a plain key": {args: "kv get k --detail", line: "GET /kv/k", answer: `200 {"key":"k","value":"v","create_index":3,"modify_index":9,"flags":7}`,
			out: "key           k\nvalue         v\ncreate index  3\nmodify index  9\nflags         7\n"},
		"completion of services": {args: "__complete service get w", line: "GET /services?consistency=stale", answer: `200 {"services":["api","web"]}`, out: "api\nweb\n:4\n"},
		"completion of sessions": {args: "__complete session renew s", line: "GET /sessions?consistency=stale", answer: `200 {"sessions":[` + session + `]}`, out: "s-1\tjob\n:4\n"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, map[string]string{tc.line: tc.answer})
			t.Setenv("KONSUL_HTTP_ADDR", n.URL)
			run(t, "", strings.Split(tc.args, " ")...).check(t, 0, tc.out)
			if len(n.asked) != 1 || n.asked[0] != tc.line || tc.body != "" && n.bodies[0] != tc.body {
				t.Errorf("asked %q, sent %q", n.asked, n.bodies)
			}
		})
	}
}

// TestRegistryFailures: exit statuses, and one line that says what to do.
func TestRegistryFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		args, line, answer string
		code               int
		says               []string
	}{
		"no such service":     {args: "service get web", line: "GET /services/web", answer: `404 {"error":"service not found","code":"service_not_found"}`, code: 3, says: []string{"service get web: service not found; see `konsul service list --detail`"}},
		"an expired service":  {args: "service heartbeat web", line: "PUT /services/web/heartbeat", answer: `410 {"error":"service expired","code":"service_expired"}`, code: 3, says: []string{"service expired; ", "register it again"}},
		"no such check":       {args: "service check web ttl", line: "PUT /services/web/checks/ttl", answer: `404 {"error":"check not found","code":"check_not_found"}`, code: 3, says: []string{"konsul service get NAME --json"}},
		"no such session":     {args: "session renew s", line: "PUT /sessions/s/renew", answer: `404 {"error":"session not found","code":"session_not_found"}`, code: 3, says: []string{"konsul session create"}},
		"a held key":          {args: "kv put k v --acquire s", line: "PUT /kv/k?acquire=s", answer: `409 {"error":"the key is held by session t","code":"lock_held","session":"t"}`, code: 1, says: []string{"held by session t; wait for it with `konsul lock`"}},
		"a lock delay":        {args: "kv put k v --acquire s", line: "PUT /kv/k?acquire=s", answer: `409 {"error":"nobody may hold it for 4s more","code":"lock_delay","wait":"4s"}`, code: 1, says: []string{"for 4s more; try again then"}},
		"not the holder":      {args: "kv put k v --release s", line: "PUT /kv/k?release=s", answer: `409 {"error":"nobody does","code":"not_holder"}`, code: 1, says: []string{"konsul kv get KEY --detail"}},
		"too many keys":       {args: "kv put k v --acquire s", line: "PUT /kv/k?acquire=s", answer: `409 {"error":"as many as it may","code":"limit_reached","limit":4096}`, code: 1, says: []string{"one more session"}},
		"a taken member id":   {args: "cluster join h:1", line: "POST /cluster/join", answer: `409 {"error":"a member with this id exists","code":"member_exists"}`, code: 1, says: []string{"raft.node_id", "konsul cluster leave ID"}},
		"no address":          {args: "service register web --port 80", code: 2, says: []string{"--address is missing"}},
		"no port":             {args: "service register web --address a", code: 2, says: []string{"--port is missing"}},
		"a port":              {args: "service register web --address a --port 70000", code: 2, says: []string{"0 to 65535"}},
		"meta":                {args: "service register web --address a --meta z", code: 2, says: []string{`--meta "z": it must be KEY=VALUE`}},
		"meta twice":          {args: "service register web --address a --meta z=1 --meta z=2", code: 2, says: []string{"--meta z is given twice"}},
		"an interval alone":   {args: "service register web --address a --check-interval 5s", code: 2, says: []string{"are for --check-http"}},
		"a status":            {args: "service check web ttl --status good", code: 2, says: []string{"passing, warning or critical"}},
		"a behavior":          {args: "session create --behavior keep", code: 2, says: []string{"release or delete"}},
		"acquire for nobody":  {args: "kv put k v --acquire=", code: 2, says: []string{"--acquire is empty: is a variable not set?"}},
		"release by nobody":   {args: "kv put k v --release=", code: 2, says: []string{"--release is empty"}},
		"register without id": {args: "service register web --address a --port 1 --id=", code: 2, says: []string{"--id is empty"}},
		"check of nothing":    {args: "service register web --address a --port 1 --check-http=", code: 2, says: []string{"--check-http is empty"}},
		"beat of nobody":      {args: "service heartbeat web --id=", code: 2, says: []string{"--id is empty"}},
		"deregister nobody":   {args: "service deregister web --id=", code: 2, says: []string{"--id is empty"}},
		"check for nobody":    {args: "service check web ttl --id=", code: 2, says: []string{"--id is empty"}},
		"both":                {args: "kv put k v --acquire a --release b", code: 2, says: []string{"either --acquire or --release"}},
		"no service command":  {args: "service", code: 2, says: []string{"register, get, list, watch, heartbeat, check, deregister"}},
		"an old habit":        {args: "services", code: 2, says: []string{"did you mean `konsul service list`?"}},
		"lock without --":     {args: "lock k true", code: 2, says: []string{"the command comes after --, as in: konsul lock KEY -- COMMAND"}},
		"lock without one":    {args: "lock k --", code: 2, says: []string{"the command comes after --"}},
		"lock with two keys":  {args: "lock k l -- true", code: 2, says: []string{"the command comes after --"}},
		"lock without a key":  {args: "lock -- true", code: 2, says: []string{"the command comes after --"}},
		"lock for no time":    {args: "lock k --ttl 0s -- true", code: 2, says: []string{"more than 0"}},
		"lock, negative":      {args: "lock k --wait -1s -- true", code: 2, says: []string{"must not be negative"}},
		"lock, no command":    {args: "lock k -- konsul-no-such-command", code: 127, says: []string{"there is no command konsul-no-such-command"}},
		"lock, not a command": {args: "lock k -- /dev/null", code: 126, says: []string{"/dev/null cannot be run"}},
		"lock, no node":       {args: "lock k --http-addr REFUSED -- true", code: 1, says: []string{"lock k: cannot connect to", "Start one with `konsul`"}},
		"lock, no node, JSON": {args: "lock k --json --http-addr REFUSED -- true", code: 1, says: []string{`"code":"unreachable"`}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, map[string]string{tc.line: tc.answer})
			t.Setenv("KONSUL_HTTP_ADDR", n.URL)
			o := run(t, "", strings.Split(strings.Replace(tc.args, "REFUSED", refusing(t), 1), " ")...)
			if o.code != tc.code || o.stdout != "" || strings.Count(o.stderr, "\n") != 1 {
				t.Errorf("exit %d, output %q, said %q", o.code, o.stdout, o.stderr)
			}
			for _, text := range tc.says {
				if !strings.Contains(o.stderr, text) {
					t.Errorf("%q does not say %q", o.stderr, text)
				}
			}
		})
	}
}

func TestServiceWatch(t *testing.T) {
	frames := "id: 5\nevent: put\ndata: {\"name\":\"web\"," + instance[1:] + "\n\nid: 6\nevent: delete\ndata: {\"name\":\"web\",\"id\":\"web-1\"}\n\n"
	for flag, want := range map[string]string{
		"":       "5  put  web/web-1  10.0.0.7:80  unhealthy (http critical)\n6  delete  web/web-1\n",
		"--json": `{"type":"put","index":5,"name":"web","id":"web-1","instance":{"name":"web",` + strings.Replace(instance[1:], `"y":"2"`, "", 1),
	} {
		n := newNode(t, map[string]string{"GET /watch?from=4&service=web": "200 " + frames, "GET /watch?service=web": `410 {"error":"too old","code":"compacted","oldest_index":9}`})
		o := run(t, "", strings.Fields("service watch web --from 4 --http-addr "+n.URL+" "+flag)...)
		if flag == "" {
			o.check(t, 1, want)
		} else if o.code != 1 || !strings.HasPrefix(o.stdout, want[:70]) || !strings.HasSuffix(o.stdout, `{"type":"delete","index":6,"name":"web","id":"web-1"}`+"\n") {
			t.Errorf("%+v", o)
		}
	}
	n := newNode(t, map[string]string{})
	if run(t, "", "service", "watch", "--http-addr", n.URL); n.asked[0] != "GET /watch?services=true" {
		t.Errorf("asked %q", n.asked)
	}
}

// What stands in backquotes in a flag's text is taken for the name of its value.
func TestNoSentenceIsAFlagsValue(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if name, _ := pflag.UnquoteUsage(f); strings.Contains(name, " ") {
				t.Errorf("%s --%s %s", cmd.CommandPath(), f.Name, name)
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	for _, cmd := range cli.Commands("1.2.3") {
		walk(cmd)
	}
}
