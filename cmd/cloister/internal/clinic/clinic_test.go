package clinic

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"iter"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/element"
)

var today = time.Date(2026, 3, 4, 10, 30, 0, 0, time.UTC)

func sample() Config { return Config{Seed: 1, Now: today} }

// all yields every resource with its practice.
func all(c Config) iter.Seq2[string, *element.Node] {
	return func(yield func(string, *element.Node) bool) {
		for b := range Generate(c) {
			for _, r := range b.Resources {
				if !yield(b.Practice, r) {
					return
				}
			}
		}
	}
}

func refOf(r *element.Node) fhir.Ref {
	return fhir.Ref{Type: fhir.ResourceType(r.Get("resourceType").String()), ID: fhir.ID(r.Get("id").String())}
}

// local lists the literal references of r.
func local(t *testing.T, r *element.Node) (out []fhir.Ref) {
	t.Helper()
	r.Walk(func(name string, n *element.Node) bool {
		if name == "reference" && n.Kind == element.String {
			ref, ok := fhir.ParseRef(n.Text)
			if !ok {
				t.Errorf("%v: %q is no local reference", refOf(r), n.Text)
			}
			out = append(out, ref)
		}
		return true
	})
	return out
}

func digest(c Config) (sum [32]byte, n int) {
	h := sha256.New()
	for practice, r := range all(c) {
		h.Write(r.AppendJSON([]byte(practice)))
		n++
	}
	h.Sum(sum[:0])
	return sum, n
}

func TestSameConfigSameBytes(t *testing.T) {
	base, n := digest(sample())
	if n == 0 {
		t.Fatal("nothing was generated")
	}
	later := sample()
	later.Now = today.Add(5 * time.Hour).In(time.FixedZone("", 3600))
	for name, c := range map[string]Config{"again": sample(), "later that day": later, "default size": {Seed: 1, Patients: MinPatients, Now: today}} {
		if got, _ := digest(c); got != base {
			t.Errorf("%s: other bytes", name)
		}
	}
	for name, c := range map[string]Config{"seed": {Seed: 2, Now: today}, "day": {Seed: 1, Now: today.AddDate(0, 0, 1)}, "size": {Seed: 1, Patients: 16, Now: today}} {
		if got, _ := digest(c); got == base {
			t.Errorf("another %s, but the same bytes", name)
		}
	}
	ids := map[fhir.Ref]bool{}
	for _, r := range all(sample()) {
		ids[refOf(r)] = true
	}
	for _, r := range all(Config{Seed: 2, Now: today}) {
		if ids[refOf(r)] {
			t.Fatalf("%v exists under both seeds", refOf(r))
		}
	}
}

func TestReferencesPointBackwards(t *testing.T) {
	for _, c := range []Config{sample(), {Seed: 7, Patients: 400, Now: today}} {
		seen := map[string]map[fhir.Ref]bool{}
		ids := map[fhir.ID]bool{}
		for practice, r := range all(c) {
			if seen[practice] == nil {
				seen[practice] = map[fhir.Ref]bool{}
			}
			ref := refOf(r)
			if !ref.Type.Valid() || !ref.ID.Valid() || ids[ref.ID] {
				t.Fatalf("%v: bad or repeated id", ref)
			}
			ids[ref.ID] = true
			for _, to := range local(t, r) {
				if !seen[practice][to] {
					t.Errorf("%s: %v refers to %v, which is not before it", practice, ref, to)
				}
			}
			seen[practice][ref] = true
		}
	}
}

func TestSizes(t *testing.T) {
	for _, size := range []struct{ asked, want int }{{-3, 12}, {0, 12}, {5, 12}, {12, 12}, {13, 13}, {250, 250}} {
		c := Config{Seed: 3, Patients: size.asked, Now: today}
		batches, patients := 0, map[string]int{}
		for b := range Generate(c) {
			batches++
			if b.Title == "" || len(b.Resources) == 0 {
				t.Errorf("batch %d of %s is bare", batches, b.Practice)
			}
			if b.Patient == "" {
				continue
			}
			patients[b.Practice]++
			if refOf(b.Resources[0]) != (fhir.Ref{Type: "Patient", ID: b.Patient}) {
				t.Errorf("%s does not begin with its Patient", b.Title)
			}
			if n := len(b.Resources); n < 55 || n > 130 {
				t.Errorf("%s has %d resources", b.Title, n)
			}
		}
		if got := patients["harbor"] + patients["lakeside"]; got != size.want || patients["harbor"] <= patients["lakeside"] || patients["lakeside"] < 3 {
			t.Errorf("asked for %d, got %v", size.asked, patients)
		}
		if Total(c) != batches {
			t.Errorf("asked for %d: Total is %d, but %d batches came", size.asked, Total(c), batches)
		}
	}
	if got := Total(Config{Patients: 100_000}); got < 100_000 || got > 100_200 {
		t.Errorf("Total of 100,000 patients is %d", got)
	}
}

