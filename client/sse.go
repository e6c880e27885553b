package client

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds one line of an event stream, and one event: an entry of 512 KiB, escaped at its
// worst, twice (with the previous value).
const maxLine = 16 << 20

// frame is one event of a text/event-stream (WHATWG HTML, section 9.2.6). A frame
// without data is only a progress mark (id) or a sign of life.
type frame struct {
	id    string
	hasID bool
	event string
	data  []byte
	// hasData: there was a data line, even an empty one.
	hasData bool
}

// frameReader reads frames; what a broken connection cut off is never returned.
type frameReader struct {
	r *bufio.Reader
	// alive is called for every line, comments included.
	alive func()
	line  []byte
}

// next returns the next frame, comments skipped; data is valid until the next call.
func (f *frameReader) next(into *frame) error {
	*into = frame{data: into.data[:0]}
	for {
		line, err := f.readLine()
		if err != nil {
			return err
		}
		f.alive()
		if len(line) == 0 {
			if into.hasData || into.hasID || into.event != "" {
				return nil
			}
			continue
		}
		if into.field(line); len(into.data) > maxLine {
			return fmt.Errorf("an event of the stream is longer than %d bytes", maxLine)
		}
	}
}

func (fr *frame) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "id":
		fr.id, fr.hasID = string(value), true
	case "event":
		fr.event = string(value)
	case "data":
		if fr.hasData {
			fr.data = append(fr.data, '\n')
		}
		fr.data, fr.hasData = append(fr.data, value...), true
	}
}

// readLine returns a line without its end; an unfinished line is an error.
func (f *frameReader) readLine() ([]byte, error) {
	f.line = f.line[:0]
	for {
		part, err := f.r.ReadSlice('\n')
		f.line = append(f.line, part...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(f.line[:len(f.line)-1], []byte("\r")), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			if err == io.EOF {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, err
		case len(f.line) > maxLine:
			return nil, fmt.Errorf("a line of the event stream is longer than %d bytes", maxLine)
		}
	}
}
