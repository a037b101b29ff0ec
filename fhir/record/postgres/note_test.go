package postgres_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// canary is planted in every text of a note, and canary64 is how an attachment has it.
const canary = "CANARYquagga"

var canary64 = base64.StdEncoding.EncodeToString([]byte(canary))

// noteOf is a psychotherapy note of anna, and composed one that is a Composition.
func noteOf(id, author string) string {
	return `{'resourceType':'DocumentReference',` + id + `'status':'current','type':{'coding':[{'system':'` + fhir.NoteKind + `','code':'psychotherapy-note','display':'` + canary + `'}],'text':'` + canary + `'},
'subject':{'reference':'Patient/anna'},'date':'2026-03-01T10:00:00Z','author':[{'reference':'Practitioner/` + author + `'}],'description':'` + canary + `',
'text':{'status':'generated','div':'<div xmlns=\'http://www.w3.org/1999/xhtml\'>` + canary + `</div>'},'content':[{'attachment':{'contentType':'text/plain','title':'` + canary + `','data':'` + canary64 + `'}}]}`
}

func composed(id, author string) string {
	return `{'resourceType':'Composition',` + id + `'status':'final','type':{'coding':[{'system':'` + fhir.NoteKind + `','code':'psychotherapy-note'}]},'title':'` + canary + `',
'subject':{'reference':'Patient/anna'},'date':'2026-03-01T10:00:00Z','author':[{'reference':'Practitioner/` + author + `'}],
'section':[{'title':'` + canary + `','code':{'coding':[{'system':'urn:theme','code':'` + canary + `'}]},'text':{'status':'generated','div':'<div xmlns=\'http://www.w3.org/1999/xhtml\'>` + canary + `</div>'}}]}`
}

// over is the same house on another store of the same database.
func (h *house) over(o postgres.Options) *house {
	h.t.Helper()
	n := &house{t: h.t, dsn: h.dsn, tenant: h.tenant, other: h.other}
	n.clock.Store(h.clock.Load() + 60_000)
	o.URL, o.Now = h.dsn, n.now
	var err error
	if n.store, err = postgres.Open(context.Background(), o); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(n.store.Close)
	policy, err := pdp.New(pdp.Embedded())
	if err != nil {
		h.t.Fatal(err)
	}
	n.engine = authz.NewEngine(policy, n.store, n.now)
	n.gate = record.NewGate(n.engine, n.store, n.now)
	return n
}

// owner is a connection of the owner of the schema.
func (h *house) owner() *pgx.Conn {
	h.t.Helper()
	c, err := pgx.Connect(context.Background(), h.dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func (h *house) exec(c *pgx.Conn, sql string, args ...any) {
	h.t.Helper()
	if _, err := c.Exec(context.Background(), sql, args...); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
}

// dump is every row of a schema as text.
func (h *house) dump(c *pgx.Conn, schema string) string {
	h.t.Helper()
	ctx := context.Background()
	rows, err := c.Query(ctx, "SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY 1", schema)
	if err != nil {
		h.t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) == 0 {
		h.t.Fatalf("schema %s: %v", schema, err)
	}
	var b strings.Builder
	for _, table := range tables {
		rows, err := c.Query(ctx, "SELECT t::text FROM "+schema+"."+table+" AS t")
		if err != nil {
			h.t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			h.t.Fatal(err)
		}
		b.WriteString(table + "\n" + strings.Join(lines, "\n") + "\n")
	}
	return b.String()
}

// shows says whether a text has a canary, in any form in which the database could hold it.
func shows(text string) bool {
	lower := strings.ToLower(text)
	return strings.Contains(lower, strings.ToLower(canary)) || strings.Contains(text, canary64) || strings.Contains(lower, fmt.Sprintf("%x", canary))
}

// spy keeps every statement and its arguments, as a log of them would.
type spy struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *spy) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&s.b, "%s %s\n", d.SQL, d.Args)
	for _, a := range d.Args {
		switch a := a.(type) {
		case []*string:
			for _, x := range a {
				if x != nil {
					s.b.WriteString(*x + "\n")
				}
			}
		case []byte:
			s.b.Write(a)
		}
	}
	return ctx
}

