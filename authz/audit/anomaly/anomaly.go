// Package anomaly finds, in a history of accesses, those that a privacy officer should look at.
//
// Equal histories give equal findings, each says why in a sentence and names its events. A finding is
// no verdict: there can be a reason for each.
package anomaly

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// Access is one event of the audit trail about one patient: what was read or changed.
type Access struct {
	Event    string // its id
	At       time.Time
	User     fhir.Ref // who is a person; accesses of services are left out
	Patient  fhir.ID
	Within   bool // of the practice's own people, not the patient or her representative
	Treating bool // the access rests on her treating the patient, or supervising who does
	Session  bool // it was under a declared emergency
}

// Person is what of a patient or a member of staff is compared. Name is the whole name, Family a
// part of it, both normalised: names that are equal are equal bytes.
type Person struct {
	Name, Family, Birth string
	VIP                 bool    // of a patient: meta.tag VIP or CEL, or on the practice's list
	Same                fhir.ID // of a Practitioner: the Patient that is known to be the same person
}

// Emergency is a declared emergency.
type Emergency struct {
	ID       string
	Member   fhir.Ref
	Starts   time.Time
	Reviewed bool // the task of its review is completed
}

// History is what is looked at. Accesses before From are what those since are compared with.
type History struct {
	From, Until time.Time
	Accesses    []Access
	People      map[fhir.Ref]Person // Practitioners and Patients
	Emergencies []Emergency
}

// Hours are when the practice works.
type Hours struct {
	Zone          *time.Location
	Opens, Closes time.Duration // of the day
	Closed        []time.Weekday
}

// Rules say what is out of the ordinary.
type Rules struct {
	Hours    Hours
	Least    int           // patients in a day below which there is no burst
	Days     int           // of her own with accesses, without which there is nothing to compare with
	Factor   float64       // deviations above the median that make a burst
	ReviewIn time.Duration // after an emergency began
}

// DefaultRules are for a practice that works on weekdays from 7 to 20 o'clock.
func DefaultRules(zone *time.Location) Rules {
	return Rules{
		Hours: Hours{Zone: zone, Opens: 7 * time.Hour, Closes: 20 * time.Hour, Closed: []time.Weekday{time.Saturday, time.Sunday}},
		Least: 15, Days: 5, Factor: 6, ReviewIn: 72 * time.Hour,
	}
}

// Kind says what is out of the ordinary.
type Kind string

// The kinds of findings.
const (
	Burst      Kind = "burst"       // many more patients in a day than she has otherwise
	OwnRecord  Kind = "own-record"  // a member of staff in her own record
	Colleague  Kind = "colleague"   // in that of another one
	SameName   Kind = "same-name"   // of somebody with her family name
	VIP        Kind = "vip"         // of a patient who is marked
	Unreviewed Kind = "unreviewed"  // an emergency that nobody has reviewed in time
	AfterHours Kind = "after-hours" // when the practice is closed
)

// Finding is one thing to look at.
type Finding struct {
	Kind    Kind     `json:"kind"`
	User    string   `json:"user"`
	Patient string   `json:"patient,omitempty"`
	Day     string   `json:"day"` // in the practice's zone
	Why     string   `json:"why"`
	Events  []string `json:"events,omitempty"`
	Session string   `json:"session,omitempty"` // the emergency
}

// Find gives the findings of h, by kind, day, user and patient.
func Find(h History, r Rules) []Finding {
	f := finder{h: h, r: r, found: map[key]*Finding{}}
	f.bursts()
	for _, a := range h.Accesses {
		if a.At.Before(h.From) || !a.At.Before(h.Until) || !a.Within || a.User.ID == "" {
			continue
		}
		f.snooping(a)
		f.afterHours(a)
	}
	f.unreviewed()
	out := make([]Finding, 0, len(f.found))
	for _, x := range f.found {
		slices.Sort(x.Events)
		x.Events = slices.Compact(x.Events)
		out = append(out, *x)
	}
	slices.SortFunc(out, func(a, b Finding) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Day, b.Day), strings.Compare(a.User, b.User), strings.Compare(a.Patient, b.Patient), strings.Compare(a.Session, b.Session))
	})
	return out
}

type key struct {
	kind               Kind
	user, patient, day string
	session            string
}

type finder struct {
	h     History
	r     Rules
	found map[key]*Finding
}

func (f *finder) day(at time.Time) string { return at.In(f.r.Hours.Zone).Format(time.DateOnly) }

func (f *finder) add(k key, why, event string) {
	x := f.found[k]
	if x == nil {
		x = &Finding{Kind: k.kind, User: k.user, Patient: k.patient, Day: k.day, Session: k.session, Why: why}
		f.found[k] = x
	}
	if event != "" {
		x.Events = append(x.Events, event)
	}
}

