package anomaly_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/authz/audit/anomaly"
	"github.com/cloister-health/cloister/fhir"
)

var (
	zone, _ = time.LoadLocation("America/New_York")
	dana    = fhir.Ref{Type: "Practitioner", ID: "dana"}
	ines    = fhir.Ref{Type: "Practitioner", ID: "ines"}
	monday  = time.Date(2026, 3, 2, 10, 0, 0, 0, zone)
)

// quiet is three weeks of a practice in which nothing happens: two people, a dozen of their own patients a weekday.
func quiet() anomaly.History {
	h := anomaly.History{From: monday, Until: monday.AddDate(0, 0, 7), People: map[fhir.Ref]anomaly.Person{
		dana: {Name: "dana okafor", Family: "okafor", Birth: "1980-01-01"}, ines: {Name: "ines silva", Family: "silva", Birth: "1985-05-05"},
	}}
	for i := range 60 {
		h.People[fhir.Ref{Type: "Patient", ID: fhir.ID(fmt.Sprint("p", i))}] = anomaly.Person{Name: fmt.Sprint("name ", i), Family: fmt.Sprint("family", i), Birth: "1990-01-01"}
	}
	for day := -14; day < 5; day++ {
		at := monday.AddDate(0, 0, day)
		if at.Weekday() == time.Saturday || at.Weekday() == time.Sunday {
			continue
		}
		for _, u := range []fhir.Ref{dana, ines} {
			for n := range 10 + (day+14)%4 {
				h.Accesses = append(h.Accesses, anomaly.Access{Event: fmt.Sprintf("%s-%d-%d", u.ID, day, n), At: at.Add(time.Duration(n) * 30 * time.Minute), User: u, Patient: fhir.ID(fmt.Sprint("p", n)), Within: true, Treating: true})
			}
		}
	}
	return h
}

