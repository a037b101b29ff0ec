package clinic

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/redact"
)

// archive is everything of one practice.
type archive struct {
	t *testing.T
	*site
	by    map[fhir.Ref]*element.Node
	order []fhir.Ref
	batch map[fhir.Ref]fhir.ID // the patient of the batch
}

func archives(t *testing.T, c Config) (harbor, lakeside *archive) {
	t.Helper()
	found := map[string]*archive{}
	for _, p := range Practices() {
		found[p.Slug] = &archive{t, newSite(c.normal(), p), map[fhir.Ref]*element.Node{}, nil, map[fhir.Ref]fhir.ID{}}
	}
	for b := range Generate(c) {
		a := found[b.Practice]
		for _, r := range b.Resources {
			a.by[refOf(r)] = r
			a.order = append(a.order, refOf(r))
			a.batch[refOf(r)] = b.Patient
		}
	}
	return found["harbor"], found["lakeside"]
}

// chartOf lists one patient's resources of a type for which keep holds.
func (a *archive) chartOf(patient int, kind fhir.ResourceType, keep func(*element.Node) bool) (out []*element.Node) {
	id := a.patientRef(patient, "Patient", "").ID
	for _, ref := range a.order {
		if ref.Type == kind && a.batch[ref] == id && (keep == nil || keep(a.by[ref])) {
			out = append(out, a.by[ref])
		}
	}
	return out
}

// reaching lists the resources that refer to one of from, directly or through
// others. References point backwards, so one pass is enough.
func (a *archive) reaching(from func(*element.Node) bool) map[fhir.Ref]bool {
	return a.along(from, func(r *element.Node) *element.Node { return r })
}

// along is reaching by the references in a part of each resource.
func (a *archive) along(from func(*element.Node) bool, part func(*element.Node) *element.Node) map[fhir.Ref]bool {
	out := map[fhir.Ref]bool{}
	for _, ref := range a.order {
		r := a.by[ref]
		if from(r) || slices.ContainsFunc(local(a.t, part(r)), func(to fhir.Ref) bool { return out[to] }) {
			out[ref] = true
		}
	}
	return out
}

// own is a resource without what it mentions, as far as it says by anything else where it comes from.
func own(r *element.Node) *element.Node {
	if redact.Rooted(r) {
		return redact.Rest(refOf(r).Type, r)
	}
	return r
}

// coded reports whether a coding of that system and code stands anywhere in r.
func coded(r *element.Node, system, code string) (found bool) {
	r.Walk(func(_ string, n *element.Node) bool {
		if n.Get("system").String() == system && n.Get("code").String() == code {
			found = true
		}
		return !found
	})
	return found
}

func withCode(system, code string) func(*element.Node) bool {
	return func(r *element.Node) bool { return coded(r, system, code) }
}

func withStatus(s string) func(*element.Node) bool {
	return func(r *element.Node) bool { return r.Get("status").String() == s }
}

func part2Program(r *element.Node) bool {
	return refOf(r).Type == "Organization" && coded(r.Get("type"), fhir.OrganizationKind, "part2-program")
}

