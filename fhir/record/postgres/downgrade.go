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
	"github.com/cloister-health/cloister/fhir/record"
)

// ErrNotClassified says that there is nothing to compare with: what the practice
// stores is not classified by these rules yet.
var ErrNotClassified = errors.New("postgres: the practice is not classified by these rules")

// downgradeEntities is how many records one audit event of a downgrade names.
const downgradeEntities = 500

// Downgrade drops the sensitivity labels that the rules of c do not give, nor a
// sender stated, nor flow in from a record that is referred to: what was
// classified by earlier rules, or is no longer in the content. It says of how many
// resources. Sources stay as they are: they do not come from rules. So do superseded versions.
//
// It is the operator's alone, after a completed [Store.Relabel] by the same rules. The
// practice's writes wait until it is done, and every resource is recorded with its
// labels before and after.
func (s *Store) Downgrade(ctx context.Context, g authz.Grant, c *label.Classifier) (int, error) {
	if !g.Valid() || !slices.Contains(g.Caller().Roles, authz.Operator) {
		return 0, authz.ErrDenied
	}
	w := &write{s: s, grant: g, practice: g.Caller().Tenant}
	var changed int
	err := pgx.BeginFunc(ctx, s.notes, func(tx pgx.Tx) (err error) {
		w.tx = tx
		changed, err = w.downgrade(ctx, c)
		return err
	})
	if errors.Is(err, ErrNotClassified) {
		return 0, err
	}
	return changed, failed(err)
}

func (w *write) downgrade(ctx context.Context, c *label.Classifier) (int, error) {
	// All that writes holds the same lock, shared.
	if _, err := w.tx.Exec(ctx, "SELECT record.search_definitions($1, true)", w.practice); err != nil {
		return 0, err
	}
	var rules string
	var under bool
	err := w.tx.QueryRow(ctx, "SELECT rules, EXISTS (SELECT FROM record.relabel j WHERE j.tenant = m.tenant) FROM record.classified m WHERE tenant = $1", w.practice).Scan(&rules, &under)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && (under || rules != c.Version()) {
		return 0, ErrNotClassified
	}
	if err != nil {
		return 0, err
	}
	rows, err := w.sensitive(ctx, c)
	if err != nil {
		return 0, err
	}
	spread(rows)
	var changes []*bearer
	for _, r := range rows {
		if r.kept != r.labels {
			changes = append(changes, r)
		}
	}
	return len(changes), w.lower(ctx, c, changes)
}

// bearer is a stored resource that has sensitivity labels.
type bearer struct {
	schema   string
	pk       int64
	ref      fhir.Ref
	version  fhir.VersionID
	patients []fhir.ID
	labels   label.Set // as stored
	kept     label.Set // what stays of them
	hash     int64     // by which others refer to it
	refs     []int64
	family   int64
	view     int16     // of several views; 0 is the only one
	flows    label.Set // from the view that says least to whatever refers to the resource
}