func (s *spy) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestNothingOfANoteStandsInTheClear(t *testing.T) {
	h := clinic(t)
	seen := &spy{}
	h = h.over(postgres.Options{Keys: envelopetest.Keys(), Tracer: seen})
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	h.mustCreate(h.operator(), searchParameter("x", "said", "DocumentReference", "string", "DocumentReference.description"))
	h.reindexed()
	refs := []fhir.Ref{h.mustCreate(dora, noteOf("", "dora")), h.mustCreate(dora, composed("", "dora")), h.load(noteOf("'id':'imported',", "dora"))}
	for i, ref := range refs {
		text := noteOf
		if ref.Type == "Composition" {
			text = composed
		}
		if _, err := h.update(dora, text("'id':'"+string(ref.ID)+"',", "dora")); err != nil {
			t.Fatal(err)
		}
		for v := fhir.VersionID(1); v <= 2; v++ {
			got, err := h.vread(dora, ref, v)
			if err != nil || !strings.Contains(got, canary) || !strings.Contains(got, `"versionId":"`+v.String()+`"`) {
				t.Fatalf("version %s of note %d: %q %v", v, i, got, err)
			}
		}
		if got, err := h.read(dora, ref); err != nil || !strings.Contains(got, canary) {
			t.Fatalf("note %d: %q %v", i, got, err)
		}
		found, err := h.search(dora, ref.Type, "patient=anna")
		if err != nil || !slices.ContainsFunc(found, func(s string) bool { return strings.Contains(s, string(ref.ID)) && strings.Contains(s, canary) }) {
			t.Fatalf("search for note %d: %q %v", i, found, err)
		}
		g, r, err := h.plan(dora, fhir.HistoryInstance, ref.Type)
		if err != nil {
			t.Fatal(err)
		}
		page, err := h.history(r, ref.ID, 10, nil)
		if err != nil {
			t.Fatal(err)
		}
		if bodies, err := h.release(g, ref.Type, page.Entries...); err != nil || len(bodies) != 2 || !shows(bodies[0]) || !shows(bodies[1]) {
			t.Fatalf("history of note %d: %v %v", i, bodies, err)
		}
	}
	if shows(seen.b.String()) {
		t.Error("a statement carries a note in the clear")
	}
	c := h.owner()
	for _, schema := range []string{"notes", "record", "audit"} {
		if text := h.dump(c, schema); shows(text) {
			t.Errorf("schema %s holds a note in the clear:\n%s", schema, text)
		}
	}
	for _, table := range []string{"resource_string", "resource_quantity"} {
		var n int
		if err := c.QueryRow(context.Background(), "SELECT count(*) FROM notes."+table).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s has %d rows (%v)", table, n, err)
		}
	}
	// The dump would show it: what is no note stands there as it is.
	h.mustCreate(dora, strings.Replace(noteOf("", "dora"), "psychotherapy-note", "x", 1))
	if !shows(h.dump(c, "record")) || !shows(seen.b.String()) {
		t.Error("the dump shows nothing at all")
	}
	// No body but an encrypted one can be stored.
	if _, err := c.Exec(context.Background(), `UPDATE notes.resource SET body = '{"resourceType":"Composition"}'`); err == nil || !strings.Contains(err.Error(), "note_encrypted") {
		t.Errorf("a note in the clear was stored: %v", err)
	}
}

func (h *house) vread(p authz.Principal, ref fhir.Ref, v fhir.VersionID) (string, error) {
	g, r, err := h.plan(p, fhir.VRead, ref.Type)
	if err != nil {
		return "", err
	}
	s, err := h.store.VRead(context.Background(), r, ref.ID, v)
	if err != nil {
		return "", err
	}
	bodies, err := h.release(g, ref.Type, s)
	if err != nil {
		return "", err
	}
	return bodies[0], nil
}

