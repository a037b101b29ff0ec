package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// before is a text that a condition has rewritten: a transaction that is
// repeated starts from what the client sent.
type before struct {
	node *element.Node
	text string
}

func (w *write) rewrite(n *element.Node, text string) {
	if n.Text != text {
		w.original = append(w.original, before{n, n.Text})
		n.Text = text
	}
}

func (w *write) restore() {
	for _, b := range slices.Backward(w.original) {
		b.node.Text = b.text
	}
	w.original = w.original[:0]
}

var (
	errSeveral  = outcome.New(outcome.Precondition, "the condition meets several resources: it must mean one")
	errMoved    = outcome.New(outcome.Precondition, "the resource that met the condition was changed at the same moment: try again")
	errTwice    = outcome.New(outcome.Invalid, "the same resource is changed twice in one transaction: keep one of the two entries")
	errChosenID = outcome.New(outcome.NotSupported, "nothing meets the condition, and this server lets no client choose an id: leave it out")
)

// meet finds what the conditions of the changes mean, now and until this
// transaction ends: conditional changes of one type wait for one another.
func (w *write) meet(ctx context.Context) error {
	if err := w.queue(ctx); err != nil {
		return err
	}
	if err := w.current(ctx); err != nil {
		return err
	}
	renamed := map[fhir.Ref]fhir.Ref{}
	rows := make([]*row, 0, len(w.rows))
	for _, r := range w.rows {
		if r.c.Condition == nil {
			rows = append(rows, r)
			continue
		}
		ids, err := w.s.matchTx(ctx, w.tx, r.c.Condition.Reach, r.c.Condition.Query)
		if err != nil {
			return err
		}
		slices.Sort(ids)
		sent := r.c.Ref
		made, err := w.meant(r, ids)
		if err != nil {
			return err
		}
		if sent.ID != "" && len(made) == 1 && made[0].c.Ref != sent {
			renamed[sent] = made[0].c.Ref
		}
		rows = append(rows, made...)
	}
	w.rows = rows
	seen := map[fhir.Ref]bool{}
	for _, r := range w.rows {
		if r.unchanged {
			continue
		}
		if seen[r.c.Ref] {
			return w.fail(r, errTwice)
		}
		seen[r.c.Ref] = true
	}
	if err := w.existing(ctx); err != nil {
		return err
	}
	return w.follow(ctx, renamed)
}

// queue makes conditional changes of one type wait for one another. Types are
// locked in one order, before any row is.
func (w *write) queue(ctx context.Context) error {
	var types []int16
	for _, r := range w.rows {
		if r.c.Condition != nil {
			types = append(types, r.c.Ref.Type.Code())
		}
	}
	slices.Sort(types)
	for _, t := range slices.Compact(types) {
		if _, err := w.tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", mix(w.tenant(), t, conditionalLock)); err != nil {
			return err
		}
	}
	return nil
}

// current makes sure that the conditions were planned with all labels that there
// are now: whoever was before this change in the queue may have brought new ones.
func (w *write) current(ctx context.Context) error {
	known := -1
	for _, r := range w.rows {
		if r.c.Condition == nil || !r.c.Condition.Reach.Grant().Valid() {
			continue
		}
		if known < 0 {
			if err := w.tx.QueryRow(ctx, "SELECT count(*) FROM record.label_class").Scan(&known); err != nil {
				return err
			}
		}
		for _, t := range r.c.Condition.Query.Types() {
			if r.c.Condition.Reach.Of(t).Known() < known {
				return errors.Join(record.ErrReplan, w.s.refreshClasses(ctx))
			}
		}
	}
	return nil
}

// conditionalLock keeps these locks apart from any others of the database.
const conditionalLock = 0x636f6e646974

// meant turns a change with a condition into changes of resources by id (R4
// http.html: ccreate, cond-update, 3.1.0.7.1, cpatch).
func (w *write) meant(r *row, ids []fhir.ID) ([]*row, error) {
	if len(ids) >= r.c.Condition.Query.Count {
		return nil, w.fail(r, errSeveral)
	}
	switch r.c.Interaction {
	case fhir.Create:
		if len(ids) == 1 {
			r.c.Ref.ID, r.unchanged = ids[0], true
			r.c.Content, r.c.References, r.c.URLs = nil, nil, nil
		}
	case fhir.Update:
		return []*row{r}, w.meantUpdate(r, ids)
	case fhir.Patch:
		if len(ids) != 1 || ids[0] != r.c.Ref.ID {
			return nil, w.fail(r, errMoved)
		}
	case fhir.Delete:
		made := make([]*row, 0, len(ids))
		for _, id := range ids {
			one := *r
			one.c.Ref.ID = id
			made = append(made, &one)
		}
		w.total[r.at] = len(ids)
		return made, nil
	}
	return []*row{r}, nil
}

