package postgres

import (
	"context"
	"slices"

	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/search"
)

// consentRows are the provisions of Consents on their way into the database.
type consentRows struct {
	rows [][]any
	// instances are the resources of which a provision means what they refer to.
	instances []fhir.Ref
}

var grantColumns = []string{"tenant", "patient", "source", "consent", "node", "ancestors", "about", "permits", "sure", "starts", "ends", "programs", "recipients", "purposes",
	"types", "documents", "label_any", "label_within", "codes", "data_starts", "data_ends", "by_data", "instances", "related", "dependents", "authors", "authored"}

// consent adds what a Consent permits and forbids, the signatures of which are what attested says. What
// cannot be read is none.
func (t *consentRows) consent(tenant int32, r *row, attested consent.Attested) {
	d, err := codec.ConsentDirective(r.c.Content)
	if err != nil {
		return
	}
	d.Attested = attested
	for _, g := range consent.Compile(d, record.Labels).Grants {
		hashes := func(codes []consent.Code) []int64 {
			return all(codes, func(c consent.Code) int64 { return codeHash(tenant, c.System, c.Code) })
		}
		var instances, related, dependents, authored []int64
		var authors []string
		for _, x := range g.Data {
			h := mix(tenant, 0, search.TargetHash(x.Reference))
			switch x.Meaning {
			case "authoredby":
				authors, authored = append(authors, x.Reference.String()), append(authored, h)
				continue
			case "related":
				related = append(related, h)
				t.instances = append(t.instances, x.Reference)
			case "dependents":
				dependents = append(dependents, h)
			}
			instances = append(instances, h)
		}
		t.rows = append(t.rows, []any{
			tenant, string(g.Patient), r.pk, string(r.c.Ref.ID), g.Node, append([]int16{}, g.Ancestors...), int16(g.About), g.Effect == consent.Permit, g.Sure,
			moment(g.Period.Start), moment(g.Period.End), all(g.Programs, func(p fhir.ID) string { return string(p) }), orNull(g.Recipients), orNull(g.Purposes),
			all(g.Types, fhir.ResourceType.Code), hashes(g.Documents), int32(g.Labels.Any), int32(g.Labels.Within), hashes(g.Codes),
			moment(g.DataPeriod.Start), moment(g.DataPeriod.End), len(g.Data) > 0, instances, related, dependents, authors, authored,
		})
	}
}

// all is a column of what list holds; NULL for nothing.
func all[T, U any](list []T, of func(T) U) []U {
	if len(list) == 0 {
		return nil
	}
	out := make([]U, len(list))
	for i, x := range list {
		out[i] = of(x)
	}
	return out
}

func orNull[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

func (t *consentRows) insert(ctx context.Context, w *write) error {
	return w.copy(ctx, "record", "consent_grant", grantColumns, t.rows)
}

// codeHash is what the column codes holds for a coding.
func codeHash(tenant int32, system, code string) int64 {
	return mix(tenant, 0, search.CodingHash(system, code))
}

// codes are all codings of a resource, each once. A coding without a system is none.
func (w *write) codes(r *row) *string {
	var out []int64
	for system, code := range r.c.Content.Codings() {
		if system == "" {
			continue
		}
		out = append(out, codeHash(w.tenant(), system, code))
	}
	slices.Sort(out)
	return text(intArray(slices.Compact(out)))
}

// related keeps what resources refer to of which a provision says so: those that
// the provisions of this transaction mean, and those of its own that earlier ones mean.
func (w *write) related(ctx context.Context, t consentRows) error {
	instances := map[int64]bool{}
	for _, r := range t.instances {
		instances[mix(w.tenant(), 0, search.TargetHash(r))] = true
	}
	selves := make([]int64, 0, len(w.rows))
	for _, r := range w.rows {
		selves = append(selves, mix(w.tenant(), 0, search.TargetHash(r.c.Ref)))
	}
	var h int64
	if err := forEach(ctx, w.tx, "SELECT DISTINCT i.h FROM record.consent_grant g, unnest(g.related) AS i(h) WHERE g.tenant = $1 AND g.related IS NOT NULL AND i.h = ANY ($2::bigint[])",
		[]any{w.tenant(), selves}, []any{&h}, func() error { instances[h] = true; return nil }); err != nil {
		return err
	}
	if len(instances) == 0 {
		return nil
	}
	list := make([]int64, 0, len(instances))
	for h := range instances {
		list = append(list, h)
	}
	slices.Sort(list)
	// Whoever writes such a resource at the same moment comes after this transaction, or before it.
	if _, err := w.tx.Exec(ctx, "SELECT pk FROM record.resource WHERE self = ANY ($1::bigint[]) AND NOT deleted ORDER BY pk FOR SHARE", list); err != nil {
		return err
	}
	if _, err := w.tx.Exec(ctx, "DELETE FROM record.consent_related WHERE tenant = $1 AND instance = ANY ($2::bigint[])", w.tenant(), list); err != nil {
		return err
	}
	_, err := w.tx.Exec(ctx, "INSERT INTO record.consent_related (tenant, instance, target) SELECT DISTINCT $1::integer, r.self, t.h FROM record.resource r, unnest(r.refs) AS t(h) "+
		"WHERE r.self = ANY ($2::bigint[]) AND NOT r.deleted ON CONFLICT DO NOTHING", w.tenant(), list)
	return err
}
