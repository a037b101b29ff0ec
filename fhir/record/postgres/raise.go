package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/record/redact"
	"github.com/cloister-health/cloister/fhir/search"
)

// referrer is a row that refers to what has become more protected.
type referrer struct {
	schema     string
	pk         int64
	ref        fhir.Ref
	p          protection
	flows      protection
	separate   bool // flows are its own columns: it is one of several views
	refs       []int64
	family     int64
	view       int16
	version    fhir.VersionID
	updated    time.Time
	originator *string
	posted     bool
	body       *element.Node // where it may have mentions
}

// raise lifts the referrers of front in one schema, but for those in skip, and adds those that grew to next.
func (w *write) raise(ctx context.Context, schema string, front, next map[fhir.Ref]protection, skip []int64) error {
	byHash := make(map[int64]protection, len(front))
	hashes := make([]int64, 0, len(front))
	for ref, p := range front {
		h := w.targetIndex(ref)
		byHash[h] = p
		hashes = append(hashes, h)
	}
	rises := func(p protection, refs []int64) bool {
		return slices.ContainsFunc(refs, func(h int64) bool { return !p.covers(byHash[h]) })
	}
	rows, err := w.referrers(ctx, schema, hashes, skip, rises)
	if err != nil {
		return err
	}
	// What the view that says least has come to say is that of them all: it is last.
	slices.SortStableFunc(rows, func(a, b *referrer) int { return cmp.Compare(b.view, a.view) })
	for _, r := range rows {
		if err := w.lift(ctx, r, byHash, next); err != nil {
			return err
		}
	}
	return nil
}

// referrers finds and locks what refers to any of hashes, and reads what rises by it.
func (w *write) referrers(ctx context.Context, schema string, hashes, skip []int64, rises func(p protection, refs []int64) bool) (out []*referrer, err error) {
	var mentioning []int16
	for _, t := range redact.Types() {
		mentioning = append(mentioning, t.Code())
	}
	skip = slices.Clone(skip)
	// Another transaction may have made views of a row for which this one waited:
	// they are looked for once the row is locked.
	for {
		// One probe of the index per hash (which is the practice's own, see mix), and
		// then the rows by number: for one condition over many hashes the planner reads
		// the whole practice.
		var pks []int64
		var pk int64
		if err := forEach(ctx, w.tx, "SELECT x.pk FROM unnest($1::bigint[]) AS f(hash), LATERAL (SELECT r.pk FROM "+schema+
			".resource r WHERE r.refs @> ARRAY[f.hash] AND r.pk <> ALL ($2::bigint[]) OFFSET 0) AS x", []any{hashes, skip}, []any{&pk}, func() error { pks = append(pks, pk); return nil }); err != nil || len(pks) == 0 {
			return out, err
		}
		slices.Sort(pks)
		pks = slices.Compact(pks)
		skip = append(skip, pks...)
		var t, class int16
		var flow *int16
		var body []byte
		var r referrer
		lock := "SELECT pk, type, id, label_class, programs, flow_class, flow_programs, refs, COALESCE(family, 0), view, version, updated, originator, posted, CASE WHEN type = ANY ($3::smallint[]) THEN body END FROM " +
			schema + ".resource WHERE tenant = $1 AND pk = ANY ($2::bigint[]) ORDER BY pk FOR UPDATE"
		if err := forEach(ctx, w.tx, lock, []any{w.tenant(), pks, mentioning},
			[]any{&r.pk, &t, &r.ref.ID, &class, &r.p.programs, &flow, &r.flows.programs, &r.refs, &r.family, &r.view, &r.version, &r.updated, &r.originator, &r.posted, &body}, func() (err error) {
				x := r
				x.schema, x.ref.Type = schema, fhir.TypeOf(t)
				if x.p.labels, err = w.s.labels(ctx, class); err != nil {
					return err
				}
				if x.separate = flow != nil; !x.separate {
					x.flows = x.p
				} else if x.flows.labels, err = w.s.labels(ctx, *flow); err != nil {
					return err
				}
				if schema == "record" && (x.separate || rises(x.p, x.refs)) {
					x.body, err = tree(body)
				}
				out = append(out, &x)
				return err
			}); err != nil {
			return nil, err
		}
	}
}

