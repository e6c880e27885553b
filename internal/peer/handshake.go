package peer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// The handshake, once for each connection:
//
//	dialler -> listener
//	+--------+-------------+----------+----------------+------------+-------------+---------+
//	| "KNSL" | version (1) | kind (1) | cluster len (1)| cluster id | node len (1)| node id |
//	+--------+-------------+----------+----------------+------------+-------------+---------+
//	listener -> dialler
//	+--------+-------------+------------+-------------+---------+-------------+------+
//	| "KNSL" | version (1) | status (1) | node len (1)| node id | text len (1)| text |
//	+--------+-------------+------------+-------------+---------+-------------+------+
//
// A listener answers with its own version, so that a dialler of a later version can say what is wrong.
const (
	magic   = "KNSL"
	version = 1

	// handshakeTimeout bounds how long a silent dialler holds a connection.
	handshakeTimeout = 5 * time.Second
	maxIDLen         = 255
)

// Kind says what a connection carries.
type Kind byte

const (
	// KindRaft carries hashicorp/raft's own messages.
	KindRaft Kind = 1
	// KindRPC carries this package's frames.
	KindRPC Kind = 2
)

const (
	statusOK           = 0
	statusWrongCluster = 1
	statusNoCluster    = 2
	statusRefused      = 3
)

// Identity is who this node is. The cluster id may be empty until the node has joined.
type Identity interface {
	NodeID() string
	ClusterID() string
}

// hello is what a dialler says of itself.
type hello struct {
	kind      Kind
	clusterID string
	nodeID    string
}

// greet runs the dialler's side and returns the listener's node id.
func greet(conn net.Conn, h hello, deadline time.Time) (string, error) {
	if err := conn.SetDeadline(deadline); err != nil {
		return "", fmt.Errorf("setting handshake deadline: %w", err)
	}
	msg := append([]byte(magic), version, byte(h.kind))
	msg = appendShort(msg, h.clusterID)
	msg = appendShort(msg, h.nodeID)
	if _, err := conn.Write(msg); err != nil {
		return "", fmt.Errorf("sending handshake: %w", err)
	}
	status, err := readPreamble(conn)
	if err != nil {
		return "", err
	}
	nodeID, err := readShort(conn)
	if err != nil {
		return "", err
	}
	text, err := readShort(conn)
	if err != nil {
		return "", err
	}
	if err := statusError(status, text); err != nil {
		return "", err
	}
	return nodeID, conn.SetDeadline(time.Time{})
}

// receive reads a dialler's hello and answers it. Nothing of a refused
// connection reaches a user of this package.
func receive(conn net.Conn, self Identity) (hello, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return hello{}, fmt.Errorf("setting handshake deadline: %w", err)
	}
	kind, err := readPreamble(conn)
	if err != nil {
		return hello{}, err
	}
	h := hello{kind: Kind(kind)}
	if h.clusterID, err = readShort(conn); err != nil {
		return hello{}, err
	}
	if h.nodeID, err = readShort(conn); err != nil {
		return hello{}, err
	}
	status, text := judge(h, self)
	msg := append([]byte(magic), version, status)
	msg = appendShort(msg, self.NodeID())
	msg = appendShort(msg, text)
	if _, err := conn.Write(msg); err != nil {
		return hello{}, fmt.Errorf("answering handshake: %w", err)
	}
	if err := statusError(status, text); err != nil {
		return hello{}, fmt.Errorf("refusing node %q: %w", h.nodeID, err)
	}
	return h, conn.SetDeadline(time.Time{})
}

// judge decides whether a dialler may talk to this node: both must belong to
// the same cluster, under different ids. It keeps a stray node from disturbing elections.
func judge(h hello, self Identity) (status byte, text string) {
	switch own := self.ClusterID(); {
	case h.kind != KindRaft && h.kind != KindRPC:
		return statusRefused, fmt.Sprintf("unknown kind of connection %d", h.kind)
	case h.nodeID == "":
		return statusRefused, "node id is empty"
	case h.nodeID == self.NodeID():
		// Itself, at an address that was another member's, or another process under its
		// id: a candidate must not get its own vote twice.
		return statusRefused, "the caller has the id of this node"
	case own == "" || h.clusterID == "":
		return statusNoCluster, ""
	case own != h.clusterID:
		return statusWrongCluster, fmt.Sprintf("this node is in cluster %s, the caller in %s", own, h.clusterID)
	}
	return statusOK, ""
}

func statusError(status byte, text string) error {
	var err error
	switch status {
	case statusOK:
		return nil
	case statusWrongCluster:
		err = ErrWrongCluster
	case statusNoCluster:
		err = ErrNoCluster
	default:
		err = ErrHandshake
	}
	if text == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, text)
}

// readPreamble reads magic and version and returns the byte after them.
func readPreamble(r io.Reader) (byte, error) {
	var b [len(magic) + 2]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("reading handshake: %w", noEOF(err))
	}
	if !bytes.Equal(b[:len(magic)], []byte(magic)) {
		return 0, fmt.Errorf("%w: not a Konsul node", ErrHandshake)
	}
	if v := b[len(magic)]; v != version {
		return 0, fmt.Errorf("%w: the other node speaks version %d, this one %d", ErrHandshake, v, version)
	}
	return b[len(magic)+1], nil
}

func readShort(r io.Reader) (string, error) {
	var n [1]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return "", fmt.Errorf("reading handshake: %w", noEOF(err))
	}
	b := make([]byte, n[0])
	if _, err := io.ReadFull(r, b); err != nil {
		return "", fmt.Errorf("reading handshake: %w", noEOF(err))
	}
	return string(b), nil
}

// appendShort appends s with one byte of length, cut to what that can say.
func appendShort(b []byte, s string) []byte {
	if len(s) > maxIDLen {
		s = s[:maxIDLen]
	}
	return append(append(b, byte(len(s))), s...)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
