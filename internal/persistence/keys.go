package persistence

import (
	"bytes"
	"encoding/binary"
)

// Every key the engine stores begins with one of these. This file is the only
// place that knows stored keys.
//
//	kv:<key>                       a user's key       record.KV
//	svc:<name>/<id>                an instance of a service record.Service
//	chk:<node>/<id>                a check of a node  record.Check
//	ses:<id>                       a session          record.Session
//	sys:cluster                    the cluster        record.Cluster
//	sys:member:<node id>           a member           record.Member
//	sys:idem:<idempotency key>     a remembered answer record.Idempotency
//	sys:idem-queue:<index, 8 B BE> which is forgotten next: the idempotency key
//	sys:idem-window                bounds of that queue record.IdempotencyWindow
//	sys:time                       the cluster's time record.Time
//	sys:lease:<subject>            until when a subject lives record.Lease
//	sys:due:<deadline, 8 B BE><subject> the index of deadlines: nothing
//	sys:gone:<name>/<id>           an instance that expired record.Lease
//	sys:delay:<key>                the lock delay of a user's key record.Lease
//	sys:held:<session>/<key>       a user's key that a session holds: nothing
//	sys:restore                    a restore under way record.Restore
//	sys:restore-chunk:<seq, 8 B BE> a piece of its backup
//	sys:reset                      the last restore   record.Reset
//
// A subject is the stored key of what has a deadline: kv:, svc:, chk:, ses:,
// sys:gone: or sys:delay:. The TTL check of an instance has none of its own: its
// subject is svc:<name>/<id>/<check>. Names, ids and nodes have no slash in them.
//
// Everything here is replicated: nothing local to a node may be stored in the
// engine, or the digests of replicas would differ.
const (
	KVPrefix      = "kv:"
	ServicePrefix = "svc:"
	CheckPrefix   = "chk:"
	SessionPrefix = "ses:"
	SysPrefix     = "sys:"

	clusterKey        = SysPrefix + "cluster"
	memberPrefix      = SysPrefix + "member:"
	idempotencyPrefix = SysPrefix + "idem:"
	idemQueuePrefix   = SysPrefix + "idem-queue:"
	idemWindowKey     = SysPrefix + "idem-window"
	timeKey           = SysPrefix + "time"
	leasePrefix       = SysPrefix + "lease:"
	duePrefix         = SysPrefix + "due:"
	gonePrefix        = SysPrefix + "gone:"
	delayPrefix       = SysPrefix + "delay:"
	heldPrefix        = SysPrefix + "held:"
)

// badgersPrefix begins keys that are Badger's own.
const badgersPrefix = "!badger!"

func join(prefix string, rest []byte) []byte {
	b := make([]byte, 0, len(prefix)+len(rest))
	return append(append(b, prefix...), rest...)
}

// KVKey is the stored key of a user's key; of a prefix of keys, the stored prefix.
func KVKey(key []byte) []byte { return join(KVPrefix, key) }

// UserKey is the inverse of KVKey; false if stored is not a user's key. The
// result shares memory with stored.
func UserKey(stored []byte) ([]byte, bool) { return bytes.CutPrefix(stored, []byte(KVPrefix)) }

// ClusterKey is the stored key of the cluster's record.
func ClusterKey() []byte { return []byte(clusterKey) }

// MemberPrefix is the prefix of all members' keys.
func MemberPrefix() []byte { return []byte(memberPrefix) }

// MemberKey is the stored key of a member.
func MemberKey(id string) []byte { return join(memberPrefix, []byte(id)) }

// IdempotencyKey is the stored key of the remembered answer for k.
func IdempotencyKey(k string) []byte { return join(idempotencyPrefix, []byte(k)) }

// IdempotencyQueueKey is the place in the queue of the answer given at index.
func IdempotencyQueueKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(idemQueuePrefix), index)
}

// IdempotencyWindowKey is the stored key of the queue's bounds.
func IdempotencyWindowKey() []byte { return []byte(idemWindowKey) }
