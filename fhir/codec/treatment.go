package codec

import (
	"slices"
	"time"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/search"
)

// TreatmentView is what a resource other than a CareTeam says about who treats
// whom. It is read from the elements themselves: the typed view costs more than
// all else of an import, and Encounters and Appointments are most of one.
type TreatmentView struct {
	Patients []fhir.ID
	Members  []TreatmentMember
}

// TreatmentMember is one who treats: a Practitioner, a PractitionerRole or a CareTeam.
type TreatmentMember struct {
	Member fhir.Ref
	// Period is what the resource says of it, without any window around it. An open
	// end means that the treatment goes on; an unknown start leaves the member out.
	Period consent.Period
}

// Codes of R4 and of v3-ParticipationType by which a resource gives a treatment
// relationship. What is not listed gives none: a referrer, an escort and a
// translator take part in an Encounter and do not treat.
var (
	encounterOpen    = words("planned arrived triaged in-progress onleave")
	encounterTreats  = words("ADM ATND CON DIS PART PPRF SPRF")
	appointmentHolds = words("booked arrived checked-in fulfilled")
	referralOrders   = words("order original-order reflex-order filler-order instance-order")
)

const participationType = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"

// Treatment reads an Encounter, Appointment, EpisodeOfCare or ServiceRequest
// (http://hl7.org/fhir/R4/encounter.html and so on). Any other resource, and one
// whose meaning something unknown modifies, says nothing.
func Treatment(r *Resource) TreatmentView {
	var v TreatmentView
	if r == nil || modified(r.Root) {
		return v
	}
	switch r.Type {
	case "Encounter":
		v.encounter(r.Root)
	case "Appointment":
		v.appointment(r.Root)
	case "EpisodeOfCare":
		v.episode(r.Root)
	case "ServiceRequest":
		v.referral(r.Root)
	}
	if len(v.Patients) == 0 || len(v.Members) == 0 {
		return TreatmentView{}
	}
	return v
}

func (v *TreatmentView) encounter(root *element.Node) {
	status := root.Get("status").String()
	if !encounterOpen[status] && status != "finished" {
		return
	}
	whole, ok := span(root.Get("period"))
	if !ok || whole.Start.IsZero() {
		return
	}
	// Only one that is under way may be without an end: a forgotten one would give
	// the relationship for good.
	if whole.End.IsZero() && (status == "finished" || status == "planned") {
		whole.End = whole.Start
	}
	v.patient(root.Get("subject"))
	for _, p := range root.Get("participant").List() {
		own, ok := span(p.Get("period"))
		if !ok || modified(p) || !slices.ContainsFunc(p.Get("type").List(), func(c *element.Node) bool { return coded(c, participationType, encounterTreats) }) {
			continue
		}
		v.member(p.Get("individual"), shared(whole, own), "Practitioner", "PractitionerRole")
	}
}

func (v *TreatmentView) appointment(root *element.Node) {
	if !appointmentHolds[root.Get("status").String()] {
		return
	}
	whole, ok := span(root)
	if !ok || whole.Start.IsZero() {
		return
	}
	if whole.End.IsZero() {
		whole.End = whole.Start
	}
	for _, p := range root.Get("participant").List() {
		if modified(p) || p.Get("status").String() == "declined" {
			continue
		}
		v.patient(p.Get("actor"))
		if p.Get("status").String() == "accepted" {
			v.member(p.Get("actor"), whole, "Practitioner", "PractitionerRole")
		}
	}
}

func (v *TreatmentView) episode(root *element.Node) {
	if s := root.Get("status").String(); s != "active" && s != "onhold" {
		return
	}
	whole, ok := span(root.Get("period"))
	if !ok || whole.Start.IsZero() {
		return
	}
	v.patient(root.Get("patient"))
	v.member(root.Get("careManager"), whole, "Practitioner", "PractitionerRole")
	for _, t := range root.Get("team").List() {
		v.member(t, whole, "CareTeam")
	}
}

// ReferralTerm is for how long a referral holds that says neither when it is to
// be carried out nor until when.
const ReferralTerm = 90 * 24 * time.Hour

func (v *TreatmentView) referral(root *element.Node) {
	if root.Get("status").String() != "active" || !referralOrders[root.Get("intent").String()] || isTrue(root.Get("doNotPerform")) {
		return
	}
	var whole consent.Period
	authored, _, dated := search.Instants(root.Get("authoredOn").String())
	if dated {
		whole = consent.Period{Start: authored, End: authored.Add(ReferralTerm)}
	}
	switch at, period := root.Get("occurrenceDateTime"), root.Get("occurrencePeriod"); {
	case at != nil:
		lo, hi, ok := search.Instants(at.String())
		if !ok {
			return
		}
		whole = consent.Period{Start: earliest(lo, authored), End: hi}
	case period != nil:
		p, ok := span(period)
		if !ok || p.Start.IsZero() && !dated {
			return
		}
		if p.Start.IsZero() {
			p.Start = authored
		}
		if p.End.IsZero() {
			p.End = p.Start.Add(ReferralTerm)
		}
		whole = consent.Period{Start: earliest(p.Start, authored), End: p.End}
	case !dated:
		return
	}
	v.patient(root.Get("subject"))
	for _, p := range root.Get("performer").List() {
		v.member(p, whole, "Practitioner", "PractitionerRole", "CareTeam")
	}
}

