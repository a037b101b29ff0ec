// Package deident makes de-identified releases of stored resources, by an allow-list
// and under a named and versioned profile.
//
// Whatever the list does not name is left out: elements, codes, extensions, whole
// resource types. The rules are those of 45 CFR 164.514; package
// consent/deidentify has them one by one.
package deident

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/consent/deidentify"
	"github.com/cloister-health/cloister/fhir"
)

// Method is one of the ways in which the regulation lets records go.
type Method uint8

// The methods of 45 CFR 164.514.
const (
	SafeHarbor Method = iota + 1 // (b)(2)
	LimitedSet                   // (e)
	Expert                       // (b)(1)
)

// Profile names what a release is held to. Another list, or another treatment of
// what is on it, is another version.
type Profile struct {
	Name     string
	Version  string
	Citation string
	Method   Method
	Label    string // v3-ObservationValue: how the resources were altered
}

// Profiles lists the profiles of this version of the server.
func Profiles() []Profile {
	return []Profile{
		{"safe-harbor", "1.1.0", "45 CFR 164.514(b)(2)", SafeHarbor, "ANONYED"},
		{"limited-data-set", "1.1.0", "45 CFR 164.514(e)", LimitedSet, "PSEUDED"},
		{"expert-determination", "1.1.0", "45 CFR 164.514(b)(1)", Expert, "ANONYED"},
	}
}

// Named finds a profile by its name.
func Named(name string) (Profile, bool) {
	for _, p := range Profiles() {
		if p.Name == name {
			return p, true
		}
	}
	return Profile{}, false
}

// Canonical is the URL of the profile, without its version.
func (p Profile) Canonical() string { return fhir.Canonical + "/release-profile/" + p.Name }

// Asked finds the profile that a request names: its name or its canonical URL, with or without |version.
func Asked(text string) (Profile, bool) {
	name, version, versioned := strings.Cut(text, "|")
	p, ok := Named(strings.TrimPrefix(name, fhir.Canonical+"/release-profile/"))
	if !ok || versioned && version != p.Version {
		return Profile{}, false
	}
	return p, true
}

// String is the profile as a manifest names it: "safe-harbor|1.1.0".
func (p Profile) String() string { return p.Name + "|" + p.Version }

// Subject is what must be known of a patient before a record of hers goes into a release.
type Subject struct {
	Birth    string // Patient.birthDate as it is stored; "" where it is not known
	OptedOut bool   // she does not want her records in de-identified sets (42 CFR 2.16; D7)
}

// Subjects knows the patients. ok is false for one who is not known: then nothing of
// hers is released.
type Subjects interface {
	Subject(ctx context.Context, patient fhir.ID) (s Subject, ok bool, err error)
}

// Member is a resource in a release.
type Member struct {
	ID      fhir.ID // in the release
	Patient fhir.ID // as stored, whose record it is; "" for what belongs to no patient
	// Counted is [Found.Counted] of the survey, where the release is made in pieces: what is
	// counted otherwise by then is [ErrChanged]. nil is not compared.
	Counted []byte
}

// Surrogates keeps which resources are in one release, and the ids that they have
// there. An id is random, and the same for as long as the release is made; that of
// another release is another (45 CFR 164.514(c); D3).
type Surrogates interface {
	// Admit makes a resource a member.
	Admit(ctx context.Context, r fhir.Ref, patient fhir.ID) error
	// Member finds one; ok is false for what was not admitted.
	Member(ctx context.Context, r fhir.Ref) (m Member, ok bool, err error)
}

// Shifts gives by how many days the dates of each patient are moved in one release:
// random, in -within to within, the same for all records of the patient.
type Shifts interface {
	Shift(ctx context.Context, patient fhir.ID, within int) (days int, err error)
}

// Config says who makes a release, of whom, and how.
type Config struct {
	Grant authz.Grant // under which all resources are read
	Now   time.Time   // ages are told as of then
	// Purpose is that of the recipient, where the operator of the server makes the release for one; "" is the grant's.
	Purpose    string
	Subjects   Subjects
	Surrogates Surrogates
	// Agreement names the data use agreement on file; the limited data set needs it (45 CFR 164.514(e)(4)).
	Agreement fhir.Ref
	// Codes are codes of the practice's own systems that may be released: system to codes.
	Codes map[string][]string
	// Questionnaires are those whose answers may be released: canonical URL without
	// version to the linkIds of the questions. Questions that are numbered by LOINC codes
	// need no entry.
	Questionnaires map[string][]string
	// Expert is what the expert has determined; for that profile alone.
	Expert *Determination
}