// TestPart2 checks that exactly the records of the SUD program, and all of a
// patient who attends nothing else, lead back to the program.
func TestPart2(t *testing.T) {
	for _, c := range []Config{sample(), {Seed: 4, Patients: 120, Now: today}} {
		harbor, lakeside := archives(t, c)
		if got := lakeside.along(part2Program, own); len(got) != 0 {
			t.Errorf("%d Part 2 records in a practice without a program", len(got))
		}
		reach := harbor.along(part2Program, own)
		recovery := map[fhir.Ref]bool{}
		both, only := 0, 0
		for i := range harbor.patients {
			p := harbor.plan(i)
			if p.attendsSUD && p.attendsGeneral {
				both++
			}
			if p.attendsSUD && !p.attendsGeneral {
				only++
			}
			if p.attendsSUD {
				// What a chart of the same patient without the SUD program would not hold.
				chart := &chart{shelf: &shelf{site: harbor.site}, plan: p, dice: harbor.dice("chart/" + p.key())}
				chart.identity()
				if p.attendsGeneral {
					chart.mentalHealth()
				}
				if chart.shares() {
					chart.shared()
				}
				general := map[fhir.Ref]bool{}
				for _, r := range chart.out {
					general[refOf(r)] = p.attendsGeneral
				}
				for _, ref := range harbor.order {
					if harbor.batch[ref] == chart.self.ID && !general[ref] {
						recovery[ref] = true
					}
				}
			}
		}
		if both < 2 || only < 4 {
			t.Errorf("%d patients in both programs, %d in the SUD program only", both, only)
		}
		for _, ref := range harbor.order {
			if harbor.batch[ref] != "" && reach[ref] != recovery[ref] {
				t.Errorf("%v of patient %s: leads to the program %v, belongs to it %v", ref, harbor.batch[ref], reach[ref], recovery[ref])
			}
		}
		for _, staff := range []string{"sud-counselor/0", "sud-front-desk/0"} {
			if m := harbor.member(staff); reach[m.ref()] || !reach[fhir.Ref{Type: "PractitionerRole", ID: m.PractitionerRole}] {
				t.Errorf("%s: the role belongs to the program, the person does not", staff)
			}
		}
	}
}

func TestMinorConsentedCare(t *testing.T) {
	harbor, _ := archives(t, sample())
	alone := harbor.reaching(withCode(fhir.EncounterKind, "minor-consented"))
	kinds := map[fhir.ResourceType]int{}
	for ref := range alone {
		if harbor.batch[ref] != harbor.patientRef(featuredMinor, "Patient", "").ID {
			t.Errorf("%v belongs to somebody else", ref)
		}
		kinds[ref.Type]++
	}
	for _, k := range []fhir.ResourceType{"Encounter", "Condition", "DocumentReference", "QuestionnaireResponse", "Observation", "Appointment"} {
		if kinds[k] == 0 || kinds[k] >= len(harbor.chartOf(featuredMinor, k, nil)) {
			t.Errorf("%d of %d %s are minor-consented", kinds[k], len(harbor.chartOf(featuredMinor, k, nil)), k)
		}
	}
	for _, k := range []fhir.ResourceType{"Patient", "Claim", "CarePlan", "CareTeam", "EpisodeOfCare"} {
		if kinds[k] != 0 {
			t.Errorf("a %s tells of minor-consented care", k)
		}
	}
	patient := harbor.chartOf(featuredMinor, "Patient", nil)[0]
	born, err := time.Parse(time.DateOnly, patient.Get("birthDate").String())
	if err != nil || born.AddDate(16, 0, 0).After(today) || !born.AddDate(17, 0, 0).After(today) {
		t.Errorf("born %v: not 16 years old", born)
	}
	parents := harbor.chartOf(featuredMinor, "RelatedPerson", nil)
	if len(parents) != 1 || parents[0].Get("active").Text != "true" || !coded(parents[0], roleCode, "PRN") {
		t.Error("the minor has no active parent")
	}
}

