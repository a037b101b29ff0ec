package postgres

import (
	"cmp"
	"context"
	"math/bits"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record/redact"
	"github.com/cloister-health/cloister/fhir/search"
)

// A resource that mentions what is more protected than itself is kept in several
// views. Each is a row of its own with a protection, a body that holds of the
// mentions those that this protection covers, and the index of that body. So every
// query finds, sorts, counts and includes what the caller sees of it, and nothing
// else; and of a resource that her twin database holds in fewer views she sees the
// same. What a view says least is what the resource says to whoever refers to it.

const (
	// maxGroups is up to how many different protections of mentions are told apart.
	maxGroups = 3
	// maxViews is up to how many views are made of one resource; further
	// protections are then told from the rest as one.
	maxViews = 1 << maxGroups
)

// ordinary is what a record of behavioral health is about: a mention of it is not
// told apart, but protects the record as a whole.
const ordinary = label.PSY | label.MH | label.BH

// mention is an item of new content that a view may leave out.
type mention struct {
	protection
	links []link
}

// covers reports whether p protects at least as much as q.
func (p protection) covers(q protection) bool {
	return p.labels.Has(q.labels) && !slices.ContainsFunc(q.programs, func(x string) bool { return !slices.Contains(p.programs, x) })
}

// apart reports whether a mention with protection q is to be told from a record
// with protection p, which says (rooted) where it comes from itself. Care to which
// a minor consented alone makes a record of that care of all that it is the reason for.
func (p protection) apart(q protection, rooted bool) bool {
	q.labels &^= ordinary
	if p.covers(q) {
		return false
	}
	return !(q.labels &^ p.labels).Any(label.MinorConsented) && (rooted || p.labels.Has(q.labels&label.Part2) && protection{programs: p.programs}.covers(protection{programs: q.programs}))
}

// weight orders protections: whatever covers another one and is not equal weighs more.
func (p protection) weight() int { return bits.OnesCount32(uint32(p.labels)) + len(p.programs) }

func (r *row) classify(t fhir.ResourceType, root *element.Node) label.Set {
	rules := r.c.Rules
	if rules == nil {
		rules = label.Default()
	}
	return rules.Classify(label.Content{Type: t, Codings: (&codec.Resource{Type: t, Root: root}).Codings()})
}

// parts tells what the content says of itself from what it mentions.
func (r *row) parts(links []link) (own label.Set, outside []link, mentions []mention) {
	own = r.c.Labels
	if r.c.Content == nil || own.Any(label.Notes) {
		return own, links, nil
	}
	t, root := r.c.Ref.Type, r.c.Content.Root
	items := redact.Items(t, root)
	if len(items) == 0 {
		return own, links, nil
	}
	mentions = make([]mention, len(items))
	r.rooted = redact.Rooted(root)
	of := map[*element.Node]int{}
	for i, x := range items {
		x.Node.Walk(func(_ string, n *element.Node) bool { of[n] = i; return true })
	}
	for _, l := range links {
		if i, ok := of[l.node]; ok {
			mentions[i].links = append(mentions[i].links, l)
		} else {
			outside = append(outside, l)
		}
	}
	if own&^ordinary == 0 {
		return own, outside, mentions
	}
	all := own
	own = r.classify(t, redact.Rest(t, root))
	said := own
	for i, x := range items {
		mentions[i].labels = r.classify(t, x.Alone(t))
		said |= mentions[i].labels
	}
	return own | all&^said, outside, mentions
}

// kinfolk locks the other views of the resources that change.
func (w *write) kinfolk(ctx context.Context) error {
	for _, r := range w.rows {
		if r.unchanged || r.old == nil || r.old.family == 0 {
			continue
		}
		var err error
		if r.kin, err = w.family(ctx, r.old.family); err != nil {
			return err
		}
		if i := slices.IndexFunc(r.kin, func(o *stored) bool { return o.pk == r.old.pk }); i >= 0 {
			r.old.body = r.kin[i].body
			r.kin[i] = r.old
		}
	}
	return nil
}

