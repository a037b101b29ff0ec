package clinic

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// diagnosis is an ICD-10-CM code in our own words.
type diagnosis struct{ icd, display string }

var (
	recurrentDepression = diagnosis{"F33.1", "Recurrent depression, moderate"}
	singleDepression    = diagnosis{"F32.1", "Single depressive episode, moderate"}
	anxiety             = diagnosis{"F41.1", "Generalized anxiety"}
	panics              = diagnosis{"F41.0", "Panic attacks"}
	trauma              = diagnosis{"F43.10", "Post-traumatic stress"}
	chronicTrauma       = diagnosis{"F43.12", "Post-traumatic stress, long-standing"} // in minor-consented care only
	adjustment          = diagnosis{"F43.23", "Adjustment with anxiety and low mood"}
	alcoholMild         = diagnosis{"F10.10", "Alcohol misuse"}
	alcohol             = diagnosis{"F10.20", "Alcohol dependence"}
	opioid              = diagnosis{"F11.20", "Opioid dependence"}
	cannabis            = diagnosis{"F12.10", "Cannabis misuse"}
)

var moods = []diagnosis{recurrentDepression, singleDepression, anxiety, panics, trauma, adjustment}

// directive is one Part 2 consent of a patient.
type directive uint8

const (
	tpo      directive = iota // single TPO consent, in force
	specific                  // to the health information exchange, in force
	revoked                   // TPO, revoked by the patient
	expired                   // TPO, its end is past
)

// plan is what is decided about a patient before a chart is written. It depends
// on the seed, the practice and the index alone.
type plan struct {
	index                 int
	family, given, gender string
	birth                 time.Time
	attendsGeneral        bool
	attendsSUD            bool
	diagnoses             []diagnosis
	addictions            []diagnosis
	clinician             string // keys of staff
	supervisor            string // with a trainee as the clinician
	former                string // a clinician whose participation has ended
	prescriber            string // "" without medication
	counselor             string
	sudPrescriber         string
	consents              []directive
	minor                 bool // a minor with a parent as proxy
	minorConsented        bool // and with care to which the minor consented alone
}

func (p plan) name() string { return p.given + " " + p.family }

// key names the patient's dice.
func (p plan) key() string { return fmt.Sprintf("patient/%d", p.index) }

// The featured patients of the first practice, by index.
const (
	featuredNotes    = iota // recurrent depression; psychotherapy notes of therapist/0
	featuredTPO             // both programs; a TPO consent lets therapist/0 see the SUD records
	featuredSpecific        // SUD only; a specific consent to the exchange
	featuredRevoked         // SUD only; consent revoked
	featuredExpired         // SUD only; consent expired
	featuredSilent          // SUD only; never consented
	featuredMinor           // 16 years old; her mother is the proxy
	featuredTrainee         // in training care under supervision; therapist/1 has handed her over
	featuredBoth            // both programs; no consent, so therapist/2 sees the general half only
	featured                // their number
)

// The featured patients of the second practice have the names and birth dates
// of patients of the first.
var namesakes = []int{featuredNotes, featuredSpecific}

