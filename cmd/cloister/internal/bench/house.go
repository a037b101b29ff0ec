package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/api/transport"
	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/importer"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// serve answers on the loopback interface until stop is called.
func serve(ctx context.Context, handler func(address string) (http.Handler, error)) (address string, stop func(), err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("bench: %w", err)
	}
	h, err := handler(l.Addr().String())
	if err != nil {
		_ = l.Close()
		return "", nil, err
	}
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: time.Hour, BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func() { _ = s.Serve(l) }()
	return l.Addr().String(), func() { _ = s.Close() }, nil
}

// house is Cloister with all that a request passes in production.
type house struct {
	address string
	reader  string // token of who reads
	writer  string // token of who reads and writes her patients' records
	stop    func()
}

// open starts a house over a core. The operator's token, "operator", counts
// where spied is set: no issuer could ever sign one.
func (b *bench) open(ctx context.Context, core *server.Core, who people, spied bool) (*house, error) {
	i, err := newIssuer(ctx)
	if err != nil {
		return nil, err
	}
	h := &house{stop: i.stop}
	address, stop, err := serve(ctx, func(address string) (http.Handler, error) {
		base := "http://" + address + "/fhir"
		var err error
		if h.reader, err = i.token(base, who.reader); err != nil {
			return nil, err
		}
		if h.writer, err = i.token(base, who.writer); err != nil {
			return nil, err
		}
		var a transport.Authenticator
		if a, err = oidc.New([]oidc.Issuer{{URL: i.url, Audience: base}}, b.store, time.Now); err != nil {
			return nil, err
		}
		if spied {
			a = operators{a, b.tenant}
		}
		return core.Handler(server.Config{
			Base: base, Authenticator: a, Version: "bench", Released: time.Now(), Deadline: time.Minute, MaxBody: 8 << 20,
			Cursors: [32]byte{1}, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		})
	})
	if err != nil {
		i.stop()
		return nil, err
	}
	h.address, h.stop = address, func() { stop(); i.stop() }
	return h, nil
}

// unrecorded is the house without audit: what an audit event costs is the
// difference. Only a measurement may have such a gate.
func (b *bench) unrecorded() *server.Core {
	return &server.Core{Store: b.store, Engine: b.core.Engine, Gate: record.NewGate(b.core.Engine, forgetful{}, time.Now).Explaining(b.store).Masking(b.store)}
}

type forgetful struct{}

func (forgetful) Record(context.Context, audit.Event) error { return nil }

type operators struct {
	transport.Authenticator
	tenant int32
}

const operatorToken = "operator"

func (o operators) Authenticate(ctx context.Context, bearer string) (authz.Principal, error) {
	if bearer == operatorToken {
		return server.Operator(o.tenant, "bench"), nil
	}
	return o.Authenticator.Authenticate(ctx, bearer)
}

// people are the callers of a run.
type people struct {
	name   string // of the reader, for the report
	reader claims
	writer claims // a therapist
}

// people finds the callers: on Synthea an exchange, whose permission asks for no
// relation to the patient, and a therapist of a hundred patients; in the sample
// clinic its therapist.
func (b *bench) people(ctx context.Context) (people, error) {
	if b.set.synthea {
		p := people{name: "a health information exchange (role hie)", reader: claims{
			Subject: "bench", Client: "bench", Practice: practice, Roles: []string{"hie"}, Purpose: "TREAT", Scope: "system/*.crs",
		}}
		if err := b.employ(ctx); err != nil {
			return p, err
		}
		p.writer = claims{
			Subject: "bench-writer", Client: "bench", Practice: practice, Roles: []string{"therapist"}, Purpose: "TREAT", User: therapist, Scope: "user/*.cruds",
		}
		return p, nil
	}
	for _, p := range clinic.Personas(b.clinic()) {
		if p.Name == "therapist" {
			c := claims{
				Subject: p.Claims.Subject, Client: p.Claims.Client, Practice: p.Claims.Practice, Roles: p.Claims.Roles, User: p.Claims.FHIRUser,
				Organizations: p.Claims.Organizations, Purpose: p.Claims.Purpose, Scope: p.Claims.Scope,
			}
			return people{"a therapist, by her treating relations", c, c}, nil
		}
	}
	return people{}, errors.New("bench: the sample clinic has no therapist")
}

const (
	therapist = "Practitioner/bench"
	caseload  = 100 // patients whom she treats
)

// employ gives Synthea's practice a therapist and puts her into the care teams
// of patients: those who are there treat one or two each.
func (b *bench) employ(ctx context.Context) error {
	rows, err := b.sql.Query(ctx, "SELECT id FROM record.resource WHERE tenant = $1 AND type = $2 AND NOT deleted ORDER BY md5(id) LIMIT $3", b.tenant, fhir.ResourceType("Patient").Code(), caseload)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	patients, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	var doc strings.Builder
	doc.WriteString(`{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Practitioner","id":"bench","name":[{"family":"Bench"}]}}`)
	for _, p := range patients {
		fmt.Fprintf(&doc, `,{"resource":{"resourceType":"CareTeam","id":"bench-%s","status":"active","subject":{"reference":"Patient/%s"},"participant":[{"member":{"reference":"%s"}}]}}`, p[:min(len(p), 50)], p, therapist)
	}
	doc.WriteString(`]}`)
	m := &importer.Importer{Store: b.store, Engine: b.core.Engine, Gate: b.core.Gate, Principal: server.Operator(b.tenant, "bench"), Workers: 1, Report: b.Progress}
	if err := m.Stream(ctx, maps.All(map[string][]byte{"therapist": []byte(doc.String())})); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// spied opens a second store and a house over it whose statements are seen.
func (b *bench) spied(ctx context.Context, who people) (*spy, func(), error) {
	s := &spy{}
	store, err := postgres.Open(ctx, postgres.Options{URL: b.DSN, MaxConns: 2, Tracer: s, Keys: b.Keys})
	if err != nil {
		return nil, nil, fmt.Errorf("bench: %w", err)
	}
	core, err := server.NewCore(store, time.Now)
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	if s.house, err = b.open(ctx, core, who, true); err != nil {
		store.Close()
		return nil, nil, err
	}
	if s.client, err = dial(ctx, s.house.address); err != nil {
		s.house.stop()
		store.Close()
		return nil, nil, err
	}
	return s, func() { _ = s.client.conn.Close(); s.house.stop(); store.Close() }, nil
}
