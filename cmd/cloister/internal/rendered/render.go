package main

import (
	"context"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/vocabulary"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
)

// write makes a file of one resource per line.
func write(name string, resources iter.Seq[*element.Node]) error {
	var out []byte
	for r := range resources {
		out = append(r.AppendJSON(out), '\n')
	}
	return os.WriteFile(name, out, 0o600)
}

// resources are those of the sample clinic, all practices after each other.
func resources(c clinic.Config) iter.Seq[*element.Node] {
	return func(yield func(*element.Node) bool) {
		for b := range clinic.Generate(c) {
			for _, r := range b.Resources {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// definitions are the code systems, value sets and concept maps that Cloister defines.
func definitions() (iter.Seq[*element.Node], error) {
	p, err := vocabulary.Package()
	if err != nil {
		return nil, err
	}
	var out []*element.Node
	for _, a := range p.Artifacts {
		r, err := codec.Parse(a.Body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.URL, err)
		}
		out = append(out, r.Root)
	}
	return slices.Values(out), nil
}

// kinds are the newest events of each kind of access, few of each: what differs between the others is who and when.
const kinds = `
SELECT at, id::text, outcome, interaction, type, subject, client, fhir_user, roles, purpose, policy, entities, patients, sessions
FROM (SELECT *, row_number() OVER (PARTITION BY interaction, outcome, roles, client, cardinality(entities) > 0 ORDER BY at DESC) AS n FROM audit.event) e
WHERE n <= 3 ORDER BY at, id`

// events renders access records as AuditEvents.
func events(ctx context.Context, database string) (iter.Seq[*element.Node], error) {
	c, err := pgx.Connect(ctx, database)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close(ctx) }() // only read
	rows, err := c.Query(ctx, kinds)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, event)
	if err != nil {
		return nil, err
	}
	out := make([]*element.Node, len(found))
	for i, e := range found {
		out[i] = audit.Render(e)
	}
	return slices.Values(out), nil
}

func event(row pgx.CollectableRow) (audit.Event, error) {
	var (
		e                  audit.Event
		user               string
		entities, patients []string
		sessions           []string
	)
	c := &e.Caller
	if err := row.Scan(&e.At, &e.ID, &e.Outcome, &e.Interaction, &e.Type, &c.Subject, &c.Client, &user, &c.Roles, &c.Purpose, &c.PolicyVersion, &entities, &patients, &sessions); err != nil {
		return e, err
	}
	c.User, _ = fhir.ParseRef(user)
	for i, text := range entities {
		name, version, _ := strings.Cut(text, "/_history/")
		ref, ok := fhir.ParseRef(name)
		v, valid := fhir.ParseVersionID(version)
		if !ok || !valid {
			return e, fmt.Errorf("the event %s has the entity %q", e.ID, text)
		}
		x := audit.Entity{Ref: ref, Version: v, Patient: fhir.ID(patients[i])}
		if i < len(sessions) {
			x.Session = sessions[i]
		}
		e.Entities = append(e.Entities, x)
	}
	if len(entities) == 0 {
		e.Acts = sessions
	}
	return e, nil
}