func (s *site) plan(i int) plan {
	if i < len(namesakes) && !s.SUD {
		twin := newSite(s.Config, Practices()[0]).plan(namesakes[i])
		p := s.chance(i)
		p.family, p.given, p.gender, p.birth = twin.family, twin.given, twin.gender, twin.birth
		p.minor, p.minorConsented = false, false
		return p
	}
	p := s.chance(i)
	if i >= featured || !s.SUD {
		return p
	}
	f := plan{index: i, attendsGeneral: true, diagnoses: []diagnosis{recurrentDepression, anxiety},
		clinician: "therapist/0", prescriber: "psychiatrist/0"}
	recovery := func(a diagnosis, consents ...directive) {
		f.attendsSUD, f.addictions, f.consents = true, []diagnosis{a}, consents
		f.counselor, f.sudPrescriber = "sud-counselor/0", "sud-psychiatrist/0"
	}
	only := func(a diagnosis, consents ...directive) {
		recovery(a, consents...)
		f.attendsGeneral, f.diagnoses, f.clinician, f.prescriber = false, nil, "", ""
	}
	age := 0
	switch i {
	case featuredNotes:
		f.family, f.given, f.gender, age = "Bergstrom", "Nora", "female", 34
	case featuredTPO:
		f.family, f.given, f.gender, age = "Reyes", "Daniel", "male", 41
		f.diagnoses = []diagnosis{anxiety}
		recovery(opioid, tpo)
	case featuredSpecific:
		f.family, f.given, f.gender, age = "Whitaker", "Colin", "male", 29
		only(opioid, specific)
	case featuredRevoked:
		f.family, f.given, f.gender, age = "Osei", "Abena", "female", 37
		only(alcohol, revoked)
	case featuredExpired:
		f.family, f.given, f.gender, age = "Kessler", "Martin", "male", 52
		only(opioid, expired)
	case featuredSilent:
		f.family, f.given, f.gender, age = "Doyle", "Sinead", "female", 46
		only(alcohol)
	case featuredMinor:
		f.family, f.given, f.gender, age = "Castro", "Alba", "female", 16
		f.diagnoses, f.clinician, f.prescriber = []diagnosis{anxiety}, "therapist/1", ""
		f.minor, f.minorConsented = true, true
	case featuredTrainee:
		f.family, f.given, f.gender, age = "Lund", "Petra", "female", 27
		// Alcohol misuse noted outside the SUD program is no Part 2 record (42 CFR 2.12(d)(2)).
		f.diagnoses, f.clinician, f.prescriber = []diagnosis{adjustment, alcoholMild}, "trainee/0", ""
		f.supervisor, f.former = "supervisor/0", "therapist/1"
	case featuredBoth:
		f.family, f.given, f.gender, age = "Mensah", "Grace", "female", 44
		f.diagnoses, f.clinician = []diagnosis{trauma}, "therapist/2"
		recovery(alcohol)
	}
	f.birth = s.Now.AddDate(-age, -4, -11-i)
	return f
}

// chance draws a patient without a part in the stories above.
func (s *site) chance(i int) plan {
	p := plan{index: i, attendsGeneral: true}
	d := s.dice("plan/" + p.key())
	first := pick(d, givenNames)
	p.given, p.gender, p.family = first.name, first.gender, pick(d, familyNames)
	p.birth = s.Now.AddDate(-19-d.IntN(60), 0, -d.IntN(365))
	kind := d.IntN(100)
	switch {
	case kind < 12:
		p.minor, p.minorConsented = true, d.IntN(3) == 0
		p.birth = s.Now.AddDate(-14-d.IntN(3), 0, -20-d.IntN(300))
	case kind < 28 && s.SUD:
		p.attendsGeneral, p.attendsSUD = false, true
	case kind < 38 && s.SUD:
		p.attendsSUD = true
	}
	if p.attendsGeneral {
		p.diagnoses = s.distinct(d)
		p.clinician = fmt.Sprintf("therapist/%d", i%s.therapists())
		if d.IntN(2) == 0 && !p.minor {
			p.prescriber = fmt.Sprintf("psychiatrist/%d", i%s.psychiatrists())
		}
		if t := s.therapists(); t > 1 && d.IntN(6) == 0 {
			p.former = fmt.Sprintf("therapist/%d", (i+1)%t)
		}
	}
	if p.attendsSUD {
		p.addictions = []diagnosis{pick(d, []diagnosis{opioid, alcohol, alcohol, opioid, cannabis})}
		p.counselor = fmt.Sprintf("sud-counselor/%d", i%s.counselors())
		if p.addictions[0] != cannabis {
			p.sudPrescriber = fmt.Sprintf("sud-psychiatrist/%d", i%s.prescribers())
		}
		switch d.IntN(10) {
		case 0, 1, 2:
			p.consents = []directive{tpo}
		case 3:
			p.consents = []directive{specific}
		case 4:
			p.consents = []directive{tpo, specific}
		case 5:
			p.consents = []directive{revoked}
		case 6:
			p.consents = []directive{expired}
		}
	}
	return p
}

func (s *site) distinct(d *rand.Rand) []diagnosis {
	a, b := d.IntN(len(moods)), d.IntN(len(moods))
	if a == b {
		return []diagnosis{moods[a]}
	}
	return []diagnosis{moods[a], moods[b]}
}