func TestOnlyTheNotesRoleReachesKeysAndNotes(t *testing.T) {
	h := clinic(t)
	h.mustCreate(h.as("therapist", "TREAT", "Practitioner/dora"), noteOf("", "dora"))
	c := h.owner()
	ctx := context.Background()
	rows, err := c.Query(ctx, "SELECT tablename FROM pg_tables WHERE schemaname = 'notes'")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || !slices.Contains(tables, "data_key") {
		t.Fatalf("%v %v", tables, err)
	}
	for _, x := range []struct {
		role string
		sql  []string
	}{
		{postgres.RoleApp, []string{"SELECT count(*) FROM notes.TABLE", "DELETE FROM notes.TABLE"}},
		{postgres.RoleNotes, []string{"UPDATE notes.data_key SET kek = ''", "DELETE FROM notes.data_key", "DELETE FROM notes.resource", "UPDATE notes.resource_history SET body = NULL",
			"INSERT INTO notes.resource_string DEFAULT VALUES", "INSERT INTO notes.resource_quantity DEFAULT VALUES"}},
	} {
		h.exec(c, "RESET ROLE")
		h.exec(c, "SET ROLE "+x.role)
		for _, table := range tables {
			for _, sql := range x.sql {
				if _, err := c.Exec(ctx, strings.ReplaceAll(sql, "TABLE", table)); err == nil || !strings.Contains(err.Error(), "42501") {
					t.Errorf("%s may %s of %s: %v", x.role, sql, table, err)
				}
			}
		}
	}
}

