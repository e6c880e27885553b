package cli_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/internal/snapshot"
)

// aBackup is a whole backup of n keys.
func aBackup(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := snapshot.NewWriter(&b, snapshot.Header{ClusterID: "c", Index: 9, CreatedAt: 1, Keys: uint64(n)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := w.Write(snapshot.Record{Key: []byte{byte(i)}, Version: 9, Value: []byte("value")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// handler is a node that is only this.
func handler(t *testing.T, fn http.HandlerFunc) (flag string) {
	t.Helper()
	s := httptest.NewServer(fn)
	t.Cleanup(s.Close)
	return "--http-addr=" + s.URL
}

// --timeout is for each wait, not for the whole: large clusters take their time.
func TestBackupsTakeAsLongAsTheyTake(t *testing.T) {
	whole := aBackup(t, 100)
	const timeout = 2 * time.Second
	at := handler(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			_, _ = io.Copy(io.Discard, r.Body)
			time.Sleep(timeout + timeout/2)
			io.WriteString(w, `{"index":10,"backup":{"index":9,"cluster_id":"c"}}`)
			return
		}
		const pieces = 6
		for i := range pieces {
			_, _ = w.Write(whole[len(whole)*i/pieces : len(whole)*(i+1)/pieces])
			w.(http.Flusher).Flush()
			time.Sleep(timeout / 4)
		}
	})
	file := filepath.Join(t.TempDir(), "a.snap")
	if o := run(t, "", "backup", "save", at, "--timeout", timeout.String(), file); o.code != 0 || !strings.Contains(o.stdout, "index 9, 100 keys") {
		t.Errorf("%+v", o)
	}
	if o := run(t, "", "backup", "restore", at, "--timeout", timeout.String(), file); o.code != 0 || !strings.HasPrefix(o.stdout, "restored: ") {
		t.Errorf("%+v", o)
	}
}

// A node that falls silent is given up, and what came of its backup goes.
func TestABackupThatStandsStill(t *testing.T) {
	whole := aBackup(t, 100)
	hang := make(chan struct{})
	at := handler(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(whole[:len(whole)-1])
		w.(http.Flusher).Flush()
		<-hang
	})
	defer close(hang)
	dir := t.TempDir()
	o := run(t, "", "backup", "save", at, "--timeout", "300ms", filepath.Join(dir, "a.snap"))
	if o.code != 1 || !strings.Contains(o.stderr, "nothing moved for 300ms") {
		t.Errorf("%+v", o)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A key that the node would not use is refused; that of the environment is not meant for it.
func TestAKeyIsNotForTheNode(t *testing.T) {
	n := newNode(t, map[string]string{"POST /backup": `200 {"path":"x","index":1}`, "POST /restore": `200 {"index":1}`})
	at := "--http-addr=" + n.URL
	for _, args := range [][]string{{"backup", "save"}, {"backup", "restore", "x"}} {
		args = append(args, at, "--on-node")
		if o := run(t, "", append(args, "--key-file", "key")...); o.code != 2 || !strings.Contains(o.stderr, "--key-file and --on-node exclude each other") {
			t.Errorf("%v: %+v", args, o)
		}
		t.Setenv("KONSUL_ENCRYPTION_KEY_FILE", "/none")
		if o := run(t, "", args...); o.code != 0 {
			t.Errorf("%v: %+v", args, o)
		}
	}
}
