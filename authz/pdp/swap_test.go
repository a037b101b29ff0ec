package pdp

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// met is a catalogue of label classes.
type met map[int16]label.Set

func (m met) LabelClasses() map[int16]label.Set { return m }

// A request is decided by the one policy that was in force when it was authorized, or is to be
// repeated: while policies are exchanged, none is planned or decided by half of each.
func TestL48_PolicyIsExchangedDuringRequests(t *testing.T) {
	p, err := NewPractices()
	if err != nil {
		t.Fatal(err)
	}
	classes := met{1: 0, 2: label.SUD, 3: label.Part2 | label.SUD, 4: label.PsychNote}
	now := func() time.Time { return time.Unix(1e9, 0) }
	who := authz.Principal{Tenant: 1, Subject: "test|x", Roles: []string{"therapist"}, Purpose: "TREAT", Scopes: smart.Parse("user/*.cruds")}
	ctx := context.Background()
	types := []fhir.ResourceType{"Condition", "Observation"}
	// What the two policies say while nothing is exchanged, by their version.
	plans, permit := map[string]string{}, map[string]bool{}
	var versions []*practices
	program := authz.Resource{Type: "Condition", Labels: label.Part2 | label.SUD, Facts: authz.Treating | authz.Consent | authz.Unrestricted}
	for _, text := range []string{"# nothing of its own", "drop, treatment-consent"} {
		if err := p.Load(fstest.MapFS{"harbor/policy.csv": {Data: []byte(text)}}, func(string) (int32, bool) { return 1, true }); err != nil {
			t.Fatal(err)
		}
		versions = append(versions, p.current.Load())
		e := authz.NewEngineOf(p, classes, now)
		for _, rt := range types {
			g, err := e.Authorize(ctx, who, fhir.Read, rt)
			if err != nil {
				t.Fatal(err)
			}
			r, err := e.Plan(ctx, g, fhir.Read, rt)
			if err != nil {
				t.Fatal(err)
			}
			plans[g.Caller().PolicyVersion+string(rt)] = fmt.Sprint(r.Arms())
			d, err := e.Decide(ctx, g, fhir.Read, program)
			if err != nil {
				t.Fatal(err)
			}
			permit[g.Caller().PolicyVersion] = d.Permit
		}
	}
	if a, b := versions[0].own[1].Policy.Version(), versions[1].own[1].Policy.Version(); a == b || permit[a] == permit[b] || plans[a+"Condition"] == plans[b+"Condition"] {
		t.Fatal("the two policies say the same: this is no test")
	}

	e := authz.NewEngineOf(p, classes, now) // its plans are remembered across exchanges
	var decided, repeated atomic.Int64
	var requests sync.WaitGroup
	for of := range 4 {
		requests.Go(func() {
			for i := range 400 {
				rt := types[i%len(types)]
				g, err := e.Authorize(ctx, who, fhir.Read, rt)
				if err != nil {
					t.Errorf("authorize: %v", err)
					return
				}
				v := g.Caller().PolicyVersion
				if i%3 == of%3 { // between two steps of its own, and of any of the others
					p.current.Store(versions[(i+of)%2])
				}
				r, err := e.Plan(ctx, g, fhir.Read, rt)
				switch {
				case err != nil && outcome.Of(err).Status() == 503:
					repeated.Add(1)
					continue
				case err != nil:
					t.Errorf("plan: %v", err)
					return
				case fmt.Sprint(r.Arms()) != plans[v+string(rt)]:
					t.Errorf("a %s under %s is planned as by another policy: %v", rt, v, r.Arms())
					return
				}
				d, err := e.Decide(ctx, g, fhir.Read, program)
				switch {
				case err != nil && outcome.Of(err).Status() == 503:
					repeated.Add(1)
				case err != nil:
					t.Errorf("decide: %v", err)
				case d.PolicyVersion != v || d.Permit != permit[v]:
					t.Errorf("a request under %s is decided as under %s: %v", v, d.PolicyVersion, d.Permit)
				default:
					decided.Add(1)
				}
			}
		})
	}
	requests.Wait()
	t.Logf("%d decided, %d to be repeated", decided.Load(), repeated.Load())
	if decided.Load() == 0 || repeated.Load() == 0 {
		t.Error("no exchange met a request, or each did: this is no test")
	}
}