// sensitive reads all resources with sensitivity labels, and says for each what
// it has of itself: no other resource could lose one, or give one to those.
func (w *write) sensitive(ctx context.Context, c *label.Classifier) ([]*bearer, error) {
	stated := map[int64]label.Set{}
	var pk int64
	var bits int32
	if err := forEach(ctx, w.tx, "SELECT pk, labels FROM record.stated_label WHERE tenant = $1", []any{w.practice}, []any{&pk, &bits}, func() error {
		stated[pk] = label.Set(bits)
		return nil
	}); err != nil {
		return nil, err
	}
	var out []*bearer
	for _, schema := range []string{"record", "notes"} {
		var r bearer
		var t int16
		var id string
		var version int64
		var flows int32
		var patients []fhir.ID
		var body []byte
		if err := forEach(ctx, w.tx, "SELECT r.pk, r.type, r.id, r.version, CASE WHEN r.patient IS NOT NULL THEN array_prepend(r.patient, r.co_patients) ELSE ARRAY[''] END, c.labels, r.refs, COALESCE(r.family, 0), r.view, COALESCE(f.labels, c.labels), r.body FROM "+schema+
			".resource r JOIN record.label_class c ON c.id = r.label_class LEFT JOIN record.label_class f ON f.id = r.flow_class WHERE r.tenant = $1 AND c.labels & $2 <> 0", []any{w.practice, int32(label.All &^ label.Source)},
			[]any{&r.pk, &t, &id, &version, &patients, &bits, &r.refs, &r.family, &r.view, &flows, &body}, func() error {
				x := r
				x.schema, x.ref, x.version = schema, fhir.Ref{Type: fhir.TypeOf(t), ID: fhir.ID(id)}, fhir.VersionID(version)
				x.patients = patients
				x.labels = label.Set(bits)
				x.flows = label.Set(flows)
				x.hash = w.targetIndex(x.ref)
				x.kept = x.labels // where nothing is left by which it could be judged, or a note does not open
				if body != nil {
					content, err := w.content(ctx, schema, x.ref, x.version, body)
					switch {
					case errors.Is(err, errNoteBody):
					case err != nil:
						return err
					default:
						own := c.Classify(label.Content{Type: x.ref.Type, Codings: content.Codings()})
						x.kept = x.labels & (own | stated[x.pk] | label.Source)
					}
				}
				out = append(out, &x)
				return nil
			}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// spread adds to what each resource keeps what it has from those that it refers
// to: the least labels that agree with all references, cycles among them.
func spread(rows []*bearer) {
	given := map[int64]label.Set{}
	for _, r := range rows {
		given[r.hash] |= r.gives()
	}
	for changed := true; changed; {
		changed = false
		for _, r := range rows {
			kept := r.kept
			for _, h := range r.refs {
				kept |= given[h] & r.labels
			}
			if kept != r.kept {
				r.kept, changed = kept, true
				given[r.hash] |= r.gives()
			}
		}
	}
}

// gives is what flows from r to whatever refers to it: nothing from a view that says more than others.
func (r *bearer) gives() label.Set {
	if r.view > 1 {
		return 0
	}
	return r.kept & r.flows &^ label.Notes
}

// lower writes the labels that are left, and records each.
func (w *write) lower(ctx context.Context, c *label.Classifier, changes []*bearer) error {
	at := w.s.now().UTC()
	for chunk := range slices.Chunk(changes, downgradeEntities) {
		e := audit.Event{ID: record.NewID(), At: at, Caller: w.grant.Caller(), Interaction: fhir.Operation, Outcome: audit.Success}
		for _, r := range chunk {
			class, err := w.s.class(ctx, r.kept)
			if err != nil {
				return err
			}
			if _, err := w.tx.Exec(ctx, "UPDATE "+r.schema+".resource SET label_class = $2 WHERE pk = $1", r.pk, class); err != nil {
				return err
			}
			if r.view == 1 {
				if class, err = w.s.class(ctx, r.flows&r.kept); err != nil {
					return err
				}
				if _, err := w.tx.Exec(ctx, "UPDATE "+r.schema+".resource SET flow_class = $3 WHERE tenant = $1 AND family = $2", w.practice, r.family, class); err != nil {
					return err
				}
			}
			for _, p := range r.patients {
				e.Entities = append(e.Entities, audit.Entity{Ref: r.ref, Version: r.version, Labels: r.kept, Patient: p})
			}
			if err := w.recordLowered(ctx, e.ID, at, c, r); err != nil {
				return err
			}
		}
		if err := insertEvents(ctx, w.tx.Conn(), []audit.Event{e}); err != nil {
			return err
		}
	}
	return nil
}

func (w *write) recordLowered(ctx context.Context, event string, at time.Time, c *label.Classifier, r *bearer) error {
	_, err := w.tx.Exec(ctx, "INSERT INTO audit.downgrade (tenant, at, event, entity, labels_old, labels_new, rules) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		w.practice, at, event, r.ref.String()+"/_history/"+r.version.String(), int32(r.labels), int32(r.kept), c.Version())
	return err
}
