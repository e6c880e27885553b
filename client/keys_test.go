package client_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/neogan74/konsul/client"
)

// TestKeysArriveAsTheyAre reads the request line from a bare socket: no server code
// that could have put it right again.
func TestKeysArriveAsTheyAre(t *testing.T) {
	for key, path := range map[string]string{
		"plain":                "/kv/plain",
		"a/b":                  "/kv/a/b",
		"a//b":                 "/kv/a//b",
		"/":                    "/kv//",
		"/a":                   "/kv//a",
		"a/":                   "/kv/a/",
		"../x":                 "/kv/../x",
		".":                    "/kv/.",
		"..":                   "/kv/..",
		"a/./b/../c":           "/kv/a/./b/../c",
		"%2F":                  "/kv/%252F",
		"%":                    "/kv/%25",
		"a b":                  "/kv/a%20b",
		"a+b":                  "/kv/a%2Bb",
		"?q=1&r#f":             "/kv/%3Fq%3D1%26r%23f",
		"~-._":                 "/kv/~-._",
		"a;b:c@d,e":            "/kv/a%3Bb%3Ac%40d%2Ce",
		"http://x/y":           "/kv/http%3A//x/y",
		"\x00\xff\n":           "/kv/%00%FF%0A",
		"😀":                    "/kv/%F0%9F%98%80",
		strings.Repeat("/", 9): "/kv/" + strings.Repeat("/", 9),
	} {
		t.Run(fmt.Sprintf("%q", key), func(t *testing.T) {
			address, lines := rawNode(t)
			c := newClient(t, client.Config{Addresses: []string{address}})
			if _, err := c.Put(testContext(t), key, []byte("v")); err != nil {
				t.Fatal(err)
			}
			if got := <-lines; got != "PUT "+path+" HTTP/1.1" {
				t.Errorf("request line %q, want PUT %s", got, path)
			}
			if back, err := url.PathUnescape(path[len("/kv/"):]); err != nil || back != key {
				t.Errorf("%q decodes to %q, %v", path, back, err)
			}
		})
	}
}

// rawNode accepts connections, reports request lines and answers every request.
func rawNode(t *testing.T) (address string, lines <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	out := make(chan string, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveRaw(conn, out)
		}
	}()
	return l.Addr().String(), out
}

func serveRaw(conn net.Conn, lines chan<- string) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return
	}
	length := 0
	for {
		header, err := r.ReadString('\n')
		if err != nil {
			return
		}
		fmt.Sscanf(header, "Content-Length: %d", &length)
		if strings.TrimSpace(header) == "" {
			break
		}
	}
	io.CopyN(io.Discard, r, int64(length))
	lines <- strings.TrimSpace(line)
	body := `{"message":"key set","modify_index":7,"create_index":7}`
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func TestKeysThatNoServerTakesAreNotSent(t *testing.T) {
	d := newDouble(t, says(200, `{}`))
	c := to(t, d)
	ctx := testContext(t)
	for name, call := range map[string]func(key string) error{
		"get":    func(key string) error { _, err := c.Get(ctx, key); return err },
		"put":    func(key string) error { _, err := c.Put(ctx, key, nil); return err },
		"delete": func(key string) error { _, err := c.Delete(ctx, key); return err },
		"batch":  func(key string) error { _, err := c.BatchDelete(ctx, []string{key}); return err },
		"txn":    func(key string) error { _, err := c.Txn().Then(client.OpGet(key)).Commit(ctx); return err },
	} {
		for _, key := range []string{"", strings.Repeat("k", client.MaxKeyLen+1)} {
			if err := call(key); err == nil || !strings.Contains(err.Error(), "key") {
				t.Errorf("%s with a key of %d bytes: %v", name, len(key), err)
			}
		}
	}
	if _, err := c.DeletePrefix(ctx, ""); err == nil {
		t.Error("an empty prefix was taken")
	}
	if err := c.Leave(ctx, ""); err == nil {
		t.Error("leave without a node was taken")
	}
	if n := len(d.requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}