// lift carries grown protections to one row. Where it refers to them as part of
// what it is, it rises. Where it only mentions them, it rises, too, and leaves
// behind views that do not.
func (w *write) lift(ctx context.Context, r *referrer, byHash map[int64]protection, next map[fhir.Ref]protection) error {
	outside, mentions := r.reached(w, byHash)
	lift := outside
	var apart []protection
	rooted := r.body != nil && redact.Rooted(r.body)
	for _, m := range mentions {
		switch base := r.p.join(lift); {
		case base.covers(m):
		case base.apart(m, rooted):
			apart = append(apart, m)
		default:
			lift = lift.join(m)
		}
	}
	base, flows := r.p.join(lift), r.flows.join(outside)
	if r.view <= 1 {
		flows = r.flows.join(lift)
	}
	if !flows.equal(r.flows) {
		p := next[r.ref].join(flows)
		next[r.ref] = protection{p.labels &^ label.Notes, p.programs}
	}
	levels := subsets(base, groupsOf(base, apart, maxGroups))
	top := levels[len(levels)-1]
	if top.equal(r.p) && flows.equal(r.flows) {
		return nil
	}
	class, err := w.s.class(ctx, top.labels)
	if err != nil {
		return err
	}
	if _, err := w.tx.Exec(ctx, "UPDATE "+r.schema+".resource SET label_class = $2, programs = $3 WHERE pk = $1", r.pk, class, top.programs); err != nil {
		return err
	}
	if r.separate {
		flow, err := w.s.class(ctx, flows.labels)
		if err != nil {
			return err
		}
		if _, err := w.tx.Exec(ctx, "UPDATE "+r.schema+".resource SET flow_class = $3, flow_programs = $4 WHERE tenant = $1 AND family = $2", w.tenant(), r.family, flow, flows.programs); err != nil {
			return err
		}
	}
	if len(levels) == 1 {
		return nil
	}
	r.p = top
	return w.leave(ctx, r, levels[:len(levels)-1], flows, byHash)
}

// reached says what flows to a row from byHash: as a whole, and to each of its mentions.
func (r *referrer) reached(w *write, byHash map[int64]protection) (outside protection, mentions []protection) {
	mentioned := map[int64]bool{}
	if r.body != nil {
		mentions, mentioned = touched(w, r.ref.Type, r.body, byHash)
	}
	for _, h := range r.refs {
		if p, ok := byHash[h]; ok && !mentioned[h] {
			outside = outside.join(p)
		}
	}
	return outside, mentions
}

// touched is what flows from byHash to each mention of a body, and what the
// body refers to in mentions alone.
func touched(w *write, t fhir.ResourceType, root *element.Node, byHash map[int64]protection) ([]protection, map[int64]bool) {
	items := redact.Items(t, root)
	out, mentioned := make([]protection, len(items)), map[int64]bool{}
	hashes := func(root *element.Node, each func(h int64)) {
		r := codec.Resource{Type: t, Root: root}
		for _, l := range append(parse(r.References(), true, true), parse(r.URLs(), false, false)...) {
			if h := w.targetIndex(l.to); byHash[h].weight() > 0 {
				each(h)
			}
		}
	}
	for i, x := range items {
		hashes(x.Alone(t), func(h int64) {
			out[i] = out[i].join(byHash[h])
			mentioned[h] = true
		})
	}
	if len(mentioned) > 0 {
		hashes(redact.Rest(t, root), func(h int64) { delete(mentioned, h) })
	}
	return out, mentioned
}

