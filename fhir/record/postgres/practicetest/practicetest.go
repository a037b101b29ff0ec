// Package practicetest is a practice for tests of what works on records in the background: a store on a
// database of its own, with engine, gate and one clock.
package practicetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/envelope/envelopetest"
	"github.com/cloister-health/cloister/fhir/record/postgres"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
)

// Practice is one.
type Practice struct {
	T      testing.TB // who is told what goes wrong
	DSN    string
	Store  *postgres.Store
	Engine *authz.Engine
	Gate   *record.Gate
	Tenant int32
	Clock  atomic.Int64     // milliseconds since the epoch
	Moving func() time.Time // in place of it, or nil
}

// Open opens the practice in a database; more is what its policy has beside that of the house.
func Open(dsn, more string) (*Practice, error) {
	p := &Practice{DSN: dsn}
	p.Clock.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	ctx := context.Background()
	var err error
	if p.Store, err = postgres.Open(ctx, postgres.Options{URL: dsn, Now: p.Now, Keys: envelopetest.Keys(), MaxConns: 4}); err != nil {
		return nil, fmt.Errorf("practicetest: %w", err)
	}
	src := pdp.Embedded()
	src.Policy += more
	policy, err := pdp.New(src)
	if err != nil {
		return nil, fmt.Errorf("practicetest: %w", err)
	}
	p.Engine = authz.NewEngine(policy, p.Store, p.Now)
	p.Gate = record.NewGate(p.Engine, p.Store, p.Now).Explaining(p.Store).Accounting(p.Store).Masking(p.Store)
	p.Tenant, err = p.Store.EnsureTenant(ctx, "harbor", "Harbor")
	return p, err //nolint:wrapcheck // it is the caller's test
}

// Template is a database with these resources, for [New].
func Template(name, more string, texts ...string) cluster.Template {
	return cluster.Template{Name: name, Prepare: func(ctx context.Context, dsn string) error {
		if _, err := postgres.Migrate(ctx, dsn); err != nil {
			return fmt.Errorf("practicetest: %w", err)
		}
		p, err := Open(dsn, more)
		if err != nil {
			return err
		}
		defer p.Store.Close()
		for _, text := range texts {
			if err := p.Write(fhir.Update, text); err != nil {
				return fmt.Errorf("%w in %s", err, text)
			}
		}
		return nil
	}}
}

// New opens a copy of a template, a minute after its last resource was stored.
func New(t testing.TB, from cluster.Template, more string) *Practice {
	t.Helper()
	p, err := Open(cluster.NewDatabase(t, from), more)
	if err != nil {
		t.Fatal(err)
	}
	p.T = t
	t.Cleanup(p.Store.Close)
	p.Clock.Add(60_000)
	return p
}

// Now is the time there.
func (p *Practice) Now() time.Time {
	if p.Moving != nil {
		return p.Moving().Truncate(time.Millisecond)
	}
	return time.UnixMilli(p.Clock.Load()).UTC()
}

// Admit has changes of the operator's, or of who is given, admitted, to be committed together.
func (p *Practice) Admit(i fhir.Interaction, texts []string, who ...authz.Principal) (out []record.Cleared, err error) {
	ctx := context.Background()
	by := authz.Principal{Tenant: p.Tenant, Subject: "test|operator", Roles: []string{"operator"}, Purpose: "HSYSADMIN", Scopes: smart.Parse("system/*.cruds")}
	if len(who) > 0 {
		by = who[0]
	}
	g, err := p.Engine.Authorize(ctx, by, fhir.Operation, "")
	if err != nil {
		return nil, err //nolint:wrapcheck // it is the caller's test
	}
	for _, text := range texts {
		r, err := codec.Parse([]byte(text))
		if err != nil {
			return nil, err //nolint:wrapcheck // it is the caller's test
		}
		c := record.Change{Interaction: i, Ref: r.Ref()}
		if i == fhir.Update {
			c.Content, c.Upsert, c.Import = r, true, len(who) == 0
		}
		sub, err := p.Engine.Extend(g, i, r.Type)
		if err != nil {
			return nil, err //nolint:wrapcheck // it is the caller's test
		}
		x, err := p.Gate.Admit(ctx, sub, c)
		if err != nil {
			return nil, err //nolint:wrapcheck // it is the caller's test
		}
		out = append(out, x)
	}
	return out, nil
}

// Write stores, or deletes, a second later.
func (p *Practice) Write(i fhir.Interaction, text string, who ...authz.Principal) error {
	p.Clock.Add(1000)
	x, err := p.Admit(i, []string{text}, who...)
	if err == nil {
		_, err = p.Store.Commit(context.Background(), x)
	}
	return err //nolint:wrapcheck // it is the caller's test
}

