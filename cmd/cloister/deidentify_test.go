package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// practice is thirty patients with a diagnosis and an attachment each; the last of them wants no use of her records at all.
func practice() string {
	var b strings.Builder
	for i := range 30 {
		id := fmt.Sprintf("mrn-%02d", i)
		gender := []string{"female", "male"}[i%2]
		b.WriteString(`{"resourceType":"Patient","id":"` + id + `","gender":"` + gender + `","birthDate":"1984-05-06","name":[{"family":"CANARYwombat"}],"address":[{"city":"CANARYwombat","state":"NY","postalCode":"12180"}]}` + "\n")
		b.WriteString(`{"resourceType":"Condition","id":"c-` + id + `","subject":{"reference":"Patient/` + id + `"},"code":{"coding":[{"system":"http://hl7.org/fhir/sid/icd-10-cm","code":"F32.9","display":"CANARYwombat"}]},"recordedDate":"2024-03-05"}` + "\n")
	}
	b.WriteString(`{"resourceType":"DocumentReference","id":"note","status":"current","type":{"coding":[{"system":"` + fhir.NoteKind + `","code":"progress-note"}]},"subject":{"reference":"Patient/mrn-00"},"content":[{"attachment":{"data":"Q0FOQVJZ"}}]}` + "\n")
	b.WriteString(`{"resourceType":"Consent","id":"out","status":"active","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},"category":[{"coding":[{"system":"` + fhir.ConsentKind +
		`","code":"deidentified-optout"}]}],"patient":{"reference":"Patient/mrn-29"},"dateTime":"2024-01-01","policyRule":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"OPTOUT"}]},"provision":{"type":"deny"}}` + "\n")
	return b.String()
}

// laid is what the practice has laid down.
const laid = `{"agreements": [{"reference": "Contract/dua-7", "recipients": ["registry"], "from": "2020-01-01", "until": "2100-01-01"}],
"determinations": [{"reference": "DocumentReference/expert-2", "recipients": ["registry"], "from": "2020-01-01", "until": "2100-01-01", "k": 11, "days": 30, "quasiIdentifiers": ["gender", "birth-year"], "yearBand": 10}]}`

