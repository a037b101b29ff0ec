package consent

import (
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/consent/part2"
	"github.com/cloister-health/cloister/fhir"
)

// Record is what is known of one record that someone asks for.
type Record struct {
	Ref     fhir.Ref
	Patient fhir.ID // of whom it is
	// Several says that it is of others, too: no consent of one patient opens such a record.
	Several  bool
	Programs []fhir.ID // the Part 2 programs that it comes from
	Source   Source
	Labels   uint32 // the bits that [Labels] speaks of
	// Codes are all codings in it, and Date is its clinical date; nil and zero: not
	// known, which matches no permit and every deny that asks for them.
	Codes      []Code
	Date       Period
	Author     fhir.Ref   // who created it
	References []fhir.Ref // what it refers to
	ReferredBy []fhir.Ref // what refers to it
}

// Caller is who asks.
type Caller struct {
	User          fhir.Ref
	Organizations []fhir.ID  // whose workforce it is, with those of which these are part (Organization.partOf)
	ActsAs        []fhir.Ref // PractitionerRoles, CareTeams and Groups of which it is a member now
	Identifiers   []Code     // system and value of the identifiers of all these
	Roles         []string
}

// Request asks whether consents let a record be disclosed.
type Request struct {
	Record  Record
	Caller  Caller
	Purpose string // v3-ActReason; without one the answer is no
	At      time.Time
}

// Verdict is what one Consent says to a Request.
type Verdict string

// The verdicts.
const (
	Permits      Verdict = "permits"
	Denies       Verdict = "denies"
	DoesNotApply Verdict = "does-not-apply" // no provision of it covers the request
	AnotherKind  Verdict = "another-kind"   // it covers the request, which asks for a consent of another kind
	NotInForce   Verdict = "not-in-force"   // draft, revoked, expired, not yet started ...
	Invalid      Verdict = "invalid"        // it would permit, and is no consent in law
)

// Reason says why a provision does not cover a Request, or not surely.
type Reason struct {
	Provision string // FHIRPath within the Consent
	// Criterion is the element of the provision that keeps it from applying: actor,
	// purpose, period, class, securityLabel, code, dataPeriod, data, organization, patient; or
	// "understood" where the provision would apply if it could be relied on.
	Criterion string
	Unknown   bool // the record does not say, rather than saying otherwise
}

// Account is what one Consent contributes.
type Account struct {
	Consent   fhir.Ref
	Kind      Kind
	Verdict   Verdict
	Provision string   // that decides, "" where none does
	Why       []Reason // why the others do not apply
	Defects   []string // what keeps it from being a consent, by element and citation
}

// Missing is a consent that the disclosure asks for and nobody gave.
type Missing struct {
	Kinds   []Kind
	Program fhir.ID // for the records of this program; "" for a record of none
}

// Explanation is the answer to a Request, with reasons.
type Explanation struct {
	Permitted  bool      // by consent
	Restricted bool      // a restriction forbids it, whatever else permits it (45 CFR 164.522(a), 42 CFR 2.26)
	Needs      [][]Kind  // the consents that it asks for: of each list, one
	Accounts   []Account // one per Consent, in the order given
	Missing    []Missing
	// PermittedBy are the Consents on which a permission rests.
	PermittedBy []fhir.Ref
}

// Evaluate answers whether the directives let the record of q be disclosed, and
// why. It is the definition of the facts consent and unrestricted: what the store
// computes in SQL equals Permitted, and the absence of Restricted.
func Evaluate(directives []Directive, l Labels, q Request) Explanation {
	compiled := make([]Result, len(directives))
	for i, d := range directives {
		compiled[i] = Compile(d, l)
	}
	return explain(directives, compiled, q)
}