// family reads and locks the views of a resource, those that say least first.
func (w *write) family(ctx context.Context, family int64) ([]*stored, error) {
	var out []*stored
	var o stored
	var class int16
	var body []byte
	err := forEach(ctx, w.tx, "SELECT pk, shadow, version, updated, deleted, label_class, programs, originator, refs, view, body FROM record.resource WHERE tenant = $1 AND family = $2 ORDER BY view, pk FOR UPDATE",
		[]any{w.tenant(), family}, []any{&o.pk, &o.shadow, &o.version, &o.updated, &o.deleted, &class, &o.programs, &o.originator, &o.refs, &o.view, &body}, func() (err error) {
			x := o
			x.schema, x.family = "record", family
			if x.labels, err = w.s.labels(ctx, class); err != nil {
				return err
			}
			x.body, err = tree(body)
			out = append(out, &x)
			return err
		})
	return out, err
}

func tree(body []byte) (*element.Node, error) {
	if body == nil {
		return nil, nil
	}
	return codec.ReadJSON(body, codec.DefaultLimits)
}

// groupsOf are the different protections of mentions that base does not cover, at most so many.
func groupsOf(base protection, mentions []protection, most int) []protection {
	var out []protection
	all := base
	for _, m := range mentions {
		if base.covers(m) {
			continue
		}
		m = m.join(base)
		all = all.join(m)
		if !slices.ContainsFunc(out, m.equal) {
			out = append(out, m)
		}
	}
	if len(out) > most {
		return []protection{all}
	}
	return out
}

// subsets joins base with each set of groups, smaller ones first; the first is base itself.
func subsets(base protection, groups []protection) []protection {
	out := make([]protection, 0, 1<<len(groups))
	for set := range 1 << len(groups) {
		p := base
		for i, g := range groups {
			if set&(1<<i) != 0 {
				p = p.join(g)
			}
		}
		if !slices.ContainsFunc(out, p.equal) {
			out = append(out, p)
		}
	}
	return out
}

