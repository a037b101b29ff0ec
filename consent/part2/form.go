package part2

import "slices"

// The kinds of written consent beside [TPO] and [Specific].
const (
	Intermediary Kind = "part2-intermediary" // to an intermediary's participants, 42 CFR 2.31(a)(4)(ii)
	SUDCN        Kind = "part2-sudcn"        // for SUD counseling notes, 42 CFR 2.31(b)
	Legal        Kind = "part2-legal"        // for proceedings against the patient, 42 CFR 2.31(d)
	Research     Kind = "part2-research"     // for research, 42 CFR 2.31(a)(7), 2.52
	ToParent     Kind = "minor-disclosure"   // of a minor, to a parent, 42 CFR 2.14(b)
)

// research are the purposes of research (v3-ActReason, HRESCH and below).
var research = []string{"HRESCH", "BIORCH", "CLINTRCH", "CLINTRCHNPC", "CLINTRCHPC", "PRECLINTRCH", "DSRCH", "POARCH", "TRANSRCH"}

// ForStudy reports whether a purpose is research (S35, v3-ActReason: HRESCH and below).
func ForStudy(purpose string) bool { return slices.Contains(research, purpose) }

// PurposesFit reports whether a consent of kind k can be for these purposes
// (S7, S13, S15, 42 CFR 2.31(a)(5), (d)): the single consent for treatment, payment and
// operations for all three, or in an exception of it for some of them; one for
// proceedings, for proceedings alone; one for research, for research alone; and any
// other for what is [Consentable].
func PurposesFit(k Kind, purposes []string) bool {
	fits := Consentable
	switch k {
	case TPO:
		return IsTPO(purposes)
	case Legal:
		fits = Proceeding
	case Research:
		fits = ForStudy
	}
	return len(purposes) > 0 && !slices.ContainsFunc(purposes, func(p string) bool { return !fits(p) })
}

// ExpiryEvent reports whether an event can stand in place of the date on which a
// consent of kind k ends (S7, 42 CFR 2.31(a)(7)): the end of the treatment in any;
// no end at all in a single consent, and in one for research; the end of the study in
// one for research.
func ExpiryEvent(k Kind, event string) bool {
	switch event {
	case "expires-end-of-treatment":
		return true
	case "expires-none":
		return k == TPO || k == Research
	case "expires-end-of-study":
		return k == Research
	}
	return false
}
