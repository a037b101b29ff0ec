package deident

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/deident/canary"
)

// TestD1_164_514_b_2_CanariesOfTheSafeHarbor plants a token in every place of every resource type;
// none is in what is released.
func TestD1_164_514_b_2_CanariesOfTheSafeHarbor(t *testing.T) {
	sweep(t, "safe-harbor", true)
}

// A limited data set has dates, and no other token.
func TestD4_164_514_e_CanariesOfTheLimitedDataSet(t *testing.T) {
	sweep(t, "limited-data-set", false)
}

func TestD5_164_514_b_1_CanariesOfAnExpertDetermination(t *testing.T) {
	sweep(t, "expert-determination", true)
}

func sweep(t *testing.T, name string, dates bool) {
	t.Helper()
	listed := Types()
	released, planted := 0, 0
	for _, rt := range fhir.ResourceTypes() {
		on := slices.Contains(listed, rt)
		many := 1
		if on {
			if many = canary.Variants(rt); name != "safe-harbor" { // the list is the same
				many = 3
			}
		}
		for v := range many {
			root, p := canary.Plant(rt, v)
			body := string(root.AppendJSON(nil))
			all := len(p.Tokens) // units that are set afterwards take the place of some
			if p.Tokens = canary.Survivors(p, body, false); len(p.Tokens) < all-all/20 || all < 10 {
				t.Fatalf("%s: %d of %d tokens are planted", rt, len(p.Tokens), all)
			}
			planted += len(p.Tokens)
			if _, err := codec.Parse([]byte(body)); err != nil && on {
				t.Fatalf("what is planted is not valid, and tests nothing: %v", err)
			}
			x := newTrial(t, name, func(c *Config) {
				if c.Expert != nil {
					c.Expert.Shifts = week{}
				}
			})
			out := x.run(stored{patient: "someone", body: body})[0]
			if !on {
				if out != nil {
					t.Errorf("%s is released, and not listed", rt)
				}
				continue
			}
			if said := fmt.Sprintf("%+v %+v", x.report, x.report.Determined); strings.Contains(strings.ToLower(said), "canary") {
				t.Errorf("%s, variant %d: the report has a token: %s", rt, v, said)
			}
			shared := allowed().harbor[string(rt)].shared
			if name == "expert-determination" {
				// One patient is no group: she is left out. What the walk would release is looked at all the same.
				if out != nil {
					t.Errorf("one patient alone is released: %s", shown(out))
				}
				if shared {
					continue
				}
				out = alone(t, x, stored{patient: "someone", body: body})
			}
			if out == nil {
				t.Fatalf("%s, variant %d, is left out: %v", rt, v, x.report.LeftOut)
			}
			released++
			text := shown(out)
			for _, s := range canary.Survivors(p, text, dates) {
				t.Errorf("%s, variant %d: %s is released: %s", rt, v, s, text)
			}
			if strings.Contains(strings.ToLower(text), "canary") {
				t.Errorf("%s, variant %d: part of a token is released: %s", rt, v, text)
			}
			listedOnly(t, name, out)
		}
	}
	for _, rt := range listed { // and what takes a resource out does not say why in its own words
		root, _ := canary.Plant(rt, 1)
		root.Set("modifierExtension", listOf(element.NewObject(element.Field{Name: "url", Value: element.NewString("http://canary.example/" + "Canary99999x9")},
			element.Field{Name: "valueString", Value: element.NewString("Canary99999x9")})))
		x := newTrial(t, name)
		out := x.run(stored{patient: "someone", body: string(root.AppendJSON(nil))})[0]
		why := x.report.LeftOut[rt]
		if out != nil || len(why) != 1 || why[Modified]+why[Type] != 1 || strings.Contains(strings.ToLower(fmt.Sprintf("%+v", x.report)), "canary") {
			t.Errorf("%s with a modifier extension: %s, %+v", rt, shown(out), x.report)
		}
	}
	if released < 90 || planted < 50_000 {
		t.Errorf("%d released, %d planted: this sweep is not what it says", released, planted)
	}
}

// alone is what becomes of a resource but for the groups.
func alone(t *testing.T, x *trial, s stored) *element.Node {
	t.Helper()
	x.release.settled = false
	m, err := x.release.make(context.Background(), s.seal(t, x.grants), "alone")
	if err != nil || m.left != "" {
		t.Fatal(m.left, err)
	}
	return m.root
}

// week moves every date by seven days.
type week struct{}

func (week) Shift(context.Context, fhir.ID, int) (int, error) { return 7, nil }
