// Package state holds what the law of states and other jurisdictions adds to
// federal law, one plug-in for each jurisdiction.
//
// A plug-in only bars: what federal law denies none of them opens. A practice
// names the jurisdictions that hold for it; one that is not known here is an error.
package state

import (
	"fmt"
	"slices"
	"sort"
)

// Disclosure is what a plug-in is told of one use or disclosure. What is not
// known is set to what protects: a recipient of an unknown place is in another state.
type Disclosure struct {
	Purpose    string // v3-ActReason
	Outside    bool   // it leaves the practice
	OtherState bool   // the recipient is, or may be, in another state
	ToParent   bool   // to who acts for a minor
	Self       bool   // to the patient
	Consent    bool   // the patient's written consent names recipient and purpose
	Request    bool   // the recipient asked in writing, with what, what for, how long and its destruction
	Emergency  bool   // a declared medical emergency
	Exception  bool   // an exception of federal law, documented and in force, which is for such records
	Machine    bool   // to software that drafts documentation
	// MachineConsent says that the patient consented in writing to documentation with the help of a machine.
	MachineConsent bool

	MentalHealth   bool // about mental health care, the fact of admission included
	Psychotherapy  bool // about outpatient psychotherapy
	SubstanceUse   bool // about substance use disorder care
	Reproductive   bool // about abortion, contraception or pregnancy
	GenderCare     bool // about gender-affirming care
	PersonalNote   bool // the clinician's own note of a session
	MinorConsented bool // care to which a minor consented alone
	Frozen         bool // the person asked that the record be stored and not processed
}

// Overlay is the law of one jurisdiction.
type Overlay interface {
	// Jurisdiction is its code in ISO 3166, such as US-WA, or EU.
	Jurisdiction() string
	// Bars names the rule that bars the disclosure, or is "".
	Bars(d Disclosure) string
}

// law is a plug-in made of one function.
type law struct {
	code string
	bars func(Disclosure) string
}

func (l law) Jurisdiction() string     { return l.code }
func (l law) Bars(d Disclosure) string { return l.bars(d) }

var registry = map[string]Overlay{}

// register adds a plug-in; two for one jurisdiction are a fault of the program.
func register(o Overlay) {
	if registry[o.Jurisdiction()] != nil {
		panic("state: two plug-ins for " + o.Jurisdiction())
	}
	registry[o.Jurisdiction()] = o
}

func init() {
	for code, bars := range map[string]func(Disclosure) string{
		"US-WA": Washington, "US-CA": California, "US-IL": Illinois, "US-NY": NewYork,
		"US-TX": Texas, "US-FL": Florida, "US-PA": Pennsylvania, "EU": GDPR,
	} {
		register(law{code, bars})
	}
}

// Known lists the jurisdictions that have a plug-in.
func Known() []string {
	out := make([]string, 0, len(registry))
	for code := range registry {
		out = append(out, code)
	}
	sort.Strings(out)
	return out
}

// Set is the law of all jurisdictions that hold for a practice: of the patient, the holder and the recipient.
type Set []Overlay

// Select gives the plug-ins of jurisdictions. One that has none is an error, which denies.
func Select(codes ...string) (Set, error) {
	var out Set
	for i, code := range codes {
		o := registry[code]
		if o == nil {
			return nil, fmt.Errorf("state: no law is known for %q (known: %v)", code, Known())
		}
		if slices.Contains(codes[:i], code) {
			return nil, fmt.Errorf("state: %q is named twice", code)
		}
		out = append(out, o)
	}
	return out, nil
}

// Bars names the first rule that bars a disclosure, or is "". Two rules hold whatever the jurisdiction: what a minor consented
// to alone goes neither to a parent nor out of the practice without the minor's consent, but by an exception that is documented for
// such care; and a machine is shown nothing without the patient's consent to that.
func (s Set) Bars(d Disclosure) string {
	switch {
	case d.MinorConsented && !open(d) && (d.ToParent || d.Outside && !d.Exception):
		return "J11"
	case d.Machine && !d.MachineConsent:
		return "J14"
	}
	for _, o := range s {
		if rule := o.Bars(d); rule != "" {
			return rule
		}
	}
	return ""
}