// A body that stands in another row, or as another version, does not open, and
// nothing of it is told.
func TestSwappedNotesDoNotOpen(t *testing.T) {
	h := clinic(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	one, two := h.mustCreate(dora, noteOf("", "dora")), h.mustCreate(dora, noteOf("", "dora"))
	if _, err := h.update(dora, noteOf("'id':'"+string(two.ID)+"',", "dora")); err != nil {
		t.Fatal(err)
	}
	c := h.owner()
	closed := func(what string, read func() (string, error)) {
		t.Helper()
		got, err := read()
		h.wantStatus(what, err, 500)
		if got != "" || err.Error() != "the server failed; its log says why" {
			t.Errorf("%s: %q %v", what, got, err)
		}
	}
	h.exec(c, "UPDATE notes.resource SET body = (SELECT body FROM notes.resource WHERE id = $2) WHERE id = $1", string(one.ID), string(two.ID))
	closed("another row's body", func() (string, error) { return h.read(dora, one) })
	if _, err := h.read(dora, two); err != nil {
		t.Fatal(err)
	}
	h.exec(c, "UPDATE notes.resource SET body = (SELECT body FROM notes.resource_history WHERE id = $1) WHERE id = $1", string(two.ID))
	closed("another version's body", func() (string, error) { return h.read(dora, two) })
	if _, err := h.vread(dora, two, 1); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{`"1.9999.AAAA"`, `"1.1.AAAA"`, `"1.1."`, `"1.x.AAAA"`, `"1."`, `"2.1.AAAA"`, `""`, `"plain"`} {
		h.exec(c, "UPDATE notes.resource SET body = $2::text::jsonb WHERE id = $1", string(two.ID), body)
		closed("the body "+body, func() (string, error) { return h.read(dora, two) })
	}
}

// keeper is a KMS with the known key, as keys.
func keeper() (*envelopetest.Keeper, *envelope.Keys) {
	k := &envelopetest.Keeper{AEAD: envelopetest.Primitive("known to everybody")}
	return k, envelope.New("test:known", k)
}

// While the keys are out of reach notes are neither opened nor stored, and
// everything else is as it was; who may not see a note learns nothing of it.
func TestKeysOutOfReach(t *testing.T) {
	h := clinic(t)
	kms, keys := keeper()
	h = h.over(postgres.Options{Keys: keys})
	dora, emil := h.as("therapist", "TREAT", "Practitioner/dora"), h.as("therapist", "TREAT", "Practitioner/emil")
	plain := h.mustCreate(dora, strings.Replace(noteOf("", "dora"), "psychotherapy-note", "x", 1))
	note := h.mustCreate(dora, noteOf("", "dora"))
	h = h.over(postgres.Options{Keys: keys})
	kms.Down.Store(true)
	kms.Calls.Store(0)

	// Those who may not see it get what they always get, and nobody asks for a key.
	_, hidden := h.read(emil, note)
	_, absent := h.read(emil, fhir.Ref{Type: note.Type, ID: "never-existed"})
	h.wantStatus("a hidden note", hidden, 404)
	if hidden.Error() != absent.Error() {
		t.Errorf("hidden %q, absent %q", hidden, absent)
	}
	if found, err := h.search(emil, note.Type, "patient=anna"); err != nil {
		t.Errorf("a search by who does not see the note: %v %v", found, err)
	}
	_, r, err := h.plan(dora, fhir.Read, note.Type)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.store.Read(context.Background(), r, note.ID); err != nil {
		t.Errorf("a sealed note: %v", err)
	}
	if n := kms.Calls.Load(); n != 0 {
		t.Errorf("%d calls for notes that nobody has opened", n)
	}

	for what, ask := range map[string]func() error{
		"a read":   func() error { _, err := h.read(dora, note); return err },
		"a search": func() error { _, err := h.search(dora, note.Type, "patient=anna"); return err },
		"a create": func() error { _, err := h.create(dora, noteOf("", "dora")); return err },
		"an update": func() error {
			_, err := h.update(dora, noteOf("'id':'"+string(note.ID)+"',", "dora"))
			return err
		},
	} {
		err := ask()
		h.wantStatus(what, err, 503)
		if text := err.Error(); strings.Contains(text, string(note.ID)) || strings.Contains(text, "anna") || strings.Contains(text, "test:") {
			t.Errorf("%s says %q", what, text)
		}
	}
	if got, err := h.read(dora, plain); err != nil || !shows(got) {
		t.Errorf("another document: %v", err)
	}
	if _, err := h.create(dora, strings.Replace(noteOf("", "dora"), "psychotherapy-note", "x", 1)); err != nil {
		t.Errorf("another document: %v", err)
	}
	kms.Down.Store(false)
	if got, err := h.read(dora, note); err != nil || !shows(got) {
		t.Errorf("once the keys are back: %v", err)
	}
	if err := h.delete(dora, note); err != nil {
		t.Error(err)
	}
}

func TestWrongKeyAndNoKey(t *testing.T) {
	h := clinic(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	note := h.mustCreate(dora, noteOf("", "dora"))
	wrong := h.over(postgres.Options{Keys: envelope.New("test:known", envelopetest.Primitive("another"))})
	got, err := wrong.read(dora, note)
	h.wantStatus("with another key", err, 503)
	if got != "" || wrong.store.CheckKeys(context.Background()) == nil || h.store.CheckKeys(context.Background()) != nil {
		t.Errorf("with another key: %q", got)
	}
	without := h.over(postgres.Options{})
	_, err = without.read(dora, note)
	h.wantStatus("without keys", err, 503)
	_, err = without.create(dora, noteOf("", "dora"))
	h.wantStatus("a note without keys", err, 422)
	var ce *record.ChangeError
	if !errors.As(err, &ce) {
		t.Errorf("an import cannot tell which resource is refused: %v", err)
	}
	if _, err := without.create(dora, strings.Replace(noteOf("", "dora"), "psychotherapy-note", "x", 1)); err != nil {
		t.Error(err)
	}
}

// The keeper of the keys is asked as often for the first note of a patient as
// for the next one of somebody else, and what one caller has opened opens
// nothing for another: neither tells that there is another's note.
func TestKeysTellNothingOfOtherNotes(t *testing.T) {
	h := clinic(t)
	h.load(strings.NewReplacer("'team'", "'team2'", "dora", "emil").Replace(team))
	kms, keys := keeper()
	h = h.over(postgres.Options{Keys: keys})
	calls := func(what string, want int64, do func() error) {
		t.Helper()
		kms.Calls.Store(0)
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if n := kms.Calls.Load(); n != want {
			t.Errorf("%s: %d calls, want %d", what, n, want)
		}
	}
	var refs []fhir.Ref
	for _, who := range []string{"dora", "emil", "emil"} {
		p := h.as("therapist", "TREAT", "Practitioner/"+who)
		calls("a note of "+who, 1, func() error {
			r, err := h.create(p, noteOf("", who))
			refs = append(refs, r.Ref)
			return err
		})
	}
	for i, who := range []string{"dora", "emil"} {
		p := h.as("therapist", "TREAT", "Practitioner/"+who)
		for n, want := range []int64{1, 0} {
			calls(fmt.Sprintf("read %d of %s", n, who), want, func() error { _, err := h.read(p, refs[i]); return err })
		}
	}
	h.clock.Add((10 * time.Minute).Milliseconds())
	calls("a read after a while", 1, func() error {
		_, err := h.read(h.as("therapist", "TREAT", "Practitioner/dora"), refs[0])
		return err
	})
}

func TestOneKeyPerPatient(t *testing.T) {
	h := clinic(t)
	_, keys := keeper()
	h.load(strings.ReplaceAll(noteOf("'id':'first',", "dora"), "anna", "bert")) // its labels are then known to both
	houses := []*house{h.over(postgres.Options{Keys: keys, MaxConns: 4}), h.over(postgres.Options{Keys: keys, MaxConns: 4})}
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	const n = 16
	refs, errs := make([]fhir.Ref, n), make([]error, n)
	contents := make([]*codec.Resource, n)
	for i := range n {
		contents[i] = h.resource(noteOf("", "dora"))
	}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			rs, err := houses[i%2].write(dora, record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: "DocumentReference"}, Content: contents[i]})
			if errs[i] = err; err == nil {
				refs[i] = rs[0].Ref
			}
		})
	}
	all.Wait()
	for i := range n {
		if errs[i] != nil {
			t.Fatal(errs[i], errors.Unwrap(outcome.Of(errs[i])))
		}
		if got, err := h.read(dora, refs[i]); err != nil || !shows(got) {
			t.Fatal(err)
		}
	}
	c := h.owner()
	var made int
	if err := c.QueryRow(context.Background(), "SELECT count(*) FROM notes.data_key WHERE tenant = $1 AND patient = 'anna'", h.tenant).Scan(&made); err != nil || made != 1 {
		t.Errorf("%d keys for one patient (%v)", made, err)
	}
	// Another patient has another one, in one transaction, too.
	both := func(patient string) record.Change {
		return record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: "DocumentReference"}, Content: h.resource(strings.ReplaceAll(noteOf("", "dora"), "anna", patient)), Import: true}
	}
	if _, err := h.write(h.operator(), both("bert"), both("anna")); err != nil {
		t.Fatal(err)
	}
	var kinds int
	if err := c.QueryRow(context.Background(), "SELECT count(DISTINCT split_part(body #>> '{}', '.', 2)) FROM notes.resource").Scan(&kinds); err != nil || kinds != 2 {
		t.Errorf("%d keys for two patients (%v)", kinds, err)
	}
}

