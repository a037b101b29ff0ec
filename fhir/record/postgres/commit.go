package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/audit"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/compartment"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/outcome"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/internal/vault"
	"github.com/cloister-health/cloister/fhir/search"
)

// row is one change on its way into the database.
type row struct {
	at     int // position in the changes
	c      vault.Clearance
	schema string
	old    *stored // the row as it was, or nil

	pk         int64
	shadow     int16
	version    fhir.VersionID
	updated    time.Time
	labels     label.Set
	class      int16
	programs   []string
	patients   []fhir.ID
	originator string
	index      search.Index
	body       []byte // nil for a tombstone
	refused    bool   // the caller may see the row, but not change it
	unchanged  bool   // a delete of what is deleted already, or a create whose condition something meets
	same       bool   // an update that would change nothing of what its caller sees
	missing    []record.Missing
	posted     bool // a create, whose id the server chose

	flows    protection // what flows to whoever refers to it
	mentions []mention
	rooted   bool      // the content says where it comes from
	kin      []*stored // all views that there were, where there were several
	views    []*row    // the other views that the change writes
	whole    *row      // the one among them that holds all that is written; nil: this one
	root     *element.Node
	further  bool    // it is one of those
	from     int64   // a new view: pk of the one whose past it has
	hidden   *stored // of a view that is not the caller's: as it was
}

// stored is what the write path knows of an existing row. It holds the body only
// where there are several views.
type stored struct {
	schema     string
	pk         int64
	shadow     int16
	version    fhir.VersionID
	updated    time.Time
	deleted    bool
	labels     label.Set
	programs   []string
	originator *string
	refs       []int64 // what it refers to, as the index has it
	family     int64   // what its views share; 0: it is the only one
	view       int16
	flows      protection
	body       *element.Node
	patients   []fhir.ID
}

// write is one transaction.
type write struct {
	s     *Store
	tx    pgx.Tx
	grant authz.Grant
	rows  []*row
	notes bool // the transaction runs under the role that reaches notes
	also
	total    []int    // by change: how many rows a condition made of it; -1 without one
	original []before // what conditions have rewritten in the content
	practice int32
	registry *search.Registry // by which the rows are indexed
	// redefined says that the transaction changes what the practice searches by.
	redefined bool
}

// also is what a commit stores beside the resources, and how it is carried out.
type also struct {
	digest    []byte
	once      *record.Once
	emergency *declaration
	intake    *intaking
}

var (
	errCollision  = errors.New("postgres: an id was taken in between")
	errNeedsNotes = errors.New("postgres: the change reaches notes")
)

// Commit writes all changes or none: version rows, current rows, index rows,
// labels, relations, consents and the audit event, in one transaction. A
// [record.ChangeError] names the change that failed.
func (s *Store) Commit(ctx context.Context, cleared []record.Cleared) ([]record.Receipt, error) {
	return s.commit(ctx, cleared, also{})
}

func (s *Store) commit(ctx context.Context, cleared []record.Cleared, more also) ([]record.Receipt, error) {
	if len(cleared) == 0 {
		return nil, nil
	}
	w := &write{s: s, grant: vault.Clearing(cleared[0]).Grant, also: more}
	w.practice = w.grant.Caller().Tenant
	for _, c := range cleared {
		x := vault.Clearing(c)
		if !x.Grant.Same(w.grant) || !x.Grant.Valid() {
			return nil, authz.ErrDenied
		}
		// What is imported with labels carries them on to whatever refers to it
		// already, notes among them: see relabel.
		w.notes = w.notes || x.Labels.Any(label.Notes) || reachesNotes(x) || x.Import && (x.Labels != 0 || x.Program)
	}
	const tries = 4
	for try := 1; ; try++ {
		w.rows, w.total, w.redefined = w.rows[:0], w.total[:0], false
		w.restore()
		if w.intake != nil {
			w.intake.refused = nil
		}
		for i, c := range cleared {
			r := &row{at: i, c: vault.Clearing(c), schema: "record"}
			r.posted = r.c.Interaction == fhir.Create
			if r.posted || r.c.Upsert || r.c.Condition != nil && r.c.Interaction == fhir.Update {
				pk, err := s.nextPK(ctx)
				if err != nil {
					return nil, err
				}
				r.pk = pk
			}
			w.rows, w.total = append(w.rows, r), append(w.total, -1)
		}
		err := w.run(ctx)
		switch {
		case err == nil:
			if w.redefined && !w.rehearsal() {
				s.learn(w.practice)
			}
			return w.receipts(), nil
		case errors.Is(err, errNeedsNotes) && !w.notes:
			w.notes = true
		case try < tries && (errors.Is(err, errCollision) || sqlState(err) == "40P01" || sqlState(err) == "40001"):
		case errors.Is(err, errCollision):
			return nil, outcome.New(outcome.Conflict, "the resource was changed at the same moment: read it and try again").Because(err)
		default:
			return nil, failed(err)
		}
	}
}

