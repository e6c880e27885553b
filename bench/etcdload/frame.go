package etcdload

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// Frame types and flags of RFC 9113, section 6.
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameGoAway       = 7
	frameWindow       = 8
	frameContinuation = 9

	flagEndStream  = 1
	flagAck        = 1
	flagEndHeaders = 4
	flagPadded     = 8
	flagPriority   = 32

	settingInitialWindow = 4
	defaultWindow        = 65535
	largeWindow          = 1 << 30
	preface              = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// frame is one received frame; its payload is valid until the next is read.
type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

// appendFrameHead appends the nine bytes
//
//	length, 3 | type, 1 | flags, 1 | stream, 4
func appendFrameHead(b []byte, length int, kind, flags byte, stream uint32) []byte {
	return append(b, byte(length>>16), byte(length>>8), byte(length), kind, flags,
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

func appendWindow(b []byte, stream, increment uint32) []byte {
	b = appendFrameHead(b, 4, frameWindow, 0, stream)
	return binary.BigEndian.AppendUint32(b, increment)
}

// maxFrame is the largest frame a server may send to a client that did not ask for more.
const maxFrame = 16384

// readFrame reads one frame, whose payload stays in the reader's buffer if it fits.
func readFrame(r *bufio.Reader, f *frame) error {
	head, err := r.Peek(9)
	if err != nil {
		return err
	}
	length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	f.kind, f.flags = head[3], head[4]
	f.stream = binary.BigEndian.Uint32(head[5:]) & (1<<31 - 1)
	if length > maxFrame {
		return fmt.Errorf("a frame of %d bytes", length)
	}
	whole, err := r.Peek(9 + length)
	if err != nil {
		return io.ErrUnexpectedEOF
	}
	f.payload = whole[9:]
	_, err = r.Discard(9 + length)
	return err
}

// strip takes padding and priority off a payload.
func (f *frame) strip() ([]byte, error) {
	p, pad := f.payload, 0
	if f.flags&flagPadded != 0 {
		if len(p) < 1 {
			return nil, io.ErrUnexpectedEOF
		}
		pad, p = int(p[0]), p[1:]
	}
	if f.kind == frameHeaders && f.flags&flagPriority != 0 {
		if len(p) < 5 {
			return nil, io.ErrUnexpectedEOF
		}
		p = p[5:]
	}
	if pad > len(p) {
		return nil, io.ErrUnexpectedEOF
	}
	return p[:len(p)-pad], nil
}