// Determination is what an expert has determined (45 CFR 164.514(b)(1)).
type Determination struct {
	Reference fhir.Ref // the document that holds the methods and results of the analysis
	Shifts    Shifts
	Days      int     // dates are moved by up to so many days, at most [MaxDays]
	K         int     // the least number of patients who are alike in all quasi-identifiers, at least [MinK]
	Quasi     []Quasi // what of a patient is released; no other element of Patient that tells people apart is
	YearBand  int     // years of birth are told as the first of so many; 0 is 1
}

// MaxDays bounds how far dates are moved: further, and they no longer say the year.
const MaxDays = 366

// MinK is the least k: a smaller group of patients would be a small cell itself (D8).
const MinK = 11

var (
	errGrant     = errors.New("deident: a resource was not read under the grant of the release")
	errUnsettled = errors.New("deident: the release is not settled")
	errSettled   = errors.New("deident: the release is settled; nothing more is surveyed")
	errSurrogate = errors.New("deident: the surrogate of a resource is no id of its own")
	// ErrChanged says that a resource is not what was surveyed: the counts do not hold any more.
	ErrChanged = errors.New("deident: a resource changed since it was surveyed")

	errShift = errors.New("deident: a date shift is out of the determined range")
)

// purpose is what the release is for. Nobody but the operator, who has a purpose of her own, says another than the token.
func (c Config) purpose() string {
	caller := c.Grant.Caller()
	if c.Purpose != "" && slices.Equal(caller.Roles, []string{authz.Operator}) {
		return c.Purpose
	}
	return caller.Purpose
}

func (c Config) check(p Profile) error {
	fault := func(text string) error { return fmt.Errorf("deident: %s: %s", p, text) }
	if known, ok := Named(p.Name); !ok || known != p {
		return errors.New("deident: there is no such profile")
	}
	if !c.Grant.Valid() || c.Now.IsZero() || c.Subjects == nil || c.Surrogates == nil {
		return fault("it needs a grant, the time, subjects and surrogates")
	}
	if p.Method == LimitedSet {
		if c.Agreement.ID == "" {
			return fault("it needs a data use agreement")
		}
		if !deidentify.LimitedSetPermits(true, c.purpose()) {
			return fault("it is for research, public health and operations only")
		}
	}
	if (p.Method == Expert) != (c.Expert != nil) {
		return fault("a determination is for expert determination, which needs one")
	}
	if d := c.Expert; d != nil {
		switch {
		case d.Reference.ID == "":
			return fault("the document of the determination is not named")
		case d.Shifts == nil || d.Days < 1 || d.Days > MaxDays:
			return fault(fmt.Sprintf("dates are moved by 1 to %d days", MaxDays))
		case d.K < MinK:
			return fault(fmt.Sprintf("k is at least %d", MinK))
		case d.YearBand < 0:
			return fault("a band of years is positive")
		}
		for i, q := range d.Quasi {
			if quasiOrder[q] == 0 {
				return fault("there is no such quasi-identifier")
			}
			for _, other := range d.Quasi[:i] {
				if other == q {
					return fault("a quasi-identifier is there twice")
				}
			}
		}
	}
	return nil
}

// Deidentified is one resource of a release. Nothing else can be written to one, and
// only this package makes one.
type Deidentified struct {
	ref  fhir.Ref
	of   *Release
	body func() []byte // behind a closure: fmt, slog and test libraries print struct fields
}

// Ref names the resource in the release.
func (d Deidentified) Ref() fhir.Ref { return d.ref }

// Format keeps the content out of every fmt verb.
func (Deidentified) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, "[de-identified]") }

// LogValue keeps the content out of logs.
func (Deidentified) LogValue() slog.Value { return slog.StringValue("[de-identified]") }

// MarshalJSON refuses: there is one way out, [NDJSON].
func (Deidentified) MarshalJSON() ([]byte, error) {
	return nil, errors.New("deident: write it to the release's NDJSON")
}
