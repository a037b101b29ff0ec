package hipaa

import "time"

// Authorization is which elements and statements of 45 CFR 164.508(c) a signed form has.
type Authorization struct {
	Description    bool // (1)(i) what may be used or disclosed
	Discloser      bool // (1)(ii) who may
	Recipient      bool // (1)(iii) to whom
	Purpose        bool // (1)(iv) what for
	Expiry         bool // (1)(v) a date or an event
	Signature      bool // (1)(vi) and its date
	SignatureDate  bool
	Representative bool // signed by a representative
	Authority      bool // (1)(vi) and the representative's authority
	Revocation     bool // (2)(i) the right to revoke it
	Conditioning   bool // (2)(ii) what may not be made to depend on it
	Redisclosure   bool // (2)(iii) that the recipient may pass it on
	// Marketing says that it is for marketing, and Remuneration, that it is stated
	// who pays for it: 164.508(a)(3)(ii).
	Marketing, Remuneration bool

	Expires   time.Time // zero: by an event that has not come
	RevokedAt time.Time // zero: not revoked
	False     bool      // some material statement in it is known to be false
}

// AuthorizationFaults names what makes an authorization invalid at a moment (P16,
// 45 CFR 164.508(b)(2), (c)); nil is a valid one.
func AuthorizationFaults(a Authorization, at time.Time) []string {
	var out []string
	for _, e := range []struct {
		good bool
		text string
	}{
		{a.Description, "45 CFR 164.508(c)(1)(i): what may be disclosed is missing"},
		{a.Discloser, "45 CFR 164.508(c)(1)(ii): who may disclose is missing"},
		{a.Recipient, "45 CFR 164.508(c)(1)(iii): the recipient is missing"},
		{a.Purpose, "45 CFR 164.508(c)(1)(iv): the purpose is missing"},
		{a.Expiry, "45 CFR 164.508(c)(1)(v): the expiry is missing"},
		{a.Signature, "45 CFR 164.508(c)(1)(vi): the signature is missing"},
		{a.SignatureDate, "45 CFR 164.508(c)(1)(vi): the date of the signature is missing"},
		{!a.Representative || a.Authority || !a.Signature, "45 CFR 164.508(c)(1)(vi): the authority of the representative is missing"},
		{a.Revocation, "45 CFR 164.508(c)(2)(i): the right to revoke is not stated"},
		{a.Conditioning, "45 CFR 164.508(c)(2)(ii): what may not be conditioned is not stated"},
		{a.Redisclosure, "45 CFR 164.508(c)(2)(iii): redisclosure is not stated"},
		{!a.Marketing || a.Remuneration, "45 CFR 164.508(a)(3)(ii): the statement on remuneration for marketing is missing"},
		{a.Expires.IsZero() || at.Before(a.Expires), "45 CFR 164.508(b)(2)(i): it has expired"},
		{a.RevokedAt.IsZero() || at.Before(a.RevokedAt), "45 CFR 164.508(b)(2)(iii): it was revoked"},
		{!a.False, "45 CFR 164.508(b)(2)(v): it is known to be false"},
	} {
		if !e.good {
			out = append(out, e.text)
		}
	}
	return out
}

// MayCondition reports whether treatment may be made to depend on an authorization (P15, 45 CFR
// 164.508(b)(4)): research-related treatment on one for that research, and nothing on one for psychotherapy notes.
func MayCondition(researchTreatment, psychotherapyNotes bool) bool {
	return researchTreatment && !psychotherapyNotes
}
