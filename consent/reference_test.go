package consent_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
)

const resourceType = "http://hl7.org/fhir/resource-types"

// The vocabulary of random consents: little of everything, so that they meet the questions.
var (
	lab       = consent.Code{System: "http://loinc.org", Code: "1"}
	otherLab  = consent.Code{System: "http://loinc.org", Code: "2"}
	obs       = fhir.Ref{Type: "Observation", ID: "o"}
	encounter = fhir.Ref{Type: "Encounter", ID: "e"}
	team      = fhir.Ref{Type: "CareTeam", ID: "t"}
)

func oneOf[T any](t *rapid.T, name string, from ...T) T { return rapid.SampledFrom(from).Draw(t, name) }

// some draws a list that is mostly empty, because a criterion that is there seldom matches.
func some[T any](t *rapid.T, name string, from ...T) []T {
	if rapid.IntRange(0, 3).Draw(t, name+"?") > 0 {
		return nil
	}
	return rapid.SliceOfN(rapid.SampledFrom(from), 1, 2).Draw(t, name)
}

func drawPeriod(t *rapid.T, name string) (p consent.Period) {
	switch rapid.IntRange(0, 5).Draw(t, name) {
	case 0:
		p.Start = signed.AddDate(0, rapid.IntRange(0, 6).Draw(t, "start"), 0)
	case 1:
		p.End = signed.AddDate(0, rapid.IntRange(3, 12).Draw(t, "end"), 0)
	}
	return p
}

// drawProvision draws a provision of which all alternatives are understood, or
// in one of some criteria none.
func drawProvision(t *rapid.T, depth int) consent.Provision {
	p := consent.Provision{
		Type: oneOf(t, "type", "permit", "deny"), Period: drawPeriod(t, "period"), DataPeriod: drawPeriod(t, "data period"),
		Actors:         some(t, "actors", to(doctor), to(hie), to(team), toClass("treating-providers"), to(fhir.Ref{Type: "Location", ID: "1"})),
		Purposes:       some(t, "purposes", purposes("TREAT", "COC", "HPAYMT", "HOPERAT", "NOPE")...),
		SecurityLabels: some(t, "labels", consent.Code{System: actCode, Code: "42CFRPart2"}, consent.Code{System: actCode, Code: "SUD"}, consent.Code{System: actCode, Code: "HIV"}, consent.Code{System: actCode, Code: "NOPE"}),
		Classes:        some(t, "classes", consent.Code{System: resourceType, Code: "Observation"}, consent.Code{System: resourceType, Code: "Encounter"}, lab, consent.Code{Code: "x"}),
		Codes:          some(t, "codes", lab, otherLab, consent.Code{Code: "1"}),
		Data: some(t, "data", consent.Datum{Meaning: "instance", Reference: obs}, consent.Datum{Meaning: "related", Reference: encounter},
			consent.Datum{Meaning: "dependents", Reference: encounter}, consent.Datum{Meaning: "authoredby", Reference: doctor}, consent.Datum{Meaning: "near", Reference: obs}),
		Actions: some(t, "actions", consent.Code{System: actions, Code: "disclose"}, consent.Code{System: actions, Code: "correct"}),
	}
	if depth > 0 {
		for range rapid.IntRange(0, 2).Draw(t, "nested") {
			p.Nested = append(p.Nested, drawProvision(t, depth-1))
		}
	}
	return p
}

