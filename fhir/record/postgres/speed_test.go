package postgres

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/audit/trail"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/authz/smart"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record/postgres/cluster"
	"github.com/cloister-health/cloister/fhir/search"
)

// BenchmarkAudit writes groups of events as the recorder does; the time is that of one event.
func BenchmarkAudit(b *testing.B) {
	ctx := context.Background()
	path := filepath.Join(b.TempDir(), "trail.jwks")
	if err := trail.Create(path, nil); err != nil {
		b.Fatal(err)
	}
	keys, err := trail.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	s, err := Open(ctx, Options{URL: cluster.NewDatabase(b, filled), MaxConns: 2, Trail: keys})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for _, size := range []int{1, 8, 32, 128} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			group := make([]audit.Event, size)
			for n := 0; n < b.N; n += size {
				for i := range group {
					group[i] = event(n + i)
				}
				if err := s.side.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return s.insertEvents(ctx, c.Conn(), group) }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func event(i int) audit.Event {
	return audit.Event{
		ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), At: time.Now(), Interaction: fhir.Read, Type: "Observation", Outcome: audit.Success,
		Caller: authz.Caller{
			Tenant: 1, Subject: "http://127.0.0.1:41234|bench", Client: "bench", Roles: []string{"hie"}, Purpose: "TREAT",
			PolicyVersion: "3c8a7b6f5e4d", RequestID: "00000000-0000-4000-8000-000000000001",
		},
		Entities: []audit.Entity{{Ref: fhir.Ref{Type: "Observation", ID: "b6534ed9-19de-8459-9966-691305bee1a0"}, Version: 1, Patient: fhir.ID(patientAt(i % 200))}},
	}
}

// BenchmarkRead reads by id under one caller's Restriction, many at a time; the time is that of one read.
func BenchmarkRead(b *testing.B) {
	ctx := context.Background()
	s, err := Open(ctx, Options{URL: cluster.NewDatabase(b, filled), MaxConns: 2})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	policy, err := pdp.New(pdp.Embedded())
	if err != nil {
		b.Fatal(err)
	}
	engine := authz.NewEngine(policy, s, time.Now)
	me, _ := fhir.ParseRef("Practitioner/me")
	for _, role := range []string{"hie", "therapist"} {
		p := authz.Principal{Tenant: 1, Subject: "test|" + role, Roles: []string{role}, Purpose: "TREAT", Scopes: smart.Parse("user/*.rs"), User: me}
		g, err := engine.Authorize(ctx, p, fhir.Read, "Observation")
		if err != nil {
			b.Fatal(err)
		}
		r, err := engine.Plan(ctx, g, fhir.Read, "Observation")
		if err != nil {
			b.Fatal(err)
		}
		for _, size := range []int{1, 8, 32, 64} {
			b.Run(fmt.Sprintf("%s/%d", role, size), func(b *testing.B) {
				b.ReportAllocs()
				batch := make([]*waiter, size)
				for n := 0; n < b.N; n += size {
					var sql string
					for i := range batch {
						q := readStatement(&statement{columns: true}, r, fhir.ID(fmt.Sprintf("o-%d-%d", (n+i)%40, (n+i)%100)))
						if sql, err = q.shared(); err != nil {
							b.Fatal(err)
						}
						batch[i] = &waiter{ctx, r, q.args, make(chan answer, 1)}
					}
					s.point(r).answer(sql, batch)
					for _, w := range batch {
						if a := <-w.answer; a.err != nil {
							b.Fatal(a.err)
						}
					}
				}
			})
		}
	}
}

// BenchmarkPage reads pages of a hundred, and counts.
func BenchmarkPage(b *testing.B) {
	ctx := context.Background()
	s, err := Open(ctx, Options{URL: cluster.NewDatabase(b, filled), MaxConns: 2})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	policy, err := pdp.New(pdp.Embedded())
	if err != nil {
		b.Fatal(err)
	}
	engine := authz.NewEngine(policy, s, time.Now)
	me, _ := fhir.ParseRef("Practitioner/me")
	for _, role := range []string{"hie", "therapist"} {
		p := authz.Principal{Tenant: 1, Subject: "test|" + role, Roles: []string{role}, Purpose: "TREAT", Scopes: smart.Parse("user/*.rs"), User: me}
		g, err := engine.Authorize(ctx, p, fhir.SearchType, "Observation")
		if err != nil {
			b.Fatal(err)
		}
		r, err := engine.Plan(ctx, g, fhir.SearchType, "Observation")
		if err != nil {
			b.Fatal(err)
		}
		for name, v := range map[string]url.Values{
			"patient": {"patient": {patientAt(7)}, "_count": {"100"}},
			"newest":  {"_sort": {"-_lastUpdated"}, "_count": {"100"}},
			"count":   {"_summary": {"count"}},
		} {
			query, _, err := search.Parse("Observation", v, search.Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.Run(role+"/"+name, func(b *testing.B) {
				for range b.N {
					if _, err := s.Search(ctx, authz.ReachOf(r), query); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
