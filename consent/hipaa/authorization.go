package hipaa

import "slices"

// Authorization is which core elements and statements of 45 CFR 164.508(c) an
// authorization has.
type Authorization struct {
	Description bool // (1)(i) of the information
	Discloser   bool // (1)(ii) who may disclose
	Recipient   bool // (1)(iii) to whom
	Purpose     bool // (1)(iv)
	Expiry      bool // (1)(v) date or event
	Signature   bool // (1)(vi) of the individual or the representative
	Date        bool // (1)(vi) of the signature
	// Representative says that nobody but a representative signed, and Authority,
	// that the authority to act is described: (1)(vi).
	Representative, Authority bool
	Revocation                bool // (2)(i) the right to revoke
	Conditioning              bool // (2)(ii) what depends on the authorization
	Redisclosure              bool // (2)(iii) that recipients may disclose further
	// Marketing says that it is for marketing, and Remuneration, that it is stated
	// who pays for it: 164.508(a)(3)(ii).
	Marketing, Remuneration bool
}

// Deficient says what keeps an authorization from being one (P16, 45 CFR
// 164.508(b)(2), (c)), by citation; nil for a valid one.
func Deficient(a Authorization) (out []string) {
	for _, e := range []struct {
		there bool
		text  string
	}{
		{a.Description, "45 CFR 164.508(c)(1)(i): the description of the information is missing"},
		{a.Discloser, "45 CFR 164.508(c)(1)(ii): who may disclose is missing"},
		{a.Recipient, "45 CFR 164.508(c)(1)(iii): the recipient is missing"},
		{a.Purpose, "45 CFR 164.508(c)(1)(iv): the purpose is missing"},
		{a.Expiry, "45 CFR 164.508(c)(1)(v): the expiry is missing"},
		{a.Signature, "45 CFR 164.508(c)(1)(vi): the signature is missing"},
		{a.Date, "45 CFR 164.508(c)(1)(vi): the date of the signature is missing"},
		{!a.Representative || a.Authority || !a.Signature, "45 CFR 164.508(c)(1)(vi): the authority of the representative is missing"},
		{a.Revocation, "45 CFR 164.508(c)(2)(i): the statement on revocation is missing"},
		{a.Conditioning, "45 CFR 164.508(c)(2)(ii): the statement on conditioning is missing"},
		{a.Redisclosure, "45 CFR 164.508(c)(2)(iii): the statement on redisclosure is missing"},
		{!a.Marketing || a.Remuneration, "45 CFR 164.508(a)(3)(ii): the statement on remuneration for marketing is missing"},
	} {
		if !e.there {
			out = append(out, e.text)
		}
	}
	return out
}

// MustAgree reports whether a practice has to agree to a requested restriction
// (H3, 45 CFR 164.522(a)(1)(vi), 42 CFR 2.26(a)(3)): one on disclosures to a health plan, for payment
// or operations, about what was paid in full by somebody else.
func MustAgree(toPlan bool, purposes []string, paidInFull bool) bool {
	return toPlan && paidInFull && len(purposes) > 0 && !slices.ContainsFunc(purposes, func(p string) bool { return p != "HPAYMT" && p != "HOPERAT" })
}
