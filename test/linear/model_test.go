package linear

import (
	"math"
	"testing"

	"github.com/anishathalye/porcupine"
)

// The judge must acquit and convict: small histories with a known verdict.
func TestVerdicts(t *testing.T) {
	op := func(in input, from, to int64, out output) porcupine.Operation {
		in.key = "k"
		return porcupine.Operation{Input: in, Call: from, Output: out, Return: to}
	}
	wrote := op(input{kind: put, value: "a"}, 1, 2, output{ok: true})
	never := int64(math.MaxInt64)
	for name, c := range map[string]struct {
		ops  []porcupine.Operation
		want bool
	}{
		"a read after a write sees it": {[]porcupine.Operation{wrote, op(input{}, 3, 4, output{value: "a"})}, true},
		"a stale read":                 {[]porcupine.Operation{wrote, op(input{}, 3, 4, output{})}, false},
		"an unknown write may happen": {[]porcupine.Operation{
			op(input{kind: put, value: "a"}, 1, never, output{unknown: true}), op(input{}, 3, 4, output{value: "a"})}, true},
		"an unknown write may not happen": {[]porcupine.Operation{
			op(input{kind: put, value: "a"}, 1, never, output{unknown: true}), op(input{}, 3, 4, output{})}, true},
		"an unknown write may not happen twice": {[]porcupine.Operation{
			op(input{kind: put, value: "a"}, 1, never, output{unknown: true}), op(input{}, 3, 4, output{value: "a"}),
			op(input{kind: put, value: "b"}, 5, 6, output{ok: true}), op(input{}, 7, 8, output{value: "a"})}, false},
		"a value nobody wrote":            {[]porcupine.Operation{op(input{}, 3, 4, output{value: "z"})}, false},
		"two winners of one cas":          {[]porcupine.Operation{op(input{kind: cas, value: "a"}, 1, 5, output{ok: true}), op(input{kind: cas, value: "b"}, 1, 5, output{ok: true})}, false},
		"a cas that lost without a cause": {[]porcupine.Operation{wrote, op(input{kind: cas, value: "b", expect: "a"}, 3, 4, output{})}, false},
		"a delete of an absent key":       {[]porcupine.Operation{op(input{kind: del}, 3, 4, output{ok: true})}, false},
	} {
		if got := porcupine.CheckOperations(model, c.ops); got != c.want {
			t.Errorf("%s: linearizable = %v, want %v", name, got, c.want)
		}
	}
}
