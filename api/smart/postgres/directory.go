package postgres

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/api/scim"
)

var _ scim.Store = (*Store)(nil)

// PutDirectory gives a practice's directory a token, in place of the one before.
func (s *Store) PutDirectory(ctx context.Context, tenant int32, practice string, hash []byte, now time.Time) error {
	_, err := s.exec(ctx, `INSERT INTO identity.directory (tenant, practice, hash, created) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant) DO UPDATE SET practice = EXCLUDED.practice, hash = EXCLUDED.hash, created = EXCLUDED.created`, tenant, practice, hash, now)
	return err
}

// DirectoryByToken finds whose token it is.
func (s *Store) DirectoryByToken(ctx context.Context, hash []byte) (d scim.Directory, found bool, err error) {
	err = s.pool.QueryRow(ctx, "SELECT tenant, practice FROM identity.directory WHERE hash = $1", hash).Scan(&d.Tenant, &d.Practice)
	if errors.Is(err, pgx.ErrNoRows) {
		return d, false, nil
	}
	return d, err == nil, private(err)
}

// columns are what a filter may name.
var (
	userColumns  = map[string]string{"": "'' = ", "id": "u.id::text = ", "userName": "lower(u.user_name) = lower", "externalId": "u.external_id = "}
	groupColumns = map[string]string{"": "'' = ", "id": "g.id::text = ", "displayName": "lower(g.name) = lower", "externalId": "g.external_id = "}
)

// DirectoryUsers lists users in the order in which they were made, and says how many match.
func (s *Store) DirectoryUsers(ctx context.Context, tenant int32, f scim.Find) (out []scim.User, total int, err error) {
	column, ok := userColumns[f.Attribute]
	if !ok {
		return nil, 0, errors.New("postgres: a filter by no attribute")
	}
	err = s.within(ctx, func(tx pgx.Tx) error {
		where := " FROM identity.directory_user u WHERE u.tenant = $1 AND " + column + "($2)"
		if err := tx.QueryRow(ctx, "SELECT count(*)"+where, tenant, f.Value).Scan(&total); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "SELECT u.id::text, u.account::text, u.user_name, u.external_id, u.name, u.fhir_user, u.organizations, u.active, u.created, u.modified"+where+" ORDER BY u.created, u.id OFFSET $3 LIMIT $4",
			tenant, f.Value, f.Start, f.Count)
		if err != nil {
			return err
		}
		if out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (u scim.User, err error) {
			err = row.Scan(&u.ID, &u.Account, &u.UserName, &u.ExternalID, &u.Name, &u.User, &u.Organizations, &u.Active, &u.Created, &u.Modified)
			return u, err
		}); err != nil {
			return err
		}
		return groupsOf(ctx, tx, out)
	})
	return out, total, err
}

// groupsOf fills in the groups of users.
func groupsOf(ctx context.Context, tx pgx.Tx, users []scim.User) error {
	at, ids := map[string]int{}, make([]string, len(users))
	for i, u := range users {
		at[u.ID], ids[i] = i, u.ID
	}
	rows, err := tx.Query(ctx, "SELECT m.member::text, g.id::text, g.name FROM identity.directory_member m JOIN identity.directory_group g ON g.id = m.grp WHERE m.member::text = ANY ($1) ORDER BY g.name", ids) //nolint:rowserrcheck // ForEachRow does
	if err != nil {
		return err
	}
	var member string
	var g scim.Group
	_, err = pgx.ForEachRow(rows, []any{&member, &g.ID, &g.Name}, func() error {
		u := &users[at[member]]
		u.Groups = append(u.Groups, g)
		return nil
	})
	return err
}

// PutDirectoryUser stores a user.
func (s *Store) PutDirectoryUser(ctx context.Context, tenant int32, u scim.User) error {
	organizations := u.Organizations
	if organizations == nil {
		organizations = []string{}
	}
	_, err := s.pool.Exec(ctx, `INSERT INTO identity.directory_user (id, tenant, account, user_name, external_id, name, fhir_user, organizations, active, created, modified)
VALUES ($1::uuid, $2, $3::uuid, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (id) DO UPDATE SET user_name = EXCLUDED.user_name, external_id = EXCLUDED.external_id, name = EXCLUDED.name, fhir_user = EXCLUDED.fhir_user,
  organizations = EXCLUDED.organizations, active = EXCLUDED.active, modified = EXCLUDED.modified WHERE directory_user.tenant = EXCLUDED.tenant`,
		u.ID, tenant, u.Account, u.UserName, u.ExternalID, u.Name, u.User, organizations, u.Active, u.Created, u.Modified)
	if unique(err) {
		return scim.ErrTaken
	}
	return private(err)
}

// DeleteDirectoryUser forgets a user.
func (s *Store) DeleteDirectoryUser(ctx context.Context, tenant int32, id string) (bool, error) {
	return s.one(ctx, "DELETE FROM identity.directory_user WHERE tenant = $1 AND id::text = $2", tenant, id)
}

// DirectoryGroups lists groups in the order in which they were made, and says how many match.
func (s *Store) DirectoryGroups(ctx context.Context, tenant int32, f scim.Find) (out []scim.Group, total int, err error) {
	column, ok := groupColumns[f.Attribute]
	if !ok {
		return nil, 0, errors.New("postgres: a filter by no attribute")
	}
	err = s.within(ctx, func(tx pgx.Tx) error {
		where := " FROM identity.directory_group g WHERE g.tenant = $1 AND " + column + "($2)"
		if err := tx.QueryRow(ctx, "SELECT count(*)"+where, tenant, f.Value).Scan(&total); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "SELECT g.id::text, g.name, g.external_id, g.created, g.modified, ARRAY(SELECT m.member::text FROM identity.directory_member m WHERE m.grp = g.id ORDER BY m.member)"+where+
			" ORDER BY g.created, g.id OFFSET $3 LIMIT $4", tenant, f.Value, f.Start, f.Count)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (g scim.Group, err error) {
			err = row.Scan(&g.ID, &g.Name, &g.ExternalID, &g.Created, &g.Modified, &g.Members)
			return g, err
		})
		return err
	})
	return out, total, err
}

// PutDirectoryGroup stores a group with its members.
func (s *Store) PutDirectoryGroup(ctx context.Context, tenant int32, g scim.Group) error {
	taken := false
	err := s.within(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO identity.directory_group (id, tenant, name, external_id, created, modified) VALUES ($1::uuid, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, external_id = EXCLUDED.external_id, modified = EXCLUDED.modified WHERE directory_group.tenant = EXCLUDED.tenant`,
			g.ID, tenant, g.Name, g.ExternalID, g.Created, g.Modified)
		if taken = unique(err); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM identity.directory_member WHERE grp = $1::uuid", g.ID); err != nil {
			return err
		}
		members := make([]string, len(g.Members))
		for i, m := range g.Members {
			members[i] = strings.ToLower(m)
		}
		_, err = tx.Exec(ctx, "INSERT INTO identity.directory_member (grp, member) SELECT $1::uuid, u.id FROM identity.directory_user u WHERE u.tenant = $2 AND u.id::text = ANY ($3)", g.ID, tenant, members)
		return err
	})
	if taken {
		return scim.ErrTaken
	}
	return err
}

// DeleteDirectoryGroup forgets a group; its members stay users.
func (s *Store) DeleteDirectoryGroup(ctx context.Context, tenant int32, id string) (bool, error) {
	return s.one(ctx, "DELETE FROM identity.directory_group WHERE tenant = $1 AND id::text = $2", tenant, id)
}
