package terminology

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/definition"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/internal/shareddata"
)

// published loads the R4 definitions and, where they are there, the packages of US Core.
func published(t *testing.T) *definition.Set {
	t.Helper()
	core, err := definition.ReadDir(shareddata.Open(t, shareddata.Definitions), definition.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	packages := []*definition.Package{core}
	for _, name := range shareddata.Packages {
		body, ok := shareddata.File(t, name)
		if !ok {
			continue
		}
		p, err := definition.Read(bytes.NewReader(body), definition.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	return definition.NewSet(packages...)
}

// flawed are published value sets that cannot be what they should, and why.
var flawed = map[string]string{
	"http://hl7.org/fhir/ValueSet/example-filter|4.0.1":       "filters by the code of CodeSystem.filter, which no concept has as a property",
	"http://hl7.org/fhir/ValueSet/example-hierarchical|4.0.1": "its expansion was made from another list of codes than it has",
	"http://hl7.org/fhir/ValueSet/inactive|4.0.1":             "its expansion is of a code system before codes were added below CRT",
}

// Every published value set expands, or says which content is not installed;
// and every code of an expansion is a member of its value set.
func TestPublishedValueSetsExpand(t *testing.T) {
	set := published(t)
	s := New(set, Options{})
	names, err := set.Canonicals(ctx, "ValueSet")
	if err != nil {
		t.Fatal(err)
	}
	start, expanded, total, asked, slowest, which := time.Now(), 0, 0, 0, time.Duration(0), ""
	reasons := map[string]int{}
	for _, name := range names {
		began := time.Now()
		n, err := s.Expand(ctx, Expand{ValueSet: name, Count: -1})
		if took := time.Since(began); took > slowest {
			slowest, which = took, name
		}
		if err != nil {
			if why := flawed[name]; why != "" {
				t.Logf("%s: %v (%s)", name, err, why)
			} else if category(err) != "not-found" {
				t.Errorf("%s: %v", name, err)
			}
			reasons[err.Error()]++
			continue
		}
		expanded++
		contains := n.Get("expansion").Get("contains").List()
		total += len(contains)
		for i, c := range contains {
			if i%7 > 0 && len(contains) > 50 {
				continue
			}
			asked++
			if in, known, err := s.Member(ctx, name, c.Get("system").String(), c.Get("code").String()); err != nil || !in || !known {
				t.Errorf("%s: %s is in the expansion, and as a member %t %t %v", name, c.Get("code").String(), in, known, err)
			}
		}
	}
	t.Logf("%d of %d value sets expand to %d codes in %v, with %d questions of membership (slowest %s: %v); %d bytes are kept",
		expanded, len(names), total, time.Since(start), asked, which, slowest, s.cache.Bytes())
	for r, n := range reasons {
		if n > 2 {
			t.Logf("%4d %s", n, r)
		}
	}
	if expanded < 1150 {
		t.Errorf("only %d of %d expand", expanded, len(names))
	}
}

// An expansion that was published with its value set is the one that is computed.
func TestPublishedExpansions(t *testing.T) {
	set := published(t)
	s := New(set, Options{})
	names, err := set.Canonicals(ctx, "ValueSet")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, name := range names {
		n, _, err := set.Find(ctx, "ValueSet", name)
		if err != nil {
			t.Fatal(err)
		}
		official := n.Get("expansion")
		if official == nil {
			continue
		}
		var count func([]*element.Node) []string
		count = func(nodes []*element.Node) (out []string) {
			for _, c := range nodes {
				if code := c.Get("code").String(); code != "" {
					out = append(out, code)
				}
				out = append(out, count(c.Get("contains").List())...)
			}
			return out
		}
		want := count(official.Get("contains").List())
		got, err := s.Expand(ctx, Expand{ValueSet: name, Count: -1})
		if err != nil {
			t.Logf("%s: official %d, ours: %v", name, len(want), err)
			continue
		}
		compared++
		ours := strings.Fields(codes(got, nil))
		slices.Sort(ours)
		slices.Sort(want)
		if !slices.Equal(ours, want) && flawed[name] == "" {
			t.Errorf("%s: the official expansion is %v, ours %v", name, want, ours)
		}
	}
	if compared == 0 {
		t.Error("nothing was compared")
	}
}
