package peer

import (
	"errors"
	"fmt"
)

var (
	// ErrNotSent means the request never reached the socket: it was certainly
	// not carried out and may be repeated.
	ErrNotSent = errors.New("request not sent")
	// ErrInterrupted means the connection or the context ended after the
	// request may have been sent: whether it was carried out is unknown.
	ErrInterrupted = errors.New("no answer to a request that may have been sent")
	// ErrWrongCluster means the two nodes have different cluster ids.
	ErrWrongCluster = errors.New("node belongs to another cluster")
	// ErrNoCluster means one of the two nodes belongs to no cluster yet.
	ErrNoCluster = errors.New("node has not joined a cluster")
	// ErrHandshake means what answered does not speak this protocol.
	ErrHandshake = errors.New("handshake failed")
	// ErrFrame means a frame breaks the format or its limits.
	ErrFrame = errors.New("malformed frame")
	// ErrTooLarge means a request or an answer is larger than MaxBody.
	ErrTooLarge = errors.New("message too large")
	// ErrClosed means this end was closed.
	ErrClosed = errors.New("peer connection closed")
)

// Codes of this package. Users of the package choose their own from CodeUser on.
const (
	// CodeInternal is an error without a code of its own.
	CodeInternal uint16 = 1
	// CodeUnknownMethod: the other node has no such method (an older version).
	CodeUnknownMethod uint16 = 2
	// CodeTooLarge: the answer did not fit into a frame.
	CodeTooLarge uint16 = 3
	// CodeBusy: the other node has too many requests of this connection in hand. Not carried out.
	CodeBusy uint16 = 4
	// CodeUser is the first code that users of this package may give a meaning.
	CodeUser uint16 = 100
)

// Error is an error that crosses the wire. A handler returns one to choose the
// code; Client.Call returns one if, and only if, the other node answered with it.
type Error struct {
	Code uint16
	Text string
	// Detail is for the code's owner, at most 64 KiB.
	Detail []byte
}

func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("remote error %d", e.Code)
	}
	return e.Text
}