func reachesNotes(c vault.Clearance) bool {
	if c.Check.Notes() != 0 || c.Visible.Notes() != 0 || c.Insert.Notes() != 0 {
		return true
	}
	for _, r := range c.Resolve {
		if r.Notes() != 0 {
			return true
		}
	}
	if c.Condition != nil && needsNotes(*c.Condition) {
		return true
	}
	for _, x := range c.Conditional {
		if needsNotes(x) {
			return true
		}
	}
	return len(noteReaders(c.Referrers)) > 0
}

func (w *write) run(ctx context.Context) error {
	pool := w.s.app
	if w.notes {
		pool = w.s.notes
	}
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{BeginQuery: begins(w.s.now())}, func(tx pgx.Tx) error {
		w.tx = tx
		if err := w.rehearsed(ctx, func() error {
			return w.each(ctx, w.parameters, w.searching(w.meet), w.load, w.same, w.kinfolk, w.unmask, w.flow, w.views, w.render, w.encrypt, w.store, w.stated, w.referred, w.check, w.derive, w.define, w.relabel, w.announce)
		}); err != nil {
			return err
		}
		return w.each(ctx, w.settle, w.searching(w.declare), w.record, w.remember, w.counted)
	})
}

func (w *write) tenant() int32 { return w.practice }

func (w *write) fail(r *row, err error) error { return &record.ChangeError{Index: r.at, Err: err} }

// load locks the rows that the changes touch, as far as the caller may touch them.
func (w *write) load(ctx context.Context) error {
	type group struct {
		t fhir.ResourceType
		i fhir.Interaction
	}
	groups := map[group][]*row{}
	for _, r := range w.rows {
		if r.c.Interaction != fhir.Create {
			g := group{r.c.Ref.Type, r.c.Interaction}
			groups[g] = append(groups[g], r)
		}
	}
	for _, rows := range groups {
		if err := w.loadGroup(ctx, rows, rows[0].c.Check, rows[0].c.Visible, func(r *row, o *stored) { r.old = o }); err != nil {
			return err
		}
		missing := slices.DeleteFunc(slices.Clone(rows), func(r *row) bool { return r.old != nil })
		if err := w.loadGroup(ctx, missing, rows[0].c.Visible, authz.Restriction{}, func(r *row, _ *stored) { r.refused = true }); err != nil {
			return err
		}
	}
	if err := w.searching(w.stillMet)(ctx); err != nil {
		return err
	}
	now := w.s.now().UTC().Truncate(time.Millisecond)
	for _, r := range w.rows {
		if r.unchanged {
			continue
		}
		if err := w.place(r, now); !w.collected(err) {
			return err
		}
	}
	return w.refusals()
}

