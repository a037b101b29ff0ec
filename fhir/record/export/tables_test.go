package export_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
	"github.com/cloister-health/cloister/fhir/record/export"
	"github.com/cloister-health/cloister/fhir/view"
	ready "github.com/cloister-health/cloister/fhir/view/clinical"
	"github.com/cloister-health/cloister/fhir/view/tabular"
)

var formats = []string{"csv", "parquet"}

// tabled is a release as tables.
func tabled(format string, types ...fhir.ResourceType) export.Request {
	r := released(types...)
	r.Format = format
	return r
}

// sheet is a table of a release, read again.
type sheet struct {
	columns []string
	rows    [][]string
	files   []int // the rows of each
	text    string
}

// read adds a file.
func (s *sheet) read(t testing.TB, format, text string) {
	t.Helper()
	columns, rows := parsed(t, format, text)
	if s.columns != nil && !slices.Equal(s.columns, columns) {
		t.Errorf("columns are %v, and %v", s.columns, columns)
	}
	s.columns, s.rows, s.files, s.text = columns, append(s.rows, rows...), append(s.files, len(rows)), s.text+text
}

// parsed reads a file that is whole in itself.
func parsed(t testing.TB, format, text string) (columns []string, rows [][]string) {
	t.Helper()
	if format == "csv" {
		all, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil || len(all) == 0 {
			t.Fatalf("%v in %q", err, text)
		}
		return all[0], all[1:]
	}
	f, err := parquet.OpenFile(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range f.Root().Columns() {
		columns = append(columns, c.Name())
	}
	for _, g := range f.RowGroups() {
		in, buf := g.Rows(), make([]parquet.Row, 8)
		for err == nil {
			var n int
			n, err = in.ReadRows(buf)
			for _, r := range buf[:n] {
				row := make([]string, len(columns))
				for _, v := range r {
					if !v.IsNull() {
						row[v.Column()] = v.String()
					}
				}
				rows = append(rows, row)
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		err = in.Close()
	}
	return columns, rows
}

// tables are those of an export that is done, by the names of their views.
func (h *house) tables(id, format string) map[string]*sheet {
	h.T.Helper()
	s := h.status(h.exchange(), id)
	if s.State != export.Done {
		h.T.Fatalf("the export is %s %s", s.State, s.Reason)
	}
	out, rows := map[string]*sheet{}, 0
	for n, f := range s.Files {
		text, err := h.fetch(h.exchange(), id, f.Name)
		if err != nil {
			h.T.Fatal(err)
		}
		v, ok := ready.Named(f.Table.View)
		if !ok || f.Type != v.Resource() || f.Table.Canonical != v.URL() || f.Table.Format != format || f.Name != fmt.Sprintf("%d.%s", n+1, format) {
			h.T.Errorf("%+v %+v", f, f.Table)
		}
		if out[v.Name()] == nil {
			out[v.Name()] = &sheet{}
		}
		x := out[v.Name()]
		x.read(h.T, format, text)
		if rows += f.Lines; x.files[len(x.files)-1] != f.Lines {
			h.T.Errorf("%s has %d rows, and %d are told", f.Name, x.files[len(x.files)-1], f.Lines)
		}
	}
	if s.Lines != int64(rows) || !s.Tables {
		h.T.Errorf("%d rows are told, and there are %d", s.Lines, rows)
	}
	return out
}

// keyed fails where the keys of rows are not in their order, or there again, or lead to nobody.
func keyed(t testing.TB, all map[string]*sheet) {
	t.Helper()
	people := map[string]bool{}
	if p := all["patient"]; p != nil {
		for _, r := range p.rows {
			people[r[0]] = true
		}
	}
	for name, s := range all {
		last := ""
		seen := map[string]bool{}
		for _, r := range s.rows {
			if whole := strings.Join(r, "|"); !surrogate.MatchString(r[0]) || r[0] < last || seen[whole] {
				t.Errorf("%s: %v after %s", name, r, last)
			} else {
				last, seen[whole] = r[0], true
			}
			if i := slices.Index(s.columns, "patient_key"); all["patient"] != nil && i >= 0 && !people[r[i]] {
				t.Errorf("%s: %v is of nobody", name, r)
			}
		}
	}
}

// shapeOf is all of tables but what is random: their rows, and those in which each key is.
func shapeOf(all map[string]*sheet) string {
	out := map[string][]string{}
	for name, s := range all {
		out[name] = append(out[name], strings.Join(s.columns, ","))
		for _, r := range s.rows {
			out[name] = append(out[name], strings.Join(r, ","))
		}
	}
	return shape(out)
}

// clinic is enough of everything of which there are views.
func clinicOf(h *house) {
	for i := range 14 {
		h.Load(fmt.Sprintf(`{"resourceType":"Patient","id":"q%02d","gender":"male","birthDate":"1984-05-06","name":[{"family":%q}],"address":[{"state":"NY","postalCode":"12180"}]}`, i, "Anna"))
		h.Load(fmt.Sprintf(`{"resourceType":"Condition","id":"dx%02d","subject":{"reference":"Patient/q%02d"},"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F32.9"},{"system":"http://snomed.info/sct","code":"35489007"}],"text":"Anna"},"recordedDate":"2024-03-05"}`, i, i))
		h.Load(observation(fmt.Sprintf("s%02d", i), fmt.Sprintf("q%02d", i), fmt.Sprintf(`,"valueInteger":%d,"note":[{"text":"Anna"}]`, i)))
	}
	h.Load(`{"resourceType":"Observation","id":"other","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"44249-1"}]},"subject":{"reference":"Patient/anna"},"valueInteger":3}`)
	h.Clock.Add(1000)
}

// written is a release that is made at once, as tables.
type written struct {
	format tabular.Format
	now    []*writing
	done   map[string]*writing
}

type writing struct {
	bytes.Buffer
	*deident.Table
	tabular.Writer
}

func (w *writing) Write(r view.Row) error { return w.Writer.Write(r) }

func (w *written) Open(t fhir.ResourceType) (export.Writer, error) {
	w.now = nil
	for _, v := range ready.Views() {
		if v.Resource() != t {
			continue
		}
		x := &writing{}
		x.Table = deident.NewTable(v, x)
		var err error
		if x.Writer, err = w.format.New(&x.Buffer, v); err != nil {
			return nil, err
		}
		w.now, w.done[v.Name()] = append(w.now, x), x
	}
	return w, nil
}

func (w *written) Put(of *deident.Release, d deident.Deidentified) error {
	for _, x := range w.now {
		if err := of.Tabulate(context.Background(), d, x.Table); err != nil {
			return err
		}
	}
	return nil
}

func (w *written) Close() error {
	for _, x := range w.now {
		if err := x.Writer.Close(); err != nil {
			return err
		}
	}
	return nil
}

func (w *written) Reset() error { w.done = map[string]*writing{}; return nil }

// Tables of a release are the rows that its resources make, each once, in files that are whole in themselves; they are what a
// release that is made at once has.
func TestTablesOfARelease(t *testing.T) {
	h := newHouse(t, releasing, func(c *export.Config) { c.Pages = 2 })
	clinicOf(h)
	p := h.exchange()
	for _, format := range formats {
		id := h.accept(p, tabled(format))
		h.finish()
		got := h.tables(id, format)
		keyed(t, got)
		want := map[string]string{"patient": "17 [6 6 5]", "diagnosis": "28 [", "encounter": "2 [2]", "level_of_care": "2 [2]", "phq9_score": "27", "phq9_response": "0 [0]"}
		for name, x := range want {
			s := got[name]
			if s == nil {
				t.Errorf("%s: there is no table %s", format, name)
				continue
			}
			v, _ := ready.Named(name)
			var columns []string
			for _, c := range v.Columns() {
				columns = append(columns, c.Name)
			}
			if !slices.Equal(s.columns, columns) || !strings.HasPrefix(fmt.Sprint(len(s.rows), " ", s.files), x) {
				t.Errorf("%s: %s has %d rows in %v, and columns %v", format, name, len(s.rows), s.files, s.columns)
			}
			for _, token := range []string{"anna", "Anna", "dora", "q0", "s0", "-05-06", "12180", canary} {
				if strings.Contains(s.text+fmt.Sprint(s.rows), token) {
					t.Errorf("%s: %s is in %s", format, token, name)
				}
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d tables", format, len(got))
		}
		// What is behind a file is what has rows in it: of Observations those that are scores.
		if n := h.SQL("SELECT count(DISTINCT i)::text FROM export.part p, unnest(ids) AS i WHERE job = $1::text::uuid AND view = 'phq9_score'", id); n != "27" {
			t.Errorf("%s Observations are behind the scores", n)
		}
		if n := h.SQL("SELECT count(*)::text FROM export.part WHERE job = $1::text::uuid AND view IS NULL", id); n != "0" {
			t.Errorf("%s parts are of resources", n)
		}

		if x := got["diagnosis"].files; len(x) != 3 || slices.Max(x) > 12 {
			t.Errorf("%s: diagnoses are in files of %v", format, x)
		}

		// The same release, made at once.
		f, _ := tabular.FormatNamed(format)
		to := &written{format: f, done: map[string]*writing{}}
		if _, err := h.Make(t.Context(), p, export.Order{Profile: "safe-harbor", To: to}); err != nil {
			t.Fatal(err)
		}
		once := map[string]*sheet{}
		for name, x := range to.done {
			once[name] = &sheet{}
			once[name].read(t, format, x.String())
			if x.Count() != len(got[name].rows) {
				t.Errorf("%s: %s has %d rows, and %d at once", format, name, len(got[name].rows), x.Count())
			}
		}
		for name, s := range got { // there is nothing of its type
			if once[name] == nil && len(s.rows) == 0 {
				delete(got, name)
			}
		}
		if a, b := shapeOf(got), shapeOf(once); a != b || len(a) < 2000 {
			t.Errorf("%s: tables are\n%s\n--- at once\n%s", format, a, b)
		}
		for _, x := range surrogate.FindAllString(shapeless(once), -1) {
			if strings.Contains(shapeless(got), x) {
				t.Fatalf("%s is in both", x)
			}
		}
	}
	// Each resource is in the audit record, also where it has no row.
	if n := h.SQL("SELECT count(DISTINCT e)::text FROM audit.event, unnest(entities) AS e WHERE client = 'exchange' AND (e LIKE 'Observation/%' OR e LIKE 'Organization/%' OR e LIKE 'Practitioner/%')"); n != "31" {
		t.Errorf("%s resources are recorded", n)
	}
}

func shapeless(all map[string]*sheet) string {
	out := ""
	for _, s := range all {
		out += fmt.Sprint(s.rows)
	}
	return out
}

// A file has no more rows than it may have, also where one page makes more; what one resource makes may be in two.
func TestFilesOfTablesAreBounded(t *testing.T) {
	h := newHouse(t, releasing, func(c *export.Config) { c.Longest = 5 })
	clinicOf(h)
	for _, format := range formats {
		id := h.accept(h.exchange(), tabled(format, "Condition", "Patient"))
		h.finish()
		got := h.tables(id, format)
		keyed(t, got)
		if x := fmt.Sprint(got["diagnosis"].files, got["patient"].files); x != "[5 5 5 5 5 3] [5 5 5 2]" {
			t.Errorf("%s", x)
		}
	}
}

// Tables are let out whole, or not at all: as those who are in them, and who asks, stand now.
func TestD7_2_16_TablesAreFetchedWhole(t *testing.T) {
	agreement := terms.Agreement{Validity: terms.Validity{Reference: "Contract/dua", Recipients: []string{"exchange"}, From: "2026-01-01", Until: "2027-01-01"}}
	for name, c := range map[string]struct {
		change func(h *house)
		gone   string
	}{
		"nothing":                     {func(*house) {}, ""},
		"deleted":                     {func(h *house) { h.remove("Observation/o05") }, "phq9_score"},
		"deleted, and it has no row":  {func(h *house) { h.remove("Observation/other") }, ""},
		"changed":                     {func(h *house) { h.Load(observation("o05", "anna", `,"valueInteger":77`)) }, ""},
		"a consent is revoked":        {func(h *house) { h.Load(consent("c", "part2-specific", "inactive")) }, "encounter level_of_care phq9_score"},
		"somebody wants out":          {func(h *house) { h.Load(optOut("cleo")) }, "phq9_score patient"},
		"somebody else wants out":     {func(h *house) { h.Load(optOut("q03")) }, "phq9_score patient diagnosis"},
		"the keys are lost":           {func(h *house) { h.Exec("DELETE FROM deident.release") }, "encounter level_of_care phq9_score patient diagnosis"},
		"the agreement is withdrawn":  {func(h *house) { h.cfg.Terms.Set(h.Tenant, terms.Terms{}) }, "403"},
		"another client asks":         {func(*house) {}, "404"},
		"the release is cancelled":    {func(*house) {}, "404, cancelled"},
		"its time is over":            {func(h *house) { h.Clock.Add(25 * 3600_000) }, "404, expired"},
		"as lines of the same number": {func(*house) {}, "404, by another name"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, releasing)
			clinicOf(h)
			p := h.exchange()
			r := tabled("csv")
			if c.gone == "403" {
				p.Purpose, r.Profile = "HOPERAT", "limited-data-set"
				h.cfg.Terms.Set(h.Tenant, terms.Terms{Agreements: []terms.Agreement{agreement}})
			}
			id := h.accept(p, r)
			h.finish()
			files := h.status(p, id).Files
			c.change(h)
			h.Clock.Add(1000)
			if strings.Contains(c.gone, "cancelled") {
				if err := h.Cancel(t.Context(), h.Grant(p), id); err != nil {
					t.Fatal(err)
				}
			}
			who, tried := p, 0
			if c.gone == "404" {
				who.Client = "other"
			}
			for _, f := range files {
				asked := f.Name
				if strings.Contains(c.gone, "another name") {
					asked = strings.Replace(asked, ".csv", ".ndjson", 1)
				}
				text, err := h.fetch(who, id, asked)
				want := 200
				switch {
				case strings.HasPrefix(c.gone, "40"):
					_, _ = fmt.Sscanf(c.gone, "%d", &want)
				case slices.Contains(strings.Fields(c.gone), f.Table.View):
					want = 410
				}
				if status(err) == 410 {
					tried++
				}
				if status(err) != want || want == 200 && strings.Count(text, "\n") != f.Lines+1 || want != 200 && text != "" {
					t.Errorf("%s of %s: %v, want %d", asked, f.Table.View, err, want)
				}
			}
			if c.gone != "" && !strings.HasPrefix(c.gone, "40") && tried < len(strings.Fields(c.gone)) {
				t.Errorf("%d files are gone", tried)
			}
		})
	}
}

// Tables of the full database are those of one from which everything is physically absent that their client may not see.
func TestL28_TwinsHaveTheSameTables(t *testing.T) {
	full, twin := twins(t, func(h *house) {
		clinicOf(h)
		h.Load(optOut("q03"))
		h.Clock.Add(1000)
		determined(h, deident.Gender)
	})
	for _, profile := range []string{"safe-harbor", "expert-determination"} {
		for _, format := range formats {
			var got [2]string
			for n, h := range []*house{full, twin} {
				r := tabled(format)
				r.Profile = profile
				id := h.accept(h.exchange(), r)
				h.finish()
				s := h.status(h.exchange(), id)
				files := ""
				for _, f := range s.Files {
					files += fmt.Sprintf("%s %s %d %+v\n", f.Name, f.Type, f.Lines, *f.Table)
				}
				all := h.tables(id, format)
				keyed(t, all)
				got[n] = files + plain(shapeOf(all))
			}
			if got[0] != got[1] || len(got[0]) < 2000 || strings.Contains(got[0], "q03") {
				t.Errorf("%s, %s\n--- full\n%s\n--- twin\n%s", profile, format, got[0], got[1])
			}
		}
	}
}

func TestTableRefusals(t *testing.T) {
	h := newHouse(t, releasing)
	bound := h.exchange()
	bound.Profile = "safe-harbor"
	for name, c := range map[string]struct {
		bound bool
		r     export.Request
		want  int
		says  string
	}{
		"a release":                 {false, tabled("csv"), 200, ""},
		"no release":                {false, export.Request{Format: "csv"}, 400, "tables are of de-identified releases"},
		"no release, leniently":     {false, export.Request{Format: "parquet", Lenient: true}, 400, "tables are of de-identified releases"},
		"of a bound client":         {true, export.Request{Format: "parquet"}, 200, ""},
		"no such format":            {false, tabled("xlsx"), 400, "_outputFormat is"},
		"types without views":       {false, tabled("csv", "Organization", "Practitioner"), 400, "there are views of Patient, Encounter, Condition, Observation, QuestionnaireResponse, Appointment"},
		"types with and without":    {false, tabled("csv", "Organization", "Patient"), 200, ""},
		"what selects":              {false, export.Request{Released: true, Profile: "safe-harbor", Format: "csv", Filters: []string{"Patient?gender=male"}}, 400, ""},
		"a type that is not listed": {false, tabled("csv", "Patient", "DocumentReference"), 400, ""},
	} {
		p := h.exchange()
		if c.bound {
			p = bound
		}
		c.r.Level = export.System
		id, err := h.Accept(t.Context(), h.Grant(p), c.r)
		if status(err) != c.want || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %d", name, err, c.want)
		}
		if err == nil {
			_ = h.Cancel(t.Context(), h.Grant(p), id)
		}
	}
	if n := h.SQL("SELECT count(*)::text FROM deident.release"); n != "0" {
		t.Errorf("the keys of %s releases are left", n)
	}
}

// What a view does not hold ends the export at once: it would not, however often it is tried.
func TestATableThatDoesNotHold(t *testing.T) {
	h := newHouse(t, releasing)
	h.Load(`{"resourceType":"Condition","id":"endless","subject":{"reference":"Patient/anna"},"code":{"coding":[` +
		strings.TrimSuffix(strings.Repeat(`{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F32.9"},`, 100_001), ",") + `]}}`)
	h.Clock.Add(1000)
	p := h.exchange()
	id := h.accept(p, tabled("csv", "Condition", "Patient"))
	var said error
	for busy := true; busy; {
		var err error
		busy, err = h.Step(t.Context())
		said = errors.Join(said, err)
	}
	if said == nil || !strings.Contains(said.Error(), "diagnosis") || strings.Contains(said.Error(), "F32") {
		t.Errorf("the log hears %v", said)
	}
	if s := h.status(p, id); s.State != export.Failed || s.Reason != export.Internal {
		t.Errorf("it is %s %s", s.State, s.Reason)
	}
	if n := h.SQL("SELECT count(*)::text FROM deident.release"); n != "0" {
		t.Errorf("the keys of %s releases are left", n)
	}
}
