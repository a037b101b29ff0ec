package api

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/deident/terms"
)

// tableOf reads a file of a table: its columns, then its rows.
func tableOf(t testing.TB, url, text string) (out [][]string) {
	t.Helper()
	if strings.HasSuffix(url, ".csv") {
		out, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	f, err := parquet.OpenFile(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	out = append(out, nil)
	for _, c := range f.Root().Columns() {
		out[0] = append(out[0], c.Name())
	}
	for _, g := range f.RowGroups() {
		rows, buf := g.Rows(), make([]parquet.Row, 16)
		for err == nil {
			var n int
			n, err = rows.ReadRows(buf)
			for _, r := range buf[:n] {
				row := make([]string, len(out[0]))
				for _, v := range r {
					if !v.IsNull() {
						row[v.Column()] = v.String()
					}
				}
				out = append(out, row)
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		err = rows.Close()
	}
	return out
}

// A release as tables over HTTP: which tables there are, what is in them, and that they are let out, in whole or in part, as files
// of resources are.
func TestTablesOverHTTP(t *testing.T) {
	c, s, _ := newReleasing(t)
	c.crowd(t, 0, 30, "female", "F32.9")
	for media, short := range map[string]string{"text/csv": "csv", "application/vnd.apache.parquet": "parquet"} {
		place := asked(t, c, "/fhir/$export?_profile=safe-harbor&_outputFormat="+media, "registry")
		work(t, s)
		m, text, _ := got(t, c, place, "registry")
		rows := map[string][][]string{}
		for n, f := range m.Output {
			view := ""
			for _, v := range []string{"patient", "encounter", "diagnosis", "phq9_score", "phq9_response", "level_of_care", "attendance"} {
				if strings.Contains(text, `{"type":"`+f.Type+`","url":"`+f.URL+`","count":`+fmt.Sprint(f.Count)+`,"extension":{"table":{"view":"`+v+`","canonical":"`+fhir.Canonical+`/ViewDefinition/`+v+`","format":"`+short+`"}}}`) {
					view = v
				}
			}
			w := ask(t, c, "GET", below(t, f.URL), "registry", "", "Accept", media)
			x := tableOf(t, f.URL, w.Body.String())
			if view == "" || !strings.HasSuffix(f.URL, fmt.Sprintf("/%d.%s", n+1, short)) || !strings.HasSuffix(x[0][0], "_key") || len(x)-1 != f.Count {
				t.Errorf("%s of %q: %v in %s", f.URL, view, x[0], text)
			}
			if h := w.Header(); !strings.HasPrefix(h.Get("Content-Type"), media) || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Length") != fmt.Sprint(w.Body.Len()) || h.Get("Accept-Ranges") != "bytes" || len(h.Get("ETag")) != 34 {
				t.Errorf("%s: %v", f.URL, h)
			}
			rows[view] = append(rows[view], x[1:]...)
		}
		for view, want := range map[string]int{"patient": 32, "diagnosis": 30, "phq9_score": 30, "encounter": 0, "level_of_care": 0, "phq9_response": 0, "attendance": 0} {
			if x, ok := rows[view]; !ok || len(x) != want {
				t.Errorf("%s: %d rows of %s, want %d", short, len(x), view, want)
			}
		}
		var scores []string
		for _, r := range rows["phq9_score"] {
			scores = append(scores, fmt.Sprintf("%02s %s %s", r[6], r[7], r[5]))
			if !slices.ContainsFunc(rows["patient"], func(p []string) bool { return p[0] == r[1] }) {
				t.Errorf("%v is nobody's", r)
			}
		}
		if slices.Sort(scores); scores[0] != "00 minimal 2024" || scores[16] != "16 moderately severe 2024" {
			t.Errorf("scores are %v", scores)
		}
		if all := fmt.Sprint(rows, text); strings.Contains(all, "Canary") || strings.Contains(all, "mrn-") || strings.Contains(all, "Anna") || strings.Contains(all, "-05-06") {
			t.Errorf("%s", all)
		}

		// In part, and packed.
		file := below(t, m.Output[0].URL)
		whole := ask(t, c, "GET", file, "registry", "")
		tag, size := whole.Header().Get("ETag"), whole.Body.Len()
		for _, x := range [][2]int{{0, 1}, {0, size}, {3, size - 4}, {size - 8, size}} {
			w := ask(t, c, "GET", file, "registry", "", "Range", fmt.Sprintf("bytes=%d-%d", x[0], x[1]-1), "If-Range", tag)
			if w.Code != 206 || !bytes.Equal(w.Body.Bytes(), whole.Body.Bytes()[x[0]:x[1]]) || w.Header().Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", x[0], x[1]-1, size) {
				t.Errorf("%v: %d %v", x, w.Code, w.Header())
			}
		}
		if w := ask(t, c, "GET", file, "registry", "", "Range", fmt.Sprintf("bytes=%d-", size)); w.Code != 416 {
			t.Errorf("behind its end: %d", w.Code)
		}
		w := ask(t, c, "GET", file, "registry", "", "Accept-Encoding", "gzip")
		unpacked, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		if x, err := io.ReadAll(unpacked); err != nil || !bytes.Equal(x, whole.Body.Bytes()) || w.Header().Get("ETag") == tag {
			t.Errorf("packed: %v %v", err, w.Header())
		}
		// Each download is in the record, before its first byte.
		was := c.count(t, "SELECT count(*) FROM audit.event WHERE client = 'registry'")
		ask(t, c, "GET", file, "registry", "")
		if n := c.count(t, "SELECT count(*) FROM audit.event WHERE client = 'registry'"); n <= was {
			t.Errorf("%d events, and %d after a download", was, n)
		}
		for _, x := range []struct{ path, token string }{{place, "exchange"}, {file, "exchange"}, {file, "analytics"}, {strings.Replace(file, short, "ndjson", 1), "registry"}, {place + "/99." + short, "registry"}} {
			if w := ask(t, c, "GET", x.path, x.token, ""); w.Code != 404 {
				t.Errorf("%s as %s: %d", x.path, x.token, w.Code)
			}
		}
		if w := ask(t, c, "DELETE", place, "registry", ""); w.Code != 202 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if w := ask(t, c, "GET", file, "registry", ""); w.Code != 404 {
			t.Errorf("of what was deleted: %d", w.Code)
		}
	}
	if n := c.count(t, "SELECT (SELECT count(*) FROM export.object) + (SELECT count(*) FROM export.part) + (SELECT count(*) FROM deident.release)"); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// Whoever wants out, and an agreement that ends, take the tables with them, as they do lines.
func TestD7_2_16_TablesThatAreNotFetchedAnyMore(t *testing.T) {
	c, s, _ := newReleasing(t)
	c.crowd(t, 0, 30, "female", "F32.9")
	place := asked(t, c, "/fhir/$export?_profile=limited-data-set&_outputFormat=parquet&_type=Patient,Condition,Encounter", "registry")
	work(t, s)
	m, _, _ := got(t, c, place, "registry")
	answers := func() (out []int) {
		for _, f := range m.Output {
			w := ask(t, c, "GET", below(t, f.URL), "registry", "")
			if w.Code != 200 && strings.Contains(w.Body.String(), "PAR1") {
				t.Errorf("%s: %d, with something in it", f.URL, w.Code)
			}
			out = append(out, w.Code)
		}
		return out
	}
	// Patients and their diagnoses, and the two views of Encounters, of which there are none.
	if x := fmt.Sprint(answers()); x != "[200 200 200 200]" {
		t.Fatal(x)
	}
	in := s.Terms.Of(c.tenant)
	s.Terms.Set(c.tenant, terms.Terms{})
	if x := fmt.Sprint(answers()); x != "[403 403 403 403]" {
		t.Errorf("without an agreement: %s", x)
	}
	s.Terms.Set(c.tenant, in)
	if err := c.put(t, `{"resourceType":"Consent","id":"out","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},
"category":[{"coding":[{"system":"`+fhir.ConsentKind+`","code":"deidentified-optout"}]}],"patient":{"reference":"Patient/mrn-7"},"dateTime":"2025-01-01","provision":{"type":"deny"}}`); err != nil {
		t.Fatal(err)
	}
	gone := 0
	for n, code := range answers() {
		if f := m.Output[n]; code == 410 {
			gone++
		} else if f.Count > 0 {
			t.Errorf("%s, of somebody who wants out: %d", f.Type, code)
		}
	}
	if gone != 2 {
		t.Errorf("%d files are gone", gone)
	}
}

func TestTableRequests(t *testing.T) {
	c, _, _ := newReleasing(t)
	const own = "tables are of de-identified releases"
	for _, x := range []struct {
		method, path, token, prefer, body string
		want                              int
		says                              string
	}{
		{"GET", "/fhir/$export?_outputFormat=text/csv", "registry", "", "", 400, own},
		{"GET", "/fhir/$export?_outputFormat=application/vnd.apache.parquet", "registry", "", "", 400, own},
		{"GET", "/fhir/$export?_outputFormat=parquet", "registry", ", handling=lenient", "", 400, own},
		{"GET", "/fhir/Patient/$export?_outputFormat=csv", "registry", "", "", 400, own},
		{"POST", "/fhir/$export", "registry", "", `{"resourceType":"Parameters","parameter":[{"name":"_outputFormat","valueString":"csv"}]}`, 400, own},
		{"GET", "/fhir/$export?_outputFormat=text/csv", "analytics", "", "", 202, ""}, // it gets nothing but releases
		{"GET", "/fhir/$export?_profile=safe-harbor&_outputFormat=text/csv", "registry", ", handling=lenient", "", 202, ""},
		{"POST", "/fhir/$export", "registry", "", `{"resourceType":"Parameters","parameter":[{"name":"_profile","valueString":"safe-harbor"},{"name":"_outputFormat","valueString":"application/vnd.apache.parquet"}]}`, 202, ""},
		{"GET", "/fhir/$export?_profile=safe-harbor&_outputFormat=text/csv,application/vnd.apache.parquet", "registry", "", "", 400, "_outputFormat is application/fhir+ndjson"},
		{"GET", "/fhir/$export?_profile=safe-harbor&_outputFormat=text/csv&_outputFormat=ndjson", "registry", "", "", 400, "may stand once"},
		{"GET", "/fhir/$export?_profile=safe-harbor&_outputFormat=application/vnd.ms-excel", "registry", ", handling=lenient", "", 400, "_outputFormat is application/fhir+ndjson"},
		{"GET", "/fhir/$export?_profile=safe-harbor&_outputFormat=csv&_type=Organization", "registry", "", "", 400, "there is no view of a type"},
		{"GET", "/fhir/$export?_profile=safe-harbor&_outputFormat=csv&organizeOutputBy=Patient", "registry", "", "", 400, ""},
	} {
		w := ask(t, c, x.method, x.path, x.token, x.body, "Prefer", "respond-async"+x.prefer)
		if w.Code != x.want || !strings.Contains(w.Body.String(), x.says) || x.want == 400 && w.Header().Get("Content-Location") != "" {
			t.Errorf("%s %s: %d %s", x.method, x.path, w.Code, w.Body)
		}
		if w.Code == 202 {
			ask(t, c, "DELETE", below(t, w.Header().Get("Content-Location")), x.token, "")
		}
	}
	if n := c.count(t, "SELECT (SELECT count(*) FROM export.job) + (SELECT count(*) FROM deident.release)"); n != 0 {
		t.Errorf("%d jobs or keys are left", n)
	}
}

// The worked example of docs/analytics.md is what a server answers, step by step.
func TestDocsTablesExample(t *testing.T) {
	c, s, _ := newReleasing(t)
	steps, _ := workedExample(t, "analytics.md", "tables", 4)
	id := ""
	for _, x := range steps {
		w := x.send(t, c, "id", id)
		switch {
		case w.Header().Get("X-Progress") != "":
			work(t, s)
		case id == "":
			id = jobOf(w)
		}
		x.agrees(t, strings.ReplaceAll(w.Body.String(), "\r\n", "\n"), func(s string) string { return surrogates.ReplaceAllString(s, "SURROGATE") })
	}
}
