package raftstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// Raft-wal takes the first thing that it cannot read in its last segment for a torn
// write, and forgets all that follows. At most one batch can be torn: the next one is
// written when it is on disk. So if another batch begins behind the one that cannot
// be read, the file is damaged, and entries that this node acknowledged are lost.

// The frames of a segment, as raft-wal writes them, each padded to 8 bytes:
//
//	type (1) | 0 (3) | length, or the batch's checksum (4, LE) | payload
const (
	walFrameLen   = 8
	walHeaderLen  = 32
	walEntryFrame = 1
	walIndexFrame = 2
	walEndOfBatch = 3
)

// checkTail looks for a batch behind what can be read of the segment at path. last is
// the last entry that raft-wal found.
func checkTail(path string, last uint64) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	end := readableEnd(b)
	var l raft.Log
	codec := wal.BinaryCodec{}
	for at := end + walFrameLen; at+2*walFrameLen <= len(b); at += walFrameLen {
		if b[at-walFrameLen] != walEndOfBatch || b[at] != walEntryFrame {
			continue
		}
		payload := framePayload(b, at)
		if payload == nil || decodeEntry(codec, payload, &l) != nil {
			continue
		}
		if checkSum(&l, l.Index) == nil && l.Index > last {
			return fmt.Errorf("%w: %s cannot be read at byte %d, but entry %d follows at byte %d", ErrDamaged, path, end, l.Index, at)
		}
	}
	return nil
}

// readableEnd is where the last batch ends that raft-wal can count on.
func readableEnd(b []byte) int {
	at, end, start := walHeaderLen, 0, 0
	for at+walFrameLen <= len(b) {
		size := int(binary.LittleEndian.Uint32(b[at+4:]))
		switch b[at] {
		case walEntryFrame, walIndexFrame:
			at += walFrameLen + (size+walFrameLen-1)/walFrameLen*walFrameLen
		case walEndOfBatch:
			if crc32.Checksum(b[start:at], castagnoli) != uint32(size) {
				return end
			}
			at += walFrameLen
			end, start = at, at
		default:
			return end
		}
	}
	return end
}

func framePayload(b []byte, at int) []byte {
	size := int64(binary.LittleEndian.Uint32(b[at+4:]))
	from := int64(at + walFrameLen)
	if size == 0 || from+size > int64(len(b)) {
		return nil
	}
	return b[from : from+size]
}

// decodeEntry turns the codec's panics into errors.
func decodeEntry(codec wal.BinaryCodec, b []byte, l *raft.Log) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("unreadable: %v", p)
		}
	}()
	*l = raft.Log{}
	return codec.Decode(b, l)
}

// lastSegment is the path of the segment that is being written.
func lastSegment(dir string) (string, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(found) == 0 {
		return "", err
	}
	return found[len(found)-1], nil // their names sort as they were made
}
