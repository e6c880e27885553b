package locks

import (
	"testing"
	"time"
)

// The judge finds what it is there to find.
func TestOverlaps(t *testing.T) {
	h := func(key string, token uint64, start, end int) hold {
		return hold{key: key, token: token, start: time.Duration(start), end: time.Duration(end)}
	}
	for name, c := range map[string]struct {
		holds []hold
		want  int
	}{
		"one after the other":      {[]hold{h("a", 1, 0, 5), h("a", 2, 5, 9)}, 0},
		"booked in another order":  {[]hold{h("a", 2, 5, 9), h("a", 1, 0, 5)}, 0},
		"other locks":              {[]hold{h("a", 1, 0, 5), h("b", 2, 0, 5)}, 0},
		"two at once":              {[]hold{h("a", 1, 0, 5), h("a", 2, 4, 9)}, 1},
		"the later token is older": {[]hold{h("a", 2, 0, 5), h("a", 1, 6, 9)}, 1},
		"the same token twice":     {[]hold{h("a", 1, 0, 5), h("a", 1, 6, 9)}, 1},
		"one within the other":     {[]hold{h("a", 1, 0, 9), h("a", 2, 3, 4)}, 1},
	} {
		if got := overlaps(c.holds); len(got) != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A token that comes second is found only while its holder counts on it.
func TestUse(t *testing.T) {
	j := newJudge()
	old, next := &hold{key: "a", token: 1}, &hold{key: "a", token: 2}
	j.use(old, time.Hour)
	j.use(next, time.Hour)
	j.use(old, 0)
	if len(j.faults) != 0 {
		t.Fatalf("%q", j.faults)
	}
	j.use(old, time.Hour)
	if len(j.faults) != 1 {
		t.Fatalf("%q", j.faults)
	}
}
