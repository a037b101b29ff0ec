package postgres

import (
	"context"
	"time"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/search"
)

// nameRows are the further names under which a recipient is known to Consents.
type nameRows struct{ rows [][]any }

func (t *nameRows) add(r *row, member fhir.Ref, name string, p consent.Period) {
	// A resource in the shadow of another one of its id names nobody: a reference
	// names the other.
	if r.shadow == 0 && member != (fhir.Ref{}) {
		t.rows = append(t.rows, []any{nil, member.String(), name, moment(p.Start), moment(p.End), r.pk})
	}
}

// said reports whether what the resource says holds: it does not say that it is
// inactive, nor is it modified in a way that we do not know.
func said(root *element.Node) bool {
	return !holds(root.Get("active"), "false") && root.Get("modifierExtension") == nil
}

// holds reports whether n is the boolean true, or false.
func holds(n *element.Node, value string) bool {
	return n != nil && n.Kind == element.Bool && n.Text == value
}

func refIn(n *element.Node) fhir.Ref {
	r, _ := fhir.ParseRef(n.Get("reference").String())
	return r
}

// periodOf reads a Period; ok is false where it is not understood.
func periodOf(n *element.Node) (p consent.Period, ok bool) {
	read := func(name string, end bool) (time.Time, bool) {
		if n.Get(name) == nil {
			return time.Time{}, true
		}
		lo, hi, ok := search.Instants(n.Get(name).String())
		if end {
			return hi, ok
		}
		return lo, ok
	}
	var okStart, okEnd bool
	p.Start, okStart = read("start", false)
	p.End, okEnd = read("end", true)
	return p, okStart && okEnd
}

func (t *nameRows) identifiers(r *row) {
	root := r.c.Content.Root
	if !said(root) {
		return
	}
	for _, i := range root.Get("identifier").List() {
		p, ok := periodOf(i.Get("period"))
		c := consent.Code{System: i.Get("system").String(), Code: i.Get("value").String()}
		if ok && c.System != "" && c.Code != "" && i.Get("use").String() != "old" {
			t.add(r, r.c.Ref, consent.Identified(c), p)
		}
	}
}

func (t *nameRows) organization(r *row) {
	t.identifiers(r)
	if root := r.c.Content.Root; said(root) {
		if parent := refIn(root.Get("partOf")); parent.Type == "Organization" {
			t.add(r, r.c.Ref, parent.String(), consent.Period{})
		}
	}
}

func (t *nameRows) practitionerRole(r *row) {
	t.identifiers(r)
	root := r.c.Content.Root
	if p, ok := periodOf(root.Get("period")); ok && said(root) {
		t.add(r, refIn(root.Get("practitioner")), r.c.Ref.String(), p)
	}
}

func (t *nameRows) careTeam(r *row) {
	v, err := codec.CareTeam(r.c.Content)
	if err != nil || v.Status != "active" {
		return
	}
	t.identifiers(r)
	for _, p := range v.Participants {
		if p.Member != r.c.Ref {
			t.add(r, p.Member, r.c.Ref.String(), within(v.Period, p.Period))
		}
	}
}

func (t *nameRows) group(r *row) {
	root := r.c.Content.Root
	if !said(root) || !holds(root.Get("actual"), "true") {
		return
	}
	for _, m := range root.Get("member").List() {
		if p, ok := periodOf(m.Get("period")); ok && !holds(m.Get("inactive"), "true") && m.Get("modifierExtension") == nil {
			t.add(r, refIn(m.Get("entity")), r.c.Ref.String(), p)
		}
	}
}

func (t *nameRows) insert(ctx context.Context, w *write) error {
	for _, row := range t.rows {
		row[0] = w.tenant()
	}
	return w.copy(ctx, "record", "recipient_name", []string{"tenant", "member", "name", "starts", "ends", "source"}, t.rows)
}
