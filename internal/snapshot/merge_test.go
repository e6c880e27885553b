package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestMergeIsTheState lives random lives, backs them up in pieces and compares the
// merged pieces with the state at the end.
func TestMergeIsTheState(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		state, touched := map[string]Record{}, map[string]Record{}
		var files [][]byte
		version, since := uint64(0), uint64(0)
		for range 1 + rnd.IntN(5) {
			for range rnd.IntN(60) {
				version++
				key := fmt.Sprintf("key-%02d", rnd.IntN(40))
				r := Record{Key: []byte(key), Version: version, Value: fmt.Appendf(nil, "v%d", version)}
				if rnd.IntN(3) == 0 {
					r.Deleted, r.Value = true, nil
					delete(state, key)
				} else {
					state[key] = r
				}
				touched[key] = r
			}
			version++ // an index without effect
			from := touched
			if since == 0 {
				from = state
			}
			var records []Record
			for _, key := range slices.Sorted(maps.Keys(from)) {
				records = append(records, from[key])
			}
			file, _ := encode(t, Header{ClusterID: "c", Index: version, Since: since}, records)
			files = append(files, file)
			since, touched = version, map[string]Record{}
		}
		var sources []Source
		for _, f := range files {
			r, err := NewReader(bytes.NewReader(f))
			if err != nil {
				t.Fatal(err)
			}
			sources = append(sources, r)
		}
		var merged bytes.Buffer
		if _, err := Copy(&merged, NewMerge(sources)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		h, got, _, err := decode(&merged)
		var want []Record
		for _, key := range slices.Sorted(maps.Keys(state)) {
			want = append(want, state[key])
		}
		if err != nil || h.Index != version || h.Since != 0 || !equalRecords(got, want) {
			t.Fatalf("seed %d: %v, header %+v, %d records, want %d", seed, err, h, len(got), len(want))
		}
	}
}

func TestMergePassesErrorsOn(t *testing.T) {
	full, _ := encode(t, Header{Index: 1000}, randomRecords(1, 50, 100))
	inc, _ := encode(t, Header{Index: 1001, Since: 1000}, []Record{{Key: []byte{0}, Version: 1001}})
	inc[len(inc)-1] ^= 1
	var sources []Source
	for _, f := range [][]byte{full, inc} {
		r, err := NewReader(bytes.NewReader(f))
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, r)
	}
	if _, err := Copy(io.Discard, NewMerge(sources)); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a damaged increment: %v", err)
	}
}

func TestCheckChain(t *testing.T) {
	full := Header{ClusterID: "a", Index: 10}
	for name, c := range map[string]struct {
		headers []Header
		want    string // "" = fits
	}{
		"none":              {nil, "there is none"},
		"a full one":        {[]Header{full}, ""},
		"with increments":   {[]Header{full, {ClusterID: "a", Since: 10, Index: 10}, {ClusterID: "a", Since: 10, Index: 12}}, ""},
		"without the first": {[]Header{{ClusterID: "a", Since: 10, Index: 12}}, "f0 is an increment since index 10"},
		"with a gap":        {[]Header{full, {ClusterID: "a", Since: 11, Index: 12}}, "f1 begins after index 11, but f0 ends at 10"},
		"of two clusters":   {[]Header{full, {ClusterID: "b", Since: 10, Index: 12}}, `f1 is of cluster "b"`},
		"two full ones":     {[]Header{full, {ClusterID: "a", Index: 12}}, "f1 is a full backup"},
	} {
		names := []string{"f0", "f1", "f2"}[:len(c.headers)]
		err := CheckChain(c.headers, names)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (!errors.Is(err, ErrChain) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestVerify(t *testing.T) {
	file, footer := encode(t, testHeader, randomRecords(7, 100, 100))
	h, f, err := Verify(bytes.NewReader(file))
	if err != nil || h != testHeader || f != footer {
		t.Fatalf("%+v %+v %v", h, f, err)
	}
	if _, _, err := Verify(bytes.NewReader(file[:len(file)-1])); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}
