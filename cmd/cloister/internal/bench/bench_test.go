package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// TestWholeRun measures a very small clinic: all sides must answer alike, and
// the report must hold what it promises. What the numbers are is not its business.
func TestWholeRun(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: no measurement")
	}
	var out, progress, doc bytes.Buffer
	o := Options{
		DSN: cluster.NewDatabase(t, cluster.Template{}), Patients: 20, Clients: []int{2}, Duration: 200 * time.Millisecond, Rounds: 1,
		Mix: time.Second, Markdown: true, JSON: &doc, Progress: &progress,
	}
	if err := Run(context.Background(), o, &out); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	for _, want := range []string{
		"| read by id | 2 | 1 | raw |", "| read by id | 2 | 1 | Cloister |", "| read by id | 2 | 1 | Cloister without audit |",
		"| search by patient and code | 2 |", "| CRUD mix: update | 2 |", "| transactions of 20 | 2 | 20 | Cloister |",
		"| rows as compressed lines | raw |", "| export | Cloister |", "| release, safe harbor | Cloister |", "| release, expert determination | Cloister |",
		"| notifications: create | 2 | 1 | nobody subscribed |", "| notifications: create | 2 | 1 | Cloister |", "memory of the process, export",
		"Cloister : COPY = ", "kB per resource", "loaded by this run", "fsync", "a therapist", "Memory of the process",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	var r Report
	if err := json.Unmarshal(doc.Bytes(), &r); err != nil || len(r.Measures) < len(families) || r.Memory == nil || r.Load.All == 0 {
		t.Errorf("the JSON holds %d measures, %v", len(r.Measures), err)
	}
	bulk := map[string]Bulk{}
	for _, b := range r.Bulk {
		bulk[b.Name] = b
		if b.Resources == 0 || b.Bytes < 50*b.Resources && b.Name != tablesName || b.Took <= 0 || b.Side == sideCloister && b.Ratio == 0 {
			t.Errorf("%+v", b)
		}
	}
	// An exchange may see a part of the practice; of that a part is released, and of that rare cases are left out.
	if all, seen, safe, expert := bulk[rawBulk], bulk[exportName], bulk[safeName], bulk[expertName]; seen.Resources >= all.Resources || safe.Resources >= seen.Resources || expert.Resources > safe.Resources {
		t.Errorf("of %d resources %d are exported, %d released as safe, %d by an expert", all.Resources, seen.Resources, safe.Resources, expert.Resources)
	}
	if rows, safe := bulk[tablesName], bulk[safeName]; rows.Bytes >= safe.Bytes {
		t.Errorf("the columns of the views take %d bytes, the resources %d", rows.Bytes, safe.Bytes)
	}
	for _, f := range families {
		if !strings.Contains(out.String(), "| "+f.name+" |") {
			t.Errorf("the report does not speak of %q", f.name)
		}
	}
	// The second run finds the data there, and says so.
	out.Reset()
	o.Markdown, o.Mix, o.JSON, o.Only = false, 0, nil, regexp.MustCompile(readFamily)
	if err := Run(context.Background(), o, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "loaded by an earlier run") || strings.Contains(out.String(), mixName) {
		t.Errorf("a second run loads anew, or measures more than it is asked for:\n%s", out.String())
	}
	o.Patients = 21
	if err := Run(context.Background(), o, &out); err == nil {
		t.Error("a database of another data set is measured")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{
		{Clients: []int{0}}, {Patients: -1}, {Duration: -1}, {Rounds: -1}, {Workers: -1}, {MaxConns: -1}, {Mix: -1}, {Set: "everything"},
	} {
		if err := Run(context.Background(), o, &bytes.Buffer{}); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

func TestClientReadsBothFramings(t *testing.T) {
	ctx := context.Background()
	big := strings.Repeat("0123456789", 5000)
	address, stop, err := serve(ctx, func(string) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/length":
				w.Header().Set("Content-Length", "5")
				_, _ = w.Write([]byte("hello"))
			case "/chunks":
				for range 3 {
					_, _ = w.Write([]byte(big))
					if err := http.NewResponseController(w).Flush(); err != nil {
						t.Error(err)
					}
				}
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c, err := dial(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.conn.Close() }()
	for range 2 { // on one connection
		for path, want := range map[string]string{"/length": "hello", "/chunks": big + big + big} {
			status, err := c.do(get(address, path, ""))
			if err != nil || status != 200 || c.body.String() != want {
				t.Fatalf("%s: %d, %v, %d bytes", path, status, err, c.body.Len())
			}
		}
		if status, err := c.do(get(address, "/none", "")); err != nil || status != 404 {
			t.Fatalf("none: %d, %v", status, err)
		}
	}
	if _, err := drive(ctx, address, []request{{get(address, "/none", ""), 0}}, 2, 50*time.Millisecond); err == nil {
		t.Error("answers of 404 count as work")
	}
	got, err := drive(ctx, address, []request{{get(address, "/length", ""), 0}, {get(address, "/chunks", ""), 1}}, 2, 50*time.Millisecond)
	if err != nil || len(got) != 2 || got[0].Rate == 0 || got[1].Rate == 0 {
		t.Errorf("two kinds are measured as %+v, %v", got, err)
	}
}

// What a server ignores, it does not support.
func TestSupportedIsWhatTheSelfLinkHolds(t *testing.T) {
	ctx := context.Background()
	address, stop, err := serve(ctx, func(string) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.HasSuffix(r.URL.Path, "/Patient"):
				_, _ = w.Write([]byte(`{"resourceType":"Bundle","link":[{"relation":"self","url":"http://x/fhir/Patient?family=A"}]}`))
			case strings.HasSuffix(r.URL.Path, "/_history"):
				_, _ = w.Write([]byte(`{"resourceType":"Bundle"}`))
			default:
				w.WriteHeader(http.StatusBadRequest)
			}
		}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c, err := dial(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.conn.Close() }()
	for path, want := range map[string]bool{
		"/fhir/Patient?family=A&_count=20": true, "/fhir/Patient?family=A&_sort=-date": false, "/fhir/Patient/1/_history": true, "/fhir/Observation?date=1": false,
	} {
		if _, ok, err := supported(c, get(address, path, ""), path); err != nil || ok != want {
			t.Errorf("%s: %t, %v", path, ok, err)
		}
	}
}

func TestMedian(t *testing.T) {
	if got := median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("the median of 3, 1, 2 is %v", got)
	}
	m := Memory{Resident: []int64{900, 10, 12, 11, 13, 12, 11, 14, 12, 50}}
	if most, early, late := m.span(); most != 900 || early != 10 || late != 50 {
		t.Errorf("span: %d %d %d", most, early, late)
	}
}

const bundle = `{"resourceType":"Bundle","type":"transaction","entry":[
{"fullUrl":"urn:uuid:057aa36e-b892-9964-75b9-ffb46b097e34","resource":{"resourceType":"Patient","id":"057aa36e-b892-9964-75b9-ffb46b097e34",
"identifier":[{"system":"http://hl7.org/fhir/sid/us-ssn","value": "999-61-5135"}],"name":[{"family": "Smith34"}],"birthDate": "1990-12-31"},"request":{"method":"POST","url":"Patient"}},
{"fullUrl":"urn:uuid:157aa36e-b892-9964-75b9-ffb46b097e34","resource":{"resourceType":"Encounter","id":"157aa36e-b892-9964-75b9-ffb46b097e34","status":"finished","class":{"code":"AMB"},
"subject":{"reference":"urn:uuid:057aa36e-b892-9964-75b9-ffb46b097e34"},"serviceProvider":{"reference":"Organization?identifier=https://github.com/synthetichealth/synthea|257aa36e-b892-9964-75b9-ffb46b097e34"}},
"request":{"method":"POST","url":"Encounter"}}]}`

// A copy is the same record of somebody else: its references meet their targets,
// and those to what is shared stay.
func TestMultiplyKeepsTheRecordWhole(t *testing.T) {
	dir := t.TempDir()
	hospital := `{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Organization","id":"257aa36e-b892-9964-75b9-ffb46b097e34"}}]}`
	for name, text := range map[string]string{"0-hospital.json": hospital, "a.json": bundle} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := unpacked(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	seen, hospitals := map[string]bool{}, 0
	for name, body := range (set{copies: 3}).documents(files, &failed) {
		if strings.HasPrefix(name, "0-") {
			hospitals++
			continue
		}
		r, faults, err := codec.ParseBatch(body, codec.Limits{Bytes: len(body)})
		if err != nil || len(faults) > 0 {
			t.Fatalf("%s: %v %v", name, err, faults)
		}
		text, entries := string(body), r.Entries()
		patient := entries[0].Resource
		if seen[string(patient.ID())] || entries[0].FullURL != "urn:uuid:"+string(patient.ID()) {
			t.Errorf("%s: patient %s again, or under %s", name, patient.ID(), entries[0].FullURL)
		}
		for _, once := range regexp.MustCompile(`Smith34|.smith34|\d{4}-\d\d-\d\d|999-61-5135.?`).FindAllString(text, -1) {
			if seen[once] {
				t.Errorf("%s: %s again", name, once)
			}
			seen[once] = true
		}
		if !strings.Contains(text, `"reference":"`+entries[0].FullURL+`"`) {
			t.Errorf("%s: the encounter lost its patient", name)
		}
		if !strings.Contains(text, "synthea|257aa36e-b892-9964-75b9-ffb46b097e34") {
			t.Errorf("%s: the shared organization got another id", name)
		}
		seen[string(patient.ID())] = true
	}
	if failed != nil || hospitals != 1 || !seen["Smith34"] || !seen["Csmith34"] || !seen["1991-01-02"] {
		t.Errorf("%v, %d hospitals, %v", failed, hospitals, seen)
	}
}

func TestCompare(t *testing.T) {
	dir := t.TempDir()
	report := func(name string, p50 time.Duration, entries float64) string {
		path := filepath.Join(dir, name)
		var doc bytes.Buffer
		r := Report{Set: name, Load: &loaded{All: 1}, Measures: []Measured{
			{Name: "token", Clients: 8, Entries: entries, Sides: []Side{{Name: sideRaw, sample: sample{P50: 1}}, {Name: sideCloister, sample: sample{P50: p50}}}},
			{Name: "chain", Note: "not supported"},
		}}
		if err := r.json(&doc); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, doc.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	small := report("small", 10*time.Millisecond, 20)
	for _, c := range []struct {
		p50     time.Duration
		entries float64
		verdict string
		fails   bool
	}{{14 * time.Millisecond, 20, "pass", false}, {16 * time.Millisecond, 20, "FAIL", true}, {90 * time.Millisecond, 200, "other size", false}} {
		var out bytes.Buffer
		err := Compare(small, report("large", c.p50, c.entries), &out)
		if (err != nil) != c.fails || !strings.Contains(out.String(), c.verdict) {
			t.Errorf("%v: %v\n%s", c.p50, err, out.String())
		}
	}
}

// Of a bulk job the time of each resource and the memory are compared, of whatever number of resources; what the
// raw side needs is its own matter.
func TestCompareBulk(t *testing.T) {
	first := []Bulk{
		{Name: exportName, Side: sideCloister, Resources: 1000, Took: time.Second, Peak: 100e6}, {Name: rawBulk, Side: sideRaw, Resources: 1000, Took: time.Second, Peak: 1},
		{Name: safeName, Side: sideCloister, Resources: 1000, Took: time.Second, Peak: 100e6},
	}
	for _, c := range []struct {
		took   time.Duration
		peak   int64
		failed string
	}{
		{14 * time.Second, 149e6, ""}, {16 * time.Second, 100e6, "export (time)"}, {10 * time.Second, 151e6, "export (memory)"}, {16 * time.Second, 151e6, "export (time), export (memory)"},
	} {
		var out bytes.Buffer
		failed, err := compareBulk(first, []Bulk{
			{Name: exportName, Side: sideCloister, Resources: 10_000, Took: c.took, Peak: c.peak}, {Name: rawBulk, Side: sideRaw, Resources: 10_000, Took: time.Hour, Peak: 1e9},
		}, &out)
		if err != nil || strings.Join(failed, ", ") != c.failed || strings.Contains(out.String(), safeName) {
			t.Errorf("%v %d: %v, %v\n%s", c.took, c.peak, failed, err, out.String())
		}
	}
	var out bytes.Buffer
	if failed, err := compareBulk(first, nil, &out); failed != nil || err != nil || out.Len() > 0 {
		t.Errorf("nothing is compared: %v %v %s", failed, err, out.String())
	}
}

func TestMiddleBulk(t *testing.T) {
	job := func(took, cpu time.Duration, peak int64) Bulk {
		return Bulk{Name: exportName, Side: sideCloister, Resources: 100, Took: took, Own: cpu, Peak: peak}
	}
	rows := func(took time.Duration) Bulk {
		return Bulk{Name: rawBulk, Side: sideRaw, Resources: 200, Took: took, Own: 2 * time.Second}
	}
	raw := []Bulk{rows(2 * time.Second), rows(4 * time.Second), rows(8 * time.Second)}
	got := middleBulk([]Bulk{job(2*time.Second, 4*time.Second, 5), job(4*time.Second, 2*time.Second, 9), job(time.Second, time.Second, 7)}, raw)
	// Twice as many rows in the same time, in the first two rounds; a quarter of them in an eighth of the time in the last.
	if got.Took != 2*time.Second || got.Own != 2*time.Second || got.Peak != 7 || got.Ratio != .5 || got.CPURatio != .5 {
		t.Errorf("%+v", got)
	}
}

func TestBars(t *testing.T) {
	r := Report{
		Bulk: []Bulk{{Name: rawBulk, Side: sideRaw, Peak: 1e9}, {Name: exportName, Side: sideCloister, Peak: 399e6}, {Name: safeName, Side: sideCloister, Peak: 401e6}},
		Set:  "synthea", Load: &loaded{All: 5000, Took: time.Second, Bytes: 30_000_000}, Memory: &Memory{Resident: []int64{1e8, 1e8, 1e8, 1.5e8}},
		Measures: []Measured{
			{Name: readFamily, Clients: 8, Sides: []Side{{Name: sideCloister, Ratio: .1}}},
			{Name: readFamily, Clients: 64, Sides: []Side{{Name: sideRaw}, {Name: sideCloister, Ratio: .9}, {Name: sideUnaudited, Ratio: .1}}},
			{Name: searchFamily, Clients: 64, Sides: []Side{{Name: sideCloister, Ratio: .4}}},
		},
		Segmentation: []Segmentation{{Caller: "x", Cost: .1}},
	}
	r.judge()
	var got []bool
	for _, b := range r.Bars {
		got = append(got, b.Pass)
	}
	// read, search, segmentation, ingest, bytes, memory of the export, of the release, of the mix, and its growth
	want := []bool{true, false, true, true, false, true, false, true, false}
	if len(got) != len(want) {
		t.Fatalf("bars: %v", r.Bars)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s", r.Bars[i])
		}
	}
}