func TestRewrapKeys(t *testing.T) {
	h := clinic(t)
	ctx := context.Background()
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	note := h.mustCreate(dora, noteOf("", "dora"))
	h.load(strings.ReplaceAll(noteOf("'id':'b',", "dora"), "anna", "bert"))
	old := envelopetest.Keys()
	kms := &envelopetest.Keeper{AEAD: envelopetest.Primitive("new")}
	next := envelope.New("test:new", kms)

	kms.Down.Store(true)
	if n, err := postgres.RewrapKeys(ctx, h.dsn, next.With(old), nil); err == nil || n != 0 {
		t.Fatalf("while the new key is out of reach: %d %v", n, err)
	}
	if _, err := h.read(dora, note); err != nil {
		t.Fatal(err)
	}
	kms.Down.Store(false)
	// A server with both keys reads before, during and after.
	both := h.over(postgres.Options{Keys: next.With(old)})
	if _, err := both.read(dora, note); err != nil {
		t.Fatal(err)
	}
	heard := 0
	if n, err := postgres.RewrapKeys(ctx, h.dsn, next.With(old), func() { heard++ }); err != nil || n != 2 || heard != 2 {
		t.Fatalf("%d keys rewrapped, heard of %d: %v", n, heard, err)
	}
	if n, err := postgres.RewrapKeys(ctx, h.dsn, next.With(old), nil); err != nil || n != 0 {
		t.Fatalf("again: %d %v", n, err)
	}
	for _, x := range []*house{h.over(postgres.Options{Keys: next}), h.over(postgres.Options{Keys: next.With(old)})} {
		if got, err := x.read(dora, note); err != nil || !shows(got) {
			t.Error(err)
		}
	}
	if _, err := h.over(postgres.Options{Keys: old}).read(dora, note); err == nil {
		t.Error("the old key still opens notes")
	}
}

