package raftstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// Raft-wal checks the last batch it wrote when it starts, and nothing else, ever. So
// each entry carries a checksum over all of it: four bytes at the end of its
// extensions, on the disk only. An entry that is read back is the one that was
// written, at its own index, or it is ErrDamaged.

const entrySumLen = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func entrySum(l *raft.Log, extensions []byte) uint32 {
	var head [32]byte
	binary.BigEndian.PutUint64(head[:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	binary.BigEndian.PutUint64(head[16:], uint64(len(l.Data)))
	head[24] = byte(l.Type)
	sum := crc32.Update(0, castagnoli, head[:])
	sum = crc32.Update(sum, castagnoli, l.Data)
	return crc32.Update(sum, castagnoli, extensions)
}

// withSums returns copies: raft, the cache and the followers go on with the originals.
func withSums(logs []*raft.Log) []*raft.Log {
	copies, out := make([]raft.Log, len(logs)), make([]*raft.Log, len(logs))
	for i, l := range logs {
		copies[i] = *l
		extensions := make([]byte, 0, len(l.Extensions)+entrySumLen)
		extensions = append(extensions, l.Extensions...)
		copies[i].Extensions = binary.BigEndian.AppendUint32(extensions, entrySum(l, l.Extensions))
		out[i] = &copies[i]
	}
	return out
}

// checkSum holds the entry read for index against its checksum, and takes that off.
func checkSum(l *raft.Log, index uint64) error {
	at := len(l.Extensions) - entrySumLen
	if at < 0 || binary.BigEndian.Uint32(l.Extensions[at:]) != entrySum(l, l.Extensions[:at]) {
		return fmt.Errorf("%w: log entry %d does not match its checksum", ErrDamaged, index)
	}
	if l.Index != index {
		return fmt.Errorf("%w: in the place of log entry %d stands %d", ErrDamaged, index, l.Index)
	}
	if l.Extensions = l.Extensions[:at:at]; at == 0 {
		l.Extensions = nil
	}
	return nil
}