func (w *write) meantUpdate(r *row, ids []fhir.ID) error {
	chosen := r.c.Chosen
	switch {
	case len(ids) == 1 && chosen != "" && chosen != ids[0]:
		return w.fail(r, outcome.New(outcome.Invalid, "the id of the resource in the body is not the id of the resource that meets the condition"))
	case len(ids) == 1:
		r.c.Ref.ID, r.c.Upsert = ids[0], false
	case r.c.IfMatch != 0:
		return w.fail(r, outcome.New(outcome.Precondition, "If-Match names a version, but there is no such resource"))
	case chosen != "" && !r.c.Upsert:
		return w.fail(r, errChosenID)
	case chosen != "":
		r.c.Ref.ID, r.c.Only = chosen, true
	default:
		r.c.Interaction, r.c.Check = fhir.Create, r.c.Insert
		if r.c.Ref.ID == "" {
			r.c.Ref.ID = fhir.ID(record.NewID())
		}
	}
	return nil
}

// existing reads what conditional creates have met.
func (w *write) existing(ctx context.Context) error {
	byType := map[fhir.ResourceType]map[fhir.ID][]*row{}
	for _, r := range w.rows {
		if r.unchanged {
			if byType[r.c.Ref.Type] == nil {
				byType[r.c.Ref.Type] = map[fhir.ID][]*row{}
			}
			byType[r.c.Ref.Type][r.c.Ref.ID] = append(byType[r.c.Ref.Type][r.c.Ref.ID], r)
		}
	}
	for _, byID := range byType {
		var first []*row
		for _, rows := range byID {
			first = append(first, rows[0])
		}
		if err := w.loadGroup(ctx, first, first[0].c.Condition.Reach.Of(first[0].c.Ref.Type), authz.Restriction{}, func(r *row, o *stored) {
			for _, same := range byID[r.c.Ref.ID] {
				same.old = o
			}
		}); err != nil {
			return err
		}
	}
	for _, r := range w.rows {
		if !r.unchanged {
			continue
		}
		if r.old == nil || r.old.deleted {
			return errCollision // it went between the two statements
		}
		r.version, r.updated, r.pk, r.schema, r.labels = r.old.version, r.old.updated.UTC(), r.old.pk, r.old.schema, r.old.labels
	}
	return nil
}

// follow leads the references of the changes to what the conditions mean: those
// to an entry of the same Bundle, and conditional references.
func (w *write) follow(ctx context.Context, renamed map[fhir.Ref]fhir.Ref) error {
	literals := map[string]string{}
	for _, r := range w.rows {
		for _, links := range [][]codec.Link{r.c.References, r.c.URLs} {
			for _, l := range links {
				if ref, ok := codec.LocalRef(l.Node.Text); ok && renamed[ref].Type != "" {
					w.rewrite(l.Node, strings.Replace(l.Node.Text, ref.String(), renamed[ref].String(), 1))
				}
			}
		}
		for _, l := range r.c.References {
			c, ok := r.c.Conditional[l.Node.Text]
			if !ok {
				continue
			}
			literal, known := literals[l.Node.Text]
			if !known {
				ids, err := w.s.matchTx(ctx, w.tx, c.Reach, c.Query)
				if err != nil {
					return err
				}
				if len(ids) == 1 {
					literal = fhir.Ref{Type: c.Query.Type(), ID: ids[0]}.String()
				}
				literals[l.Node.Text] = literal
			}
			if literal == "" {
				return w.fail(r, outcome.At(outcome.Precondition, l.Path, "the conditional reference does not mean exactly one resource"))
			}
			w.rewrite(l.Node, literal)
		}
		if len(renamed) > 0 && r.c.Content != nil {
			if div := r.c.Content.Root.Get("text").Get("div"); div != nil {
				text := div.Text
				for from, to := range renamed {
					text = strings.ReplaceAll(text, `"`+from.String()+`"`, `"`+to.String()+`"`)
				}
				w.rewrite(div, text)
			}
		}
	}
	return nil
}

