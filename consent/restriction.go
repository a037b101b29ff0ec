package consent

import (
	"maps"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/consent/hipaa"
)

// owed reports whether a Consent asks for a restriction that binds before the practice agreed to it, as far as
// [compiler.mustAgree] says: it is proposed, and says that the service was paid for in full. A practice that finds that it was
// not rejects it.
func (d Directive) owed() bool {
	return d.Status == "proposed" && oneKind(kindsOf(d)) == Restriction && d.states(paidInFull)
}

// byLaw are purposes for which a law requires what it is that is disclosed, so that no restriction is owed.
var byLaw = []string{"HLEGAL", "HCOMPL", "HDECD"}

// mustAgree narrows a denial to what the practice has to agree to (H3, S25, 45 CFR 164.522(a)(1)(vi), 42 CFR 2.26):
// disclosures to a health plan for payment, and to one that is named also for operations. Nobody knows of an Organization
// whether it is a plan, so that each that is named counts as one, and where nobody is named, whatever is for payment. It
// reports whether anything is left.
func (c *compiler) mustAgree(g *Grant, above []Grant) bool {
	plans := slices.DeleteFunc(slices.Clone(g.Recipients), func(r string) bool { return !plan(r) })
	if len(g.Recipients) > 0 && len(plans) == 0 {
		return false
	}
	g.Recipients = plans
	named := len(plans) > 0 || slices.ContainsFunc(above, func(a Grant) bool { return slices.ContainsFunc(a.Recipients, plan) })
	var out []string
	for _, p := range slices.Sorted(maps.Keys(below)) {
		if len(g.Purposes) > 0 && !slices.Contains(g.Purposes, p) {
			continue
		}
		if hipaa.MustAgree(hipaa.Restriction{
			ToPlan: isA(p, "HPAYMT") || named && isA(p, "HOPERAT"), PaidInFull: c.d.states(paidInFull), ByLaw: slices.Contains(byLaw, p),
		}) {
			out = append(out, p)
		}
	}
	g.Purposes = out
	return len(out) > 0
}

// plan reports whether a recipient may be a health plan.
func plan(recipient string) bool {
	return recipient == class("payers") || strings.HasPrefix(recipient, "Organization/") || strings.HasPrefix(recipient, identifierPrefix)
}
