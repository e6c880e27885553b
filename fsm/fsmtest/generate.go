package fsmtest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/fsm/command"
)

// Generator makes random commands over few keys, so that they meet.
type Generator struct {
	Rand *rand.Rand
	// Keys is how many keys there are.
	Keys int
	sent []Command // those with an idempotency key
	// now is cluster time; a new leader may begin a little before it.
	now int64
}

// NewGenerator makes the same commands for the same seed.
func NewGenerator(seed uint64, keys int) *Generator {
	return &Generator{Rand: rand.New(rand.NewPCG(seed, 1)), Keys: keys}
}

// Next makes a command. model tells it which conditions would hold, so that
// many do. Nearly all are stamped.
func (g *Generator) Next(model *Model) Command {
	c := g.next(model)
	g.now += g.Rand.Int64N(int64(500 * time.Millisecond))
	switch p := g.Rand.IntN(200); {
	case p < 10: // by a leader that is not ready yet
		c.Stamp = 0
	case p < 14: // time that no entry in between has used is lost with a leader
		g.now = max(g.now-int64(time.Second), 1)
		c.Stamp = g.now
	case p < 16: // and a long time without one, or with little to do
		g.now += g.Rand.Int64N(int64(2 * time.Hour))
		c.Stamp = g.now
	default:
		c.Stamp = g.now
	}
	return c
}

func (g *Generator) next(model *Model) Command {
	r := g.Rand
	switch p := r.IntN(100); {
	case p < 1:
		return Command{Type: command.Type_TYPE_CLUSTER_INIT, Message: &command.ClusterInit{ClusterId: fmt.Sprintf("c%d", r.IntN(2))}}
	case p < 3:
		return Command{Type: command.Type_TYPE_MEMBER_SET, Message: &command.MemberSet{
			Id: g.node(), RaftAddress: fmt.Sprintf("10.0.0.%d:1", r.IntN(9)), ApiAddress: "x:2", WantVoter: r.IntN(2) == 0, Incarnation: fmt.Sprint("i", r.IntN(3))}}
	case p < 4:
		return Command{Type: command.Type_TYPE_MEMBER_REMOVE, Message: &command.MemberRemove{Id: g.node()}}
	case p < 8 && len(g.sent) > 0: // a retry, or a key used again for something else
		again := g.sent[r.IntN(len(g.sent))]
		if r.IntN(4) == 0 {
			again.Message = g.txn(model)
			again.Type = command.Type_TYPE_TXN
		}
		return again
	}
	c := Command{Type: command.Type_TYPE_TXN, Message: g.txn(model)}
	if r.IntN(2) == 0 {
		c = g.registry(model)
	}
	if r.IntN(8) == 0 {
		c.Key = fmt.Sprintf("idem-%d", r.Uint64())
		g.sent = append(g.sent, c)
	}
	return c
}

func (g *Generator) node() string { return fmt.Sprintf("n%d", g.Rand.IntN(4)) }

// Key makes a key; some are a prefix of others, some are odd.
func (g *Generator) Key() string {
	n := g.Rand.IntN(g.Keys)
	switch n % 5 {
	case 0:
		return fmt.Sprintf("a/%d", n)
	case 1:
		return fmt.Sprintf("a/%d/b", n-1)
	case 2:
		return fmt.Sprintf("b\x00%d", n)
	default:
		return fmt.Sprintf("c%d", n)
	}
}

func (g *Generator) txn(model *Model) *command.Txn {
	r := g.Rand
	txn := &command.Txn{}
	if r.IntN(4) == 0 {
		for range 1 + r.IntN(2) {
			txn.Compare = append(txn.Compare, g.compare(model))
		}
		txn.Else = g.ops(model, r.IntN(3))
	}
	n := 1
	if r.IntN(3) == 0 {
		n = r.IntN(8)
	}
	txn.Then = g.ops(model, n)
	return txn
}

func (g *Generator) ops(model *Model, n int) []*command.Op {
	var ops []*command.Op
	for range n {
		ops = append(ops, g.op(model))
	}
	return ops
}

func (g *Generator) op(model *Model) *command.Op {
	r, key := g.Rand, g.Key()
	switch p := r.IntN(100); {
	case p < 40:
		op := Set(key, fmt.Sprintf("%x", r.Uint64()))
		op.Flags = uint64(r.IntN(3))
		op.Ttl = g.ttl(2)
		return g.cas(model, op)
	case p < 52:
		op := Set(g.lockKey(model), fmt.Sprintf("%x", r.Uint64()))
		op.Kind, op.Session, op.Ttl = command.Op_ACQUIRE, g.session(model), g.ttl(4)
		return g.cas(model, op)
	case p < 60:
		op := &command.Op{Kind: command.Op_RELEASE, Key: []byte(key), Session: g.session(model)}
		if held := model.Keys()[key].Session; held != "" && r.IntN(3) > 0 {
			op.Session = held
		}
		if r.IntN(2) == 0 {
			op.HasValue, op.Value = true, []byte("released")
		}
		return g.cas(model, op)
	case p < 70:
		return Get(key)
	case p < 95:
		return g.cas(model, Delete(key))
	default:
		return DeletePrefix(key[:r.IntN(len(key)+1)])
	}
}

// cas adds a condition now and then; mostly one that holds.
func (g *Generator) cas(model *Model, op *command.Op) *command.Op {
	switch p := g.Rand.IntN(10); {
	case p < 2:
		op.Cas = proto.Uint64(model.Keys()[string(op.Key)].Modify)
	case p < 3:
		op.Cas = proto.Uint64(uint64(g.Rand.IntN(int(model.Index) + 1)))
	}
	return op
}

func (g *Generator) compare(model *Model) *command.Compare {
	r, key := g.Rand, g.Key()
	have := model.Keys()[key]
	c := &command.Compare{
		Key:      []byte(key),
		Target:   command.Compare_Target(1 + r.IntN(4)),
		Operator: command.Compare_Operator(1 + r.IntN(4)),
		Value:    []byte(have.Value),
		Number:   have.Modify,
		Exists:   r.IntN(2) == 0,
	}
	if r.IntN(2) == 0 {
		c.Number, c.Value = have.Create, []byte("8")
	}
	if c.Target == command.Compare_EXISTS {
		c.Operator = command.Compare_Operator(1 + r.IntN(2))
	}
	return c
}
