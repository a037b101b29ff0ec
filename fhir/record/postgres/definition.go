package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/definition"
)

// Installed is a FHIR package in the database.
type Installed struct {
	Name, Version string
	FHIRVersions  []string
	Dependencies  []string // name#version, sorted
	Artifacts     int
	Bytes         int64 // of the JSON of its definitions
	At            time.Time
}

// Missing lists the dependencies of p that are not among the packages of all, sorted. A
// dependency on a range ("5.1.x", "current") is met by any version.
func (p Installed) Missing(all []Installed) []string {
	var out []string
	for _, d := range p.Dependencies {
		name, version, _ := strings.Cut(d, "#")
		if !slices.ContainsFunc(all, func(x Installed) bool { return x.Name == name && (x.Version == version || loose(version)) }) {
			out = append(out, d)
		}
	}
	return out
}

func loose(version string) bool {
	return version == "" || strings.ContainsAny(version, "xX*") || version == "current" || version == "dev" || version == "latest"
}

// InstallPackage stores the definitions of a package, all or none. Name and
// version identify it: one that is installed already is left as it is, and
// added is false. progress, which may be nil, hears of each definition.
//
// The server's own roles may only read definitions: url is a login that owns
// the schema, as for [Migrate].
func InstallPackage(ctx context.Context, url string, p *definition.Package, progress func()) (added bool, err error) {
	c, err := owner(ctx, url)
	if err != nil {
		return false, err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	err = pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		// The row serves as a lock, too: revisions and packages come in one order.
		if _, err := tx.Exec(ctx, "UPDATE definition.revision SET n = n + 1"); err != nil {
			return err
		}
		deps := make([]string, 0, len(p.Dependencies))
		for name, version := range p.Dependencies {
			deps = append(deps, name+"#"+version)
		}
		slices.Sort(deps)
		size := int64(0)
		for _, a := range p.Artifacts {
			size += int64(len(a.Body))
		}
		var id int32
		err := tx.QueryRow(ctx, `INSERT INTO definition.package (name, version, fhir_versions, dependencies, artifacts, bytes) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name, version) DO NOTHING RETURNING id`, p.Name, p.Version, append([]string{}, p.FHIRVersions...), deps, len(p.Artifacts), size).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			return errInstalled
		}
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"definition", "artifact"}, []string{"package", "type", "url", "version", "body"},
			pgx.CopyFromSlice(len(p.Artifacts), func(i int) ([]any, error) {
				if progress != nil {
					progress()
				}
				a := p.Artifacts[i]
				return []any{id, a.Type.Code(), a.URL, a.Version, a.Body}, nil
			}))
		return err
	})
	switch {
	case errors.Is(err, errInstalled):
		return false, nil
	case sqlState(err) == "42501": // insufficient_privilege
		return false, errors.New("postgres: this login may not install packages: use the one that migrates the schema")
	case sqlState(err) == "3F000" || sqlState(err) == "42P01": // no such schema, table
		return false, errors.New("postgres: the schema is older than this program: run cloister migrate first")
	case err != nil:
		return false, fmt.Errorf("postgres: install %s: %w", p.ID(), private(err))
	}
	return true, nil
}

var errInstalled = errors.New("postgres: the package is installed already")

// owner connects as the login itself and not in one of the server's roles.
func owner(ctx context.Context, url string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("postgres: the database URL cannot be read")
	}
	cfg.RuntimeParams["search_path"] = "pg_catalog"
	cfg.RuntimeParams["application_name"] = "cloister"
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("postgres: connect: %w", private(err))
	}
	return c, nil
}

// Packages lists what is installed, by name and version.
func (s *Store) Packages(ctx context.Context) ([]Installed, error) {
	var out []Installed
	var p Installed
	err := forEach(ctx, s.side, "SELECT name, version, fhir_versions, dependencies, artifacts, bytes, installed FROM definition.package ORDER BY name, id", nil,
		[]any{&p.Name, &p.Version, &p.FHIRVersions, &p.Dependencies, &p.Artifacts, &p.Bytes, &p.At}, func() error {
			q := p
			q.FHIRVersions, q.Dependencies = slices.Clone(p.FHIRVersions), slices.Clone(p.Dependencies)
			out = append(out, q)
			return nil
		})
	return out, failed(err)
}

// Definitions is the source of the installed definitions. All callers share it.
func (s *Store) Definitions() *definition.Library { return s.definitions }

// shelf is the database as a definition.Library sees it.
type shelf struct{ *Store }

func (s shelf) Revision(ctx context.Context) (n int64, err error) {
	err = failed(s.side.QueryRow(ctx, "SELECT n FROM definition.revision").Scan(&n))
	return n, err
}

// One statement sees one snapshot: the revision is that of the list.
func (s shelf) Entries(ctx context.Context) (revision int64, out []definition.Entry, err error) {
	var id *int64
	var typ *int16
	var url, version, name *string
	err = forEach(ctx, s.side, `SELECT r.n, a.id, a.type, a.url, a.version, p.name || '#' || p.version
FROM definition.revision r LEFT JOIN (definition.artifact a JOIN definition.package p ON p.id = a.package) ON true`, nil,
		[]any{&revision, &id, &typ, &url, &version, &name}, func() error {
			if id != nil {
				out = append(out, definition.Entry{ID: *id, Type: fhir.TypeOf(*typ), URL: *url, Version: *version, Package: *name})
			}
			return nil
		})
	return revision, out, failed(err)
}

func (s shelf) Body(ctx context.Context, id int64) (body []byte, err error) {
	err = failed(s.side.QueryRow(ctx, "SELECT body FROM definition.artifact WHERE id = $1", id).Scan(&body))
	return body, err
}