func drawDirective(t *rapid.T) consent.Directive {
	d := tpo()
	kind := oneOf(t, "kind", "part2-tpo", "part2-specific", "part2-specific", "hipaa-authorization", "restriction", "restriction", "part2-legal")
	d.Category = []consent.Code{{System: fhir.ConsentKind, Code: kind}}
	d.Organizations = rapid.SliceOfN(oneOrOther(), 1, 2).Draw(t, "programs")
	p := drawProvision(t, 3)
	d.Root.Nested, d.Root.Classes, d.Root.Codes, d.Root.Data, d.Root.DataPeriod = p.Nested, nil, nil, nil, p.DataPeriod
	if rapid.Bool().Draw(t, "criteria at the root") {
		d.Root.Classes, d.Root.Codes, d.Root.Data, d.Root.SecurityLabels = p.Classes, p.Codes, p.Data, p.SecurityLabels
	}
	d.Root.Type = oneOf(t, "root", "permit", "permit", "permit", "deny")
	d.Root.Period = drawPeriod(t, "root period")
	if kind == "part2-tpo" {
		d.Root.Type = "permit" // a denial has not the phrase of the law
	} else {
		d.Root.Actors = oneOf(t, "to", []consent.Actor{to(doctor)}, []consent.Actor{to(hie)}, []consent.Actor{to(doctor), to(team)})
		d.Root.Purposes = oneOf(t, "for", purposes("TREAT"), purposes("HPAYMT"), purposes("TREAT", "HOPERAT"))
		d.Root.Period.End = later
	}
	if kind == "part2-legal" {
		d.Root.Purposes = purposes("LEGAL")
	}
	d.Status = oneOf(t, "status", "active", "active", "active", "active", "inactive", "draft")
	if kind == "restriction" && rapid.Bool().Draw(t, "owed") {
		d.Status = oneOf(t, "owed status", "proposed", "proposed", "proposed", "active", "rejected")
		says(&d, "paid-in-full")
	} else if kind == "restriction" && rapid.Bool().Draw(t, "only asked for") {
		d.Status = "proposed"
	}
	if rapid.IntRange(0, 9).Draw(t, "unsigned") == 0 {
		d.Performers = nil
	}
	if rapid.IntRange(0, 19).Draw(t, "malformed") == 0 {
		d.Malformed = []string{"Consent.provision.provision[0].period"}
	}
	return d
}

func oneOrOther() *rapid.Generator[fhir.Ref] { return rapid.SampledFrom([]fhir.Ref{program, other}) }

func drawRequest(t *rapid.T) consent.Request {
	q := ask(func(q *consent.Request) {
		q.Purpose = oneOf(t, "asked purpose", "TREAT", "TREAT", "COC", "HPAYMT", "HPAYMT", "HLEGAL", "LEGAL", "ETREAT")
		q.Caller = oneOf(t, "caller", dr(), exchange(), consent.Caller{User: fhir.Ref{Type: "Practitioner", ID: "x"}, ActsAs: []fhir.Ref{team}})
		q.At = signed.AddDate(0, rapid.IntRange(0, 13).Draw(t, "month"), 0)
		q.Record.Programs = oneOf(t, "asked programs", []fhir.ID{"sud"}, []fhir.ID{"sud"}, []fhir.ID{"sud", "sud2"}, nil)
		q.Record.Labels = oneOf[uint32](t, "asked labels", part2Bit, part2Bit|sudBit, sudBit|hivBit, 0, part2Bit|newBit)
		q.Record.Ref = oneOf(t, "asked record", obs, encounter, fhir.Ref{Type: "DocumentReference", ID: "d"})
		q.Record.Codes = oneOf(t, "asked codes", nil, []consent.Code{}, []consent.Code{lab}, []consent.Code{otherLab})
		q.Record.Author = oneOf(t, "author", doctor, fhir.Ref{})
		q.Record.References = some(t, "refers to", encounter, doctor)
		q.Record.ReferredBy = some(t, "referred to by", encounter)
		at := signed.AddDate(0, rapid.IntRange(0, 12).Draw(t, "date"), 0)
		q.Record.Date = oneOf(t, "asked date", consent.Period{}, consent.Period{Start: at, End: at.AddDate(0, 0, 1)}, consent.Period{Start: at, End: at.AddDate(0, 4, 0)})
	})
	return q
}

// reference is an evaluator of its own, written for brevity: it walks the tree of
// a Consent and keeps, for each provision, which outcomes are possible.
type reference struct {
	q    consent.Request
	void bool // some permit is not understood
	owed bool // only what a plan is kept from counts
}

// The answers of a criterion.
const (
	never = iota
	perhaps
	surely
)

// holds: some alternative does. What is not understood of a permit without
// exceptions is left out; of anything else, it may mean anything.
func (r *reference) holds(p consent.Provision, n int, alternative func(i int) (answer int, understood bool)) int {
	out, lost := never, 0
	for i := range n {
		if a, ok := alternative(i); ok {
			out = max(out, a)
		} else {
			lost++
		}
	}
	switch {
	case n == 0:
		return surely
	case lost == 0 || p.Type == "permit" && len(p.Nested) == 0 && lost < n:
		return out
	}
	r.void = r.void || p.Type == "permit"
	return perhaps
}

func yesNo(b bool) int {
	if b {
		return surely
	}
	return never
}

