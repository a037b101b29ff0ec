package evidence_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/audit/trail"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/record/postgres/evidence"
)

var migrated = cluster.Template{Name: "migrated", Prepare: func(ctx context.Context, dsn string) error {
	_, err := postgres.Migrate(ctx, dsn)
	return err
}}

// house is a database with a trail, the servers that write to it, and whoever has the database in hand.
type house struct {
	t       *testing.T
	dsn     string
	keys    *trail.Keys
	keyFile string
	outside string
	store   *postgres.Store
	owner   *pgx.Conn
}

func newKeys(t testing.TB, older *trail.Keys) *trail.Keys {
	t.Helper()
	k, _ := newKeyFile(t, older)
	return k
}

func newKeyFile(t testing.TB, older *trail.Keys) (*trail.Keys, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trail.jwks")
	if err := trail.Create(path, older); err != nil {
		t.Fatal(err)
	}
	k, err := trail.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return k, path
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, dsn: cluster.NewDatabase(t, migrated), outside: filepath.Join(t.TempDir(), "checkpoints")}
	h.keys, h.keyFile = newKeyFile(t, nil)
	h.store = h.server()
	h.owner = h.connect()
	return h
}

func (h *house) server() *postgres.Store {
	h.t.Helper()
	s, err := postgres.Open(context.Background(), postgres.Options{URL: h.dsn, Trail: h.keys, MaxConns: 4})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(s.Close)
	return s
}

func (h *house) connect() *pgx.Conn {
	h.t.Helper()
	c, err := pgx.Connect(context.Background(), h.dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func (h *house) sealer(mod ...func(*evidence.Options)) *evidence.Sealer {
	h.t.Helper()
	o := evidence.Options{URL: h.dsn, Keys: h.keys, Outside: h.outside}
	for _, f := range mod {
		f(&o)
	}
	s, err := evidence.New(context.Background(), o)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(s.Close)
	return s
}

func (h *house) exec(sql string, args ...any) {
	h.t.Helper()
	if _, err := h.owner.Exec(context.Background(), sql, args...); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
}

func (h *house) query(to any, sql string, args ...any) {
	h.t.Helper()
	if err := h.owner.QueryRow(context.Background(), sql, args...).Scan(to); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
}

// tamper does what only whoever has the database in hand can do: it passes by the triggers.
func (h *house) tamper(sql string, args ...any) {
	h.t.Helper()
	for _, table := range []string{"event", "security", "downgrade", "link"} {
		h.exec("DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT relid FROM pg_partition_tree('audit." + table + "') LOOP EXECUTE format('ALTER TABLE %s DISABLE TRIGGER append_only', t); END LOOP; END $$")
	}
	h.exec("ALTER TABLE audit.checkpoint DISABLE TRIGGER append_only")
	h.exec(sql, args...)
	for _, table := range []string{"event", "security", "downgrade", "link"} {
		h.exec("DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT relid FROM pg_partition_tree('audit." + table + "') LOOP EXECUTE format('ALTER TABLE %s ENABLE TRIGGER append_only', t); END LOOP; END $$")
	}
	h.exec("ALTER TABLE audit.checkpoint ENABLE TRIGGER append_only")
}

// checkpoints reads what was kept outside.
func checkpoints(t testing.TB, path string) func() (trail.Signed, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	return func() (trail.Signed, error) {
		if !lines.Scan() {
			return trail.Signed{}, io.EOF
		}
		return trail.ParseLine(lines.Bytes())
	}
}

func (h *house) verify(mod ...func(*evidence.Verification)) (evidence.Report, []evidence.Finding) {
	h.t.Helper()
	var findings []evidence.Finding
	v := evidence.Verification{URL: h.dsn, Keys: h.keys, Finding: func(f evidence.Finding) { findings = append(findings, f) }}
	for _, f := range mod {
		f(&v)
	}
	r, err := evidence.Verify(context.Background(), v)
	if err != nil {
		h.t.Fatal(err)
	}
	return r, findings
}

func (h *house) outsideToo(v *evidence.Verification) { v.Outside = checkpoints(h.t, h.outside) }

// sound fails where an honest trail does not verify.
func (h *house) sound(mod ...func(*evidence.Verification)) evidence.Report {
	h.t.Helper()
	r, findings := h.verify(mod...)
	for _, f := range findings {
		h.t.Errorf("an honest trail: %s", f)
	}
	return r
}

func event(at time.Time, n int) audit.Event {
	e := audit.Event{
		ID: record.NewID(), At: at, Interaction: fhir.Read, Type: "Observation", Outcome: audit.Success,
		Caller: authz.Caller{Tenant: int32(1 + n%2), Subject: "https://id.example|canary-subject", Client: "app", Roles: []string{"therapist"}, Purpose: "TREAT", PolicyVersion: "3c8a7b6f5e4d", RequestID: record.NewID(), User: fhir.Ref{Type: "Practitioner", ID: "canary-user"}, Organizations: []string{"canary-org"}},
	}
	for i := range n % 4 {
		e.Entities = append(e.Entities, audit.Entity{Ref: fhir.Ref{Type: "Observation", ID: fhir.ID(fmt.Sprintf("canary-o%d", i))}, Version: 1, Patient: "canary-patient", Consents: []fhir.ID{"canary-consent"}, Session: "canary-session"})
	}
	return e
}

func security(at time.Time) audit.Security {
	return audit.Security{ID: record.NewID(), At: at, Tenant: 1, Kind: audit.SignIn, Outcome: audit.Success, Account: record.NewID(), Client: "app", Session: "s", Methods: []string{"pwd", "otp"}}
}

// downgrade writes a row as the store does.
func (h *house) downgrade(at time.Time) {
	h.t.Helper()
	columns := []string{"tenant", "at", "event", "entity", "labels_old", "labels_new", "rules"}
	id := record.NewID()
	raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil {
		h.t.Fatal(err)
	}
	u32 := func(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
	us := at.UnixMicro() - time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	mac := h.keys.Mac(trail.NewLayout(trail.Downgrade, columns), [][]byte{u32(1), binary.BigEndian.AppendUint64(nil, uint64(us)), raw, []byte("Observation/canary-o1/_history/1"), u32(6), u32(2), []byte("rules")})
	h.exec("INSERT INTO audit.downgrade (tenant, at, event, entity, labels_old, labels_new, rules, mac) VALUES (1, $1, $2, 'Observation/canary-o1/_history/1', 6, 2, 'rules', $3)", at, id, mac)
}

// write adds n rows of all kinds, at moments between from and to.
func (h *house) write(s *postgres.Store, r *rand.Rand, n int, from, to time.Time) {
	h.t.Helper()
	ctx := context.Background()
	for i := range n {
		at := from.Add(time.Duration(r.Int64N(int64(to.Sub(from))))).Truncate(time.Microsecond)
		var err error
		switch i % 5 {
		case 0:
			err = s.RecordSecurity(ctx, security(at))
		case 1:
			h.downgrade(at)
		default:
			err = s.Record(ctx, event(at, i))
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

func seal(t testing.TB, s *evidence.Sealer) {
	t.Helper()
	if err := s.Seal(context.Background(), true); err != nil {
		t.Fatal(err)
	}
}
