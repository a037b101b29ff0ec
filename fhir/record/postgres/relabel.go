package postgres

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

var relabelling = walk{table: "relabel", key: "rules", only: "rules = $4", order: "tenant"}

// Relabelling is how far what a practice stores is classified by other content rules.
type Relabelling struct {
	Rules   string // version of the rules by which all of it is classified; "" is none yet
	Next    string // of those that it is being classified by; "" where nothing is under way
	Percent int    // of the resource types
}

// Practices are the practices by slug.
func (s *Store) Practices() map[string]int32 { return maps.Clone(*s.tenants.Load()) }

// BeginRelabel classifies anew what a practice stores, whether or not its rules
// have changed: after several servers with different rules wrote, say.
func (s *Store) BeginRelabel(ctx context.Context, practice int32, c *label.Classifier) error {
	_, err := s.side.Exec(ctx, "INSERT INTO record.relabel "+relabelFields+" VALUES ($1, $2, $3, cardinality($3::smallint[]), 'record', '', 0)"+relabelAnew, practice, c.Version(), everyType())
	return failed(err)
}

const (
	relabelFields = "AS j (tenant, rules, types, planned, schema, id, shadow)"
	relabelAnew   = ` ON CONFLICT (tenant) DO UPDATE SET rules = excluded.rules, types = excluded.types, planned = excluded.planned,
schema = 'record', id = '', shadow = 0, holder = NULL, lease = NULL`
)

// Relabelling says how far it is with a practice: see [Store.Relabel].
func (s *Store) Relabelling(ctx context.Context, practice int32) (out Relabelling, err error) {
	var left, planned int
	err = s.side.QueryRow(ctx, `SELECT COALESCE(m.rules, ''), COALESCE(j.rules, ''), COALESCE(cardinality(j.types), 0), COALESCE(j.planned, 0)
FROM (SELECT $1::integer AS tenant) AS p LEFT JOIN record.classified m USING (tenant) LEFT JOIN record.relabel j USING (tenant)`, practice).
		Scan(&out.Rules, &out.Next, &left, &planned)
	out.Percent = 100
	if out.Next != "" {
		out.Percent = 100 * (planned - left) / max(planned, 1)
	}
	return out, failed(err)
}

// Relabel keeps what is stored classified by the rules of c, until ctx ends: where
// a practice was last classified by others, all that it stores is classified anew in the background.
// Labels are only added: what the old rules gave protects until a [Store.Downgrade],
// and what the new ones give as soon as the resource is reached. Several servers
// share the work, as they do with [Store.Reindex].
func (s *Store) Relabel(ctx context.Context, every time.Duration, c *label.Classifier, failure func(error)) {
	me := record.NewID()
	persist(ctx, every, failure, func() (bool, error) { return s.relabelDue(ctx, c, me) })
}

// relabelDue begins what is due, and does one batch.
func (s *Store) relabelDue(ctx context.Context, c *label.Classifier, me string) (busy bool, err error) {
	if _, err := s.side.Exec(ctx, "INSERT INTO record.relabel "+relabelFields+` SELECT t.id, $1, $2, cardinality($2::smallint[]), 'record', '', 0
FROM record.tenant t LEFT JOIN record.classified m ON m.tenant = t.id WHERE m.rules IS DISTINCT FROM $1`+relabelAnew+" WHERE j.rules <> excluded.rules", c.Version(), everyType()); err != nil {
		return false, failed(err)
	}
	return s.RelabelBatch(ctx, c, me)
}

// RelabelBatch takes some of the work for the rules of c and does one batch of
// it; without any it is not busy. me is the UUID of who does it.
func (s *Store) RelabelBatch(ctx context.Context, c *label.Classifier, me string) (busy bool, err error) {
	w := &write{s: s}
	var rules string
	return w.batch(ctx, relabelling, me, &rules, func(ctx context.Context) error { return w.reclassify(ctx, c, me) }, c.Version())
}

// reclassify does one batch for a practice.
func (w *write) reclassify(ctx context.Context, c *label.Classifier, me string) error {
	if _, err := w.tx.Exec(ctx, "SELECT record.search_definitions($1, false)", w.practice); err != nil {
		return err // it keeps a downgrade waiting, and waits for one
	}
	ended, err := w.advance(ctx, relabelling, me, c.Version(), func(ctx context.Context, at *standing, limit int) (int, error) {
		return w.reclassifySome(ctx, c, at, limit)
	})
	if err != nil || !ended {
		return err
	}
	_, err = w.tx.Exec(ctx, "INSERT INTO record.classified (tenant, rules) VALUES ($1, $2) ON CONFLICT (tenant) DO UPDATE SET rules = excluded.rules", w.practice, c.Version())
	return err
}

// classified is a stored resource on its way to further labels.
type classified struct {
	pk       int64
	ref      fhir.Ref
	labels   label.Set // as stored
	own      label.Set // what the rules give its content
	programs []string
	family   int64
	view     int16      // of several views; 0 is the only one
	flows    protection // from the view that says least to whatever refers to the resource
}

