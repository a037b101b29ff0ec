package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// ownView is a view of an operator: with a list, and a row for each code.
const ownView = `{"resourceType":"ViewDefinition","name":"own","status":"active","resource":"Condition","constant":[{"name":"icd","valueUri":"http://hl7.org/fhir/sid/icd-10-cm"}],
"select":[{"column":[{"name":"who","path":"subject.getReferenceKey(Patient)","type":"id"},{"name":"codes","path":"code.coding.where(system = %icd).code","type":"code","collection":true},{"name":"all","path":"descendants().where(hasValue()).select(toString())","collection":true}]}]}`

func TestDeidentifyCommandWritesTables(t *testing.T) {
	ctx := context.Background()
	dsn := cluster.NewDatabase(t, cluster.Template{})
	if err := parse(t, "migrate", "--database-url", dsn).Migrate.Run(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir+"/all.ndjson", practice())
	write(t, dir+"/own.json", ownView)
	if err := parse(t, "import", "--database-url", dsn, "--practice=harbor", "--create-practice", "--quiet", "--report="+filepath.Join(dir, "refused"), dir+"/all.ndjson").Import.Run(ctx, io.Discard); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) (map[string]string, error) {
		t.Helper()
		to := filepath.Join(dir, name)
		err := parse(t, append([]string{"deidentify", "--database-url", dsn, "--quiet", "--practice=harbor", "--out=" + to, "--report=" + to + ".report"}, args...)...).Deident.Run(ctx, io.Discard, slog.New(slog.DiscardHandler))
		files := map[string]string{}
		list, _ := os.ReadDir(to)
		for _, f := range list {
			text, err := os.ReadFile(filepath.Join(to, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			files[f.Name()] = string(text)
		}
		return files, err
	}

	files, err := run("ready", "--format=csv,parquet")
	if err != nil {
		t.Fatal(err)
	}
	// Every ready-made view has its tables, also those of which there is nothing; resources were not asked for.
	want := []string{"manifest.json"}
	for _, v := range []string{"patient", "encounter", "diagnosis", "phq9_score", "phq9_response", "level_of_care", "attendance"} {
		want = append(want, v+".csv", v+".parquet")
	}
	var got []string
	for name := range files {
		got = append(got, name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the files are %v", got)
	}
	lines := strings.Split(strings.TrimSuffix(files["patient.csv"], "\r\n"), "\r\n")
	if len(lines) != 30 || lines[0] != "patient_key,gender,birth_year,birth_band,deceased,state,postal_code,country,marital_status,language,race,ethnicity" ||
		!slices.IsSorted(lines[1:]) || !regexp.MustCompile(`^[A-Z2-7]{26},(fe)?male,1984,1980,,NY,121,,,,,$`).MatchString(lines[1]) {
		t.Errorf("patient.csv is\n%s", files["patient.csv"])
	}
	if files["attendance.csv"] != "appointment_key,patient_key,status,outcome,cancelation_reason,service_type,start,minutes,created,practitioner_key\r\n" {
		t.Errorf("attendance.csv is %q", files["attendance.csv"])
	}
	values := parquetValues(t, files["diagnosis.parquet"])
	if len(values) != 29 || values[0][5] != "F32.9" || values[0][11] != "2024" {
		t.Errorf("diagnosis.parquet is %v", values)
	}

	files, err = run("own", "--format=ndjson,parquet", "--view=patient,"+dir+"/own.json", "--type=Patient,Condition")
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Output []struct{ File string }
		Tables []struct {
			View, URL, File, Format string
			Resource                fhir.ResourceType
			Rows                    int
		}
	}
	if err := json.Unmarshal([]byte(files["manifest.json"]), &m); err != nil || len(m.Output) != 2 || fmt.Sprint(m.Tables) !=
		"[{own  own.parquet parquet Condition 29} {patient "+fhir.Canonical+"/ViewDefinition/patient patient.parquet parquet Patient 29}]" {
		t.Errorf("%v %s", err, files["manifest.json"])
	}
	if len(files) != 5 || strings.Count(files["Patient.ndjson"], "\n") != 29 {
		t.Errorf("%d files", len(files))
	}
	for name, text := range files {
		if strings.HasSuffix(name, ".parquet") {
			text += fmt.Sprint(parquetValues(t, text))
		}
		for _, token := range []string{"CANARY", "wombat", "mrn-", "05-06", "03-05"} {
			if strings.Contains(text, token) {
				t.Errorf("%s is in %s", token, name)
			}
		}
	}
	// Keys of a table are those of the resources beside it.
	for _, row := range parquetValues(t, files["own.parquet"]) {
		if !strings.Contains(files["Patient.ndjson"], `"id":"`+row[0]+`"`) {
			t.Errorf("%s is nobody", row[0])
		}
	}

	// What a view cannot hold ends the release, and nothing of it stays.
	write(t, dir+"/own.json", strings.Replace(ownView, `"code.coding.where(system = %icd).code"`, `"code.coding.where(system = %icd)"`, 1))
	files, err = run("failed", "--format=ndjson,parquet", "--view="+dir+"/own.json")
	if err == nil || len(files) != 0 || !strings.Contains(err.Error(), "view own: ViewDefinition.select[0].column[1].path: column codes gets a value that is not of a primitive type") {
		t.Errorf("%v, %d files", err, len(files))
	}
}

// parquetValues are the rows of a Parquet file, lists with commas.
func parquetValues(t *testing.T, file string) (out [][]string) {
	t.Helper()
	f, err := parquet.OpenFile(strings.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range f.RowGroups() {
		rows := g.Rows()
		buf := make([]parquet.Row, 8)
		for {
			n, err := rows.ReadRows(buf)
			for _, r := range buf[:n] {
				row := make([]string, len(f.Root().Columns()))
				for _, v := range r {
					if v.RepetitionLevel() > 0 {
						row[v.Column()] += ","
					}
					if !v.IsNull() {
						row[v.Column()] += v.String()
					}
				}
				out = append(out, row)
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestTableFlags(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"own.json": ownView, "nameless.json": strings.Replace(ownView, `"name":"own",`, "", 1), "PATIENT.json": strings.Replace(ownView, `"own"`, `"Patient"`, 1),
		"wrong.json": strings.Replace(ownView, `"resource":`, `"of":`, 1), "note.json": strings.Replace(ownView, `"Condition"`, `"DocumentReference"`, 1)} {
		write(t, filepath.Join(dir, name), text)
	}
	parse := func(args ...string) error {
		var c cli
		_, err := c.parser().Parse(append([]string{"deidentify", "--database-url=postgres://x@localhost/x", "--practice=harbor", "--out=/tmp/x"}, args...))
		if err != nil {
			return errors.New(string(bytes.ReplaceAll([]byte(err.Error()), []byte(dir), []byte("DIR"))))
		}
		return nil
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--format=xlsx"}, `--format is "xlsx": it is ndjson, csv or parquet`},
		{[]string{"--view=patient"}, "--view makes tables: add csv or parquet to --format"},
		{[]string{"--format=csv", "--view=nobody"}, "--view nobody: it is neither a ready-made view (patient, encounter, diagnosis, phq9_score, phq9_response, level_of_care, attendance) nor a file that can be read"},
		{[]string{"--format=csv", "--view=" + dir + "/own.json"}, "--view DIR/own.json: column codes is a collection, which CSV does not have; join() it, or write Parquet"},
		{[]string{"--format=parquet", "--view=" + dir + "/nameless.json"}, "--view DIR/nameless.json: the ViewDefinition has no name, which is that of the file"},
		{[]string{"--format=parquet", "--view=" + dir + "/wrong.json"}, "--view DIR/wrong.json: ViewDefinition.of: there is no such member; what it means would be left out"},
		{[]string{"--format=parquet", "--view=" + dir + "/note.json"}, "--view DIR/note.json: it is of DocumentReference, of which nothing is released here"},
		{[]string{"--format=parquet", "--view=patient," + dir + "/PATIENT.json"}, "--view DIR/PATIENT.json: there is another view Patient"},
		{[]string{"--format=parquet", "--view=patient", "--type=Encounter"}, "--view patient: it is of Patient, of which nothing is released here"},
		{[]string{"--format=csv,parquet", "--view=patient,encounter"}, ""},
		{[]string{"--format=csv", "--type=Encounter"}, ""},
	} {
		err := parse(c.args...)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.args, err)
		}
	}
}