// TestMemoryDoesNotGrow takes some patients out of a very large clinic: what is
// alive late in the stream is no more than what was alive early.
func TestMemoryDoesNotGrow(t *testing.T) {
	alive := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var early, late uint64
	n := 0
	for range Generate(Config{Seed: 1, Patients: 100_000, Now: today}) {
		switch n++; n {
		case 200:
			early = alive()
		case 1500:
			late = alive()
		}
		if n == 1500 {
			break
		}
	}
	// 1,300 patients are some 200 MB of trees; a few MB of slack are the collector's.
	if late > early+4<<20 {
		t.Errorf("%d bytes alive after 200 batches, %d after 1500", early, late)
	}
}

func TestStaffGrowsWithPatients(t *testing.T) {
	few, many := sample().Staff("harbor"), Config{Seed: 1, Patients: 4000, Now: today}.Staff("harbor")
	if len(many) < len(few)+50 {
		t.Errorf("%d staff for 12 patients, %d for 4000", len(few), len(many))
	}
	for i, m := range few {
		if many[i].Practitioner != m.Practitioner {
			t.Errorf("%s is another person in the large clinic", m.Key)
		}
	}
	if sample().Staff("nowhere") != nil {
		t.Error("an unknown practice has staff")
	}
}

// TestValuesAreWellFormed checks, for every string by its JSON name, the
// lexical form that R4 asks for, and that nothing lies in the future but what should.
func TestValuesAreWellFormed(t *testing.T) {
	forms := map[string]string{
		"birthDate": time.DateOnly, "onsetDateTime": time.DateOnly, "servicedDate": time.DateOnly, "startDate": time.DateOnly, "dueDate": time.DateOnly,
		"date": time.RFC3339, "authored": time.RFC3339, "authoredOn": time.RFC3339, "effectiveDateTime": time.RFC3339, "issued": time.RFC3339,
		"recordedDate": time.RFC3339, "dateTime": time.RFC3339, "verificationDate": time.RFC3339,
	}
	ahead := map[string]bool{"dueDate": true}
	day := today.Truncate(24 * time.Hour)
	for _, r := range all(Config{Seed: 5, Patients: 60, Now: today}) {
		future := false
		switch refOf(r).Type {
		case "Schedule", "Slot", "Consent":
			future = true
		case "Appointment":
			future = r.Get("status").String() == "booked"
		}
		r.Walk(func(name string, n *element.Node) bool {
			switch n.Kind {
			case element.Object:
				if len(n.Fields) == 0 {
					t.Errorf("%v: %s is an empty object", refOf(r), name)
				}
			case element.Array:
				if len(n.Items) == 0 {
					t.Errorf("%v: %s is an empty array", refOf(r), name)
				}
			case element.String:
				if n.Text == "" || n.Text != strings.TrimSpace(n.Text) {
					t.Errorf("%v: %s is %q", refOf(r), name, n.Text)
				}
				var at time.Time
				var err error
				if form, ok := forms[name]; ok {
					at, err = time.Parse(form, n.Text)
				} else if name == "start" || name == "end" || name == "created" {
					if at, err = time.Parse(time.RFC3339, n.Text); err != nil {
						at, err = time.Parse(time.DateOnly, n.Text)
					}
				}
				if err != nil {
					t.Errorf("%v: %s: %v", refOf(r), name, err)
				}
				if !future && !ahead[name] && at.After(day) {
					t.Errorf("%v: %s lies ahead: %s", refOf(r), name, n.Text)
				}
			}
			return true
		})
		if b := r.AppendJSON(nil); !json.Valid(b) || bytes.Contains(b, []byte("null")) {
			t.Errorf("%v: bad JSON", refOf(r))
		}
	}
}

func BenchmarkGenerate(b *testing.B) {
	c := Config{Seed: 1, Patients: 200, Now: today}
	n := 0
	for b.Loop() {
		for _, r := range all(c) {
			_ = r
			n++
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "resources/s")
}
