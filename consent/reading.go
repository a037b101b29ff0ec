package consent

import (
	"slices"

	"github.com/cloister-health/cloister/fhir"
)

// reading takes the criteria of a provision into its grant. What is not
// understood is left out of a permit without provisions below it, which narrows it; of
// everything else the whole criterion goes, which widens it, and flaws says so.
type reading struct {
	g     *Grant
	leaf  bool
	flaws []string // elements that cannot be evaluated, with citations
	// listed are the purposes as they are written.
	listed []string
}

const (
	flawWhat    = "42 CFR 2.31(a)(3), 45 CFR 164.508(c)(1)(i): what may be disclosed cannot be evaluated: "
	flawWhom    = "42 CFR 2.31(a)(4), 45 CFR 164.508(c)(1)(iii): the recipient cannot be evaluated"
	flawPurpose = "42 CFR 2.31(a)(5), 45 CFR 164.508(c)(1)(iv): the purpose cannot be evaluated"
)

// settle decides over a criterion of which found alternatives were understood
// and lost were not. It reports whether the criterion counts.
func (r *reading) settle(found, lost int, flaw string) bool {
	if lost == 0 || r.g.Effect == Permit && r.leaf && found > 0 {
		return true
	}
	r.flaws = append(r.flaws, flaw)
	return false
}

func (r *reading) actors(list []Actor) {
	var out []string
	lost := 0
	for _, a := range list {
		if !isRecipient(a, r.g.Effect) {
			continue
		}
		s := recipientOf(a)
		if s == "" {
			lost++
			continue
		}
		out = append(out, s)
	}
	if r.settle(len(out), lost, flawWhom) {
		slices.Sort(out)
		r.g.Recipients = slices.Compact(out)
	}
}

func recipientOf(a Actor) string {
	switch {
	case a.Reference != (fhir.Ref{}):
		return named(a.Reference)
	case a.Identifier.System == fhir.RecipientClass:
		if knownClass(a.Identifier.Code) {
			return class(a.Identifier.Code)
		}
	case a.Identifier.System != "" && a.Identifier.Code != "":
		return Identified(a.Identifier)
	}
	return ""
}

// isRecipient: an actor takes part in a disclosure as its recipient, or holds
// the records, or ...; a permit is for recipients only, and a deny for everybody that
// it names but the custodian.
func isRecipient(a Actor, e Effect) bool {
	return slices.ContainsFunc(a.Role, func(c Code) bool {
		switch {
		case c.System == participation && (c.Code == "IRCP" || c.Code == "PRCP"), c == intermediary:
			return true
		}
		return e == Deny && (c.System != participation || c.Code != "CST")
	})
}

func (r *reading) purposes(list []Code) {
	var codes []string
	lost := 0
	for _, c := range list {
		_, known := below[c.Code]
		if c.System != actReason || !known {
			lost++
			continue
		}
		codes = append(codes, c.Code)
	}
	r.listed = codes
	if r.settle(len(codes), lost, flawPurpose) && len(codes) > 0 {
		r.g.Purposes = expand(r.g.Effect, codes)
	}
}

func (r *reading) classes(list []Code) {
	var types []fhir.ResourceType
	var documents []Code
	lost := 0
	for _, c := range list {
		switch t := fhir.ResourceType(c.Code); {
		case c.System == resourceTypes && t.Valid():
			types = append(types, t)
		case c.System == resourceTypes, c.System == "":
			lost++
		default:
			documents = append(documents, c)
		}
	}
	if r.settle(len(types)+len(documents), lost, flawWhat+"class") {
		slices.Sort(types)
		r.g.Types, r.g.Documents = slices.Compact(types), distinct(documents)
	}
}

func (r *reading) codes(list []Code) {
	var out []Code
	lost := 0
	for _, c := range list {
		if c.System == "" {
			lost++
			continue
		}
		out = append(out, c)
	}
	if r.settle(len(out), lost, flawWhat+"code") {
		r.g.Codes = distinct(out)
	}
}

func (r *reading) data(list []Datum) {
	var out []Datum
	lost := 0
	for _, d := range list {
		switch d.Meaning {
		case "instance", "related", "dependents", "authoredby":
			if d.Reference.ID.Valid() {
				out = append(out, d)
				continue
			}
		}
		lost++
	}
	if r.settle(len(out), lost, flawWhat+"data") {
		r.g.Data = out
	}
}

func (r *reading) marks(list []Code, l Labels) {
	r.g.Labels = AllLabels
	if len(list) == 0 {
		return
	}
	m, ok := l.Covers(r.g.Effect, list)
	if !ok {
		r.flaws = append(r.flaws, flawWhat+"securityLabel")
		return
	}
	r.g.Labels = m
}

// bears reports whether a provision bears on the disclosure of records: access
// and disclosure, and for a denial use and what is not understood.
func bears(actions []Code, e Effect) bool {
	return len(actions) == 0 || slices.ContainsFunc(actions, func(c Code) bool {
		if c.System != consentAction {
			return e == Deny
		}
		switch c.Code {
		case "disclose", "access":
			return true
		case "collect", "correct":
			return false
		}
		return e == Deny
	})
}

func distinct[T comparable](list []T) (out []T) {
	for _, x := range list {
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	return out
}