// What an earlier version stored in the clear is encrypted in place; no server
// starts before, and nothing of it stays in the files of the tables.
func TestEncryptNotesOfAnEarlierVersion(t *testing.T) {
	h := clinic(t)
	ctx := context.Background()
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	note, other := h.mustCreate(dora, noteOf("", "dora")), h.mustCreate(dora, composed("", "dora"))
	if _, err := h.update(dora, noteOf("'id':'"+string(note.ID)+"',", "dora")); err != nil {
		t.Fatal(err)
	}
	want, err := h.read(dora, note)
	if err != nil {
		t.Fatal(err)
	}
	plain := func(ref fhir.Ref, v fhir.VersionID) string {
		got, err := h.vread(dora, ref, v)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	c := h.owner()
	bodies := map[string]string{"UPDATE notes.resource_history SET body = $2::text::jsonb WHERE id = $1 AND version = 1": plain(note, 1), "UPDATE notes.resource SET body = $2::text::jsonb WHERE id = $1": want}
	composedBody := plain(other, 1)
	// The database as the earlier version left it.
	for _, table := range []string{"resource", "resource_history"} {
		h.exec(c, "ALTER TABLE notes."+table+" DROP CONSTRAINT note_encrypted")
	}
	for sql, body := range bodies {
		h.exec(c, sql, string(note.ID), body)
	}
	h.exec(c, "UPDATE notes.resource SET body = $2::text::jsonb WHERE id = $1", string(other.ID), composedBody)
	h.exec(c, "DELETE FROM notes.data_key")
	h.exec(c, "INSERT INTO notes.resource_string (tenant, type, param, pk, text, exact) SELECT tenant, type, 'description', pk, lower($1), $1 FROM notes.resource", canary)
	h.exec(c, "UPDATE notes.resource SET tokens = tokens || 4711::bigint")
	for _, table := range []string{"resource", "resource_history"} {
		h.exec(c, "ALTER TABLE notes."+table+" ADD CONSTRAINT note_encrypted CHECK (jsonb_typeof(body) = 'string') NOT VALID")
	}
	files := func() (all string) {
		t.Helper()
		if err := c.QueryRow(ctx, "SELECT string_agg(pg_relation_filenode(('notes.' || t)::regclass)::text, ' ' ORDER BY t) FROM unnest(ARRAY['resource', 'resource_history', 'resource_string']) AS t").Scan(&all); err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := strings.Fields(files())

	kms, keys := keeper()
	if s, err := postgres.Open(ctx, postgres.Options{URL: h.dsn, Keys: keys}); err == nil || !strings.Contains(err.Error(), "cloister keys encrypt") {
		if err == nil {
			s.Close()
		}
		t.Fatalf("a server with notes in the clear: %v", err)
	}
	kms.Down.Store(true)
	if _, err := postgres.EncryptNotes(ctx, h.dsn, keys, nil); err == nil {
		t.Fatal("encrypted without a key")
	}
	kms.Down.Store(false)
	heard := 0
	if n, err := postgres.EncryptNotes(ctx, h.dsn, keys, func() { heard++ }); err != nil || n != 3 || heard != 3 {
		t.Fatalf("%d versions encrypted, heard of %d: %v", n, heard, err)
	}
	if n, err := postgres.EncryptNotes(ctx, h.dsn, keys, nil); err != nil || n != 0 {
		t.Fatalf("again: %d %v", n, err)
	}
	if text := h.dump(c, "notes"); shows(text) || strings.Contains(text, "4711") {
		t.Errorf("notes are still in the clear:\n%s", text)
	}
	for _, f := range strings.Fields(files()) {
		if slices.Contains(before, f) {
			t.Error("a table is still in the file that held notes in the clear")
		}
	}
	after := h.over(postgres.Options{Keys: keys})
	for v := fhir.VersionID(1); v <= 2; v++ {
		if got, err := after.vread(dora, note, v); err != nil || !shows(got) {
			t.Errorf("version %s: %v", v, err)
		}
	}
	if found, err := after.search(dora, "DocumentReference", "type=psychotherapy-note&patient=anna&date=2026-03-01"); err != nil || len(found) != 1 {
		t.Errorf("found %v: %v", found, err)
	}
}

// Searches find a note by what says whose it is, of what kind and when; what
// only its body answers finds none, and neither does the opposite.
func TestWhatFindsANote(t *testing.T) {
	h := clinic(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	note := h.mustCreate(dora, strings.Replace(noteOf("", "dora"), "'status'", "'identifier':[{'system':'urn:n','value':'7'}],'meta':{'tag':[{'system':'urn:t','code':'mine'}]},'status'", 1))
	h.mustCreate(dora, strings.Replace(composed("", "dora"), "'status'", "'identifier':{'system':'urn:n','value':'7'},'status'", 1))
	for q, want := range map[string]int{
		"_id=" + string(note.ID): 1, "patient=anna": 1, "subject=Patient/anna": 1, "author=Practitioner/dora": 1, "type=psychotherapy-note": 1,
		"status=current": 1, "status:not=superseded": 1, "date=2026-03-01": 1, "date=lt2026-01-01": 0, "identifier=urn:n|7": 1, "_tag=mine": 1,
		"description=" + canary: 0, "description:contains=quagga": 0, "description:missing=false": 0, "description:missing=true": 0, "_content=" + canary: 0, "_text=" + canary: 0,
		"type:text=" + canary: 0, "type:missing=false": 0, "type:missing=true": 0, "contenttype=text/plain": 0, "contenttype:not=text/html": 0, "location:missing=true": 0,
		"_content=1": 0, "_filter=not (description co \"x\")": 0, "_filter=description ne \"x\"": 0, "_filter=status eq current": 1, "_filter=not (status eq superseded)": 1,
	} {
		found, err := h.search(dora, "DocumentReference", strings.ReplaceAll(q, " ", "%20"))
		if err != nil || len(found) != want {
			t.Errorf("%s finds %d, want %d (%v)", q, len(found), want, err)
		}
	}
	h.wantAsk(dora, "DocumentReference?patient.given=Anna", string(note.ID))
	for q, want := range map[string]int{"type=psychotherapy-note": 1, "identifier=7": 1, "title=" + canary: 0, "section=" + canary: 0, "section:not=x": 0, "section:missing=false": 0, "_sort=title": 1, "_sort=-status": 1} {
		if found, err := h.search(dora, "Composition", q); err != nil || len(found) != want {
			t.Errorf("%s finds %d, want %d (%v)", q, len(found), want, err)
		}
	}
}

// A twin has the data keys of the notes that are left in it, and no others.
func TestExciseTakesKeys(t *testing.T) {
	h := clinic(t)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	h.mustCreate(dora, noteOf("", "dora"))
	h.load(strings.ReplaceAll(noteOf("'id':'b',", "emil"), "anna", "bert"))
	_, r, err := h.plan(dora, fhir.Read, "DocumentReference")
	if err != nil {
		t.Fatal(err)
	}
	c := h.owner()
	if err := postgres.Excise(context.Background(), c, map[fhir.ResourceType]authz.Restriction{"DocumentReference": r}); err != nil {
		t.Fatal(err)
	}
	rows, err := c.Query(context.Background(), "SELECT patient FROM notes.data_key")
	if err != nil {
		t.Fatal(err)
	}
	if left, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || !slices.Equal(left, []string{"anna"}) {
		t.Errorf("keys of %v (%v)", left, err)
	}
}

// While keys are out of reach an index is not made anew; a note whose body does
// not open keeps its own, and holds up nobody.
func TestReindexOfNotes(t *testing.T) {
	h := clinic(t)
	kms, keys := keeper()
	h = h.over(postgres.Options{Keys: keys})
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	note, broken := h.mustCreate(dora, noteOf("", "dora")), h.mustCreate(dora, noteOf("", "dora"))
	c := h.owner()
	h.exec(c, "UPDATE notes.resource SET body = '\"1.1.AAAA\"' WHERE id = $1", string(broken.ID))
	h.exec(c, "UPDATE notes.resource SET tokens = '{}' WHERE id = $1", string(note.ID))
	h.mustCreate(h.operator(), searchParameter("x", "said", "DocumentReference", "string", "DocumentReference.description"))
	kms.Down.Store(true)
	if _, err := h.store.ReindexBatch(context.Background(), "11111111-1111-4111-8111-111111111111"); status(err) != 503 {
		t.Fatalf("while the keys are out of reach: %v", err)
	}
	kms.Down.Store(false)
	h.reindexed()
	_, r, err := h.plan(dora, fhir.SearchType, note.Type)
	if err != nil {
		t.Fatal(err)
	}
	q, err := parseQuery(note.Type, "type=psychotherapy-note")
	if err != nil {
		t.Fatal(err)
	}
	if page, err := h.store.Search(context.Background(), authz.ReachOf(r), q); err != nil || len(page.Entries) != 2 {
		t.Errorf("%d notes are found: %v", len(page.Entries), err)
	}
}