func (r *reference) matches(p consent.Provision) int {
	q := r.q
	if p.Type == "permit" && signed.After(p.Period.Start) {
		p.Period.Start = signed
	}
	coded := func(c consent.Code) int {
		if q.Record.Codes == nil {
			return perhaps
		}
		return yesNo(slices.Contains(q.Record.Codes, c))
	}
	if r.owed && p.Type == "deny" {
		// What is kept from a plan is kept for payment, by one who is named and may be one, or by anybody.
		if q.Purpose != "HPAYMT" {
			return never
		}
		known := !slices.ContainsFunc(p.Actors, func(a consent.Actor) bool { return a.Reference.Type == "Location" })
		plans := slices.DeleteFunc(slices.Clone(p.Actors), func(a consent.Actor) bool { return a.Reference != hie && a.Identifier.Code != "payers" })
		switch {
		case known && len(p.Actors) > 0 && len(plans) == 0:
			return never
		case known:
			p.Actors = plans
		}
	}
	return min(
		yesNo(!q.At.Before(p.Period.Start) && (p.Period.End.IsZero() || q.At.Before(p.Period.End))),
		r.holds(p, len(p.Actors), func(i int) (int, bool) {
			a, clinician := p.Actors[i], q.Caller.User.Type == "Practitioner"
			switch {
			case a.Identifier.Code == "treating-providers":
				return yesNo(clinician && (q.Purpose == "TREAT" || q.Purpose == "COC")), true
			case a.Identifier.Code == "payers":
				return yesNo(clinician && q.Purpose == "HPAYMT"), true
			case a.Identifier.Code == "operations":
				return never, true // nobody asks for operations here
			case a.Reference == hie:
				return yesNo(slices.Contains(q.Caller.Organizations, "hie")), true
			}
			return yesNo(a.Reference == q.Caller.User || slices.Contains(q.Caller.ActsAs, a.Reference)), a.Reference.Type != "Location"
		}),
		r.holds(p, len(p.Purposes), func(i int) (int, bool) {
			c := p.Purposes[i].Code
			wide := p.Type == "deny" && (c == "TREAT" && q.Purpose == "ETREAT" || c == "HOPERAT" && q.Purpose == "HLEGAL")
			return yesNo(c == q.Purpose || c == "TREAT" && q.Purpose == "COC" || wide), c != "NOPE"
		}),
		r.holds(p, len(p.Classes), func(i int) (int, bool) {
			c := p.Classes[i]
			if c != lab {
				return yesNo(c.Code == string(q.Record.Ref.Type)), c.Code != "x"
			}
			if q.Record.Ref.Type != "DocumentReference" {
				return never, true
			}
			return coded(c), true
		}),
		r.holds(p, len(p.Codes), func(i int) (int, bool) { return coded(p.Codes[i]), p.Codes[i].System != "" }),
		r.holds(p, len(p.Data), func(i int) (int, bool) {
			d, self := p.Data[i], p.Data[i].Reference == q.Record.Ref
			switch d.Meaning {
			case "instance":
				return yesNo(self), true
			case "related":
				return yesNo(self || slices.Contains(q.Record.ReferredBy, d.Reference)), true
			case "dependents":
				return yesNo(self || slices.Contains(q.Record.References, d.Reference)), true
			case "authoredby":
				if d.Reference != q.Record.Author && slices.Contains(q.Record.References, d.Reference) {
					return perhaps, true
				}
				return yesNo(d.Reference == q.Record.Author), true
			}
			return never, false
		}),
		r.labelled(p), r.dated(p))
}

func (r *reference) labelled(p consent.Provision) int {
	reached, beside := uint32(0), ^uint32(part2Bit)
	for _, l := range p.SecurityLabels {
		b := bitOf[l.Code]
		if b == 0 {
			r.void = r.void || p.Type == "permit"
			return perhaps
		}
		reached |= b
		if beside &^= b; b == part2Bit || p.Type == "deny" {
			beside = 0
		}
	}
	switch labels := r.q.Record.Labels; {
	case len(p.SecurityLabels) == 0 || labels&reached != 0 && labels&beside == 0:
		return surely
	case labels&reached != 0:
		return perhaps
	}
	return never
}

func (r *reference) dated(p consent.Provision) int {
	at, in := r.q.Record.Date, p.DataPeriod
	if in.End.IsZero() {
		in.End = later.AddDate(10, 0, 0)
	}
	switch {
	case p.DataPeriod == consent.Period{}:
		return surely
	case at == consent.Period{}:
		return perhaps
	case !at.Start.Before(in.End) || !at.End.After(in.Start):
		return never
	case !at.Start.Before(in.Start) && !at.End.After(in.End):
		return surely
	}
	return perhaps
}

