package clinic

import (
	"fmt"
	"strconv"

	"github.com/cloister-health/cloister/fhir"
)

// The roles of the staff, as access tokens name them.
const (
	roleTherapist       = "therapist"
	rolePsychiatrist    = "psychiatrist"
	roleTrainee         = "trainee"
	roleSupervisor      = "supervisor"
	roleSUDCounselor    = "sud-counselor"
	roleFrontDesk       = "front-desk"
	roleBiller          = "biller"
	rolePrivacyOfficer  = "privacy-officer"
	rolePracticeAdmin   = "practice-admin"
	roleHIE             = "hie"
	roleResearchAnalyst = "research-analyst"
	rolePatient         = "patient"
	roleProxy           = "proxy"
)

// Staff is one member of a practice's workforce.
type Staff struct {
	Key              string // names the member within the practice, such as "therapist/0"
	Role             string // as in the roles claim
	Family, Given    string
	Credential       string // letters behind the name, or ""
	Gender           string
	Practitioner     fhir.ID
	PractitionerRole fhir.ID
	Program          fhir.ID // the Organization in which the member works
	// Organizations are those whose workforce the member is, as in the organizations claim.
	Organizations []fhir.ID

	home    program
	seesPat bool // has a Schedule
}

func (m Staff) ref() fhir.Ref { return fhir.Ref{Type: "Practitioner", ID: m.Practitioner} }

// where tells in which part of the practice a post is.
type where uint8

const (
	inGeneral where = iota
	inSUD
	inPractice
)

type post struct {
	key, role, family, given, credential, gender string
	at                                           where
}

// posts are the members that personas and featured patients name.
var posts = map[string][]post{
	"harbor": {
		{"therapist/0", roleTherapist, "Marsh", "Elena", "LCSW", "female", inGeneral},
		{"therapist/1", roleTherapist, "Okafor", "Tomas", "LMFT", "male", inGeneral},
		{"therapist/2", roleTherapist, "Lindqvist", "Ruth", "PsyD", "female", inGeneral},
		{"psychiatrist/0", rolePsychiatrist, "Haddad", "Samir", "MD", "male", inGeneral},
		{"trainee/0", roleTrainee, "Whitlock", "June", "", "female", inGeneral},
		{"supervisor/0", roleSupervisor, "Castellan", "Irene", "PhD", "female", inGeneral},
		{"sud-counselor/0", roleSUDCounselor, "Brandt", "Otis", "CADC", "male", inSUD},
		{"sud-psychiatrist/0", rolePsychiatrist, "Nakagawa", "Mei", "MD", "female", inSUD},
		{"front-desk/0", roleFrontDesk, "Pruitt", "Dana", "", "female", inGeneral},
		{"sud-front-desk/0", roleFrontDesk, "Vance", "Leroy", "", "male", inSUD},
		{"biller/0", roleBiller, "Sorensen", "Greta", "", "female", inGeneral},
		{"privacy-officer/0", rolePrivacyOfficer, "Abara", "Ngozi", "JD", "female", inPractice},
		{"practice-admin/0", rolePracticeAdmin, "Feld", "Victor", "", "male", inPractice},
		{"research-analyst/0", roleResearchAnalyst, "Tran", "Quyen", "", "female", inPractice},
	},
	"lakeside": {
		{"therapist/0", roleTherapist, "Ibarra", "Lucia", "LMHC", "female", inGeneral},
		{"psychiatrist/0", rolePsychiatrist, "Novak", "Peter", "MD", "male", inGeneral},
		{"front-desk/0", roleFrontDesk, "Amundsen", "Kai", "", "male", inGeneral},
		{"practice-admin/0", rolePracticeAdmin, "Gallo", "Rita", "", "female", inPractice},
	},
}

// Staff lists the workforce of a practice: the members that the personas name
// first, then the therapists, psychiatrists and counselors that a larger clinic
// has besides. An unknown slug gives nil.
func (c Config) Staff(practice string) []Staff {
	for _, p := range Practices() {
		if p.Slug == practice {
			return newSite(c.normal(), p).roster()
		}
	}
	return nil
}

