package importer_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"

	"github.com/cloister-health/cloister/cmd/cloister/internal/importer"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

var migrated = cluster.Template{Name: "migrated", Prepare: func(ctx context.Context, dsn string) error {
	_, err := postgres.Migrate(ctx, dsn)
	return err
}}

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// house is what an import needs, on a database of its own.
type house struct {
	t      *testing.T
	store  *postgres.Store
	core   *server.Core
	sql    *pgx.Conn
	tenant int32
	report bytes.Buffer
}

func newHouse(t *testing.T) *house {
	t.Helper()
	ctx := context.Background()
	dsn := cluster.NewDatabase(t, migrated)
	now := func() time.Time { return noon }
	h := &house{t: t}
	var err error
	if h.store, err = postgres.Open(ctx, postgres.Options{URL: dsn, Now: now, Keys: envelopetest.Keys()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.store.Close)
	if h.core, err = server.NewCore(h.store, now); err != nil {
		t.Fatal(err)
	}
	if h.tenant, err = h.store.EnsureTenant(ctx, "harbor", "Harbor"); err != nil {
		t.Fatal(err)
	}
	if h.sql, err = pgx.Connect(ctx, dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.sql.Close(ctx) })
	return h
}

func (h *house) importer() *importer.Importer {
	h.report.Reset()
	return &importer.Importer{
		Store: h.store, Engine: h.core.Engine, Gate: h.core.Gate, Principal: server.Operator(h.tenant, "import"),
		Workers: 2, Base: "http://localhost/fhir", Report: &h.report,
	}
}

func (h *house) load(dir string) *importer.Importer {
	h.t.Helper()
	m := h.importer()
	if err := m.Run(context.Background(), dir); err != nil {
		h.t.Fatal(err)
	}
	return m
}