// reclassifySome adds labels to the next resources of the type and schema at
// hand, and to whatever refers to them.
func (w *write) reclassifySome(ctx context.Context, c *label.Classifier, at *standing, limit int) (int, error) {
	var rows []*classified
	var r classified
	var class int16
	var flow *int16
	var body []byte
	t := fhir.TypeOf(at.types[0])
	var version fhir.VersionID
	into := []any{&r.pk, &version, &class, &r.programs, &r.family, &r.view, &flow, &r.flows.programs, &body}
	err := w.next(ctx, at, limit, "pk, version, label_class, programs, COALESCE(family, 0), view, flow_class, flow_programs, body", "true", into, func() (err error) {
		x := r
		x.ref = fhir.Ref{Type: t, ID: fhir.ID(at.id)}
		rows = append(rows, &x)
		if x.labels, err = w.s.labels(ctx, class); err != nil {
			return err
		}
		if flow == nil {
			x.flows = protection{x.labels, x.programs}
		} else if x.flows.labels, err = w.s.labels(ctx, *flow); err != nil {
			return err
		}
		x.own, err = w.classify(ctx, c, at.schema, x.ref, version, body)
		return err
	})
	if err != nil {
		return 0, err
	}
	if len(rows) > 0 {
		if err := w.grow(ctx, c, at.schema, rows); err != nil {
			return 0, err
		}
	}
	at.passed(len(rows) == limit)
	return len(rows), nil
}

// classify gives the labels of a stored body; a tombstone has none, nor has a
// note that does not open. What a note of a session is was decided when it was
// stored: no rule moves it between schemas.
func (w *write) classify(ctx context.Context, c *label.Classifier, schema string, ref fhir.Ref, v fhir.VersionID, body []byte) (label.Set, error) {
	if body == nil {
		return 0, nil
	}
	r, err := w.content(ctx, schema, ref, v, body)
	switch {
	case errors.Is(err, errNoteBody):
		return 0, nil
	case err != nil:
		return 0, err
	}
	return c.Classify(label.Content{Type: ref.Type, Codings: r.Codings()}) &^ label.Notes, nil
}

// grow adds the labels of the rules to resources, to their versions, and to
// whatever refers to them.
func (w *write) grow(ctx context.Context, c *label.Classifier, schema string, rows []*classified) error {
	more, err := w.growVersions(ctx, c, schema, rows)
	if err != nil {
		return err
	}
	front := map[fhir.Ref]protection{}
	for _, r := range rows {
		now := r.labels | r.own | more[r.pk]
		if now == r.labels {
			continue
		}
		class, err := w.s.class(ctx, now)
		if err != nil {
			return err
		}
		if _, err := w.tx.Exec(ctx, "UPDATE "+schema+".resource SET label_class = $2 WHERE pk = $1", r.pk, class); err != nil {
			return err
		}
		if r.view > 1 {
			continue // nobody who refers to the resource says what this view says more
		}
		r.flows.labels |= now
		if r.view == 1 {
			if class, err = w.s.class(ctx, r.flows.labels); err != nil {
				return err
			}
			if _, err := w.tx.Exec(ctx, "UPDATE "+schema+".resource SET flow_class = $3 WHERE tenant = $1 AND family = $2", w.practice, r.family, class); err != nil {
				return err
			}
		}
		front[r.ref] = front[r.ref].join(protection{r.flows.labels &^ label.Notes, r.flows.programs})
	}
	for len(front) > 0 {
		next := map[fhir.Ref]protection{}
		for _, schema := range []string{"record", "notes"} {
			if err := w.raise(ctx, schema, front, next, []int64{}); err != nil {
				return err
			}
		}
		front = next
	}
	return nil
}

// growVersions adds labels to superseded versions. What one gains its successors
// have from it, as they would have had if the rules had been these all along; it
// gives what the current version gains in this way.
func (w *write) growVersions(ctx context.Context, c *label.Classifier, schema string, rows []*classified) (map[int64]label.Set, error) {
	pks := make([]int64, len(rows))
	refs := make(map[int64]fhir.Ref, len(rows))
	for i, r := range rows {
		pks[i], refs[r.pk] = r.pk, r.ref
	}
	type version struct {
		pk     int64
		number int32
		labels label.Set
	}
	more := map[int64]label.Set{}
	var changes []version
	var v version
	var class int16
	var body []byte
	if err := forEach(ctx, w.tx, "SELECT pk, version, label_class, body FROM "+schema+".resource_history WHERE tenant = $1 AND pk = ANY ($2::bigint[]) ORDER BY pk, version",
		[]any{w.practice, pks}, []any{&v.pk, &v.number, &class, &body}, func() error {
			was, err := w.s.labels(ctx, class)
			if err != nil {
				return err
			}
			own, err := w.classify(ctx, c, schema, refs[v.pk], fhir.VersionID(v.number), body)
			if err != nil {
				return err
			}
			more[v.pk] |= own &^ was
			if v.labels = was | more[v.pk]; v.labels != was {
				changes = append(changes, v)
			}
			return nil
		}); err != nil {
		return nil, err
	}
	for _, v := range changes {
		class, err := w.s.class(ctx, v.labels)
		if err != nil {
			return nil, err
		}
		if _, err := w.tx.Exec(ctx, "UPDATE "+schema+".resource_history SET label_class = $4 WHERE tenant = $1 AND pk = $2 AND version = $3", w.practice, v.pk, v.number, class); err != nil {
			return nil, err
		}
	}
	return more, nil
}