// loadGroup locks the rows that check admits. Of several views it is the fullest
// that satisfies check or seen: nobody changes less than she sees.
func (w *write) loadGroup(ctx context.Context, rows []*row, check, seen authz.Restriction, each func(*row, *stored)) error {
	if check.Empty() || len(rows) == 0 {
		return nil
	}
	byID := map[string]*row{}
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = string(r.c.Ref.ID)
		byID[ids[i]] = r
	}
	slices.Sort(ids)
	for _, schema := range schemas(check) {
		var q statement
		x := restrict(&q, check)
		x.keyed = true
		key := q.arg(ids)
		// One look-up by primary key per id, in the order in which they are locked. For
		// one condition over many ids a planner without fresh statistics reads all
		// resources of the type.
		q.WriteString("SELECT r.* FROM unnest(" + key + "::text[]) AS n(id), LATERAL (SELECT r.id, r.pk, r.shadow, r.version, r.updated, r.deleted, r.label_class, r.programs, r.originator, r.refs, COALESCE(r.family, 0) AS family, r.view, r.flow_class, r.flow_programs, CASE WHEN r.patient IS NOT NULL THEN array_prepend(r.patient, r.co_patients) END AS patients FROM " +
			schema + ".resource r WHERE r.id = n.id AND " + x.where("r") + x.fuller("r", "sv", restrict(&q, seen)) + " ORDER BY r.shadow FOR UPDATE OF r) AS r")
		var id string
		var class int16
		var flow *int16
		var o stored
		if err := forEach(ctx, w.tx, q.String(), q.args, []any{&id, &o.pk, &o.shadow, &o.version, &o.updated, &o.deleted, &class, &o.programs, &o.originator, &o.refs, &o.family, &o.view, &flow, &o.flows.programs, &o.patients}, func() (err error) {
			row := o
			row.schema = schema
			if row.labels, err = w.s.labels(ctx, class); err != nil {
				return err
			}
			if flow == nil {
				row.flows = row.protection()
			} else if row.flows.labels, err = w.s.labels(ctx, *flow); err != nil {
				return err
			}
			if r := byID[id]; r.old == nil {
				each(r, &row)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// place decides what becomes of a row: its number, version and moment.
func (w *write) place(r *row, now time.Time) error {
	r.updated = now
	if r.old == nil {
		switch {
		case r.c.Interaction == fhir.Create:
		case r.refused:
			return w.fail(r, authz.ErrDenied)
		case r.c.Interaction == fhir.Update && r.c.Upsert:
			if r.c.IfMatch != 0 {
				return w.fail(r, outcome.New(outcome.Precondition, "If-Match names a version, but there is no such resource"))
			}
		default:
			return w.fail(r, errNotFound)
		}
		r.version = 1
		r.originator = w.grant.Caller().User.String()
		if r.c.Import {
			r.originator = r.c.Originator.String()
		}
		return nil
	}
	o := r.old
	if r.c.Only && !o.deleted {
		return w.fail(r, outcome.New(outcome.Precondition, "a resource with that id is there already"))
	}
	if r.c.IfMatch != 0 && r.c.IfMatch != o.version {
		return w.fail(r, outcome.New(outcome.Precondition, "the resource has changed since the version that If-Match names: read it again"))
	}
	if r.c.Interaction == fhir.Delete && o.deleted {
		r.unchanged = true
		r.version, r.updated, r.pk, r.schema, r.labels = o.version, o.updated, o.pk, o.schema, o.labels
		return nil
	}
	if !now.After(o.updated) {
		r.updated = o.updated.UTC().Add(time.Millisecond)
	}
	r.pk, r.shadow, r.version, r.schema = o.pk, o.shadow, o.version+1, o.schema
	if o.originator != nil {
		r.originator = *o.originator
	}
	return nil
}

// render makes the body and the index of each row.
func (w *write) render(ctx context.Context) error {
	for _, r := range w.rows {
		if !r.unchanged {
			w.versioned(r)
			r.fill()
		}
	}
	for _, r := range w.all() {
		if r.unchanged {
			continue
		}
		if err := w.finish(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

func (w *write) finish(ctx context.Context, r *row) (err error) {
	if r.class, err = w.s.class(ctx, r.labels); err != nil || r.c.Content == nil {
		return err
	}
	r.c.Content.SetID(r.c.Ref.ID)
	r.c.Content.SetMeta(r.version, r.updated)
	r.body = r.c.Content.Root.AppendJSON(make([]byte, 0, 2048))
	w.extract(ctx, r)
	return nil
}

// extract computes what the index holds of the content.
func (w *write) extract(ctx context.Context, r *row) {
	r.index = search.Options{Registry: w.registry, Context: ctx}.Extract(r.c.Ref.Type, r.c.Content.Root)
	r.patients = compartment.Patients(r.c.Ref.Type, r.c.Content.Root)
}

// check asks the policy about each row as it now stands. Relations and
// consents that the same change brings do not count yet: nobody writes her way in.
func (w *write) check(ctx context.Context) error {
	type group struct {
		schema string
		t      fhir.ResourceType
		i      fhir.Interaction
		fresh  bool
	}
	groups := map[group][]*row{}
	for _, r := range w.rows {
		if r.c.Interaction == fhir.Delete || r.unchanged {
			continue // the row as it was has been checked, and only its body goes
		}
		ok, err := r.restriction().Admits(r.seen().labels, 0)
		if err != nil {
			return authz.ErrDenied.Because(err)
		}
		if ok && !r.restriction().Narrowed() {
			continue
		}
		g := group{r.schema, r.c.Ref.Type, r.c.Interaction, r.old == nil}
		groups[g] = append(groups[g], r)
	}
	for _, rows := range groups {
		facts, err := w.facts(ctx, rows)
		if err != nil {
			return err
		}
		for _, r := range rows {
			f, inScope := facts[r.seen().pk]
			ok, err := r.restriction().Admits(r.seen().labels, f)
			if err != nil || !ok || !inScope {
				if err := w.fail(r, authz.ErrDenied.Because(err)); !w.collected(err) {
					return err
				}
			}
		}
	}
	return w.refusals()
}

// restriction is the one that the new row must satisfy.
func (r *row) restriction() authz.Restriction {
	if r.old == nil && r.c.Interaction == fhir.Update {
		return r.c.Insert
	}
	return r.c.Check
}

func (w *write) facts(ctx context.Context, rows []*row) (map[int64]authz.Fact, error) {
	var q statement
	x := restrict(&q, rows[0].restriction())
	x.keyed = true
	var all authz.Fact
	for _, f := range facts {
		all |= f.Bit
	}
	pks := make([]int64, len(rows))
	for i, r := range rows {
		pks[i] = r.seen().pk
	}
	q.WriteString("SELECT r.pk, " + x.facts("r", all) + " FROM " + rows[0].schema + ".resource r WHERE r.pk = ANY (" + q.arg(pks) + "::bigint[]) AND " + x.scope("r"))
	out := map[int64]authz.Fact{}
	var pk int64
	var f int32
	err := forEach(ctx, w.tx, q.String(), q.args, []any{&pk, &f}, func() error { out[pk] = authz.Fact(f); return nil })
	return out, err
}

// record writes the audit event of the whole transaction into it: no change is
// there without the record of who made it.
func (w *write) record(ctx context.Context) error {
	e := audit.Event{ID: record.NewID(), At: w.s.now().UTC(), Caller: w.grant.Caller(), Interaction: w.grant.Interaction(), Outcome: audit.Success}
	if w.emergency != nil {
		e.Interaction, e.Type = fhir.Operation, "Patient" // what is written only tells of it
	}
	if w.rehearsal() {
		return w.recordRehearsal(ctx, e)
	}
	for _, r := range w.rows {
		if len(w.rows) == 1 {
			e.Type = r.c.Ref.Type
		}
		x := audit.Entity{Ref: r.c.Ref, Version: r.version, Labels: r.seen().labels}
		if w.emergency != nil {
			x.Session = w.emergency.ID
		}
		of := r.patients
		if of == nil && r.old != nil {
			of = r.old.patients // of what is deleted
		}
		if of == nil {
			of = []fhir.ID{""}
		}
		for _, x.Patient = range of {
			e.Entities = append(e.Entities, x)
		}
	}
	return w.s.inserted(ctx, w.tx, e, "the access record cannot be written, so nothing was changed: try again")
}

func (w *write) receipts() []record.Receipt {
	out := make([]record.Receipt, len(w.total))
	for _, r := range w.rows {
		out[r.at] = record.Receipt{Ref: r.c.Ref, Version: r.version, Updated: r.updated, Created: !r.unchanged && (r.old == nil || r.old.deleted && r.c.Interaction == fhir.Update), Same: r.same, Missing: r.missing}
	}
	for at, n := range w.total {
		if n >= 0 && n != 1 {
			out[at] = record.Receipt{Counted: true, Several: n}
		}
	}
	return out
}

func sortedUnion(a, b []string) []string {
	out := append(slices.Clone(a), b...)
	slices.Sort(out)
	return slices.Compact(out)
}