// stillMet looks again once the rows are locked: a change without a condition
// does not wait in the queue.
func (w *write) stillMet(ctx context.Context) error {
	for _, rows := range w.conditional() {
		c := rows[0].c.Condition
		ids, err := w.s.matchTx(ctx, w.tx, c.Reach, c.Query)
		if err != nil {
			return err
		}
		slices.Sort(ids)
		same := len(ids) == len(rows)
		for i := range ids {
			same = same && ids[i] == rows[i].c.Ref.ID
		}
		if !same {
			return errCollision
		}
	}
	return nil
}

// conditional are the rows that a condition found, by change, in the order of their ids.
func (w *write) conditional() map[int][]*row {
	out := map[int][]*row{}
	for _, r := range w.rows {
		if r.c.Condition != nil && r.c.Interaction != fhir.Create && !r.c.Only {
			out[r.at] = append(out[r.at], r)
		}
	}
	for at, rows := range out {
		if slices.ContainsFunc(rows, func(r *row) bool { return r.old == nil }) {
			delete(out, at) // it is refused for another reason
		}
	}
	return out
}

// versioned gives references to a version that this transaction writes its number.
func (w *write) versioned(r *row) {
	for _, links := range [][]codec.Link{r.c.References, r.c.URLs} {
		for _, l := range links {
			plain, ok := strings.CutSuffix(l.Node.Text, "/_history/"+record.NewVersion)
			if !ok {
				continue
			}
			for _, target := range w.rows {
				if target.c.Ref.String() == plain {
					w.rewrite(l.Node, plain+"/_history/"+target.version.String())
				}
			}
		}
	}
}

// refersTo reports whether the stored version refers to a resource, by whatever element.
func (r *row) refersTo(tenant int32, to fhir.Ref) bool {
	return r.old != nil && slices.Contains(r.old.refs, mix(tenant, 0, search.TargetHash(to)))
}

const textReferred = "other resources that this caller may see refer to this one: change or delete them first"

// referred refuses a delete that would leave references of visible resources
// without their target. Hidden resources do not count, as if they were not there.
func (w *write) referred(ctx context.Context) error {
	for _, r := range w.rows {
		if r.c.Interaction != fhir.Delete || r.unchanged || !r.c.Referrers.Grant().Valid() {
			continue
		}
		for _, schema := range []string{"record", "notes"} {
			if schema == "notes" && len(noteReaders(r.c.Referrers)) == 0 {
				continue
			}
			visible, err := w.referrer(ctx, r, schema)
			if err != nil {
				return err
			}
			if visible {
				return w.fail(r, outcome.New(outcome.Conflict, textReferred))
			}
		}
	}
	return nil
}

// referrer reports whether a row of the schema that the caller may see refers to r.
func (w *write) referrer(ctx context.Context, r *row, schema string) (bool, error) {
	byType := map[int16][]int64{}
	var pk int64
	var t int16
	hash := mix(w.tenant(), 0, search.TargetHash(r.c.Ref))
	if err := forEach(ctx, w.tx, "SELECT r.pk, r.type FROM "+schema+".resource r WHERE r.refs @> ARRAY[$1::bigint] AND NOT r.deleted AND r.tenant = $2",
		[]any{hash, w.tenant()}, []any{&pk, &t}, func() error { byType[t] = append(byType[t], pk); return nil }); err != nil {
		return false, err
	}
	for t, pks := range byType {
		restriction := r.c.Referrers.Of(fhir.TypeOf(t))
		if restriction.Empty() {
			continue
		}
		var q statement
		x := restrict(&q, restriction)
		x.keyed = true
		key := q.arg(pks)
		q.WriteString("SELECT EXISTS (SELECT FROM " + schema + ".resource r WHERE r.pk = ANY (" + key + "::bigint[]) AND " + x.where("r") + ")")
		var found bool
		if err := w.tx.QueryRow(ctx, q.String(), q.args...).Scan(&found); err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// noteReaders are the types of which the reach covers separately kept notes.
func noteReaders(reach authz.Reach) (out []fhir.ResourceType) {
	if !reach.Grant().Valid() {
		return nil
	}
	for _, t := range []fhir.ResourceType{"DocumentReference", "Composition"} {
		if reach.Of(t).Notes() != 0 {
			out = append(out, t)
		}
	}
	return out
}

// needsNotes reports whether a condition looks at notes.
func needsNotes(c vault.Condition) bool {
	for _, t := range c.Query.Types() {
		if c.Reach.Of(t).Notes() != 0 {
			return true
		}
	}
	return false
}