func (h *house) count(sql string, args ...any) (n int) {
	h.t.Helper()
	if err := h.sql.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// once fails unless the database holds exactly n resources, each in its first version.
// The views of one resource are rows of one family; a second write would be a row of none, or of another.
func (h *house) once(n int) {
	h.t.Helper()
	if got := h.count("SELECT count(DISTINCT (type, id)) FROM record.resource"); got != n {
		h.t.Errorf("there are %d resources, want %d", got, n)
	}
	if got := h.count("SELECT count(*) FROM (SELECT FROM record.resource GROUP BY type, id HAVING count(DISTINCT family) + count(*) FILTER (WHERE family IS NULL) <> 1)"+
		" AS twice") + h.count("SELECT count(*) FROM record.resource WHERE version > 1") + h.count("SELECT count(*) FROM record.resource_history"); got != 0 {
		h.t.Errorf("%d resources were written twice", got)
	}
}

// readable reads every stored resource through the store, as the operator.
func (h *house) readable() int {
	h.t.Helper()
	ctx := context.Background()
	rows, err := h.sql.Query(ctx, "SELECT DISTINCT type, id FROM record.resource")
	if err != nil {
		h.t.Fatal(err)
	}
	refs, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (ref fhir.Ref, err error) {
		var t int16
		err = r.Scan(&t, &ref.ID)
		ref.Type = fhir.TypeOf(t)
		return ref, err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, ref := range refs {
		g, err := h.core.Engine.Authorize(ctx, server.Operator(h.tenant, "test"), fhir.Read, ref.Type)
		if err != nil {
			h.t.Fatalf("%s: %v", ref, err)
		}
		r, err := h.core.Engine.Plan(ctx, g, fhir.Read, ref.Type)
		if err != nil {
			h.t.Fatalf("%s: %v", ref, err)
		}
		s, err := h.store.Read(ctx, r, ref.ID)
		if err != nil {
			h.t.Fatalf("%s: %v", ref, err)
		}
		if _, err := h.core.Gate.Release(ctx, g, ref.Type, s); err != nil {
			h.t.Fatalf("%s: %v", ref, err)
		}
	}
	return len(refs)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	text = strings.ReplaceAll(text, "'", `"`)
	var b bytes.Buffer
	var err error
	switch filepath.Ext(name) {
	case ".gz":
		w := gzip.NewWriter(&b)
		_, err = w.Write([]byte(text))
		err = errors.Join(err, w.Close())
	case ".zst":
		w, werr := zstd.NewWriter(&b)
		if werr != nil {
			t.Fatal(werr)
		}
		_, err = w.Write([]byte(text))
		err = errors.Join(err, w.Close())
	default:
		b.WriteString(text)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func entry(url, resource string) string {
	if url != "" {
		url = fmt.Sprintf("'fullUrl':'%s',", url)
	}
	return fmt.Sprintf("{%s'resource':%s,'request':{'method':'POST','url':'x'}}", url, resource)
}

func bundle(kind string, entries ...string) string {
	return fmt.Sprintf("{'resourceType':'Bundle','type':'%s','entry':[%s]}", kind, strings.Join(entries, ","))
}

// chart is one patient's Bundle as Synthea writes them: every reference is a
// urn:uuid of the Bundle or a condition on what another file brings.
func chart(i int) (text string, resources int) {
	uuid := func(k int) string { return fmt.Sprintf("00000000-0000-4000-8000-%08d%04d", i, k) }
	patient := "urn:uuid:" + uuid(0)
	out := []string{
		entry(patient, fmt.Sprintf("{'resourceType':'Patient','id':'%s','gender':'female'}", uuid(0))),
		entry("urn:uuid:"+uuid(1), fmt.Sprintf("{'resourceType':'Encounter','id':'%s','status':'finished','class':{'code':'AMB'},'subject':{'reference':'%s'},'serviceProvider':{'reference':'Organization?identifier=urn:sites|%d'}}", uuid(1), patient, i%2)),
	}
	for k := 2; k < 22; k++ {
		out = append(out, entry("urn:uuid:"+uuid(k), fmt.Sprintf("{'resourceType':'Observation','id':'%s','status':'final','code':{'coding':[{'system':'http://loinc.org','code':'44261-6'}]},'subject':{'reference':'%s'},'encounter':{'reference':'urn:uuid:%s'}}", uuid(k), patient, uuid(1))))
	}
	return bundle("transaction", out...), len(out)
}

func sites() string {
	var out []string
	for i := range 2 {
		out = append(out, entry("", fmt.Sprintf("{'resourceType':'Organization','id':'site-%d','name':'Site %d','identifier':[{'system':'urn:sites','value':'%d'}]}", i, i, i)))
	}
	return bundle("batch", out...)
}

func TestEveryFormGoesIn(t *testing.T) {
	h := newHouse(t)
	dir := t.TempDir()
	total := 2
	// The sites sort last: what refers to them has to wait for them.
	write(t, dir, "z-sites.json", sites())
	for i, name := range []string{"a.json", "b.json.gz", "c.json.zst"} {
		text, n := chart(i)
		write(t, dir, name, text)
		total += n
	}
	var lines strings.Builder
	for i := range 1203 { // three transactions
		fmt.Fprintf(&lines, "{'resourceType':'Observation','id':'line-%d','status':'final','code':{'text':'mood'},'subject':{'reference':'Patient/00000000-0000-4000-8000-000000000000'}}\n", i)
		total++
	}
	write(t, dir, "d.ndjson.gz", lines.String())
	write(t, dir, "e.json", "{'resourceType':'Practitioner','id':'alone'}")
	total++
	write(t, dir, "readme.txt", "not for import")

	m := h.load(dir)
	if h.report.Len() > 0 {
		t.Errorf("refused:\n%s", h.report.String())
	}
	if got := m.Stats().Resources.Load(); got != int64(total) {
		t.Errorf("the importer counts %d resources, want %d", got, total)
	}
	h.once(total)
	if n := h.readable(); n != total {
		t.Errorf("%d of %d are readable", n, total)
	}
	if n := h.count("SELECT count(*) FROM record.resource r LEFT JOIN record.label_class c ON c.id = r.label_class WHERE c.id IS NULL"); n != 0 {
		t.Errorf("%d resources have no labels", n)
	}
	if n := h.count("SELECT count(*) FROM record.resource WHERE type = $1 AND body->'serviceProvider'->>'reference' IN ('Organization/site-0', 'Organization/site-1') AND body->'subject'->>'reference' LIKE 'Patient/%'", fhir.ResourceType("Encounter").Code()); n != 3 {
		t.Errorf("%d Encounters have their references resolved, want 3", n)
	}
	if n := h.count("SELECT count(*) FROM record.resource WHERE body::text LIKE '%urn:uuid%'"); n != 0 {
		t.Errorf("%d resources still refer to places in their Bundle", n)
	}

	// The same files again: nothing happens.
	m = h.load(dir)
	if m.Stats().Resources.Load() != 0 || m.Stats().Skipped.Load() == 0 {
		t.Errorf("a second import stored %d resources and skipped %d items", m.Stats().Resources.Load(), m.Stats().Skipped.Load())
	}
	h.once(total)
}

// after cancels an import once so many resources are stored.
type after struct {
	stats  *importer.Stats
	enough int64
	cancel context.CancelFunc
}

func (a *after) Add64(int64) error {
	if a.stats.Resources.Load() >= a.enough {
		a.cancel()
	}
	return nil
}

func TestResumesWhereItWasStopped(t *testing.T) {
	h := newHouse(t)
	dir := t.TempDir()
	write(t, dir, "0-sites.json", sites())
	total := 2
	for i := range 20 {
		text, n := chart(i)
		write(t, dir, fmt.Sprintf("chart-%02d.json", i), text)
		total += n
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m := h.importer()
	m.Progress = &after{m.Stats(), int64(total / 2), cancel}
	if err := m.Run(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled import ends with %v", err)
	}
	first := h.count("SELECT count(*) FROM record.resource")
	if first == 0 || first >= total {
		t.Fatalf("%d of %d resources are there: the import was not stopped midway", first, total)
	}
	m = h.load(dir)
	if m.Stats().Skipped.Load() == 0 {
		t.Error("the second run skipped nothing")
	}
	h.once(total)
	if h.report.Len() > 0 {
		t.Errorf("refused:\n%s", h.report.String())
	}
}

func TestRefusedResourcesDoNotKeepTheOthersOut(t *testing.T) {
	h := newHouse(t)
	dir := t.TempDir()
	write(t, dir, "a.json", bundle("transaction",
		entry("urn:uuid:00000000-0000-4000-8000-000000000001", "{'resourceType':'Patient','id':'good'}"),
		entry("", "{'resourceType':'Patient','id':'bad','gender':'CANARY-7'}"),
		entry("", "{'resourceType':'Observation','id':'lost','status':'final','code':{'text':'x'},'performer':[{'reference':'Practitioner?identifier=urn:x|CANARY-8'}]}"),
		entry("", "{'resourceType':'Observation','id':'kept','status':'final','code':{'text':'x'},'subject':{'reference':'urn:uuid:00000000-0000-4000-8000-000000000001'}}"),
		entry("", "{'resourceType':'Patient','id':'good'}")))
	write(t, dir, "b.ndjson", "{'resourceType':'Patient','id':'line-1'}\nnot json\n{'resourceType':'Patient','id':'line-3'}\n\n{'resourceType':'Nothing'}")
	m := h.load(dir)
	h.once(4)
	lines := strings.Split(strings.TrimSpace(h.report.String()), "\n")
	if len(lines) != 5 || m.Stats().Refused.Load() != 5 {
		t.Errorf("%d lines of report and %d refusals counted, want 5:\n%s", len(lines), m.Stats().Refused.Load(), h.report.String())
	}
	for _, want := range []string{"a.json\tentry 1", "a.json\tentry 2", "a.json\tentry 4", "b.ndjson\tline 2", "b.ndjson\tline 5"} {
		if !strings.Contains(h.report.String(), want+"\t") {
			t.Errorf("the report does not name %q:\n%s", want, h.report.String())
		}
	}
	if strings.Contains(h.report.String(), "CANARY") {
		t.Errorf("the report quotes data:\n%s", h.report.String())
	}
}

func TestNothingToImport(t *testing.T) {
	h := newHouse(t)
	if err := h.importer().Run(context.Background(), t.TempDir()); err == nil {
		t.Error("an empty directory is imported without an error")
	}
}

// TestSynthea loads the published patients, where they are at hand.
func TestSynthea(t *testing.T) {
	root := os.Getenv("CLOISTER_SHARED_DATA")
	if root == "" || testing.Short() {
		t.Skip("CLOISTER_SHARED_DATA is not set, or -short: the 120 patients of Synthea are left out")
	}
	dir := filepath.Join(root, "synthea-120")
	if _, err := os.Stat(dir); err != nil { //nolint:gosec // whoever runs the test names the folder
		t.Skip("there is no Synthea data: ", err)
	}
	h := newHouse(t)
	m := h.load(dir)
	if h.report.Len() > 0 {
		t.Errorf("refused:\n%.2000s", h.report.String())
	}
	const total = 92114
	if got := m.Stats().Resources.Load(); got != total {
		t.Errorf("%d resources went in, want %d", got, total)
	}
	h.once(total)
	if n := h.readable(); n != total {
		t.Errorf("%d of %d are readable", n, total)
	}
}