func explain(directives []Directive, compiled []Result, q Request) Explanation {
	needs := Required(q.Record.Source.with(q.Record.Programs), q.Purpose, q.Caller.Roles...)
	x := Explanation{}
	var all Kinds
	for _, n := range needs {
		x.Needs = append(x.Needs, n.List())
		all |= n
	}
	programs := q.Record.Programs
	if len(programs) == 0 {
		programs = []fhir.ID{""}
	}
	recipients := q.Caller.Recipients(q.Purpose)
	denied := false
	permits := make([]Kinds, len(programs))
	x.Accounts = make([]Account, len(directives))
	for i, d := range directives {
		a := &x.Accounts[i]
		*a = Account{Consent: d.Ref, Kind: compiled[i].Kind, Verdict: DoesNotApply, Defects: compiled[i].Defects}
		if len(compiled[i].Grants) == 0 {
			a.Verdict = NotInForce
			if len(a.Defects) > 0 {
				a.Verdict = Invalid
			}
			continue
		}
		for n, program := range programs {
			s := settle(compiled[i].Grants, q, program, recipients)
			a.Why = appendReasons(a.Why, s.why)
			switch {
			case s.denies != "" && a.Verdict != Denies:
				a.Verdict, a.Provision = Denies, s.denies
				if s.denied&(all|Restrictions) == 0 {
					a.Verdict = AnotherKind
				}
			case s.permits != "" && a.Verdict == DoesNotApply:
				a.Verdict, a.Provision = Permits, s.permits
				if s.permitted&all == 0 {
					a.Verdict = AnotherKind
				}
			}
			denied = denied || s.denied&all != 0
			x.Restricted = x.Restricted || s.denied&Restrictions != 0
			permits[n] |= s.permitted
		}
		if a.Verdict == DoesNotApply && expiredOrEarly(compiled[i].Grants[0], q.At) {
			a.Verdict = NotInForce
		}
		if a.Verdict == DoesNotApply && len(a.Defects) > 0 {
			a.Verdict = Invalid
		}
	}
	for n, program := range programs {
		for _, need := range needs {
			if permits[n]&need == 0 {
				x.Missing = append(x.Missing, Missing{need.List(), program})
			}
		}
	}
	x.Permitted = !denied && len(x.Missing) == 0 && q.answerable()
	if x.Permitted {
		for _, a := range x.Accounts {
			if a.Verdict == Permits {
				x.PermittedBy = append(x.PermittedBy, a.Consent)
			}
		}
	}
	return x
}

// answerable: a record of nobody or of several patients has no consent, and
// without a purpose there is nothing to consent to.
func (q Request) answerable() bool {
	return q.Record.Patient != "" && !q.Record.Several && q.Purpose != ""
}

func (s Source) with(programs []fhir.ID) Source {
	s.Part2 = s.Part2 || len(programs) > 0
	return s
}

func expiredOrEarly(root Grant, at time.Time) bool {
	return !part2.InForce(root.Period.Start, root.Period.End, at)
}

// settled is what the provisions of one Consent come to.
type settled struct {
	permits, denies   string // paths of the provisions that decide
	permitted, denied Kinds
	why               []Reason
}

// settle applies the semantics of nested provisions: what matches deepest
// decides, and of siblings that match a deny does. So a Consent denies where some deny
// matches that has no matching child, and permits where some permit matches. What is
// not understood, or not known of the record, counts where it denies only.
func settle(grants []Grant, q Request, program fhir.ID, recipients []string) (s settled) {
	match := make([]tri, len(grants))
	for i, g := range grants {
		up := yes
		for _, a := range g.Ancestors {
			up = min(up, match[a])
		}
		if up == no {
			continue // said of the ancestor
		}
		own, criterion := g.match(q, program, recipients)
		match[i] = min(up, own)
		if own != yes {
			s.why = append(s.why, Reason{g.Path, criterion, own == maybe})
		}
	}
	surely := func(i int) bool { return match[i] == yes && grants[i].Sure }
	for i, g := range grants {
		switch {
		case match[i] == no:
		case g.Effect == Permit && surely(i):
			s.permitted |= g.About
			s.permits = g.Path
		case g.Effect == Permit:
			s.why = appendReasons(s.why, []Reason{{g.Path, "understood", true}})
		default:
			excepted := false
			for j, c := range grants {
				excepted = excepted || len(c.Ancestors) > 0 && c.Ancestors[len(c.Ancestors)-1] == g.Node && surely(j)
			}
			if !excepted {
				s.denied |= g.About
				s.denies = g.Path
			}
		}
	}
	if s.denied != 0 {
		// What a Consent permits elsewhere in its tree is no permit where it also denies.
		s.permitted, s.permits = 0, ""
	}
	return s
}

func appendReasons(to, more []Reason) []Reason {
	for _, r := range more {
		if !slices.Contains(to, r) {
			to = append(to, r)
		}
	}
	return to
}

// tri is the answer of a criterion: what the record does not say is maybe.
type tri int8

const (
	no tri = iota
	maybe
	yes
)

func is(b bool) tri {
	if b {
		return yes
	}
	return no
}

