// Package label turns the codes and the provenance of a resource into its
// security labels (HL7's Security Labeling Service).
package label

import (
	"fmt"
	"strings"
)

// Set is a set of labels. The bits are stored: never renumber them.
type Set uint32

// Source labels say where a record comes from. They are set from provenance
// (program, author, storage), never from codes alone.
const (
	Part2          Set = 1 << iota // 42CFRPart2: a record of a Part 2 program (42 CFR 2.11)
	PsychNote                      // PSYTHPN: a psychotherapy note (45 CFR 164.501)
	CounselingNote                 // SUDCN: an SUD counseling note (42 CFR 2.11)
	MinorConsented                 // care to which a minor consented alone (42 CFR 2.14, state law)
	// Received: a record received from a Part 2 program under the patient's consent. Its
	// holder need not keep it apart (42 CFR 2.12(d)(2)(i)(C)), but has to know it for the
	// bar on proceedings against the patient (2.12(d)(1)), which has no end.
	Received
)

// Oversight is the work of a practice's privacy officer on accesses to other
// records, such as the review of a declared emergency. The server alone sets it.
const Oversight Set = 1 << 7

// Sensitivity labels say what a record is about (v3-ActCode).
const (
	ETH Set = 1 << (8 + iota) // substance abuse information sensitivity
	SUD
	ETHUD
	OPIOIDUD
	PSY
	MH
	BH
	HIV
	STD
	SEX
	SDV
	VIO
	PREGNANT
	GDIS
	SICKLE // and SCA, its older name
	COGN
	DVD
	EMOTDIS
	MST
	TBOO
	IDS          //nolint:revive // it is the code
	Unclassified // coded in a system that no rule knows, where an operator wants that protected
)

// Notes are the labels of the records that live in their own schema.
const Notes = PsychNote | CounselingNote

// Source is every label that comes from provenance.
const Source = Part2 | PsychNote | CounselingNote | MinorConsented | Received | Oversight

// names is in bit order; the codes are those of v3-ActCode where one exists.
var names = []struct {
	bit  Set
	code string
}{
	{Part2, "42CFRPart2"}, {PsychNote, "PSYTHPN"}, {CounselingNote, "SUDCN"}, {MinorConsented, "MINORCONSENT"},
	{Received, "42CFRPart2-RECEIVED"}, {Oversight, "OVERSIGHT"},
	{ETH, "ETH"}, {SUD, "SUD"}, {ETHUD, "ETHUD"}, {OPIOIDUD, "OPIOIDUD"}, {PSY, "PSY"}, {MH, "MH"}, {BH, "BH"},
	{HIV, "HIV"}, {STD, "STD"}, {SEX, "SEX"}, {SDV, "SDV"}, {VIO, "VIO"}, {PREGNANT, "PREGNANT"}, {GDIS, "GDIS"}, {SICKLE, "SICKLE"},
	{COGN, "COGN"}, {DVD, "DVD"}, {EMOTDIS, "EMOTDIS"}, {MST, "MST"}, {TBOO, "TBOO"}, {IDS, "IDS"},
	{Unclassified, "UNCLASSIFIED"},
}

// All is every label there is.
var All = func() (s Set) {
	for _, n := range names {
		s |= n.bit
	}
	return s
}()

// Codes lists the codes of s, source labels first.
func (s Set) Codes() []string {
	var out []string
	for _, n := range names {
		if s&n.bit != 0 {
			out = append(out, n.code)
		}
	}
	return out
}

// Has reports whether s holds every label of t.
func (s Set) Has(t Set) bool { return s&t == t }

// Any reports whether s and t share a label.
func (s Set) Any(t Set) bool { return s&t != 0 }

// String lists the codes, joined by "+"; the empty set is "-".
func (s Set) String() string {
	if c := s.Codes(); len(c) > 0 {
		return strings.Join(c, "+")
	}
	return "-"
}

// ParseSet is the inverse of [Set.String].
func ParseSet(text string) (Set, error) {
	var s Set
	if text == "-" {
		return s, nil
	}
next:
	for _, c := range strings.Split(text, "+") {
		for _, n := range names {
			if n.code == c {
				s |= n.bit
				continue next
			}
		}
		return 0, fmt.Errorf("label: unknown label %q", c)
	}
	return s, nil
}