// possible are the outcomes that a provision can have; up is how surely those
// above it match.
type possible struct{ none, permit, deny bool }

func (r *reference) walk(p consent.Provision, up int) possible {
	for _, a := range p.Actions {
		if a.Code == "correct" && !slices.Contains(p.Actions, consent.Code{System: actions, Code: "disclose"}) {
			return possible{none: true}
		}
	}
	m := min(up, r.matches(p))
	one, none := false, true // some child permits or denies; none has to
	out := possible{none: m != surely}
	for _, n := range p.Nested {
		c := r.walk(n, m)
		one, none = one || c.permit, none && c.none
		out.deny = out.deny || c.deny
	}
	out.permit = one || none && p.Type == "permit"
	out.deny = out.deny || none && p.Type == "deny"
	if m == never {
		return possible{none: true}
	}
	return out
}

// refer answers q by the reference: whether the consents permit, and whether a restriction forbids.
func refer(q consent.Request, ds ...consent.Directive) (permitted, restricted bool) {
	programs := q.Record.Programs
	want := []string{"part2-tpo", "part2-specific"}
	if len(programs) == 0 {
		programs, want = []fhir.ID{""}, []string{"hipaa-authorization"}
	} else if q.Purpose == "LEGAL" || q.Purpose == "HLEGAL" {
		want = []string{"part2-legal"}
	}
	permitted = true
	for _, program := range programs {
		some := false
		for _, d := range ds {
			kind := d.Category[0].Code
			owed := kind == "restriction" && d.Status == "proposed" && slices.Contains(d.PolicyRule, consent.Code{System: fhir.ConsentStatement, Code: "paid-in-full"})
			if d.Status != "active" && !owed {
				continue
			}
			counts := slices.Contains(want, kind)
			if d.Malformed != nil {
				permitted = permitted && owed
				restricted = restricted || kind == "restriction" && (!owed || q.Purpose == "HPAYMT")
				continue
			}
			byProgram := kind == "part2-tpo" || kind == "part2-specific" || kind == "part2-legal"
			r := &reference{q: q, owed: owed}
			o := r.walk(d.Root, surely)
			if r.void || kind != "restriction" && (d.Performers == nil || lawless(d.Root, kind)) {
				o = r.walk(d.Root, perhaps) // it permits nothing, surely
			}
			if byProgram && !slices.ContainsFunc(d.Organizations, func(o fhir.Ref) bool { return o.ID == program }) {
				o = possible{none: true}
			}
			some = some || counts && o == possible{permit: true}
			permitted = permitted && (!counts || !o.deny)
			restricted = restricted || kind == "restriction" && o.deny
		}
		permitted = permitted && some
	}
	return permitted, restricted
}

// lawless: of what is drawn here, only this offends 42 CFR 2.31(a). A permit that
// names no purpose has those of the nearest provision around it that names some.
func lawless(p consent.Provision, kind string, around ...consent.Code) bool {
	if len(p.Actions) > 0 && !slices.Contains(p.Actions, consent.Code{System: actions, Code: "disclose"}) {
		return false
	}
	own := slices.DeleteFunc(slices.Clone(p.Purposes), func(c consent.Code) bool { return c.Code == "NOPE" })
	if len(own) == 0 {
		own = around
	}
	otherwise := slices.ContainsFunc(own, func(c consent.Code) bool { return c.Code != "LEGAL" })
	return p.Type == "permit" && kind == "part2-legal" && otherwise ||
		slices.ContainsFunc(p.Nested, func(n consent.Provision) bool { return lawless(n, kind, own...) })
}