func TestQuietHistoryFindsNothing(t *testing.T) {
	if got := anomaly.Find(quiet(), anomaly.DefaultRules(zone)); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestEachKindIsFound(t *testing.T) {
	patient := func(h anomaly.History, id string, p anomaly.Person) {
		h.People[fhir.Ref{Type: "Patient", ID: fhir.ID(id)}] = p
	}
	one := func(at time.Time, id string, change ...func(*anomaly.Access)) anomaly.Access {
		a := anomaly.Access{Event: "x", At: at, User: dana, Patient: fhir.ID(id), Within: true}
		for _, f := range change {
			f(&a)
		}
		return a
	}
	treating := func(a *anomaly.Access) { a.Treating = true }
	session := func(a *anomaly.Access) { a.Session = true }
	for name, c := range map[string]struct {
		make func(*anomaly.History)
		want string // kind user patient day events
	}{
		"a burst": {func(h *anomaly.History) {
			for n := range 40 {
				h.Accesses = append(h.Accesses, anomaly.Access{Event: fmt.Sprint("b", n), At: monday.AddDate(0, 0, 4).Add(time.Duration(n) * time.Minute), User: dana, Patient: fhir.ID(fmt.Sprint("p", n)), Within: true, Treating: true})
			}
		}, "burst Practitioner/dana  2026-03-06 52"},
		"the same number of somebody who always has as many is none": {func(h *anomaly.History) {
			for day := -14; day < 5; day++ {
				for n := range 40 {
					if at := monday.AddDate(0, 0, day).Add(time.Duration(n) * time.Minute); at.Weekday() != time.Saturday && at.Weekday() != time.Sunday {
						h.Accesses = append(h.Accesses, anomaly.Access{Event: "b", At: at, User: fhir.Ref{Type: "Practitioner", ID: "busy"}, Patient: fhir.ID(fmt.Sprint("p", n)), Within: true, Treating: true})
					}
				}
			}
		}, ""},
		"a newcomer has nothing to be compared with": {func(h *anomaly.History) {
			for n := range 40 {
				h.Accesses = append(h.Accesses, anomaly.Access{Event: "b", At: monday, User: fhir.Ref{Type: "Practitioner", ID: "new"}, Patient: fhir.ID(fmt.Sprint("p", n)), Within: true, Treating: true})
			}
		}, ""},
		"own record": {func(h *anomaly.History) {
			patient(*h, "me", anomaly.Person{Name: "dana okafor", Family: "okafor", Birth: "1980-01-01"})
			h.Accesses = append(h.Accesses, one(monday, "me", treating))
		}, "own-record Practitioner/dana me 2026-03-02 1"},
		"own record by a link": {func(h *anomaly.History) {
			h.People[dana] = anomaly.Person{Same: "p50"}
			h.Accesses = append(h.Accesses, one(monday, "p50"))
		}, "own-record Practitioner/dana p50 2026-03-02 1"},
		"a colleague's": {func(h *anomaly.History) {
			patient(*h, "ines", anomaly.Person{Name: "ines silva", Family: "silva", Birth: "1985-05-05"})
			h.Accesses = append(h.Accesses, one(monday, "ines"))
		}, "colleague Practitioner/dana ines 2026-03-02 1"},
		"a colleague's whom she treats": {func(h *anomaly.History) {
			patient(*h, "ines", anomaly.Person{Name: "ines silva", Family: "silva", Birth: "1985-05-05"})
			h.Accesses = append(h.Accesses, one(monday, "ines", treating))
		}, ""},
		"the same name": {func(h *anomaly.History) {
			patient(*h, "cousin", anomaly.Person{Name: "ola okafor", Family: "okafor", Birth: "1999-01-01"})
			h.Accesses = append(h.Accesses, one(monday, "cousin"), one(monday.Add(time.Minute), "cousin"))
		}, "same-name Practitioner/dana cousin 2026-03-02 1"},
		"the same name of whom she treats": {func(h *anomaly.History) {
			patient(*h, "cousin", anomaly.Person{Name: "ola okafor", Family: "okafor", Birth: "1999-01-01"})
			h.Accesses = append(h.Accesses, one(monday, "cousin", treating))
		}, ""},
		"VIP": {func(h *anomaly.History) {
			patient(*h, "star", anomaly.Person{Name: "a star", Family: "star", VIP: true})
			h.Accesses = append(h.Accesses, one(monday, "star"))
		}, "vip Practitioner/dana star 2026-03-02 1"},
		"VIP in an emergency": {func(h *anomaly.History) {
			patient(*h, "star", anomaly.Person{VIP: true})
			h.Accesses = append(h.Accesses, one(monday, "star", session))
		}, ""},
		"at night": {func(h *anomaly.History) {
			h.Accesses = append(h.Accesses, one(time.Date(2026, 3, 3, 20, 0, 0, 0, zone), "p1", treating))
		}, "after-hours Practitioner/dana  2026-03-03 1"},
		"a minute before closing": {func(h *anomaly.History) {
			h.Accesses = append(h.Accesses, one(time.Date(2026, 3, 3, 19, 59, 0, 0, zone), "p1", treating))
		}, ""},
		"on a Sunday, that is a Monday elsewhere": {func(h *anomaly.History) {
			h.Accesses = append(h.Accesses, one(time.Date(2026, 3, 9, 2, 0, 0, 0, time.UTC), "p1", treating))
		}, "after-hours Practitioner/dana  2026-03-08 1"},
		"at night in an emergency": {func(h *anomaly.History) {
			h.Accesses = append(h.Accesses, one(time.Date(2026, 3, 3, 23, 0, 0, 0, zone), "p1", session))
		}, ""},
		"of a patient at night": {func(h *anomaly.History) {
			h.Accesses = append(h.Accesses, one(time.Date(2026, 3, 3, 23, 0, 0, 0, zone), "p1", func(a *anomaly.Access) { a.Within = false }))
		}, ""},
		"before the time that is reported": {func(h *anomaly.History) {
			h.Accesses = append(h.Accesses, one(monday.AddDate(0, 0, -3).Add(12*time.Hour), "p1", treating))
		}, ""},
		"an emergency without review": {func(h *anomaly.History) {
			h.Emergencies = append(h.Emergencies, anomaly.Emergency{ID: "s", Member: dana, Starts: monday})
			h.Accesses = append(h.Accesses, one(monday.Add(time.Minute), "p50", session))
		}, "unreviewed Practitioner/dana  2026-03-02 1"},
		"a reviewed emergency": {func(h *anomaly.History) {
			h.Emergencies = append(h.Emergencies, anomaly.Emergency{ID: "s", Member: dana, Starts: monday, Reviewed: true})
		}, ""},
		"an emergency whose review is not due": {func(h *anomaly.History) {
			h.Emergencies = append(h.Emergencies, anomaly.Emergency{ID: "s", Member: dana, Starts: monday.AddDate(0, 0, 6)})
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := quiet()
			c.make(&h)
			got := anomaly.Find(h, anomaly.DefaultRules(zone))
			var text []string
			for _, f := range got {
				if f.Why == "" || len(f.Events) == 0 {
					t.Errorf("it explains nothing: %+v", f)
				}
				text = append(text, fmt.Sprintf("%s %s %s %s %d", f.Kind, f.User, f.Patient, f.Day, len(f.Events)))
			}
			if strings.Join(text, "; ") != c.want {
				t.Errorf("%q, want %q\n%+v", strings.Join(text, "; "), c.want, got)
			}
			// In whatever order the accesses come.
			rand.New(rand.NewPCG(1, 2)).Shuffle(len(h.Accesses), func(i, j int) { h.Accesses[i], h.Accesses[j] = h.Accesses[j], h.Accesses[i] })
			if again := anomaly.Find(h, anomaly.DefaultRules(zone)); !reflect.DeepEqual(got, again) {
				t.Errorf("another order, other findings: %+v", again)
			}
		})
	}
}

// The hours are those of the wall clock in the practice's zone, on both sides of a change of it and on the day
// itself, which has 23 hours or 25. So is the day that a finding and a burst are of.
func TestHoursAtChangesOfTheClock(t *testing.T) {
	rules, err := anomaly.ParseRules("America/New_York", "07:00", "20:00", "never")
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]string{
		"2026-03-07T11:59:59Z": "2026-03-07", // 06:59:59 EST
		"2026-03-07T12:00:00Z": "",
		"2026-03-08T10:59:59Z": "2026-03-08", // 06:59:59 EDT: the clock went forward at two
		"2026-03-08T11:00:00Z": "",
		"2026-03-08T23:59:59Z": "", // 19:59:59 EDT
		"2026-03-09T00:00:00Z": "2026-03-08",
		"2026-03-09T04:00:00Z": "2026-03-09", // midnight, which was five o'clock UTC before
		"2026-10-31T11:00:00Z": "",           // 07:00 EDT
		"2026-11-01T11:00:00Z": "2026-11-01", // 06:00 EST: it went back
		"2026-11-01T12:00:00Z": "",
		"2026-11-02T00:59:59Z": "", // 19:59:59 EST
		"2026-11-02T01:00:00Z": "2026-11-01",
		"2026-11-01T05:30:00Z": "2026-11-01", // half past one, the first time
		"2026-11-01T06:30:00Z": "2026-11-01", // and the second
	} {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		h := anomaly.History{From: when.AddDate(0, 0, -1), Until: when.AddDate(0, 0, 1), Accesses: []anomaly.Access{{Event: "x", At: when, User: dana, Patient: "p", Within: true}}}
		got := ""
		for _, f := range anomaly.Find(h, rules) {
			got += f.Day
		}
		if got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
}
