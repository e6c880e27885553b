package command

import (
	"encoding/binary"
	"fmt"
)

// The leader stamps each entry with cluster time, in raft.Log.Extensions, which is
// stored and sent with the entry:
//
//	+-------------+-----------------------+
//	| version (1) | nanoseconds, BE (8)   |
//	+-------------+-----------------------+
const (
	stampVersion = 1
	stampLen     = 9
)

// EncodeStamp makes the extensions of an entry stamped with a cluster time, in
// nanoseconds since the cluster began.
func EncodeStamp(ns int64) []byte {
	b := append(make([]byte, 0, stampLen), stampVersion)
	return binary.BigEndian.AppendUint64(b, uint64(ns))
}

// DecodeStamp is the inverse of EncodeStamp. No extensions are no stamp: 0. What
// this version does not know is ErrUndecodable: a replica that passed over it
// would have another time than the others.
func DecodeStamp(extensions []byte) (int64, error) {
	if len(extensions) == 0 {
		return 0, nil
	}
	if len(extensions) != stampLen || extensions[0] != stampVersion {
		return 0, fmt.Errorf("%w: stamp of %d bytes, version %d", ErrUndecodable, len(extensions), extensions[0])
	}
	ns := int64(binary.BigEndian.Uint64(extensions[1:]))
	if ns < 0 {
		return 0, fmt.Errorf("%w: stamp before the cluster began", ErrUndecodable)
	}
	return ns, nil
}
