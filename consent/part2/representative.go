package part2

import "slices"

// Authority is why one may consent for another.
type Authority string

// The authorities.
const (
	Parent   Authority = "parent"   // where state law asks for a parent's consent, 42 CFR 2.14(c)
	Guardian Authority = "guardian" // of one adjudicated to lack capacity, 42 CFR 2.15(a)(1)
	Executor Authority = "executor" // or spouse or family of one who died, 42 CFR 2.15(b)(2)
)

// Signatures are those under a consent. A representative's counts where
// somebody verified who it is.
type Signatures struct {
	Patient        bool
	Representative bool
	Authority      []Authority // that the representative claims
}

// Signed reports whether a consent of kind k is signed by those who have to:
// the patient, a minor too (S27, 42 CFR 2.14(b)); minor and parent, both, where the
// parent's consent is asked for (S28, 2.14(c)); the guardian or the executor in
// place of a patient who cannot (S30, 2.15). Nobody but the minor consents to a
// disclosure to a parent.
func Signed(k Kind, s Signatures) bool {
	switch {
	case k == ToParent:
		return s.Patient
	case slices.Contains(s.Authority, Parent):
		return s.Patient && s.Representative
	case s.Patient:
		return true
	}
	return s.Representative && (slices.Contains(s.Authority, Guardian) || slices.Contains(s.Authority, Executor))
}
