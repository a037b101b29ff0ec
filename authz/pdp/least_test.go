package pdp

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
)

// full is what least has to be: all sets of facts are tried, small ones first.
func full(lines []*line, labels label.Set) []authz.Fact {
	var out []authz.Fact
	for n := range 12 {
		for f := authz.Fact(0); f <= allFacts; f++ {
			count := 0
			for _, x := range authz.Facts() {
				if f&x.Bit != 0 {
					count++
				}
			}
			if count != n || slices.ContainsFunc(out, f.Has) {
				continue
			}
			allowed, denied := false, false
			for _, l := range lines {
				if l.labelled(labels) && l.applies(f) {
					allowed = allowed || l.allow
					denied = denied || !l.allow
				}
			}
			if allowed && !denied {
				out = append(out, f)
			}
		}
	}
	return out
}

// The sets that lines can make are the minimal ones among all sets of facts.
func TestLeastIsTheFullEnumeration(t *testing.T) {
	permitted := 0
	rapid.Check(t, func(t *rapid.T) {
		var lines []*line
		for range rapid.IntRange(1, 6).Draw(t, "lines") {
			l := &line{allow: rapid.Bool().Draw(t, "allow"), labels: labelTerm{any: true, set: label.All}}
			for _, x := range authz.Facts() {
				switch {
				case rapid.IntRange(0, 3).Draw(t, x.Name) > 0:
				case l.allow:
					l.facts.need |= x.Bit
				default:
					l.facts.unless = append(l.facts.unless, x.Bit)
				}
			}
			lines = append(lines, l)
		}
		got, want := least(lines, label.PSY), full(lines, label.PSY)
		if !slices.Equal(got, want) {
			t.Fatalf("got %s, want %s", Needs(got), Needs(want))
		}
		permitted += len(want)
	})
	if permitted == 0 {
		t.Error("nothing was permitted")
	}
}