// views decides which views of each resource the change writes, and makes their rows.
func (w *write) views(ctx context.Context) error {
	for _, r := range w.rows {
		switch {
		case r.unchanged || r.schema != "record":
		case r.c.Content == nil:
			for _, o := range r.kin {
				if o != r.old && !o.deleted && r.old.protection().covers(o.protection()) {
					r.views = append(r.views, r.sibling(o))
				}
			}
		default:
			if err := w.divide(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *stored) protection() protection { return protection{o.labels, o.programs} }

// sibling is the row of another view of the same resource, which changes with r.
func (r *row) sibling(o *stored) *row {
	x := &row{further: true, at: r.at, c: r.c, schema: r.schema, old: o, updated: r.updated, flows: r.flows}
	x.pk, x.shadow, x.version, x.labels, x.programs = o.pk, o.shadow, o.version+1, o.labels, o.programs
	if !x.updated.After(o.updated) {
		x.updated = o.updated.UTC().Add(time.Millisecond)
	}
	if o.originator != nil {
		x.originator = *o.originator
	}
	return x
}

func (w *write) divide(ctx context.Context, r *row) error {
	said := make([]protection, len(r.mentions))
	for i, m := range r.mentions {
		said[i] = m.protection
	}
	groups := groupsOf(r.flows, said, maxGroups)
	if len(groups) == 0 && r.kin == nil {
		return nil
	}
	all := []*row{r}
	for _, o := range r.kin {
		// What was deleted in one view only lives on in the others, and is left alone there.
		if o == r.old || o.deleted != r.old.deleted {
			continue
		}
		x := r.sibling(o)
		x.hidden = o
		p := r.flows.join(o.protection())
		x.labels, x.programs = p.labels, p.programs
		all = append(all, x)
	}
	if len(all)<<len(groups) > maxViews && len(groups) > 1 {
		groups = groupsOf(r.flows, said, 0)
	}
	if r.old != nil && r.kin == nil {
		var body []byte
		if err := w.tx.QueryRow(ctx, "SELECT body FROM record.resource WHERE pk = $1", r.old.pk).Scan(&body); err != nil {
			return err
		}
		var err error
		if r.old.body, err = tree(body); err != nil {
			return err
		}
	}
	for _, from := range slices.Clone(all) {
		levels := subsets(protection{from.labels, from.programs}, groups)
		if len(all) >= maxViews && from != r {
			continue
		}
		for _, p := range levels[1:] {
			if slices.ContainsFunc(all, func(x *row) bool { return p.equal(protection{x.labels, x.programs}) }) {
				continue
			}
			pk, err := w.s.nextPK(ctx)
			if err != nil {
				return err
			}
			x := &row{further: true, at: r.at, c: r.c, schema: r.schema, pk: pk, version: r.version, updated: r.updated, labels: p.labels, programs: p.programs, flows: r.flows, originator: r.originator}
			x.posted = r.posted && r.old == nil
			if from.old != nil {
				x.from, x.hidden = from.pk, from.hidden
			}
			all = append(all, x)
		}
	}
	whole := protection{r.labels, r.programs}
	for _, g := range groups {
		whole = whole.join(g)
	}
	for _, x := range all {
		if whole.equal(protection{x.labels, x.programs}) {
			r.whole = x
			break
		}
	}
	r.views = all[1:]
	r.root = r.c.Content.Root
	return nil
}

// seen is the row that holds the whole of what the caller has written.
func (r *row) seen() *row {
	if r.whole != nil {
		return r.whole
	}
	return r
}

// fill gives each view its content.
func (r *row) fill() {
	if r.root == nil {
		return
	}
	t := r.c.Ref.Type
	var before *element.Node
	if r.old != nil {
		before = r.old.body
	}
	for _, x := range append([]*row{r}, r.views...) {
		covered := protection{x.labels, x.programs}
		was := before
		if x.hidden != nil {
			was = x.hidden.body
		}
		root := redact.View(t, r.root, func(i int) bool { return covered.covers(r.mentions[i].protection) }, was)
		if x.hidden != nil && x.hidden.body != nil && before != nil && !r.old.protection().covers(x.hidden.protection()) {
			redact.Merge(t, root, x.hidden.body, before)
		}
		x.c.Content = &codec.Resource{Type: t, Root: root}
	}
}

// all are the rows of a transaction, the other views of its resources among them.
func (w *write) all() []*row {
	out := w.rows
	for _, r := range w.rows {
		if len(r.views) > 0 {
			out = append(slices.Clip(out), r.views...)
		}
	}
	return out
}

// shadeViews gives new views numbers behind those of all rows of the same id.
func (w *write) shadeViews(ctx context.Context) error {
	for _, r := range w.rows {
		next := int16(-1)
		for _, x := range r.views {
			if x.old != nil {
				continue
			}
			if next < 0 {
				if err := w.tx.QueryRow(ctx, "SELECT GREATEST(max(shadow), $4) + 1 FROM record.resource WHERE tenant = $1 AND type = $2 AND id = $3",
					w.tenant(), r.c.Ref.Type.Code(), string(r.c.Ref.ID), r.shadow).Scan(&next); err != nil {
					return err
				}
			}
			x.shadow = next
			next++
		}
	}
	return nil
}

// past gives new views the superseded versions of the view that they come from.
func (w *write) past(ctx context.Context) error {
	var to, from []int64
	for _, r := range w.rows {
		for _, x := range r.views {
			if x.from != 0 {
				to, from = append(to, x.pk), append(from, x.from)
			}
		}
	}
	if to == nil {
		return nil
	}
	_, err := w.tx.Exec(ctx, `INSERT INTO record.resource_history (tenant, type, id, pk, version, updated, deleted, label_class, patient, co_patients, programs, originator, body, posted, tokens)
SELECT h.tenant, h.type, h.id, n.pk, h.version, h.updated, h.deleted, h.label_class, h.patient, h.co_patients, h.programs, h.originator, h.body, h.posted, h.tokens
FROM unnest($2::bigint[], $3::bigint[]) AS n(pk, was) JOIN record.resource_history h ON h.tenant = $1 AND h.pk = n.was`, w.tenant(), to, from)
	return err
}

// member is a view as [write.rank] orders them.
type member struct {
	pk   int64
	view int16 // as it was; 0 is new
	p    protection
}

// kinship writes which rows are views of one resource, and in which order.
func (w *write) kinship(ctx context.Context) error {
	for _, r := range w.rows {
		if r.unchanged || len(r.views) == 0 && r.kin == nil {
			continue
		}
		family := r.pk
		members := []member{}
		if r.old != nil && r.old.family != 0 {
			family = r.old.family
		}
		for _, x := range append([]*row{r}, r.views...) {
			m := member{pk: x.pk, p: protection{x.labels, x.programs}}
			if x.old != nil {
				m.view = x.old.view
			}
			members = append(members, m)
		}
		for _, o := range r.kin {
			if !slices.ContainsFunc(members, func(m member) bool { return m.pk == o.pk }) {
				members = append(members, member{o.pk, o.view, o.protection()})
			}
		}
		if err := w.rank(ctx, family, members, r.flows); err != nil {
			return err
		}
	}
	return nil
}

func (w *write) rank(ctx context.Context, family int64, members []member, flows protection) error {
	slices.SortFunc(members, func(a, b member) int {
		return cmp.Or(cmp.Compare(a.p.weight(), b.p.weight()), cmp.Compare(a.view, b.view), cmp.Compare(a.pk, b.pk))
	})
	pks := make([]int64, len(members))
	for i, m := range members {
		pks[i] = m.pk
	}
	class, err := w.s.class(ctx, flows.labels)
	if err != nil {
		return err
	}
	_, err = w.tx.Exec(ctx, `UPDATE record.resource r SET family = $3, view = n.view, flow_class = $4, flow_programs = $5
FROM unnest($2::bigint[]) WITH ORDINALITY AS n(pk, view) WHERE r.pk = n.pk AND r.tenant = $1`, w.tenant(), pks, family, class, flows.programs)
	return err
}

// underlying finds what resources say least of themselves, whether or not the
// caller sees them: a mention that she leaves as it was keeps its protection.
func (w *write) underlying(ctx context.Context, refs map[fhir.Ref]bool) (map[fhir.Ref]protection, error) {
	out := map[fhir.Ref]protection{}
	if len(refs) == 0 {
		return out, nil
	}
	var types []int16
	var ids []string
	for ref := range refs {
		types, ids = append(types, ref.Type.Code()), append(ids, string(ref.ID))
	}
	var t, class int16
	var id string
	var programs []string
	err := forEach(ctx, w.tx, "SELECT r.type, r.id, "+flowColumns("r")+" FROM unnest($2::smallint[], $3::text[]) AS n(type, id), LATERAL (SELECT * FROM record.resource r WHERE r.tenant = $1 AND r.type = n.type AND r.id = n.id OFFSET 0) AS r",
		[]any{w.tenant(), types, ids}, []any{&t, &id, &class, &programs}, func() error {
			labels, err := w.s.labels(ctx, class)
			if err != nil {
				return err
			}
			ref := fhir.Ref{Type: fhir.TypeOf(t), ID: fhir.ID(id)}
			out[ref] = out[ref].join(protection{labels, programs})
			return nil
		})
	return out, err
}

// flowColumns are what a row says of itself to whoever refers to it: class and programs.
func flowColumns(alias string) string {
	return "COALESCE(" + alias + ".flow_class, " + alias + ".label_class) AS label_class, CASE WHEN " + alias + ".flow_class IS NULL THEN " + alias + ".programs ELSE " + alias + ".flow_programs END AS programs"
}

// targetIndex is how the column refs holds a reference, whatever the parameter.
func (w *write) targetIndex(to fhir.Ref) int64 { return mix(w.tenant(), 0, search.TargetHash(to)) }