// Patients per clinician, about.
const (
	caseload      = 40
	wideCaseload  = 150
	caseloadOfSUD = 100 // counted in all patients of the practice, of whom about a fourth are in the SUD program
)

func (s *site) therapists() int {
	return max(s.fixed("therapist/"), s.patients/caseload)
}

func (s *site) psychiatrists() int { return max(1, s.patients/wideCaseload) }

func (s *site) counselors() int {
	if !s.SUD {
		return 0
	}
	return max(1, s.patients/caseloadOfSUD)
}

func (s *site) prescribers() int {
	if !s.SUD {
		return 0
	}
	return max(1, s.patients/(4*wideCaseload))
}

// fixed counts the posts whose key begins with prefix.
func (s *site) fixed(prefix string) (n int) {
	for _, p := range posts[s.Slug] {
		if len(p.key) > len(prefix) && p.key[:len(prefix)] == prefix {
			n++
		}
	}
	return n
}

func (s *site) roster() []Staff {
	var out []Staff
	for _, p := range posts[s.Slug] {
		out = append(out, s.member(p.key))
	}
	for _, more := range []struct {
		prefix string
		n      int
	}{
		{"therapist/", s.therapists()}, {"psychiatrist/", s.psychiatrists()},
		{"sud-counselor/", s.counselors()}, {"sud-psychiatrist/", s.prescribers()},
	} {
		for i := s.fixed(more.prefix); i < more.n; i++ {
			out = append(out, s.member(more.prefix+strconv.Itoa(i)))
		}
	}
	return out
}

// member makes the member of that key; whoever has no post of their own gets a
// name by chance.
func (s *site) member(key string) Staff {
	for _, p := range posts[s.Slug] {
		if p.key == key {
			return s.hire(p)
		}
	}
	d := s.dice("staff/" + key)
	first := pick(d, givenNames)
	p := post{key: key, family: pick(d, familyNames), given: first.name, gender: first.gender}
	var n int
	switch {
	case scan(key, "therapist/%d", &n):
		p.role, p.credential = roleTherapist, "LCSW"
	case scan(key, "psychiatrist/%d", &n):
		p.role, p.credential = rolePsychiatrist, "MD"
	case scan(key, "sud-counselor/%d", &n):
		p.role, p.credential, p.at = roleSUDCounselor, "CADC", inSUD
	case scan(key, "sud-psychiatrist/%d", &n):
		p.role, p.credential, p.at = rolePsychiatrist, "MD", inSUD
	default:
		panic("clinic: no such post: " + key)
	}
	return s.hire(p)
}

func scan(key, format string, n *int) bool {
	_, err := fmt.Sscanf(key, format, n)
	return err == nil
}

func (s *site) hire(p post) Staff {
	m := Staff{
		Key: p.key, Role: p.role, Family: p.family, Given: p.given, Credential: p.credential, Gender: p.gender,
		Practitioner:     s.ref("Practitioner", "staff/"+p.key).ID,
		PractitionerRole: s.ref("PractitionerRole", "staff/"+p.key).ID,
	}
	switch p.at {
	case inSUD:
		m.home = s.sud
		m.Organizations = []fhir.ID{s.sud.org.ID}
	case inGeneral:
		m.home = s.general
		m.Organizations = []fhir.ID{s.general.org.ID}
	case inPractice:
		m.home = program{org: s.practice, place: s.general.place}
		m.Organizations = []fhir.ID{s.practice.ID}
	}
	if p.role == rolePrivacyOfficer && s.SUD {
		// The privacy officer stands above both programs: the entity with direct
		// administrative control of 42 CFR 2.12(c)(3)(ii).
		m.Organizations = append(m.Organizations, s.general.org.ID, s.sud.org.ID)
	}
	m.Program = m.home.org.ID
	switch p.role {
	case roleTherapist, rolePsychiatrist, roleTrainee, roleSUDCounselor:
		m.seesPat = true
	}
	return m
}
