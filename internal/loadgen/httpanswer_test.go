package loadgen

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func parse(data []byte) (a answer, rest int, err error) {
	r := bufio.NewReaderSize(bytes.NewReader(data), readBuffer)
	err = readAnswer(r, &a)
	left, _ := io.Copy(io.Discard, r)
	return a, int(left), err
}

func TestAnswersAreReadToTheirEnd(t *testing.T) {
	const next = "HTTP/1.1 200 OK\r\n"
	for name, tc := range map[string]struct {
		data    string
		status  int
		closing bool
		body    string
	}{
		"a length":            {data: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", status: 200},
		"odd capitals":        {data: "HTTP/1.1 200 OK\r\ncontent-LENGTH:5 \r\n\r\nhello", status: 200},
		"bare line feeds":     {data: "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", status: 200},
		"no reason":           {data: "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", status: 200},
		"not even its space":  {data: "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", status: 200},
		"an empty body":       {data: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", status: 200},
		"no content":          {data: "HTTP/1.1 204 No Content\r\n\r\n", status: 204},
		"not modified":        {data: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", status: 304},
		"chunks":              {data: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", status: 200},
		"chunks and trailers": {data: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n0\r\nX: y\r\n\r\n", status: 200},
		"interim answers":     {data: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", status: 200},
		"a last answer":       {data: "HTTP/1.1 200 OK\r\nConnection: Foo, Close\r\nContent-Length: 1\r\n\r\nx", status: 200, closing: true},
		"an old server":       {data: "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", status: 200, closing: true},
		"a failure":           {data: "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello", status: 404, body: "hello"},
		"a chunked failure":   {data: "HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", status: 503, body: "hello"},
		"the length twice":    {data: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", status: 200},
	} {
		a, rest, err := parse([]byte(tc.data + next))
		if err != nil || a.status != tc.status || a.closing != tc.closing || string(a.body) != tc.body || rest != len(next) {
			t.Errorf("%s: %+v, %d bytes left, %v", name, a, rest, err)
		}
	}
	a, rest, err := parse([]byte("HTTP/1.1 200 OK\r\n\r\nuntil the end"))
	if err != nil || !a.closing || rest != 0 {
		t.Errorf("a body that ends with the connection: %+v, %d bytes left, %v", a, rest, err)
	}
}

func TestLongFailuresAreKeptInPart(t *testing.T) {
	a, rest, err := parse([]byte("HTTP/1.1 500 X\r\nContent-Length: 10000\r\n\r\n" + strings.Repeat("x", 10000)))
	if err != nil || len(a.body) != maxKept || rest != 0 {
		t.Errorf("%d bytes kept, %d left, %v", len(a.body), rest, err)
	}
}

func TestBrokenAnswersAreRefused(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, data := range map[string]string{
		"not HTTP":               "SSH-2.0-OpenSSH_9.9\r\n\r\n",
		"another version":        "HTTP/2.0 200 OK\r\n\r\n",
		"no number":              "HTTP/1.1 2x0 OK\r\n\r\n",
		"a long number":          "HTTP/1.1 2000 OK\r\n\r\n",
		"a small number":         "HTTP/1.1 099 OK\r\n\r\n",
		"an upgrade":             "HTTP/1.1 101 Switching\r\n\r\n",
		"a bad length":           ok + "Content-Length: 5x\r\n\r\nhello",
		"a negative length":      ok + "Content-Length: -5\r\n\r\nhello",
		"a huge length":          ok + "Content-Length: 99999999999999999999\r\n\r\nhello",
		"two lengths":            ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nhello",
		"another coding":         ok + "Transfer-Encoding: gzip\r\n\r\nhello",
		"a folded line":          ok + "X: y\r\n z\r\nContent-Length: 0\r\n\r\n",
		"a line without a colon": ok + "Content-Length 5\r\n\r\nhello",
		"a bad chunk size":       ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
		"an empty chunk size":    ok + "Transfer-Encoding: chunked\r\n\r\n\r\n",
		"a huge chunk":           ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
		"a chunk too long":       ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n0\r\n\r\n",
	} {
		if a, _, err := parse([]byte(data)); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	whole := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
	for i := range whole {
		if _, _, err := parse([]byte(whole[:i])); err == nil {
			t.Errorf("%q was taken for a whole answer", whole[:i])
		}
	}
	if _, _, err := parse([]byte(ok + "X: " + strings.Repeat("y", 2*readBuffer) + "\r\n\r\n")); !errors.Is(err, bufio.ErrBufferFull) {
		t.Errorf("an endless header line: %v", err)
	}
}

// FuzzReadAnswer: what is taken, net/http takes as well, with the same status and the
// same end.
func FuzzReadAnswer(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 503 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nhello",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, rest, err := parse(data)
		if err != nil {
			return
		}
		r := bufio.NewReader(bytes.NewReader(data))
		for {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				return // net/http refuses more, such as odd characters in names
			}
			if resp.StatusCode/100 == 1 {
				continue
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return
			}
			left, _ := io.Copy(io.Discard, r)
			if resp.StatusCode != a.status || int(left) != rest {
				t.Fatalf("status %d and %d bytes left, net/http: %d and %d", a.status, rest, resp.StatusCode, left)
			}
			if kept := min(len(body), maxKept); a.status >= 400 && resp.ContentLength >= 0 && !bytes.Equal(a.body, body[:kept]) {
				t.Fatalf("body %q, net/http: %q", a.body, body)
			}
			return
		}
	})
}
