package hipaa

import "time"

// Disclosure is what an accounting has to know of one disclosure.
type Disclosure struct {
	At               time.Time
	Purpose          string
	ToIndividual     bool // to the individual or who acts for them
	Authorized       bool // by an authorization of the individual
	Incident         bool // incident to a permitted one
	Directory        bool // the facility's directory
	LimitedSet       bool // as part of a limited data set
	NationalSecurity bool
	WithinWorkforce  bool // a use, and no disclosure
}

// Accountable reports whether a disclosure is one for the accounting (H1, 45 CFR
// 164.528(a)(1)): all are but those for treatment, payment and operations, to the individual, with
// an authorization, incidental ones, directories, limited data sets and national security.
func Accountable(d Disclosure) bool {
	switch d.Purpose {
	case "", treatment, payment, operations, request:
		return d.Purpose == "" // a purpose that nobody knows is accounted for
	}
	return !d.ToIndividual && !d.Authorized && !d.Incident && !d.Directory && !d.LimitedSet && !d.NationalSecurity && !d.WithinWorkforce
}

// AccountingSince is the start of the period of an accounting (H1): six years before it is asked for.
func AccountingSince(asked time.Time) time.Time { return asked.AddDate(-6, 0, 0) }

// AccountingDue is the last moment for an accounting (H1, 45 CFR 164.528(c)(1)): 60 days, and 30 more once.
func AccountingDue(asked time.Time, extended bool) time.Time { return due(asked, 60, extended) }

// AccountingFree reports whether an accounting costs nothing (H1, 45 CFR 164.528(c)(2)): the first of any twelve months.
func AccountingFree(last, asked time.Time) bool {
	return last.IsZero() || !asked.Before(last.AddDate(1, 0, 0))
}

// AccessDue is the last moment for the patient's access (H2, 45 CFR 164.524(b)(2)): 30 days, and 30 more once.
func AccessDue(asked time.Time, extended bool) time.Time { return due(asked, 30, extended) }

func due(asked time.Time, days int, extended bool) time.Time {
	if extended {
		days += 30
	}
	return asked.AddDate(0, 0, days)
}

// Restriction is what a patient asked the practice to keep from a disclosure.
type Restriction struct {
	Covers     bool // it covers this disclosure
	Agreed     bool // the practice agreed to it
	ToPlan     bool // it is about a disclosure to a health plan for payment or operations
	PaidInFull bool // and the service was paid for in full by somebody else
	ByLaw      bool // the disclosure is required by law
}

// MustAgree reports whether a restriction has to be agreed to (H3, 45 CFR 164.522(a)(1)(vi)).
func MustAgree(r Restriction) bool { return r.ToPlan && r.PaidInFull && !r.ByLaw }

// RestrictionBars reports whether a restriction bars a disclosure (H3, 45 CFR 164.522(a)(1)(iii)):
// one that was, or had to be, agreed to. Emergency treatment of the individual is not barred, but for what
// is kept from a plan.
func RestrictionBars(r Restriction, purpose string) bool {
	if !r.Covers || r.ByLaw {
		return false
	}
	return MustAgree(r) || r.Agreed && !Emergency(purpose)
}

// MinimumNecessary reports whether a disclosure is limited to what its purpose
// needs (H4, 45 CFR 164.502(b)): all are but those for treatment, to the individual, with an
// authorization, to the Secretary and required by law.
func MinimumNecessary(purpose string, authorized, secretary, byLaw bool) bool {
	return purpose != treatment && !Emergency(purpose) && purpose != request && !authorized && !secretary && !byLaw
}

// Representative is who acts for an individual in health care matters.
type Representative struct {
	Authority  bool // under the law of the state
	Minor      bool // the individual is an unemancipated minor
	MinorAlone bool // the minor may consent, and did, to the care alone
	Endangers  bool // a professional judges that treating them as representative may endanger the individual
}

// IsRepresentative reports whether somebody is treated as the individual (H5, 45 CFR
// 164.502(g)): with authority, not for care to which a minor consented alone, and not where it endangers.
func IsRepresentative(r Representative) bool {
	return r.Authority && !r.Endangers && (!r.Minor || !r.MinorAlone)
}

// Safeguard is a technical safeguard of 45 CFR 164.312.
type Safeguard struct {
	Cite     string
	Name     string
	Required bool // else it is addressable: put in place, or the reason why not written down
}

// Safeguards lists them (H6).
func Safeguards() []Safeguard {
	return []Safeguard{
		{"164.312(a)(2)(i)", "unique user identification", true},
		{"164.312(a)(2)(ii)", "emergency access procedure", true},
		{"164.312(a)(2)(iii)", "automatic logoff", false},
		{"164.312(a)(2)(iv)", "encryption and decryption", false},
		{"164.312(b)", "audit controls", true},
		{"164.312(c)(1)", "integrity", true},
		{"164.312(d)", "person or entity authentication", true},
		{"164.312(e)(1)", "transmission security", true},
	}
}

// Breach is what is known of an impermissible use or disclosure.
type Breach struct {
	Discovered     time.Time
	Individuals    int
	MostInOneState int
	Secured        bool // encrypted as the guidance says, and the key is safe
	LowProbability bool // of compromise, by the assessment of four factors
}

// Notices is to whom a breach has to be notified, and until when.
type Notices struct {
	Individuals time.Time
	Media       time.Time // zero: not at all
	Secretary   time.Time
}

const large = 500

// BreachNotices gives the deadlines of a breach (H8, 45 CFR 164.404, 164.406, 164.408);
// ok is false where there is none to notify (164.402).
func BreachNotices(b Breach) (n Notices, ok bool) {
	if b.Secured || b.LowProbability {
		return Notices{}, false
	}
	n.Individuals = b.Discovered.AddDate(0, 0, 60)
	if b.MostInOneState > large {
		n.Media = n.Individuals
	}
	n.Secretary = n.Individuals
	if b.Individuals < large {
		n.Secretary = time.Date(b.Discovered.Year()+1, time.January, 1, 0, 0, 0, 0, b.Discovered.Location()).AddDate(0, 0, 60)
	}
	return n, true
}

// KeepUntil is until when a document has to be kept (H9, 45 CFR 164.316(b)(2), 164.530(j)):
// six years from its making, or from when it was last in effect.
func KeepUntil(made, lastInEffect time.Time) time.Time {
	if lastInEffect.After(made) {
		made = lastInEffect
	}
	return made.AddDate(6, 0, 0)
}
