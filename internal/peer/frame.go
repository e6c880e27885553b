package peer

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A frame, after the handshake of a KindRPC connection (big endian):
//
//	+------------+----------+--------+-------------------------------+
//	| length (4) | type (1) | id (8) | rest, by type                 |
//	+------------+----------+--------+-------------------------------+
//	request:  | method (2) | time left in ms (4), 0 = no deadline | body |
//	response: | body |
//	failure:  | code (2) | text len (2) | text | detail |
//	cancel:   nothing: the caller no longer waits for this id
//	ping, pong: nothing: the other end is alive
//
// length counts what follows it. id is chosen by the dialler and repeated in the answer.
const (
	frameRequest  = 1
	frameResponse = 2
	frameFailure  = 3
	frameCancel   = 4
	framePing     = 5
	framePong     = 6

	lenSize     = 4
	frameHeader = 1 + 8
	requestHead = 2 + 4

	// MaxBody is the largest body of a request or an answer, in bytes.
	MaxBody  = 2 << 20
	maxFrame = frameHeader + requestHead + MaxBody
	// maxText bounds the text and the detail of an error.
	maxText = 1 << 16
)

// frame is a decoded frame; body aliases nothing else.
type frame struct {
	typ    byte
	id     uint64
	method uint16
	leftMS uint32
	body   []byte
	err    *Error
}

// readFrame reads one frame. It allocates at most maxFrame bytes whatever the
// input says. io.EOF means the stream ended between two frames.
func readFrame(r io.Reader) (frame, error) {
	var head [lenSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < frameHeader || n > maxFrame {
		return frame{}, fmt.Errorf("%w: length %d", ErrFrame, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return frame{}, noEOF(err)
	}
	return parseFrame(b)
}

func parseFrame(b []byte) (frame, error) {
	f := frame{typ: b[0], id: binary.BigEndian.Uint64(b[1:])}
	rest := b[frameHeader:]
	switch f.typ {
	case frameRequest:
		if len(rest) < requestHead {
			return frame{}, fmt.Errorf("%w: short request", ErrFrame)
		}
		f.method = binary.BigEndian.Uint16(rest)
		f.leftMS = binary.BigEndian.Uint32(rest[2:])
		f.body = rest[requestHead:]
	case frameResponse:
		f.body = rest
	case frameFailure:
		if len(rest) < 4 {
			return frame{}, fmt.Errorf("%w: short failure", ErrFrame)
		}
		n := int(binary.BigEndian.Uint16(rest[2:]))
		if len(rest) < 4+n {
			return frame{}, fmt.Errorf("%w: short text", ErrFrame)
		}
		f.err = &Error{Code: binary.BigEndian.Uint16(rest), Text: string(rest[4 : 4+n]), Detail: rest[4+n:]}
	case frameCancel, framePing, framePong:
	default:
		// A later version may add types; they carry nothing this one needs.
	}
	return f, nil
}

func appendHead(b []byte, typ byte, id uint64, rest int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(frameHeader+rest))
	b = append(b, typ)
	return binary.BigEndian.AppendUint64(b, id)
}

func appendRequest(b []byte, id uint64, method uint16, leftMS uint32, body []byte) []byte {
	b = appendHead(b, frameRequest, id, requestHead+len(body))
	b = binary.BigEndian.AppendUint16(b, method)
	b = binary.BigEndian.AppendUint32(b, leftMS)
	return append(b, body...)
}

func appendResponse(b []byte, id uint64, body []byte) []byte {
	return append(appendHead(b, frameResponse, id, len(body)), body...)
}

func appendFailure(b []byte, id uint64, e *Error) []byte {
	text, detail := e.Text, e.Detail
	if len(text) > maxText-1 {
		text = text[:maxText-1]
	}
	if len(detail) > maxText {
		detail = nil
	}
	b = appendHead(b, frameFailure, id, 4+len(text)+len(detail))
	b = binary.BigEndian.AppendUint16(b, e.Code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	b = append(b, text...)
	return append(b, detail...)
}

func appendEmpty(b []byte, typ byte, id uint64) []byte { return appendHead(b, typ, id, 0) }
