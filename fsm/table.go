package fsm

import (
	"fmt"

	"github.com/neogan74/konsul/fsm/command"
)

// handler applies one kind of entry. It sees the state before the entry through
// tx and writes through tx only. Its answer must follow from the two arguments
// alone: no clock, no randomness, no map order, no option of this node. An
// error means that the entry cannot be applied at all and ends the process; a
// condition that does not hold is an ordinary Result.
type handler func(tx *entryTx, payload []byte) (*command.Result, error)

// table says who applies what.
type table map[command.Type]handler

// newTable is the list of everything that can be in the log. A new record kind
// is a file of its own and a line here.
func newTable() table {
	t := make(table)
	t.register(command.Type_TYPE_TXN, applyTxn)
	t.register(command.Type_TYPE_CLUSTER_INIT, applyClusterInit)
	t.register(command.Type_TYPE_MEMBER_SET, applyMemberSet)
	t.register(command.Type_TYPE_MEMBER_REMOVE, applyMemberRemove)
	t.register(command.Type_TYPE_TICK, applyTick)
	t.register(command.Type_TYPE_SERVICE_SET, applyServiceSet)
	t.register(command.Type_TYPE_SERVICE_DELETE, applyServiceDelete)
	t.register(command.Type_TYPE_HEARTBEAT, applyHeartbeat)
	t.register(command.Type_TYPE_CHECK_SET, applyCheckSet)
	t.register(command.Type_TYPE_CHECK_DELETE, applyCheckDelete)
	t.register(command.Type_TYPE_CHECK_UPDATE, applyCheckUpdate)
	t.register(command.Type_TYPE_SESSION_CREATE, applySessionCreate)
	t.register(command.Type_TYPE_SESSION_RENEW, applySessionRenew)
	t.register(command.Type_TYPE_SESSION_DESTROY, applySessionDestroy)
	t.register(command.Type_TYPE_RESTORE, applyRestore)
	return t
}

// register panics if the type is taken: two meanings of one entry would be a
// programming error that no test of either alone can see.
func (t table) register(ct command.Type, h handler) {
	if _, taken := t[ct]; taken {
		panic(fmt.Sprintf("fsm: %v registered twice", ct))
	}
	t[ct] = h
}

// applyEntry decodes one entry and hands it to its handler.
func (t table) applyEntry(tx *entryTx, data []byte) (*command.Result, error) {
	entry, err := command.Decode(data)
	if err != nil {
		return nil, err
	}
	h, ok := t[entry.Type]
	if !ok {
		return nil, fmt.Errorf("%w: no handler for %v", command.ErrUndecodable, entry.Type)
	}
	if key := entry.Header.GetIdempotencyKey(); key != "" {
		return applyOnce(tx, key, entry, h)
	}
	return h(tx, entry.Payload)
}