func (v *TreatmentView) patient(reference *element.Node) {
	if ref, ok := fhir.ParseRef(reference.Get("reference").String()); ok && ref.Type == "Patient" && !slices.Contains(v.Patients, ref.ID) {
		v.Patients = append(v.Patients, ref.ID)
	}
}

func (v *TreatmentView) member(reference *element.Node, p consent.Period, of ...fhir.ResourceType) {
	ref, ok := fhir.ParseRef(reference.Get("reference").String())
	if !ok || !slices.Contains(of, ref.Type) || !p.End.IsZero() && p.End.Before(p.Start) {
		return
	}
	v.Members = append(v.Members, TreatmentMember{ref, p})
}

// Role is what a PractitionerRole says about whose it is.
type Role struct {
	Practitioner fhir.Ref // zero where it is not active or not understood
	Period       consent.Period
}

// PractitionerRole reads one (http://hl7.org/fhir/R4/practitionerrole.html).
// active must be there and true: a right must not hang on what was left out.
func PractitionerRole(r *Resource) Role {
	if r == nil || r.Type != "PractitionerRole" || modified(r.Root) || !isTrue(r.Root.Get("active")) {
		return Role{}
	}
	ref, ok := fhir.ParseRef(r.Root.Get("practitioner").Get("reference").String())
	p, understood := span(r.Root.Get("period"))
	if !ok || !understood || ref.Type != "Practitioner" {
		return Role{}
	}
	return Role{ref, p}
}

// Agreement is a written agreement by which an organization serves another one.
type Agreement struct {
	Program, Service fhir.ID // "" where it is not in force or not understood
	Period           consent.Period
}

// QualifiedService reads the agreement of an OrganizationAffiliation
// (http://hl7.org/fhir/R4/organizationaffiliation.html). active must be there and true.
func QualifiedService(r *Resource) Agreement {
	if r == nil || r.Type != "OrganizationAffiliation" || modified(r.Root) || !isTrue(r.Root.Get("active")) ||
		!slices.ContainsFunc(r.Root.Get("code").List(), func(c *element.Node) bool { return coded(c, fhir.AffiliationKind, words("qsoa")) }) {
		return Agreement{}
	}
	program, ok := fhir.ParseRef(r.Root.Get("organization").Get("reference").String())
	service, known := fhir.ParseRef(r.Root.Get("participatingOrganization").Get("reference").String())
	p, understood := span(r.Root.Get("period"))
	if !ok || !known || !understood || program.Type != "Organization" || service.Type != "Organization" {
		return Agreement{}
	}
	return Agreement{program.ID, service.ID, p}
}

// modified reports whether something that we do not know may change what n means.
func modified(n *element.Node) bool {
	return n.Get("modifierExtension") != nil || n.Get("implicitRules") != nil
}

// span reads start and end of a Period, or of whatever has both. A bound that
// does not read makes all of it unknown; no Period at all is one without bounds.
func span(n *element.Node) (p consent.Period, ok bool) {
	if n.Get("_start") != nil || n.Get("_end") != nil {
		return p, false // a value that is only said to be absent
	}
	if s := n.Get("start"); s != nil {
		if p.Start, _, ok = search.Instants(s.String()); !ok {
			return p, false
		}
	}
	if e := n.Get("end"); e != nil {
		if _, p.End, ok = search.Instants(e.String()); !ok || !p.Start.Before(p.End) {
			return p, false
		}
	}
	return p, true
}

func isTrue(n *element.Node) bool { return n != nil && n.Kind == element.Bool && n.Text == "true" }

// shared is the time that two periods share.
func shared(a, b consent.Period) consent.Period {
	if b.Start.After(a.Start) {
		a.Start = b.Start
	}
	if a.End.IsZero() || !b.End.IsZero() && b.End.Before(a.End) {
		a.End = b.End
	}
	return a
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// coded reports whether a concept has one of the codes of a system.
func coded(concept *element.Node, system string, codes map[string]bool) bool {
	return slices.ContainsFunc(concept.Get("coding").List(), func(c *element.Node) bool {
		return c.Get("system").String() == system && codes[c.Get("code").String()]
	})
}