// Load stores as the operator does.
func (p *Practice) Load(text string) {
	p.T.Helper()
	if err := p.Write(fhir.Update, text); err != nil {
		p.T.Fatalf("%v (%v)\n%s", err, errors.Unwrap(err), text)
	}
}

// Remove deletes as the operator does; of the text only type and id count.
func (p *Practice) Remove(text string) {
	p.T.Helper()
	if err := p.Write(fhir.Delete, text); err != nil {
		p.T.Fatal(err)
	}
}

// Exchange is the backend service of an exchange with that scope.
func (p *Practice) Exchange(scope string) authz.Principal {
	return authz.Principal{Tenant: p.Tenant, Subject: "iss|exchange", Client: "exchange", Roles: []string{"hie"}, Purpose: "TREAT", Organizations: []fhir.ID{"hie"}, Scopes: smart.Parse(scope)}
}

// Grant lets somebody in.
func (p *Practice) Grant(who authz.Principal) authz.Grant {
	p.T.Helper()
	g, err := p.Engine.Authorize(context.Background(), who, fhir.Operation, "")
	if err != nil {
		p.T.Fatal(err)
	}
	return g
}

// Finish works until nothing waits.
func (p *Practice) Finish(step func(context.Context) (bool, error)) {
	p.T.Helper()
	for range 1000 {
		busy, err := step(context.Background())
		if err != nil {
			p.T.Fatalf("%v (%v)", err, errors.Unwrap(outcome.Of(err)))
		}
		if !busy {
			return
		}
	}
	p.T.Fatal("the work does not end")
}

// Connect is a connection of the owner of the database.
func (p *Practice) Connect() *pgx.Conn {
	p.T.Helper()
	c, err := pgx.Connect(context.Background(), p.DSN)
	if err != nil {
		p.T.Fatal(err)
	}
	p.T.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// SQL is what a query of one column of text gives, separated by spaces.
func (p *Practice) SQL(query string, args ...any) string {
	p.T.Helper()
	var out []string
	p.briefly(func(ctx context.Context, c *pgx.Conn) error {
		rows, err := c.Query(ctx, query, args...)
		if err == nil {
			out, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	})
	return strings.Join(out, " ")
}

// Exec carries out a statement.
func (p *Practice) Exec(query string, args ...any) {
	p.T.Helper()
	p.briefly(func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, query, args...)
		return err
	})
}

func (p *Practice) briefly(f func(context.Context, *pgx.Conn) error) {
	p.T.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, p.DSN)
	if err != nil {
		p.T.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	if err := f(ctx, c); err != nil {
		p.T.Fatal(err)
	}
}

// Status is that of an answer with this error.
func Status(err error) int {
	if err == nil {
		return 200
	}
	return outcome.Of(err).Status()
}

// Canary is in everything that an exchange may not see.
const Canary = "CANARYwombat"

// Consent is a signed one of anna's, for the exchange to treat her.
func Consent(id, kind, status string) string {
	return `{"resourceType":"Consent","id":"` + id + `","status":"` + status + `","scope":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/consentscope","code":"patient-privacy"}]},
"category":[{"coding":[{"system":"` + fhir.ConsentKind + `","code":"` + kind + `"}]}],"patient":{"reference":"Patient/anna"},"dateTime":"2025-06-01","performer":[{"reference":"Patient/anna"}],
"organization":[{"reference":"Organization/sud"}],"sourceAttachment":{"title":"signed form"},"policyRule":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"OPTIN"}]},
"provision":{"type":"permit","period":{"end":"2027-01-01"},"actor":[{"role":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ParticipationType","code":"IRCP"}]},"reference":{"reference":"Organization/hie"}}],
"purpose":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"TREAT"}]}}`
}

// Note is a note of dora's about anna.
func Note(id, kind string) string {
	return `{"resourceType":"DocumentReference","id":"` + id + `","status":"current","type":{"coding":[{"system":"` + fhir.NoteKind + `","code":"` + kind + `"}]},"subject":{"reference":"Patient/anna"},
"author":[{"reference":"Practitioner/dora"}],"description":"` + Canary + `","content":[{"attachment":{"contentType":"text/plain","data":"c2VjcmV0"}}]}`
}

// Observation is one of a patient's; more begins with a comma.
func Observation(id, patient, more string) string {
	return `{"resourceType":"Observation","id":"` + id + `","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"44261-6"}]},"subject":{"reference":"Patient/` + patient + `"},"effectiveDateTime":"2026-02-01"` + more + `}`
}

// Encounter is one of a patient's with an organization.
func Encounter(id, patient, provider, status string) string {
	return `{"resourceType":"Encounter","id":"` + id + `","status":"` + status + `","class":{"code":"AMB"},"subject":{"reference":"Patient/` + patient + `"},"serviceProvider":{"reference":"Organization/` + provider + `"}}`
}