// match gives whether the criteria of g match, and the first that does not.
func (g *Grant) match(q Request, program fhir.ID, recipients []string) (tri, string) {
	out, which := yes, ""
	for _, c := range []struct {
		name string
		tri
	}{
		{"patient", is(g.Patient == q.Record.Patient)},
		{"organization", is(len(g.Programs) == 0 || slices.Contains(g.Programs, program))},
		{"actor", is(len(g.Recipients) == 0 || slices.ContainsFunc(g.Recipients, func(r string) bool { return slices.Contains(recipients, r) }))},
		{"purpose", is(len(g.Purposes) == 0 || slices.Contains(g.Purposes, q.Purpose))},
		{"period", is(part2.InForce(g.Period.Start, g.Period.End, q.At))},
		{"class", g.classes(q.Record)},
		{"securityLabel", g.Labels.match(q.Record.Labels)},
		{"code", hasAny(g.Codes, q.Record.Codes)},
		{"dataPeriod", g.dated(q.Record.Date)},
		{"data", g.about(q.Record)},
	} {
		if c.tri < out {
			out, which = c.tri, c.name
		}
	}
	return out, which
}

func (g *Grant) classes(r Record) tri {
	if len(g.Types) == 0 && len(g.Documents) == 0 || slices.Contains(g.Types, r.Ref.Type) {
		return yes
	}
	if len(g.Documents) == 0 || r.Ref.Type != "DocumentReference" && r.Ref.Type != "Composition" {
		return no
	}
	return hasAny(g.Documents, r.Codes)
}

// match: see [Mask].
func (m Mask) match(labels uint32) tri {
	switch {
	case m.Any != 0 && labels&m.Any == 0:
		return no
	case labels&^m.Within != 0:
		return maybe
	}
	return yes
}

func hasAny(asked, codes []Code) tri {
	switch {
	case len(asked) == 0:
		return yes
	case codes == nil:
		return maybe
	}
	return is(slices.ContainsFunc(asked, func(c Code) bool { return slices.Contains(codes, c) }))
}

// dated: the clinical date lies within, or partly within.
func (g *Grant) dated(at Period) tri {
	p := g.DataPeriod
	switch {
	case p == Period{}:
		return yes
	case at.Start.IsZero() || at.End.IsZero():
		return maybe
	case !p.Start.IsZero() && !at.End.After(p.Start), !p.End.IsZero() && !at.Start.Before(p.End):
		return no
	case (p.Start.IsZero() || !at.Start.Before(p.Start)) && (p.End.IsZero() || !at.End.After(p.End)):
		return yes
	}
	return maybe
}

// about: the record is one that data means (consent-data-meaning).
func (g *Grant) about(r Record) tri {
	if len(g.Data) == 0 {
		return yes
	}
	out := no
	for _, d := range g.Data {
		m := no
		switch d.Meaning {
		case "instance":
			m = is(d.Reference == r.Ref)
		case "related": // and what it refers to
			m = is(d.Reference == r.Ref || slices.Contains(r.ReferredBy, d.Reference))
		case "dependents": // and what refers to it
			m = is(d.Reference == r.Ref || slices.Contains(r.References, d.Reference))
		case "authoredby":
			m = is(d.Reference == r.Author)
			if m == no && slices.Contains(r.References, d.Reference) {
				m = maybe // as its author, perhaps
			}
		}
		out = max(out, m)
	}
	return out
}

// Sentences says the explanation in words. Nothing of what a Consent or a record
// holds is in them but kinds, ids and paths.
func (x Explanation) Sentences() []string {
	var out []string
	for _, a := range x.Accounts {
		who := a.Consent.String()
		if who == "" {
			who = "A Consent"
		}
		switch a.Verdict {
		case Permits:
			out = append(out, who+" ("+a.Kind.text()+") permits it: "+a.Provision+".")
		case Denies:
			out = append(out, who+" ("+a.Kind.text()+") forbids it: "+a.Provision+".")
		case AnotherKind:
			out = append(out, who+" ("+a.Kind.text()+") is of a kind that does not decide over it.")
		case NotInForce:
			out = append(out, who+" is not in force.")
		case Invalid:
			out = append(out, who+" grants nothing: "+strings.Join(a.Defects, "; ")+".")
		case DoesNotApply:
			var why []string
			for _, r := range a.Why {
				why = append(why, r.Provision+" by its "+r.Criterion)
			}
			out = append(out, who+" does not apply: "+strings.Join(why, "; ")+".")
		}
	}
	for _, m := range x.Missing {
		var names []string
		for _, k := range m.Kinds {
			names = append(names, string(k))
		}
		text := "No consent in force permits it, which would be " + strings.Join(names, ", or ")
		if m.Program != "" {
			text += ", for the records of Organization/" + string(m.Program)
		}
		out = append(out, text+".")
	}
	if x.Restricted {
		out = append(out, "A restriction forbids it, whatever else permits it.")
	}
	return out
}

func (k Kind) text() string {
	if k == General {
		return "of no kind"
	}
	return string(k)
}
