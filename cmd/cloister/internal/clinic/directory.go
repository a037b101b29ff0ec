package clinic

import (
	"fmt"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// shelf collects the resources of one batch.
type shelf struct {
	*site
	out []node
}

// put finishes one resource and gives back its reference.
func (b *shelf) put(r fhir.Ref, fields ...field) fhir.Ref {
	all := make([]field, 0, len(fields)+2)
	all = append(all, str("resourceType", string(r.Type)), str("id", string(r.ID)))
	all = append(all, fields...)
	n := object(all...)
	plant(b.Slug, n)
	b.out = append(b.out, n)
	return r
}

// directory makes a part of the directory; the first part holds what everything
// else refers to.
func (s *site) directory(first bool, staff []Staff) Batch {
	b := &shelf{site: s}
	title := "more staff of " + s.Name
	if first {
		title = "directory of " + s.Name
		b.organizations()
		for _, q := range instruments {
			b.questionnaire(q)
		}
		b.consentForms()
	}
	for _, m := range staff {
		b.staff(m)
	}
	return Batch{Practice: s.Slug, Title: title, Resources: b.out}
}

func (b *shelf) organizations() {
	provider := code{terminology + "organization-type", "prov", "Provider of care"}
	department := code{terminology + "organization-type", "dept", "Department of a provider"}
	b.put(b.practice, declares("organization"), yes("active"),
		list("type", concept("Practice", provider)),
		str("name", b.Name), phone(desk), list("address", b.address("1 "+streets[0], 0)))
	b.put(b.general.org, declares("organization"), yes("active"),
		list("type", concept("General mental-health program", department)),
		str("name", b.Name+" General Program"), reference("partOf", b.practice))
	b.location(b.general, "Outpatient rooms", "12 "+streets[1])
	if b.SUD {
		b.put(b.sud.org, declares("organization"), yes("active"),
			list("type", concept("Substance use disorder program", department,
				code{fhir.OrganizationKind, "part2-program", "Program under 42 CFR part 2"})),
			str("name", b.Name+" Recovery Program"), reference("partOf", b.practice))
		b.location(b.sud, "Recovery rooms", "40 "+streets[4])
		b.put(b.hie, declares("organization"), yes("active"),
			list("type", concept("Health information exchange", code{terminology + "organization-type", "other", "Other organization"})),
			str("name", "Tri-County Health Exchange"))
	}
	b.put(b.payer, declares("organization"), yes("active"),
		list("type", concept("Payer", code{terminology + "organization-type", "pay", "Payer of claims"})),
		str("name", "Meridian Mutual Health Plan"))
}

func (b *shelf) location(p program, name, line string) {
	b.put(p.place, declares("location"), str("status", "active"), str("name", name), str("mode", "instance"),
		field{Name: "address", Value: b.address(line, 0)},
		conceptField("physicalType", "Rooms of the program", code{terminology + "location-physical-type", "wi", "Wing of a building"}),
		reference("managingOrganization", p.org))
}

func (b *shelf) address(line string, city int) node {
	c := cities[city%len(cities)]
	return object(str("use", "work"), strs("line", line), str("city", c.city), str("postalCode", c.zip), str("country", "US"))
}

// desk is the number of every practice's front desk.
const desk = "+1-555-0100"

func phone(number string) field {
	return list("telecom", object(str("system", "phone"), str("value", number), str("use", "work")))
}

// roleCodes gives the PractitionerRole.code of each role.
var roleCodes = map[string]code{
	roleTherapist:       {snomed, "310191001", "Clinical psychologist or therapist"},
	rolePsychiatrist:    {snomed, "80584001", "Psychiatrist"},
	roleTrainee:         {snomed, "310191001", "Therapist in training"},
	roleSupervisor:      {snomed, "310191001", "Supervising therapist"},
	roleSUDCounselor:    {snomed, "310190000", "Counselor"},
	roleFrontDesk:       {snomed, "159561009", "Receptionist"},
	roleBiller:          {snomed, "224608005", "Administrative staff"},
	rolePrivacyOfficer:  {snomed, "224608005", "Administrative staff"},
	rolePracticeAdmin:   {snomed, "224608005", "Administrative staff"},
	roleResearchAnalyst: {terminology + "practitioner-role", "researcher", "Researcher"},
}

func (b *shelf) staff(m Staff) {
	full := m.Given + " " + m.Family
	b.put(m.ref(), declares("practitioner"),
		list("identifier", object(str("system", "https://cloister.health/fhir/sid/"+b.Slug+"/staff"), str("value", m.Key))),
		yes("active"),
		list("name", object(str("use", "official"), str("text", full), str("family", m.Family), strs("given", m.Given),
			suffix(m.Credential))),
		str("gender", m.Gender))
	b.put(fhir.Ref{Type: "PractitionerRole", ID: m.PractitionerRole}, declares("practitionerrole"),
		yes("active"),
		nest("period", str("start", date(days(b.Now, -1200)))),
		reference("practitioner", m.ref()), reference("organization", m.home.org),
		list("code", concept(m.Role, roleCodes[m.Role])),
		references("location", m.home.place), phone(desk))
	if m.seesPat {
		b.schedule(m)
	}
}

func suffix(credential string) field {
	if credential == "" {
		return field{}
	}
	return strs("suffix", credential)
}

// schedule gives a clinician one Schedule for the coming four weeks and two
// free Slots in it.
func (b *shelf) schedule(m Staff) {
	s := b.put(b.ref("Schedule", "staff/"+m.Key), yes("active"),
		references("actor", m.ref(), m.home.place),
		period("planningHorizon", b.Now, days(b.Now, 28)),
		str("comment", "Sessions of 50 minutes"))
	for i := range 2 {
		start := weekday(days(b.Now, 6+7*i)).Add(15 * time.Hour)
		b.put(b.ref("Slot", fmt.Sprintf("staff/%s/%d", m.Key, i)),
			reference("schedule", s), str("status", "free"),
			str("start", instant(start)), str("end", instant(start.Add(50*time.Minute))),
			str("comment", "Open for booking"))
	}
}

// weekday moves a day that falls on a weekend back to Friday.
func weekday(t time.Time) time.Time {
	switch t.Weekday() {
	case time.Saturday:
		return days(t, -1)
	case time.Sunday:
		return days(t, -2)
	}
	return t
}
