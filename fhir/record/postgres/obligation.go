package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/label"
	"github.com/cloister-health/cloister/authz/obligation"
	"github.com/cloister-health/cloister/consent"
	"github.com/cloister-health/cloister/fhir"
)

// grantScope collects what the provisions of one Consent permit to a caller.
type grantScope struct {
	obligation.Scope
	about    consent.Kinds
	open     bool // some permit has no end of its own
	last     time.Time
	permits  bool
	narrowed bool
}

// ConsentScopes gives what each of these consents permits to the caller of g: of
// the provisions, what names her. One that is not in force, or permits her nothing, is left out.
func (s *Store) ConsentScopes(ctx context.Context, g authz.Grant, ids []fhir.ID) ([]obligation.Scope, error) {
	if !g.Valid() {
		return nil, authz.ErrDenied
	}
	var q statement
	x := &restriction{c: g.Caller(), q: &q}
	x.tenant = x.arg("tenant", func() any { return x.c.Tenant })
	names := x.recipients()
	consents := q.arg(all(ids, func(id fhir.ID) string { return string(id) }))
	q.WriteString("SELECT g.consent, g.node, g.about, g.permits AND g.sure AND " + x.purposed() + " AND (g.recipients IS NULL OR g.recipients && " + names + ")," +
		" ARRAY(SELECT n FROM unnest(g.recipients) AS n WHERE n = ANY (" + names + "::text[])), g.purposes, g.ends, g.label_any, g.label_within," +
		" g.types IS NOT NULL OR g.documents IS NOT NULL OR g.codes IS NOT NULL OR g.data_starts IS NOT NULL OR g.data_ends IS NOT NULL OR g.by_data" +
		" FROM record.consent_grant g WHERE g.tenant = " + x.tenant + " AND g.consent = ANY (" + consents + "::text[]) ORDER BY g.consent, g.source, g.node")

	var out []*grantScope
	var id string
	var node, about int16
	var permits, narrow bool
	var recipients, purposes []string
	var ends *time.Time
	var has, within int32
	err := forEach(ctx, s.app, q.String(), q.args, []any{&id, &node, &about, &permits, &recipients, &purposes, &ends, &has, &within, &narrow}, func() error {
		if n := len(out); n == 0 || string(out[n-1].Consent) != id {
			out = append(out, &grantScope{Scope: obligation.Scope{Consent: fhir.ID(id)}})
		}
		t := out[len(out)-1]
		if node == 0 && ends != nil {
			t.Until = ends.UTC() // no provision outlives the root
		}
		// A permit within a permit, and whatever is denied, makes it something less than all.
		t.narrowed = t.narrowed || narrow || !wholeProgram(label.Set(uint32(has)), label.Set(uint32(within))) || node > 0
		if !permits {
			return nil
		}
		t.permits, t.about = true, t.about|consent.Kinds(about)
		t.Recipients = append(t.Recipients, recipients...)
		t.Purposes = append(t.Purposes, purposes...)
		if ends == nil {
			t.open = true
		} else if ends.After(t.last) {
			t.last = ends.UTC()
		}
		return nil
	})
	if err != nil {
		return nil, failed(err)
	}
	scopes := make([]obligation.Scope, 0, len(out))
	for _, t := range out {
		if !t.permits {
			continue
		}
		if kinds := t.about.List(); len(kinds) == 1 {
			t.Kind = string(kinds[0])
		}
		if !t.open && (t.Until.IsZero() || t.last.Before(t.Until)) {
			t.Until = t.last
		}
		slices.Sort(t.Recipients)
		t.Recipients, t.Purposes, t.Whole = slices.Compact(t.Recipients), consent.Widest(t.Purposes), !t.narrowed
		scopes = append(scopes, t.Scope)
	}
	return scopes, nil
}

// wholeProgram reports whether a provision's labels mean all records of a program, whatever they are about.
func wholeProgram(has, within label.Set) bool {
	return (has == 0 || has.Any(label.Part2)) && (within | label.Notes).Has(label.All)
}
