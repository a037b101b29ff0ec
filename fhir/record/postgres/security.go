package postgres

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/outcome"
)

// RecordSecurity makes a security event durable before it returns. Events that wait at the
// same moment share one commit.
func (s *Store) RecordSecurity(ctx context.Context, e audit.Security) error {
	if !e.Kind.Known() {
		return fmt.Errorf("postgres: a security event of no kind: %q", e.Kind)
	}
	return s.security.record(ctx, e)
}

func (s *Store) insertSecurity(ctx context.Context, conn *pgx.Conn, events []audit.Security) error {
	return s.add(ctx, conn, securityMarks, len(events), 256*(len(events)+1), func(rows *copyRows, i int) error {
		e := events[i]
		rows.int4(e.Tenant)
		rows.timestamptz(e.At)
		if err := rows.uuid(e.ID); err != nil {
			return err
		}
		for _, text := range []string{string(e.Kind), string(e.Outcome), string(e.Reason), e.Account, e.User.String(), e.By, e.Client, e.Session} {
			rows.text(text)
		}
		rows.array(oidText, len(e.Methods), func(i int) { rows.text(e.Methods[i]) })
		from := ""
		if e.Address.IsValid() {
			from = e.Address.String()
		}
		rows.text(from)
		return nil
	})
}

// SecurityQuery says which security events are asked for. Zero fields leave open.
type SecurityQuery struct {
	Tenant     int32 // 0: those of no practice
	From, To   time.Time
	Kind       audit.Kind
	Account    string
	Refused    bool // refusals alone
	MostEvents int  // 0 means 1,000
}

// Security lists security events of one practice, the newest first: for its privacy officer.
func (s *Store) Security(ctx context.Context, q SecurityQuery) ([]audit.Security, error) {
	if q.MostEvents <= 0 {
		q.MostEvents = 1000
	}
	if q.To.IsZero() {
		q.To = s.now()
	}
	rows, err := s.side.Query(ctx, `SELECT tenant, at, id::text, kind, outcome, reason, account, fhir_user, actor, client, session, methods, address FROM audit.security
WHERE tenant = $1 AND at >= $2 AND at <= $3 AND ($4 = '' OR kind = $4) AND ($5 = '' OR account = $5) AND (NOT $6 OR outcome <> '0') ORDER BY at DESC, id DESC LIMIT $7`,
		q.Tenant, q.From, q.To, string(q.Kind), q.Account, q.Refused, q.MostEvents)
	if err != nil {
		return nil, failed(err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e audit.Security, err error) {
		var user, from string
		err = row.Scan(&e.Tenant, &e.At, &e.ID, &e.Kind, &e.Outcome, &e.Reason, &e.Account, &user, &e.By, &e.Client, &e.Session, &e.Methods, &from)
		e.User, _ = fhir.ParseRef(user)
		e.Address, _ = netip.ParseAddr(from)
		return e, err
	})
	if err != nil {
		return nil, outcome.New(outcome.Unavailable, "the audit trail cannot be read now: try again later").Because(private(err))
	}
	return list, nil
}
