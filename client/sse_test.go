package client

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
)

func frames(stream []byte) (out []string) {
	r := &frameReader{r: bufio.NewReaderSize(bytes.NewReader(stream), 16), alive: func() {}}
	var fr frame
	for r.next(&fr) == nil {
		out = append(out, fr.id+"|"+fr.event+"|"+string(fr.data))
	}
	return out
}

// FuzzFrames: a stream that breaks off anywhere gives the same frames as the whole, up
// to there: what is incomplete is never delivered.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("id: 5\nevent: put\ndata: {\"key\":\n"+"data: \"a\"}\n\n: comment\n\nid:6\r\ndata\r\n\r\n"), uint16(20))
	f.Add([]byte(":\n\n\n\nid: 1\n\nretry: 5\n\n"), uint16(9))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint16) {
		whole := frames(stream)
		part := frames(stream[:min(int(cut), len(stream))])
		if len(part) > len(whole) || strings.Join(part, "\n") != strings.Join(whole[:len(part)], "\n") {
			t.Fatalf("%q is not the start of %q", part, whole)
		}
	})
}

func TestFramesAreBounded(t *testing.T) {
	for name, stream := range map[string]string{
		"one line":   "data: " + strings.Repeat("x", maxLine+64<<10) + "\n\n",
		"many lines": strings.Repeat("data: "+strings.Repeat("x", 1<<20)+"\n", 17) + "\n",
	} {
		if got := frames([]byte(stream)); len(got) != 0 {
			t.Errorf("%s: a frame of %d bytes was delivered", name, len(got[0]))
		}
	}
}