// bursts compares how many patients somebody had to do with on a day with her own days
// before: median and median absolute deviation, which a few unusual days do not move.
func (f *finder) bursts() {
	type day struct {
		patients map[fhir.ID]bool
		events   []string
		reported bool // some of it lies in the time that is reported
	}
	users := map[fhir.Ref]map[string]*day{}
	for _, a := range f.h.Accesses {
		if !a.Within || a.User.ID == "" || !a.At.Before(f.h.Until) {
			continue
		}
		if users[a.User] == nil {
			users[a.User] = map[string]*day{}
		}
		d := users[a.User][f.day(a.At)]
		if d == nil {
			d = &day{patients: map[fhir.ID]bool{}}
			users[a.User][f.day(a.At)] = d
		}
		d.patients[a.Patient], d.events = true, append(d.events, a.Event)
		d.reported = d.reported || !a.At.Before(f.h.From)
	}
	for user, days := range users {
		for name, d := range days {
			if !d.reported || len(d.patients) < f.r.Least {
				continue
			}
			var before []float64
			for other, x := range days {
				if other < name {
					before = append(before, float64(len(x.patients)))
				}
			}
			if len(before) < f.r.Days {
				continue
			}
			mid := median(before)
			for i, x := range before {
				before[i] = max(x-mid, mid-x)
			}
			// 1.4826 makes the deviation comparable with a standard deviation; below one patient it would make every step a burst.
			spread := max(1.4826*median(before), 1)
			if n := float64(len(d.patients)); n > mid+f.r.Factor*spread {
				k := key{kind: Burst, user: user.String(), day: name}
				f.add(k, fmt.Sprintf("%d patients in a day; on the %d days before it was %g in the middle, give or take %.1f", len(d.patients), len(before), mid, spread), "")
				f.found[k].Events = append(f.found[k].Events, d.events...)
			}
		}
	}
}

func median(in []float64) float64 {
	s := slices.Sorted(slices.Values(in))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// snooping looks at whose record it is. Who treats a patient, or acts in an emergency, has a
// reason; of her own record and of a colleague's that is for the officer to say.
func (f *finder) snooping(a Access) {
	me := f.h.People[a.User]
	patient := f.h.People[fhir.Ref{Type: "Patient", ID: a.Patient}]
	k := key{user: a.User.String(), patient: string(a.Patient), day: f.day(a.At)}
	if f.same(me, a.Patient, patient) {
		k.kind = OwnRecord
		f.add(k, "the record is her own", a.Event)
		return
	}
	if who := f.colleague(a.User, a.Patient, patient); who != "" && !a.Treating {
		k.kind = Colleague
		f.add(k, "the patient works here: "+who, a.Event)
	}
	if a.Treating || a.Session {
		return
	}
	if patient.VIP {
		k.kind = VIP
		f.add(k, "the patient is marked VIP, and she does not treat her", a.Event)
	}
	if me.Family != "" && me.Family == patient.Family {
		k.kind = SameName
		f.add(k, "the patient has her family name, and she does not treat her", a.Event)
	}
}

// same says that a member of staff is a patient: a Person links both, or whole name and birth date are the same.
func (f *finder) same(staff Person, id fhir.ID, patient Person) bool {
	return staff.Same != "" && staff.Same == id || staff.Name != "" && staff.Birth != "" && staff.Name == patient.Name && staff.Birth == patient.Birth
}

func (f *finder) colleague(user fhir.Ref, id fhir.ID, patient Person) string {
	var out []string
	for ref, p := range f.h.People {
		if ref.Type == "Practitioner" && ref != user && f.same(p, id, patient) {
			out = append(out, ref.String())
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func (f *finder) afterHours(a Access) {
	if a.Session {
		return
	}
	at, h := a.At.In(f.r.Hours.Zone), f.r.Hours
	clock := time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute + time.Duration(at.Second())*time.Second
	var why string
	switch {
	case slices.Contains(h.Closed, at.Weekday()):
		why = "the practice is closed on " + at.Weekday().String() + "s"
	case clock < h.Opens || clock >= h.Closes:
		why = "the practice is open from " + hour(h.Opens) + " to " + hour(h.Closes)
	default:
		return
	}
	f.add(key{kind: AfterHours, user: a.User.String(), day: f.day(a.At)}, why, a.Event)
}

func hour(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60)
}

// unreviewed are emergencies whose review is due and not done.
func (f *finder) unreviewed() {
	for _, e := range f.h.Emergencies {
		if due := e.Starts.Add(f.r.ReviewIn); e.Reviewed || due.Before(f.h.From) || !due.Before(f.h.Until) {
			continue
		}
		k := key{kind: Unreviewed, user: e.Member.String(), day: f.day(e.Starts), session: e.ID}
		f.add(k, fmt.Sprintf("the emergency was declared, and its review is not done after %d hours", int(f.r.ReviewIn.Hours())), "")
		for _, a := range f.h.Accesses {
			if a.Session && a.User == e.Member && !a.At.Before(e.Starts) && a.At.Before(e.Starts.Add(f.r.ReviewIn)) {
				f.add(k, "", a.Event)
			}
		}
	}
}