// TestNotesApart checks 45 CFR 164.501 and 42 CFR 2.11: no session, no
// diagnosis, no medication, and nothing that points at the note.
func TestNotesApart(t *testing.T) {
	harbor, lakeside := archives(t, Config{Seed: 2, Patients: 40, Now: today})
	for _, a := range []*archive{harbor, lakeside} {
		isNote := func(r *element.Node) bool {
			return coded(r.Get("type"), fhir.NoteKind, "psychotherapy-note") || coded(r.Get("type"), fhir.NoteKind, "sud-counseling-note")
		}
		notes := a.reaching(isNote)
		for ref := range notes {
			r := a.by[ref]
			if !isNote(r) {
				t.Errorf("%v refers to a note that is kept apart", ref)
			}
			for _, f := range []string{"context", "relatesTo", "contained", "text"} {
				if r.Get(f) != nil {
					t.Errorf("%v has %s", ref, f)
				}
			}
			if len(r.Get("author").List()) != 1 {
				t.Errorf("%v: the originator is not clear", ref)
			}
		}
		if len(notes) == 0 {
			t.Error("no notes apart in " + a.Slug)
		}
	}
	psych := harbor.chartOf(featuredNotes, "DocumentReference", withCode(fhir.NoteKind, "psychotherapy-note"))
	for _, n := range psych {
		if got := n.Get("author").Items[0].Get("reference").String(); got != harbor.member("therapist/0").ref().String() {
			t.Errorf("psychotherapy note by %s", got)
		}
	}
	for _, i := range []int{featuredTPO, featuredRevoked} {
		sud := harbor.chartOf(i, "DocumentReference", withCode(fhir.NoteKind, "sud-counseling-note"))
		for _, n := range sud {
			if n.Get("author").Items[0].Get("reference").String() != harbor.member("sud-counselor/0").ref().String() ||
				n.Get("custodian").Get("reference").String() != harbor.sud.org.String() {
				t.Errorf("%v is not the counselor's own", refOf(n))
			}
		}
		if len(sud) == 0 || len(psych) == 0 {
			t.Error("a kind of note is missing")
		}
	}
}

// TestTreatingClinicians checks that whoever saw a patient is in an active
// CareTeam of the patient, and that ended participations are there and over.
func TestTreatingClinicians(t *testing.T) {
	harbor, lakeside := archives(t, Config{Seed: 2, Patients: 100, Now: today})
	ended := 0
	for _, a := range []*archive{harbor, lakeside} {
		for i := range a.patients {
			active := map[string]bool{}
			for _, team := range a.chartOf(i, "CareTeam", withStatus("active")) {
				for _, p := range team.Get("participant").List() {
					member := p.Get("member").Get("reference").String()
					if end := p.Get("period").Get("end"); end == nil {
						active[member] = true
					} else if at, err := time.Parse(time.RFC3339, end.String()); err != nil || at.After(today) {
						t.Errorf("patient %d: a participation ends at %s", i, end)
					} else {
						ended++
						if active[member] {
							t.Errorf("patient %d: %s has both left and stayed", i, member)
						}
					}
				}
			}
			for _, e := range a.chartOf(i, "Encounter", nil) {
				if by := e.Get("participant").Items[0].Get("individual").Get("reference").String(); !active[by] {
					t.Errorf("patient %d was seen by %s, who is in no active team", i, by)
				}
			}
		}
	}
	if ended == 0 {
		t.Error("nobody has left a team")
	}
}

