package record

import (
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// Labels says which records a provision of a Consent means with its security
// labels, in the bits that the store keeps.
var Labels consent.Labels = labels{}

type labels struct{}

// every is all labels, those to come among them.
const every = label.Set(1<<31 - 1)

// Covers implements [consent.Labels].
func (labels) Covers(e consent.Effect, codes []consent.Code) (consent.Mask, bool) {
	var named label.Set
	var level label.Confidentiality // the widest
	for _, c := range codes {
		if l, ok := label.ConfidentialityOf(c.System, c.Code); ok {
			if level == 0 || (l > level) == (e == consent.Permit) {
				level = l
			}
			continue
		}
		s, ok := label.OfLabelCode(c.System, c.Code)
		if !ok {
			return consent.Mask{}, false
		}
		named |= s
	}
	if e == consent.Deny {
		return denied(named, level), true
	}
	return permitted(named, level), true
}

// permitted: a permit for a source (42CFRPart2, PSYTHPN ...) means its records
// whatever they are about, and no notes of sessions with it; a permit for what a
// record is about means records that are about nothing else.
func permitted(named label.Set, level label.Confidentiality) consent.Mask {
	reached := label.PermitCovers(named)
	within := reached
	if named.Any(label.Source) {
		within |= every &^ label.Notes
	} else {
		within |= label.Source &^ label.Notes // whose they are is for kind and program to say
	}
	if level != 0 {
		reached = 0 // and whatever is no more confidential
		switch {
		case level.PermitCovers(label.VeryRestricted):
			within = every
		case level.PermitCovers(label.Restricted):
			within |= every &^ label.Notes
		}
	}
	return consent.Mask{Any: uint32(reached), Within: uint32(within)}
}

func denied(named label.Set, level label.Confidentiality) consent.Mask {
	reached := label.DenyCovers(named)
	switch {
	case level == 0:
	case level.DenyCovers(label.Normal):
		reached = 0
	case level.DenyCovers(label.Restricted):
		reached = every
	default:
		reached |= label.Notes
	}
	return consent.Mask{Any: uint32(reached), Within: uint32(every)}
}

// deficient says what keeps a Consent from granting what it says: it is stored as
// evidence all the same.
func deficient(r *codec.Resource) (out []outcome.Issue) {
	if r.Type != "Consent" {
		return nil
	}
	d, err := codec.ConsentDirective(r)
	if err != nil {
		return nil
	}
	for _, text := range consent.Compile(d, Labels).Defects {
		out = append(out, outcome.Issue{Category: outcome.BusinessRule, Path: "Consent", Text: "this Consent grants nothing: " + text, Warning: true})
	}
	return out
}