// leave makes views of r with these protections, lower ones first, whose past
// knows nothing of what they leave out either.
func (w *write) leave(ctx context.Context, r *referrer, levels []protection, flows protection, byHash map[int64]protection) error {
	family, members := r.family, []member{}
	if family == 0 {
		family = r.pk
		members = append(members, member{pk: r.pk})
	} else {
		kin, err := w.family(ctx, family)
		if err != nil {
			return err
		}
		for _, o := range kin {
			members = append(members, member{o.pk, o.view, o.protection()})
		}
	}
	for i := range members {
		if members[i].pk == r.pk { // it has just risen
			members[i].p = r.p
		}
	}
	if len(members)+len(levels) > maxViews {
		if r.view > 1 {
			return nil
		}
		levels = levels[:1]
	}
	var shadow int16
	if err := w.tx.QueryRow(ctx, "SELECT max(shadow) FROM record.resource WHERE tenant = $1 AND type = $2 AND id = $3", w.tenant(), r.ref.Type.Code(), string(r.ref.ID)).Scan(&shadow); err != nil {
		return err
	}
	var made []*row
	for _, p := range levels {
		if slices.ContainsFunc(members, func(m member) bool { return m.pk != r.pk && p.equal(m.p) }) {
			continue
		}
		pk, err := w.s.nextPK(ctx)
		if err != nil {
			return err
		}
		shadow++
		x := &row{schema: "record", pk: pk, shadow: shadow, version: r.version, updated: r.updated, labels: p.labels, programs: p.programs, posted: r.posted, from: r.pk}
		if r.originator != nil {
			x.originator = *r.originator
		}
		x.c = vault.Clearance{Ref: r.ref, Content: &codec.Resource{Type: r.ref.Type, Root: w.without(r.ref.Type, r.body, p, byHash)}}
		x.body = x.c.Content.Root.AppendJSON(nil)
		if x.class, err = w.s.class(ctx, x.labels); err != nil {
			return err
		}
		w.extract(ctx, x)
		made = append(made, x)
		members = append(members, member{pk: pk, p: p})
	}
	if len(made) == 0 {
		return nil
	}
	if err := w.exec(ctx, "INSERT INTO record"+insertRowsSQL, made); err != nil {
		return err
	}
	if err := w.indexRows(ctx, "record", made); err != nil {
		return err
	}
	for _, x := range made {
		if err := w.pastWithout(ctx, r, x, byHash); err != nil {
			return err
		}
	}
	return w.rank(ctx, family, members, flows)
}

// without is what a view of protection p shows of a body of which some mentions have become more protected.
func (w *write) without(t fhir.ResourceType, root *element.Node, p protection, byHash map[int64]protection) *element.Node {
	mentions, _ := touched(w, t, root, byHash)
	return redact.View(t, root, func(i int) bool { return p.covers(mentions[i]) }, nil)
}

// pastWithout gives a view the past of the row that it was left behind by, without what it leaves out.
func (w *write) pastWithout(ctx context.Context, r *referrer, x *row, byHash map[int64]protection) error {
	var version int32
	var body []byte
	var versions []int32
	var bodies, tokens []string
	p := protection{x.labels, x.programs}
	if err := forEach(ctx, w.tx, "SELECT version, body FROM record.resource_history WHERE tenant = $1 AND pk = $2 AND NOT deleted", []any{w.tenant(), r.pk}, []any{&version, &body}, func() error {
		root, err := tree(body)
		if err != nil {
			return err
		}
		root = w.without(r.ref.Type, root, p, byHash)
		versions, bodies = append(versions, version), append(bodies, string(root.AppendJSON(nil)))
		tokens = append(tokens, intArray(w.mixed(r.ref.Type.Code(), search.Extract(r.ref.Type, root).Tokens)))
		return nil
	}); err != nil {
		return err
	}
	_, err := w.tx.Exec(ctx, `INSERT INTO record.resource_history (tenant, type, id, pk, version, updated, deleted, label_class, patient, co_patients, programs, originator, body, posted, tokens)
SELECT h.tenant, h.type, h.id, $3, h.version, h.updated, h.deleted, h.label_class, h.patient, h.co_patients, h.programs, h.originator, n.body, h.posted, n.tokens::bigint[]
FROM record.resource_history h LEFT JOIN unnest($4::integer[], $5::text[]::jsonb[], $6::text[]) AS n(version, body, tokens) ON n.version = h.version WHERE h.tenant = $1 AND h.pk = $2`,
		w.tenant(), r.pk, x.pk, versions, bodies, tokens)
	return err
}
