// Package linear records what clients saw of a few keys and judges with
// porcupine whether one order of all operations explains it.
package linear

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

type kind int

const (
	get kind = iota
	put
	cas
	del
)

// input is one operation. Every written value is unique, so "cas on the
// modify_index of value v" means the same as "if the value is v".
type input struct {
	kind   kind
	key    string
	value  string // written by put and cas
	expect string // of cas; "" = absent
}

// output is what the client was told.
type output struct {
	value   string // of get; "" = absent
	ok      bool   // cas: it was applied; del: the key was there
	unknown bool   // the operation may happen at any time after its start, or never
}

// model is a register per key; its state is the value, "" when absent.
var model = porcupine.Model{
	Partition: partition,
	Init:      func() any { return "" },
	Step:      step,
	DescribeOperation: func(in, out any) string {
		i, o := in.(input), out.(output)
		return fmt.Sprintf("%s(%s,%s)=%s,%t,unknown=%t", [...]string{"get", "put", "cas", "delete"}[i.kind], i.expect, i.value, o.value, o.ok, o.unknown)
	},
}

func step(state, in, out any) (bool, any) {
	s, i, o := state.(string), in.(input), out.(output)
	switch i.kind {
	case get:
		return o.value == s, s
	case put:
		return true, i.value
	case cas:
		hit := s == i.expect
		if hit {
			s = i.value
		}
		return o.unknown || o.ok == hit, s
	default:
		return o.unknown || o.ok == (s != ""), ""
	}
}

func partition(history []porcupine.Operation) [][]porcupine.Operation {
	byKey := map[string][]porcupine.Operation{}
	for _, op := range history {
		key := op.Input.(input).key
		byKey[key] = append(byKey[key], op)
	}
	var parts [][]porcupine.Operation
	for _, ops := range byKey {
		parts = append(parts, ops)
	}
	return parts
}
