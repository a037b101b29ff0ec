package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/identity"
	"github.com/cloister-health/cloister/fhir"
)

const recordSQL = `SELECT a.id::text, a.email, a.name, a.disabled, a.password, a.totp,
  (SELECT count(*) FROM identity.recovery_code c WHERE c.account = a.id),
  EXISTS (SELECT FROM identity.external x WHERE x.account = a.id)
FROM identity.account a WHERE `

// Account finds an account by id.
func (s *Store) Account(ctx context.Context, id string) (identity.Record, bool, error) {
	return s.record(ctx, "a.id = $1::uuid", id)
}

// AccountByEmail finds an account by its address.
func (s *Store) AccountByEmail(ctx context.Context, email string) (identity.Record, bool, error) {
	return s.record(ctx, "a.email = $1", email)
}

// AccountByExternal finds an account by an external identity.
func (s *Store) AccountByExternal(ctx context.Context, issuer, subject string) (identity.Record, bool, error) {
	return s.record(ctx, "a.id = (SELECT x.account FROM identity.external x WHERE x.issuer = $1 AND x.subject = $2)", issuer, subject)
}

func (s *Store) record(ctx context.Context, where string, args ...any) (r identity.Record, found bool, err error) {
	err = s.within(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, recordSQL+where, args...).Scan(&r.ID, &r.Email, &r.Name, &r.Disabled, &r.Password, &r.TOTP, &r.Codes, &r.Linked)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		found = true
		byAccount, err := memberships(ctx, tx, "m.account = $1::uuid", r.ID)
		if err != nil {
			return err
		}
		r.Memberships = byAccount[r.ID]
		rows, err := tx.Query(ctx, "SELECT id, name, count, data, created, used FROM identity.passkey WHERE account = $1::uuid ORDER BY created, id", r.ID)
		if err != nil {
			return err
		}
		r.Passkeys, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (k identity.Key, err error) {
			var count int64
			var used *time.Time
			err = row.Scan(&k.ID, &k.Name, &count, &k.Data, &k.Created, &used)
			k.Count = uint32(count) //nolint:gosec // the table checks it
			if used != nil {
				k.Used = *used
			}
			return k, err
		})
		return err
	})
	if err != nil || !found {
		return identity.Record{}, false, err
	}
	return r, true, nil
}

// memberships reads those that are not suspended, by account.
func memberships(ctx context.Context, tx pgx.Tx, where string, args ...any) (map[string][]identity.Membership, error) {
	rows, err := tx.Query(ctx, "SELECT m.account::text, m.tenant, m.practice, m.fhir_user, m.roles, m.organizations FROM identity.membership m WHERE "+where+" ORDER BY m.practice, m.fhir_user", args...) //nolint:rowserrcheck // ForEachRow does
	if err != nil {
		return nil, err
	}
	out := map[string][]identity.Membership{}
	var account, user string
	var m identity.Membership
	var organizations []string
	_, err = pgx.ForEachRow(rows, []any{&account, &m.Tenant, &m.Practice, &user, &m.Roles, &organizations}, func() error {
		m.User, _ = fhir.ParseRef(user)
		m.Organizations = nil
		for _, o := range organizations {
			m.Organizations = append(m.Organizations, fhir.ID(o))
		}
		out[account] = append(out[account], m)
		m.Roles = nil // of the next row
		return nil
	})
	return out, err
}

// Accounts lists the members of a practice; 0 lists all accounts.
func (s *Store) Accounts(ctx context.Context, tenant int32) (out []identity.Account, err error) {
	err = s.within(ctx, func(tx pgx.Tx) error {
		byAccount, err := memberships(ctx, tx, "($1 = 0 OR m.tenant = $1)", tenant)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "SELECT id::text, email, name, disabled FROM identity.account ORDER BY name, email") //nolint:rowserrcheck // ForEachRow does
		if err != nil {
			return err
		}
		var a identity.Account
		_, err = pgx.ForEachRow(rows, []any{&a.ID, &a.Email, &a.Name, &a.Disabled}, func() error {
			if a.Memberships = byAccount[a.ID]; tenant == 0 || a.Memberships != nil {
				out = append(out, a)
			}
			return nil
		})
		return err
	})
	return out, err
}