// TestSituations names what a clinic of the default size must hold.
func TestSituations(t *testing.T) {
	harbor, lakeside := archives(t, sample())
	member := func(key string) func(*element.Node) bool {
		return func(team *element.Node) bool {
			return slices.ContainsFunc(team.Get("participant").List(), func(p *element.Node) bool {
				return p.Get("member").Get("reference").String() == harbor.member(key).ref().String() && p.Get("period").Get("end") == nil
			})
		}
	}
	count := func(name string, got []*element.Node, atLeast, atMost int) {
		t.Helper()
		if len(got) < atLeast || len(got) > atMost {
			t.Errorf("%s: %d", name, len(got))
		}
	}
	const many = 1000
	count("recurrent depression", harbor.chartOf(featuredNotes, "Condition", withCode(icd10cm, "F33.1")), 1, 1)
	count("psychotherapy notes", harbor.chartOf(featuredNotes, "DocumentReference", withCode(fhir.NoteKind, "psychotherapy-note")), 2, many)
	count("progress notes", harbor.chartOf(featuredNotes, "DocumentReference", withCode(loinc, "11506-3")), 8, many)
	count("PHQ-9", harbor.chartOf(featuredNotes, "Observation", withCode(loinc, "44261-6")), 5, many)
	count("GAD-7", harbor.chartOf(featuredNotes, "Observation", withCode(loinc, "70274-6")), 4, many)
	count("sertraline or escitalopram", harbor.chartOf(featuredNotes, "MedicationRequest", func(r *element.Node) bool {
		return coded(r, rxnorm, "36437") || coded(r, rxnorm, "321988")
	}), 1, many)
	count("blood pressure", harbor.chartOf(featuredNotes, "Observation", withCode(loinc, "85354-9")), 2, many)
	count("past appointments", harbor.chartOf(featuredNotes, "Appointment", withStatus("fulfilled")), 2, many)
	count("appointments to come", harbor.chartOf(featuredNotes, "Appointment", withStatus("booked")), 2, many)
	for _, k := range []fhir.ResourceType{"Coverage", "CareTeam", "EpisodeOfCare", "CarePlan", "Goal", "Claim", "QuestionnaireResponse"} {
		count(string(k), harbor.chartOf(featuredNotes, k, nil), 1, many)
	}
	count("two teams", harbor.chartOf(featuredTPO, "CareTeam", nil), 2, 2)
	count("therapist/0 treats the TPO patient", harbor.chartOf(featuredTPO, "CareTeam", member("therapist/0")), 1, 1)
	count("therapist/2 treats the patient of both programs", harbor.chartOf(featuredBoth, "CareTeam", member("therapist/2")), 1, 1)
	count("buprenorphine", harbor.chartOf(featuredSpecific, "MedicationRequest", withCode(rxnorm, "1819")), 1, many)
	count("naltrexone", harbor.chartOf(featuredRevoked, "MedicationRequest", withCode(rxnorm, "7243")), 1, many)
	count("drug screens", harbor.chartOf(featuredSpecific, "Observation", withCode(loinc, "3414-0")), 3, many)
	count("opioid dependence", harbor.chartOf(featuredExpired, "Condition", withCode(icd10cm, "F11.20")), 1, 1)
	count("alcohol dependence", harbor.chartOf(featuredSilent, "Condition", withCode(icd10cm, "F10.20")), 1, 1)
	count("alcohol misuse noted outside the program", harbor.chartOf(featuredTrainee, "Condition", withCode(icd10cm, "F10.10")), 1, 1)
	count("trainee and supervisor treat", harbor.chartOf(featuredTrainee, "CareTeam", func(r *element.Node) bool {
		return member("trainee/0")(r) && member("supervisor/0")(r) && !member("therapist/1")(r)
	}), 1, 1)
	count("the one who handed over", harbor.chartOf(featuredTrainee, "CareTeam", func(r *element.Node) bool {
		return slices.Contains(local(t, r), harbor.member("therapist/1").ref())
	}), 1, 1)
	for _, i := range []int{featuredSpecific, featuredRevoked, featuredExpired, featuredSilent} {
		if got := harbor.chartOf(i, "Patient", nil)[0].Get("managingOrganization").Get("reference").String(); got != harbor.sud.org.String() {
			t.Errorf("patient %d is managed by %s", i, got)
		}
	}
	for i, of := range namesakes {
		here, there := lakeside.chartOf(i, "Patient", nil)[0], harbor.chartOf(of, "Patient", nil)[0]
		if here.Get("name").Items[0].Get("family").String() != there.Get("name").Items[0].Get("family").String() ||
			here.Get("birthDate").String() != there.Get("birthDate").String() || here.Get("id").String() == there.Get("id").String() {
			t.Errorf("lakeside patient %d is no namesake", i)
		}
	}
	if strings.Contains(string(harbor.by[harbor.practice].AppendJSON(nil)), string(harbor.sud.org.ID)) {
		t.Error("the practice refers to its Part 2 program, so everything would be a Part 2 record")
	}
}
