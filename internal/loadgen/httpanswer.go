package loadgen

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// answer is an HTTP/1.x response, without what a load generator has no use for.
type answer struct {
	status int
	// closing: the connection cannot be used again.
	closing bool
	// body is the start of the body (at most maxKept bytes) of a failure.
	body []byte
}

// maxKept bounds what is kept of a failure's body; the rest is read and dropped.
const maxKept = 4096

var errMalformed = errors.New("not an HTTP/1.x answer")

// framing is how the body ends.
type framing struct {
	length  int64 // -1 = not given
	chunked bool
	closing bool
}

// readAnswer reads one response to a GET or PUT to its end. The reader's buffer bounds
// the length of a header line.
func readAnswer(r *bufio.Reader, into *answer) error {
	into.body = into.body[:0]
	for {
		status, minor, err := readStatus(r)
		if err != nil {
			return err
		}
		f, err := readHeader(r)
		if err != nil {
			return err
		}
		if status >= 100 && status < 200 {
			if status == 101 {
				return fmt.Errorf("%w: an upgrade nobody asked for", errMalformed)
			}
			continue // 100 Continue, 103 Early Hints: the real answer follows
		}
		if minor == 0 && f.chunked {
			return fmt.Errorf("%w: chunks in HTTP/1.0", errMalformed)
		}
		into.status, into.closing = status, f.closing || minor == 0
		return into.readBody(r, f)
	}
}

func readStatus(r *bufio.Reader) (status, minor int, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	// HTTP/1.1 200 OK
	if len(line) < 13 || string(line[:7]) != "HTTP/1." || line[8] != ' ' || line[7] != '0' && line[7] != '1' {
		return 0, 0, errMalformed
	}
	for _, digit := range line[9:12] {
		if digit < '0' || digit > '9' {
			return 0, 0, errMalformed
		}
		status = status*10 + int(digit-'0')
	}
	if after := line[12]; status < 100 || after != ' ' && after != '\r' && after != '\n' {
		return 0, 0, errMalformed
	}
	return status, int(line[7] - '0'), nil
}

func readHeader(r *bufio.Reader) (framing, error) {
	f := framing{length: -1}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return f, err
		}
		line = trimEnd(line)
		if len(line) == 0 {
			return f, nil
		}
		if line[0] == ' ' || line[0] == '\t' {
			return f, fmt.Errorf("%w: a folded header line", errMalformed)
		}
		// Only three fields matter; most lines are told apart by their first letter.
		switch line[0] | 0x20 {
		case 'c', 't':
			if err := f.field(line); err != nil {
				return f, err
			}
		}
	}
}

func (f *framing) field(line []byte) error {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return fmt.Errorf("%w: a header line without a colon", errMalformed)
	}
	name, value := line[:colon], bytes.TrimSpace(line[colon+1:])
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		n, ok := parseLength(value)
		if !ok || f.length >= 0 && f.length != n {
			return fmt.Errorf("%w: Content-Length %q", errMalformed, value)
		}
		f.length = n
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		if !bytes.EqualFold(value, []byte("chunked")) {
			return fmt.Errorf("%w: Transfer-Encoding %q", errMalformed, value)
		}
		f.chunked = true
	case bytes.EqualFold(name, []byte("Connection")):
		f.closing = f.closing || containsToken(value, "close")
	}
	return nil
}

// readBody reads the body to its end and keeps the start of a failure's.
func (a *answer) readBody(r *bufio.Reader, f framing) error {
	switch {
	case a.status == 204 || a.status == 304:
		return nil
	case f.chunked:
		return a.readChunks(r)
	case f.length >= 0:
		return a.take(r, f.length)
	}
	a.closing = true
	_, err := io.Copy(io.Discard, r)
	return err
}

func (a *answer) readChunks(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, ok := parseChunkSize(trimEnd(line))
		if !ok {
			return fmt.Errorf("%w: chunk size", errMalformed)
		}
		if size == 0 {
			_, err := readHeader(r) // the trailer
			return err
		}
		if err := a.take(r, size); err != nil {
			return err
		}
		if line, err = r.ReadSlice('\n'); err != nil {
			return err
		}
		if len(trimEnd(line)) != 0 {
			return fmt.Errorf("%w: the end of a chunk", errMalformed)
		}
	}
}

// take consumes n bytes of the body.
func (a *answer) take(r *bufio.Reader, n int64) error {
	if a.status >= 400 {
		keep := min(n, int64(maxKept-len(a.body)))
		from := len(a.body)
		a.body = append(a.body, make([]byte, keep)...)
		if _, err := io.ReadFull(r, a.body[from:]); err != nil {
			return err
		}
		n -= keep
	}
	for n > 0 {
		skipped, err := r.Discard(int(min(n, 1<<20)))
		n -= int64(skipped)
		if err != nil {
			return err
		}
	}
	return nil
}

func trimEnd(line []byte) []byte {
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line
}

func parseLength(digits []byte) (int64, bool) {
	if len(digits) == 0 || len(digits) > 18 {
		return 0, false
	}
	n := int64(0)
	for _, digit := range digits {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		n = n*10 + int64(digit-'0')
	}
	return n, true
}

func parseChunkSize(line []byte) (int64, bool) {
	if semicolon := bytes.IndexByte(line, ';'); semicolon >= 0 {
		line = line[:semicolon]
	}
	line = bytes.TrimRight(line, " \t")
	if len(line) == 0 || len(line) > 15 {
		return 0, false
	}
	n := int64(0)
	for _, c := range line {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int64(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			n = n<<4 | int64(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

func containsToken(list []byte, token string) bool {
	for item := range bytes.SplitSeq(list, []byte(",")) {
		if bytes.EqualFold(bytes.TrimSpace(item), []byte(token)) {
			return true
		}
	}
	return false
}