// CreateAccount stores an account with its memberships.
func (s *Store) CreateAccount(ctx context.Context, a identity.Account, password string, now time.Time) error {
	var taken bool
	err := s.within(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO identity.account (id, email, name, disabled, password, changed, created) VALUES ($1::uuid, $2, $3, $4, $5, CASE WHEN $5 <> '' THEN $6::timestamptz END, $6)",
			a.ID, a.Email, a.Name, a.Disabled, password, now)
		if taken = unique(err); err != nil {
			return err
		}
		for _, m := range a.Memberships {
			if err := putMembership(ctx, tx, a.ID, m); err != nil {
				return err
			}
		}
		return nil
	})
	if taken {
		return identity.ErrTaken
	}
	return err
}

// SetPassword replaces the hash.
func (s *Store) SetPassword(ctx context.Context, account, hash string, now time.Time) error {
	_, err := s.exec(ctx, "UPDATE identity.account SET password = $2, changed = $3 WHERE id = $1::uuid", account, hash, now)
	return err
}

// SetDisabled changes whether an account is disabled; a trigger ends its sessions.
func (s *Store) SetDisabled(ctx context.Context, account string, disabled bool) error {
	_, err := s.exec(ctx, "UPDATE identity.account SET disabled = $2 WHERE id = $1::uuid", account, disabled)
	return err
}

func putMembership(ctx context.Context, tx pgx.Tx, account string, m identity.Membership) error {
	organizations := make([]string, len(m.Organizations))
	for i, o := range m.Organizations {
		organizations[i] = string(o)
	}
	_, err := tx.Exec(ctx, `INSERT INTO identity.membership (account, tenant, practice, fhir_user, roles, organizations) VALUES ($1::uuid, $2, $3, $4, $5, $6)
ON CONFLICT (account, tenant, fhir_user) DO UPDATE SET practice = EXCLUDED.practice, roles = EXCLUDED.roles, organizations = EXCLUDED.organizations`,
		account, m.Tenant, m.Practice, m.User.String(), m.Roles, organizations)
	return err
}

// PutMembership adds a membership, or changes the one of the same practice and user.
func (s *Store) PutMembership(ctx context.Context, account string, m identity.Membership) error {
	return s.within(ctx, func(tx pgx.Tx) error { return putMembership(ctx, tx, account, m) })
}

// RemoveMemberships takes an account out of a practice.
func (s *Store) RemoveMemberships(ctx context.Context, account string, tenant int32) error {
	_, err := s.exec(ctx, "DELETE FROM identity.membership WHERE account = $1::uuid AND tenant = $2", account, tenant)
	return err
}

// RemoveMembership takes one membership away.
func (s *Store) RemoveMembership(ctx context.Context, account string, tenant int32, user fhir.Ref) error {
	_, err := s.exec(ctx, "DELETE FROM identity.membership WHERE account = $1::uuid AND tenant = $2 AND fhir_user = $3", account, tenant, user.String())
	return err
}

// SetName changes the name.
func (s *Store) SetName(ctx context.Context, account, name string) error {
	_, err := s.exec(ctx, "UPDATE identity.account SET name = $2 WHERE id = $1::uuid", account, name)
	return err
}

// Link gives an account an external identity.
func (s *Store) Link(ctx context.Context, issuer, subject, account string, now time.Time) error {
	ok, err := s.one(ctx, `INSERT INTO identity.external (issuer, subject, account, linked) VALUES ($1, $2, $3::uuid, $4)
ON CONFLICT (issuer, subject) DO UPDATE SET linked = EXCLUDED.linked WHERE external.account = EXCLUDED.account`, issuer, subject, account, now)
	if err == nil && !ok {
		return identity.ErrTaken
	}
	return err
}