func TestDeidentifyCommand(t *testing.T) {
	ctx := context.Background()
	dsn := cluster.NewDatabase(t, cluster.Template{})
	if err := parse(t, "migrate", "--database-url", dsn).Migrate.Run(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir+"/all.ndjson", practice())
	if err := parse(t, "import", "--database-url", dsn, "--practice=harbor", "--create-practice", "--quiet", "--report="+filepath.Join(dir, "refused"), dir+"/all.ndjson").Import.Run(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "refused")); len(text) > 0 {
		t.Fatalf("%s", text)
	}
	if err := os.MkdirAll(filepath.Join(dir, "policies", "harbor"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "policies", "harbor", "releases.json"), laid)
	n := 0
	run := func(args ...string) (files map[string]string, report, said string) {
		t.Helper()
		n++
		out, to, told := &bytes.Buffer{}, filepath.Join(dir, fmt.Sprint("out", n)), filepath.Join(dir, fmt.Sprint("report", n))
		err := parse(t, append([]string{"deidentify", "--database-url", dsn, "--quiet", "--practice=harbor", "--policies=" + dir + "/policies", "--out=" + to, "--report=" + told}, args...)...).Deident.Run(ctx, out, slog.New(slog.DiscardHandler))
		if err != nil {
			out.WriteString(err.Error())
		}
		files = map[string]string{}
		list, _ := os.ReadDir(to)
		for _, f := range list {
			text, err := os.ReadFile(filepath.Join(to, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			files[f.Name()] = string(text)
		}
		text, _ := os.ReadFile(told)
		return files, string(text), out.String()
	}
	for _, c := range []struct {
		args  []string
		lines int // of Patient.ndjson
		has   string
	}{
		{nil, 29, `"address":[{"state":"NY","postalCode":"121"}],"birthDate":"1984"}`},
		{[]string{"--profile=limited-data-set", "--agreement=Contract/dua-7", "--recipient=registry", "--purpose=HRESCH"}, 29, `"birthDate":"1984-05-06"`},
		{[]string{"--profile=expert-determination|1.1.0", "--determination=DocumentReference/expert-2", "--recipient=registry"}, 29, `"birthDate":"1980"`},
	} {
		files, report, said := run(c.args...)
		all := strings.Join([]string{files["Patient.ndjson"], files["Condition.ndjson"], files["manifest.json"]}, "")
		if len(files) != 3 || strings.Count(files["Patient.ndjson"], "\n") != c.lines || strings.Count(files["Condition.ndjson"], "\n") != c.lines || !strings.Contains(files["Patient.ndjson"], c.has) {
			t.Errorf("%v: %s\n%v", c.args, said, files)
		}
		if strings.Contains(all, "mrn-") || c.args == nil && strings.Contains(all, "CANARY") || strings.Contains(all, "2024-03-05") && len(c.args) < 4 {
			t.Errorf("%v: what identifies is released\n%s", c.args, all)
		}
		if strings.Contains(report, "mrn-") || !strings.Contains(report, `"opt-out": 1`) || !strings.Contains(said, "58 resources") {
			t.Errorf("%v: said %s, reported %s", c.args, said, report)
		}
		var m struct {
			Profile, Basis string
			Output         []struct {
				File  string
				Count int
			}
		}
		if err := json.Unmarshal([]byte(files["manifest.json"]), &m); err != nil || !strings.HasSuffix(m.Profile, "|1.1.0") || len(m.Output) != 2 || m.Output[1].Count != c.lines || (m.Basis == "") != (c.args == nil) {
			t.Errorf("%v: %v %s", c.args, err, files["manifest.json"])
		}
		if held := strings.Contains(files["manifest.json"], `"patientsLeftOut": "`); held != strings.Contains(fmt.Sprint(c.args), "expert") {
			t.Errorf("%v: %s", c.args, files["manifest.json"])
		}
		// In the order of the surrogates, which nobody can tell from another release's.
		var ids []string
		for _, x := range regexp.MustCompile(`"resourceType":"Patient","id":"([A-Z2-7]{26})"`).FindAllStringSubmatch(files["Patient.ndjson"], -1) {
			ids = append(ids, x[1])
		}
		if len(ids) != c.lines || !slices.IsSorted(ids) {
			t.Errorf("%v: %v", c.args, ids)
		}
	}
	// A limited data set keeps its cities and dates, and nothing else keeps them: the test would show nothing without.
	if files, _, _ := run("--profile=limited-data-set", "--agreement=Contract/dua-7", "--recipient=registry"); strings.Count(files["Patient.ndjson"], "CANARY") != 29 || strings.Count(files["Condition.ndjson"], "CANARY") != 0 {
		t.Error(files)
	}
	// Nothing leads back.
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var left int
	if err := conn.QueryRow(ctx, "SELECT (SELECT count(*) FROM deident.release) + (SELECT count(*) FROM deident.member) + (SELECT count(*) FROM deident.patient) + (SELECT count(*) FROM deident.cell)").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d rows of keys are left: %v", left, err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--profile=limited-data-set", "--agreement=Contract/other", "--recipient=registry"}, "not the first one on file"},
		{[]string{"--profile=limited-data-set", "--agreement=Contract/dua-7", "--recipient=somebody"}, "names this client"},
		{[]string{"--profile=limited-data-set", "--agreement=Contract/dua-7", "--recipient=registry", "--purpose=TREAT"}, "research, public health and operations"},
		{[]string{"--practice=nowhere"}, "knows no practice"},
	} {
		if files, _, said := run(c.args...); len(files) != 0 || !strings.Contains(said, c.want) {
			t.Errorf("%v: %q %v", c.args, said, files)
		}
	}
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(full, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, full+"/x", "")
	for _, args := range [][]string{{"--out=" + full}, {"--out=" + dir + "/new", "--report=" + dir + "/new/report"}, {"--report=" + dir + "/refused"}} {
		if _, _, said := run(args...); !strings.Contains(said, "deidentify: ") {
			t.Errorf("%v: %s", args, said)
		}
	}
}

func TestDeidentifyFlags(t *testing.T) {
	for _, args := range [][]string{
		{"--practice="}, {"--profile=none"}, {"--profile=safe-harbor|9"}, {"--profile=limited-data-set"}, {"--profile=expert-determination"}, {"--agreement=Contract/1"},
		{"--profile=limited-data-set", "--agreement=x"}, {"--type=DocumentReference"}, {"--profile=expert-determination", "--determination=DocumentReference/1", "--type=Practitioner"},
	} {
		var c cli
		if _, err := c.parser().Parse(append([]string{"deidentify", "--database-url=postgres://x@localhost/x", "--practice=harbor", "--out=/tmp/x"}, args...)); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
}
