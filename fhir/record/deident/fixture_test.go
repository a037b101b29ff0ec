package deident

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
)

// today is when the releases of the tests are made.
var today = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// grant is one of the real engine, for a purpose.
func grant(t testing.TB, purpose string) authz.Grant {
	t.Helper()
	policy, err := pdp.New(pdp.Embedded())
	if err != nil {
		t.Fatal(err)
	}
	engine := authz.NewEngine(policy, nil, func() time.Time { return today })
	g, err := engine.Authorize(context.Background(), authz.Principal{Tenant: 1, Subject: "test", Roles: []string{"research-analyst"}, Purpose: purpose,
		User: fhir.Ref{Type: "Practitioner", ID: "1"}, Scopes: smart.Parse("user/*.cruds")}, fhir.SearchSystem, "")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// people are patients by id; who is not in it was born in 1980 and has no wish.
type people map[fhir.ID]Subject

func (p people) Subject(_ context.Context, id fhir.ID) (Subject, bool, error) {
	if s, ok := p[id]; ok {
		return s, s.Birth != "unknown", nil
	}
	return Subject{Birth: "1980-06-15"}, true, nil
}

func profile(t testing.TB, name string) Profile {
	t.Helper()
	p, ok := Named(name)
	if !ok {
		t.Fatal(name)
	}
	return p
}

// stored is a resource as the store has it.
type stored struct {
	patient fhir.ID
	labels  label.Set
	deleted bool
	body    string // JSON, with single quotes for double ones if it has none of those
}

func (s stored) text() string {
	if strings.Contains(s.body, `"`) {
		return s.body
	}
	return strings.ReplaceAll(s.body, "'", `"`)
}

func (s stored) seal(t testing.TB, g authz.Grant) vault.Sealed {
	t.Helper()
	root, err := codec.ReadJSON([]byte(s.text()), codec.Limits{})
	if err != nil {
		t.Fatalf("%v in %s", err, s.body)
	}
	h := vault.Header{Ref: fhir.Ref{Type: fhir.ResourceType(root.Get("resourceType").String()), ID: fhir.ID(root.Get("id").String())},
		Version: 1, Labels: s.labels, Deleted: s.deleted, Patient: s.patient}
	return vault.Seal(h, g, []byte(s.text()))
}

// trial makes one release of resources.
type trial struct {
	t       testing.TB
	profile string
	config  Config
	grants  authz.Grant
	release *Release
	report  Report
}

func newTrial(t testing.TB, name string, mod ...func(*Config)) *trial {
	t.Helper()
	g := grantOnce(t, "TREAT")
	c := Config{Grant: g, Now: today, Subjects: people{}, Surrogates: NewRandom()}
	switch name {
	case "limited-data-set":
		c.Agreement = fhir.Ref{Type: "Contract", ID: "dua"}
		c.Grant = grantOnce(t, "HOPERAT")
	case "expert-determination":
		c.Expert = &Determination{Reference: fhir.Ref{Type: "DocumentReference", ID: "expert"}, Shifts: NewRandom(), Days: 100, K: MinK}
	}
	for _, m := range mod {
		m(&c)
	}
	r, err := Begin(profile(t, name), c)
	if err != nil {
		t.Fatal(err)
	}
	return &trial{t: t, profile: name, config: c, grants: c.Grant, release: r}
}

var (
	cached    = map[string]authz.Grant{}
	grantNone authz.Grant
)

// grantOnce is the one grant of all tests for a purpose.
func grantOnce(t testing.TB, purpose string) authz.Grant {
	t.Helper()
	if !cached[purpose].Valid() {
		cached[purpose] = grant(t, purpose)
	}
	return cached[purpose]
}

// run gives what is released of each resource, nil for what is not.
func (x *trial) run(in ...stored) []*element.Node {
	x.t.Helper()
	ctx := context.Background()
	sealed := make([]vault.Sealed, len(in))
	for i, s := range in {
		sealed[i] = s.seal(x.t, x.grants)
	}
	if err := x.release.Survey(ctx, sealed...); err != nil {
		x.t.Fatal(err)
	}
	x.report = x.release.Settle()
	out := make([]*element.Node, len(in))
	for i, s := range sealed {
		d, ok, err := x.release.Transform(ctx, s)
		if err != nil {
			x.t.Fatal(err)
		}
		if !ok {
			continue
		}
		var b bytes.Buffer
		if err := x.release.NDJSON(&b).Put(d); err != nil {
			x.t.Fatal(err)
		}
		r, err := codec.Parse(b.Bytes())
		if err != nil {
			x.t.Fatalf("what is released is not valid: %v\n%s", err, b.String())
		}
		out[i] = r.Root
	}
	return out
}

// shown is the JSON of a node with single quotes for double ones.
func shown(n *element.Node) string {
	if n == nil {
		return "nothing"
	}
	return strings.ReplaceAll(string(n.AppendJSON(nil)), `"`, "'")
}
