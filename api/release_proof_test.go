package api

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
	"github.com/cloister-health/cloister/fhir/record/export"
)

// told is what the manifest of a release says of it.
type told struct {
	manifest
	Extension struct {
		Release struct {
			Profile, Canonical, Citation, Basis string
			Suppressed                          *struct {
				Groups, SmallestGroup                int
				PatientsGeneralised, PatientsLeftOut string
				CodesLeftOut                         map[string]int
			}
		}
	}
}

// asked begins a release over HTTP, and gives its place.
func asked(t *testing.T, c *clinic, path, token string) string {
	t.Helper()
	w := ask(t, c, "GET", path, token, "", "Prefer", "respond-async")
	if w.Code != 202 {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return below(t, w.Header().Get("Content-Location"))
}

// got is the manifest of a release that is done, and its lines by type.
func got(t *testing.T, c *clinic, place, token string) (m told, text string, lines map[string][]string) {
	t.Helper()
	w := ask(t, c, "GET", place, token, "")
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || w.Code != 200 {
		t.Fatalf("%s: %d %s", place, w.Code, w.Body)
	}
	lines = map[string][]string{}
	for _, f := range m.Output {
		file := ask(t, c, "GET", below(t, f.URL), token, "")
		if file.Code != 200 {
			t.Fatalf("%s: %d %s", f.URL, file.Code, file.Body)
		}
		lines[f.Type] = append(lines[f.Type], strings.Split(strings.TrimSuffix(file.Body.String(), "\n"), "\n")...)
	}
	return m, w.Body.String(), lines
}

// count is a number of the database.
func (c *clinic) count(t *testing.T, sql string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

var suppressedBlock = regexp.MustCompile("```json suppressed\n(.*)\n```")

const icd = "http://hl7.org/fhir/sid/icd-10-cm"

// crowd stores so many patients with a diagnosis, a score that is the patient's number, and dates that are the same for all.
func (c *clinic) crowd(t *testing.T, from, n int, gender, code string) {
	t.Helper()
	for i := from; i < from+n; i++ {
		for _, text := range []string{
			fmt.Sprintf(`{"resourceType":"Patient","id":"mrn-%d","gender":%q,"birthDate":"1984-05-06","name":[{"family":"Canary"}]}`, i, gender),
			fmt.Sprintf(`{"resourceType":"Condition","id":"dx-%d","subject":{"reference":"Patient/mrn-%d"},"code":{"coding":[{"system":"`+icd+`","code":%q}],"text":"Canary"},"recordedDate":"2024-03-05","abatementDateTime":"2024-06-05T10:11:12Z"}`, i, i, code),
			fmt.Sprintf(`{"resourceType":"Observation","id":"score-%d","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"44261-6"}]},"subject":{"reference":"Patient/mrn-%d"},"effectiveDateTime":"2024-03-12","issued":"2024-03-13T08:00:00Z","valueInteger":%d}`, i, i, i),
		} {
			if err := c.put(t, text); err != nil {
				t.Fatal(err, text)
			}
		}
	}
}

// dated is a line of a release of the crowd.
type dated struct {
	ID                                                                    string
	Gender                                                                string
	Subject                                                               struct{ Reference string }
	RecordedDate, AbatementDateTime, EffectiveDateTime, Issued, BirthDate string
	ValueInteger                                                          int
	Code                                                                  struct{ Coding []struct{ Code string } }
}

// moved is by how many days a date was moved.
func moved(t *testing.T, date, was string) int {
	t.Helper()
	a, err := time.Parse("2006-01-02", strings.TrimSuffix(date, "T00:00:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := time.Parse("2006-01-02", was)
	return int(math.Round(a.Sub(b).Hours() / 24))
}

// An expert's determination over HTTP: who is in it, in which groups, by how much whose dates are moved, and what its
// manifest tells of what was held back.
func TestD5_164_514_b_1_AnExpertDeterminationOverHTTP(t *testing.T) {
	c, s, _ := newReleasing(t)
	c.crowd(t, 0, 14, "female", "F32.9")
	c.crowd(t, 14, 12, "male", "F32.9")
	c.crowd(t, 26, 3, "other", "F32.9")  // too few: they are not in it
	c.crowd(t, 29, 5, "female", "F20.0") // a diagnosis that is told of nobody
	var shifts [2]map[int]int            // by the number of the patient
	var surrogates [2][]string
	for n := range 2 {
		place := asked(t, c, "/fhir/$export?_profile=expert-determination&_type=Condition,Observation,Patient", "registry")
		work(t, s)
		m, text, lines := got(t, c, place, "registry")
		r := m.Extension.Release
		if r.Profile != "expert-determination|1.1.0" || r.Canonical != fhir.Canonical+"/release-profile/expert-determination" || r.Citation != "45 CFR 164.514(b)(1)" || r.Basis != "DocumentReference/expert-2" {
			t.Errorf("%+v", r)
		}
		// The gate, counted here by itself: nobody is in a group of fewer than eleven.
		groups := map[string]int{}
		for _, l := range lines["Patient"] {
			var p dated
			if err := json.Unmarshal([]byte(l), &p); err != nil || p.BirthDate != "" {
				t.Error(err, l)
			}
			surrogates[n] = append(surrogates[n], p.ID)
			groups[p.Gender]++
		}
		if fmt.Sprint(groups) != "map[female:19 male:12]" {
			t.Errorf("groups: %v", groups)
		}
		// What was held back is told, and no count under eleven is, nor which codes.
		x := r.Suppressed
		if x == nil || x.Groups != 2 || x.SmallestGroup != 12 || x.PatientsGeneralised != "0" || x.PatientsLeftOut != "<11" || fmt.Sprint(x.CodesLeftOut) != "map[Condition.code:1]" || strings.Contains(text, "F20") {
			t.Errorf("%s", text)
		}
		if page, err := os.ReadFile(filepath.Join("..", "docs", "deidentification.md")); err != nil {
			t.Fatal(err)
		} else if shown := suppressedBlock.FindSubmatch(page); len(shown) != 2 || !strings.Contains(text, `,"suppressed":`+strings.NewReplacer(": ", ":", ", ", ",").Replace(string(shown[1]))+`}}`) {
			t.Errorf("the page shows %s, and the server\n%s", shown, text)
		}
		if len(lines["Condition"]) != 31 || len(lines["Observation"]) != 31 || strings.Contains(fmt.Sprint(lines), "F20.0") || strings.Count(fmt.Sprint(lines), "F32.9") != 26 || strings.Contains(fmt.Sprint(lines), "Canary") {
			t.Errorf("%d and %d lines", len(lines["Condition"]), len(lines["Observation"]))
		}
		// All dates of one patient are moved alike.
		by := map[string]int{}
		for _, l := range lines["Condition"] {
			var d dated
			if err := json.Unmarshal([]byte(l), &d); err != nil {
				t.Fatal(err)
			}
			days := moved(t, d.RecordedDate, "2024-03-05")
			if by[d.Subject.Reference] = days; days == 0 || days > 30 || days < -30 || moved(t, d.AbatementDateTime, "2024-06-05") != days {
				t.Errorf("%d days: %s", days, l)
			}
		}
		shifts[n] = map[int]int{}
		for _, l := range lines["Observation"] {
			var d dated
			if err := json.Unmarshal([]byte(l), &d); err != nil {
				t.Fatal(err)
			}
			days := moved(t, d.EffectiveDateTime, "2024-03-12")
			if shifts[n][d.ValueInteger] = days; days != by[d.Subject.Reference] || moved(t, d.Issued, "2024-03-13") != days || !strings.HasSuffix(d.Issued, "T00:00:00Z") {
				t.Errorf("%d days, and %d in the diagnosis: %s", days, by[d.Subject.Reference], l)
			}
		}
		different := map[int]bool{}
		for _, days := range shifts[n] {
			different[days] = true
		}
		if len(different) < 12 { // of 31 that were drawn from 60: 24 are expected
			t.Errorf("%d different shifts", len(different))
		}
		// As long as the release is there, the key is, apart from it; neither is in what an export keeps.
		if keys := c.count(t, "SELECT count(shift) FROM deident.patient"); keys != 36*(n+1) {
			t.Errorf("%d shifts are kept", keys)
		}
	}
	same := 0
	for i, days := range shifts[0] {
		if shifts[1][i] == days {
			same++
		}
	}
	if same > 8 || len(shifts[0]) != 31 { // half of one is expected
		t.Errorf("%d of %d have the same shift in both releases", same, len(shifts[0]))
	}
	for _, x := range surrogates[0] {
		if slices.Contains(surrogates[1], x) {
			t.Errorf("%s is in both", x)
		}
	}
	// A day later nothing tells who is who, nor by how much whose dates were moved.
	c.tick.Add(int64((25 * time.Hour).Seconds()))
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"release", "member", "patient", "cell", "rare", "piece"} {
		if n := c.count(t, "SELECT count(*) FROM deident."+table); n != 0 {
			t.Errorf("deident.%s: %d rows are left", table, n)
		}
	}
}

// A data use agreement that is not in force for whoever asks, and for now, lets nothing out: not the kick-off, not the next page,
// not a file that is done.
func TestD4_164_514_e_TheAgreementOverHTTP(t *testing.T) {
	c, s, _ := newReleasing(t)
	c.crowd(t, 0, 30, "female", "F32.9")
	const kick = "/fhir/$export?_profile=limited-data-set&_type=Condition,Patient"
	document := "Contract/dua-7"
	agreed := func(recipient, from, until string) terms.Terms {
		return terms.Terms{Agreements: []terms.Agreement{{Validity: terms.Validity{Reference: document, Recipients: []string{recipient}, From: from, Until: until}}}}
	}
	in := agreed("registry", "2026-01-01", "2027-01-01")
	for name, x := range map[string]struct {
		laid  terms.Terms
		token string
	}{
		"none on file": {terms.Terms{}, "registry"}, "ended yesterday": {agreed("registry", "2025-01-01", "2026-02-28"), "registry"}, "ends today": {agreed("registry", "2025-01-01", "2026-03-01"), "registry"},
		"begins tomorrow": {agreed("registry", "2026-03-02", "2027-01-01"), "registry"}, "names another": {agreed("exchange", "2026-01-01", "2027-01-01"), "registry"},
		"for treatment": {agreed("exchange", "2026-01-01", "2027-01-01"), "exchange"}, "registered with another profile": {agreed("analytics", "2026-01-01", "2027-01-01"), "analytics"},
	} {
		s.Terms.Set(c.tenant, x.laid)
		w := ask(t, c, "GET", kick, x.token, "", "Prefer", "respond-async")
		if w.Code != 403 || w.Header().Get("Content-Location") != "" || !strings.Contains(w.Body.String(), `"forbidden"`) {
			t.Errorf("%s: %d %v %s", name, w.Code, w.Header(), w.Body)
		}
	}
	if n := c.count(t, "SELECT (SELECT count(*) FROM export.job) + (SELECT count(*) FROM deident.release)"); n != 0 {
		t.Errorf("%d jobs or keys of what was refused", n)
	}

	// While it holds, all is there, and the manifest names it.
	s.Terms.Set(c.tenant, in)
	done := asked(t, c, kick, "registry")
	work(t, s)
	m, text, lines := got(t, c, done, "registry")
	if r := m.Extension.Release; r.Profile != "limited-data-set|1.1.0" || r.Basis != "Contract/dua-7" || r.Suppressed != nil {
		t.Errorf("%s", text)
	}
	if all := fmt.Sprint(lines); len(lines["Condition"]) != 30 || strings.Count(all, `"2024-03-05"`) != 30 || strings.Count(all, `"1984-05-06"`) != 30 || strings.Contains(all, "mrn") || strings.Contains(all, "Canary") {
		t.Errorf("%d lines", len(lines["Condition"]))
	}

	// It is withdrawn, ends, or is another one, in the middle of a release, with some of it written.
	document = "Contract/dua-8"
	other := agreed("registry", "2026-01-01", "2027-01-01")
	for name, laid := range map[string]terms.Terms{"withdrawn": {}, "replaced": other, "for another": agreed("exchange", "2026-01-01", "2027-01-01")} {
		place := begun(t, c, s, kick)
		s.Terms.Set(c.tenant, laid)
		work(t, s)
		if w := ask(t, c, "GET", place, "registry", ""); w.Code != 403 || strings.Contains(w.Body.String(), "output") {
			t.Errorf("%s: %d %.300s", name, w.Code, w.Body)
		}
		if w := ask(t, c, "GET", place+"/1.ndjson", "registry", ""); w.Code < 400 || strings.Contains(w.Body.String(), "Condition") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		// And what was done before is not fetched any more.
		for _, f := range m.Output {
			if w := ask(t, c, "GET", below(t, f.URL), "registry", ""); w.Code != 403 || strings.Contains(w.Body.String(), f.Type+`"`) {
				t.Errorf("%s: %s: %d %.300s", name, f.URL, w.Code, w.Body)
			}
		}
		s.Terms.Set(c.tenant, in)
	}
	if n := c.count(t, "SELECT count(*) FROM deident.release"); n != 1 { // of the one that is done
		t.Errorf("the keys of %d releases", n)
	}
	if w := ask(t, c, "GET", below(t, m.Output[0].URL), "registry", ""); w.Code != 200 {
		t.Errorf("while it holds again: %d %s", w.Code, w.Body)
	}
	// Its last day passes.
	c.tick.Add(int64((306 * 24 * time.Hour).Seconds()))
	if w := ask(t, c, "GET", kick, "registry", "", "Prefer", "respond-async"); w.Code != 403 {
		t.Errorf("after its last day: %d %s", w.Code, w.Body)
	}
}

// begun is a release of which something is written.
func begun(t *testing.T, c *clinic, s *export.Service, path string) string {
	t.Helper()
	place := asked(t, c, path, "registry")
	for range 50 {
		if _, err := s.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		var w *httptest.ResponseRecorder
		if w = ask(t, c, "GET", place, "registry", ""); strings.Contains(w.Header().Get("X-Progress"), "resources") {
			return place
		}
		if w.Code != 202 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		c.tick.Add(30)
	}
	t.Fatal("nothing is written")
	return ""
}

// Who says in the middle of a release that she wants no use of her records is not in it; who says so when it is done takes its
// files with her.
func TestD7_2_16_OptingOutOverHTTP(t *testing.T) {
	c, s, _ := newReleasing(t)
	c.crowd(t, 0, 30, "female", "F32.9")
	out := func(n int) {
		if err := c.put(t, fmt.Sprintf(`{"resourceType":"Consent","id":"out-%d","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},
"category":[{"coding":[{"system":"`+fhir.ConsentKind+`","code":"deidentified-optout"}]}],"patient":{"reference":"Patient/mrn-%d"},"dateTime":"2025-01-01","provision":{"type":"deny"}}`, n, n)); err != nil {
			t.Fatal(err)
		}
	}
	for n, profile := range []string{"safe-harbor", "limited-data-set", "expert-determination"} {
		place := begun(t, c, s, "/fhir/$export?_profile="+profile+"&_type=Condition,Observation,Patient")
		out(2 * n)
		work(t, s)
		m, _, lines := got(t, c, place, "registry")
		want := 29 - 2*n
		patients := want + 2 // with those of the clinic
		if profile == "expert-determination" {
			patients = want // who are too few
		}
		if len(lines["Patient"]) != patients || len(lines["Condition"]) != want || len(lines["Observation"]) != want || len(m.Output) != 3 {
			t.Errorf("%s: %d, %d and %d lines, want %d", profile, len(lines["Patient"]), len(lines["Condition"]), len(lines["Observation"]), want)
		}
		there := map[string]bool{}
		for _, l := range lines["Patient"] {
			var p dated
			if err := json.Unmarshal([]byte(l), &p); err != nil {
				t.Fatal(err)
			}
			there["Patient/"+p.ID] = true
		}
		for _, l := range lines["Observation"] {
			var d dated
			if err := json.Unmarshal([]byte(l), &d); err != nil || !there[d.Subject.Reference] || d.ValueInteger == 2*n {
				t.Errorf("%s: %s", profile, l)
			}
		}
		out(2*n + 1)
		for _, f := range m.Output {
			if w := ask(t, c, "GET", below(t, f.URL), "registry", ""); w.Code != 410 || strings.Contains(w.Body.String(), f.Type+`"`) {
				t.Errorf("%s: %s: %d %.300s", profile, f.URL, w.Code, w.Body)
			}
		}
	}
	if n := c.count(t, "SELECT count(*) FROM deident.release"); n != 3 {
		t.Errorf("%d releases", n)
	}
	if deident.MinK != 11 {
		t.Error("the crowd is too small for this test")
	}
}
