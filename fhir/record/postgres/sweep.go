package postgres

import (
	"context"

	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
)

// standing is how far a walk over all that a practice stores is: the last
// resource that is done, of the first of the types, in one schema.
type standing struct {
	types  []int16
	schema string
	id     string
	shadow int16
}

// next reads the next resources of a walk, up to limit of them. columns and
// condition are of SQL, and into is where each row goes before its call.
func (w *write) next(ctx context.Context, at *standing, limit int, columns, condition string, into []any, each func() error) error {
	// The rows are locked in the order in which changes lock them, and read as
	// they are once that is done.
	return forEach(ctx, w.tx, "SELECT id, shadow, "+columns+" FROM "+at.schema+".resource WHERE tenant = $1 AND type = $2 AND (id, shadow) > ($3, $4) AND "+condition+" ORDER BY id, shadow LIMIT $5 FOR NO KEY UPDATE",
		[]any{w.practice, at.types[0], at.id, at.shadow, limit}, append([]any{&at.id, &at.shadow}, into...), each)
}

// passed moves on behind the rows that were read: unless there are more of them,
// to the same type in the other schema, and to the next type.
func (at *standing) passed(more bool) {
	switch {
	case more:
		return
	case at.schema == "record":
		at.schema = "notes"
	default:
		at.types, at.schema = at.types[1:], "record"
	}
	at.id, at.shadow = "", 0
}

// everyType are the codes of all resource types.
func everyType() []int16 {
	out := make([]int16, 0, len(fhir.ResourceTypes()))
	for _, t := range fhir.ResourceTypes() {
		out = append(out, t.Code())
	}
	return out
}

// content reads a stored body. Every walk goes through here: the body of a note
// is decrypted by a key that comes over another connection, so rows may be read meanwhile.
func (w *write) content(ctx context.Context, schema string, ref fhir.Ref, v fhir.VersionID, body []byte) (*codec.Resource, error) {
	if schema == "notes" {
		var err error
		if body, err = w.s.decrypt(ctx, w.s.notes, w.practice, "walk", ref, v, body); err != nil {
			return nil, err
		}
	}
	root, err := codec.ReadJSON(body, codec.DefaultLimits)
	if err != nil {
		return nil, err
	}
	return &codec.Resource{Type: ref.Type, Root: root}, nil
}