func TestEvaluateAgreesWithTheReference(t *testing.T) {
	permits, restricts, owed := 0, 0, 0
	check := func(t *rapid.T) {
		ds := rapid.SliceOfN(rapid.Custom(drawDirective), 1, 3).Draw(t, "consents")
		for range 40 {
			q := drawRequest(t)
			x := consent.Evaluate(ds, bits{}, q)
			permitted, restricted := refer(q, ds...)
			if x.Permitted != permitted || x.Restricted != restricted {
				t.Fatalf("permitted %v, by the reference %v; restricted %v, by the reference %v\n%+v\n%v", x.Permitted, permitted, x.Restricted, restricted, q, x.Sentences())
			}
			if permitted {
				permits++
			}
			if restricted {
				restricts++
			}
			asked := slices.DeleteFunc(slices.Clone(ds), func(d consent.Directive) bool { return d.Status != "proposed" })
			if _, binds := refer(q, asked...); binds {
				owed++
			}
		}
	}
	// Chance draws few proposed restrictions that bind: there are rounds until some were compared.
	for round := 0; round == 0 || owed == 0 && round < 5; round++ {
		rapid.Check(t, check)
	}
	if permits < 10 || restricts < 10 || owed < 1 {
		t.Errorf("only %d permits and %d restrictions, %d of them not agreed to: the comparison says too little", permits, restricts, owed)
	}
}

// What is added to consents that permit nothing to q never permits it.
func TestMoreDenialNeverPermitsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := rapid.SliceOfN(rapid.Custom(drawDirective), 1, 3).Draw(t, "consents")
		q := drawRequest(t)
		i := rapid.IntRange(0, len(ds)-1).Draw(t, "which")
		after := slices.Clone(ds)
		asked := q
		switch oneOf(t, "change", "deny", "nested", "revoke", "label", "program", "purpose", "malform", "spoil") {
		case "deny":
			d := drawDirective(t)
			d.Root.Type, d.Root.Nested = "deny", nil
			after = append(after, d)
		case "nested":
			n := drawProvision(t, 0)
			n.Type = "deny"
			after[i].Root.Nested = append(slices.Clone(after[i].Root.Nested), n)
		case "revoke":
			after[i].Status = oneOf(t, "status to", "inactive", "rejected", "entered-in-error")
			if after[i].Root.Type == "deny" || len(after[i].Root.Nested) > 0 || after[i].Malformed != nil {
				return // to revoke a denial is to permit again
			}
		case "label":
			asked.Record.Labels |= oneOf[uint32](t, "more", sudBit, hivBit, newBit)
			if hasLabels(ds) {
				return // a permit for a label does not apply to a record without it
			}
		case "program":
			if len(q.Record.Programs) == 0 {
				return // it asks for a consent of another kind
			}
			asked.Record.Programs = []fhir.ID{"sud", "sud2"}
		case "purpose":
			asked.Purpose = ""
		case "malform":
			after[i].Malformed = []string{"Consent.provision.code[0]"}
			if after[i].Status != "active" {
				return
			}
		case "spoil":
			after[i].DateTime = time.Time{}
			if after[i].Root.Type == "deny" {
				return // what was signed too late permits sooner without a date, and nothing then
			}
		}
		before, now := consent.Evaluate(ds, bits{}, q), consent.Evaluate(after, bits{}, asked)
		if now.Permitted && !before.Permitted {
			t.Fatalf("permitted now: %v\nbefore: %v", now.Sentences(), before.Sentences())
		}
	})
}

func hasLabels(ds []consent.Directive) bool {
	var in func(p consent.Provision) bool
	in = func(p consent.Provision) bool { return p.SecurityLabels != nil || slices.ContainsFunc(p.Nested, in) }
	return slices.ContainsFunc(ds, func(d consent.Directive) bool { return in(d.Root) })
}

// The order of Consents, provisions and repetitions says nothing.
func TestOrderIsIrrelevant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := rapid.SliceOfN(rapid.Custom(drawDirective), 1, 3).Draw(t, "consents")
		q := drawRequest(t)
		moved := rapid.Permutation(ds).Draw(t, "order")
		for i := range moved {
			moved[i].Root = shuffled(t, moved[i].Root)
			moved[i].Organizations = rapid.Permutation(moved[i].Organizations).Draw(t, "organizations")
		}
		a, b := consent.Evaluate(ds, bits{}, q), consent.Evaluate(moved, bits{}, q)
		if a.Permitted != b.Permitted || a.Restricted != b.Restricted {
			t.Fatal("the order matters")
		}
	})
}

func shuffled(t *rapid.T, p consent.Provision) consent.Provision {
	p.Actors = rapid.Permutation(p.Actors).Draw(t, "actors")
	p.Purposes = rapid.Permutation(p.Purposes).Draw(t, "purposes")
	p.Codes = rapid.Permutation(p.Codes).Draw(t, "codes")
	p.Nested = rapid.Permutation(p.Nested).Draw(t, "nested")
	for i := range p.Nested {
		p.Nested[i] = shuffled(t, p.Nested[i])
	}
	return p
}
