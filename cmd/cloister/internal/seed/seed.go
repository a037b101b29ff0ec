// Package seed stores the sample clinic in a database.
package seed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/codec"
	"github.com/cloister-health/cloister/fhir/element"
	"github.com/cloister-health/cloister/fhir/record"
)

// Progress is told after each batch; resources is 0 where an earlier run had
// stored the batch.
type Progress func(title string, resources int)

// Run stores the clinic of c, batch by batch. It goes on where a stopped run
// ended, and does nothing where it is complete.
func Run(ctx context.Context, core *server.Core, c clinic.Config, progress Progress) error {
	tenants := map[string]int32{}
	for _, p := range clinic.Practices() {
		id, err := core.Store.EnsureTenant(ctx, p.Slug, p.Name)
		if err != nil {
			return err
		}
		tenants[p.Slug] = id
	}
	n := 0
	for b := range clinic.Generate(c) {
		n++
		digest := sha256.Sum256(fmt.Appendf(nil, "clinic %d %d %s %d", c.Seed, c.Patients, c.Now.UTC().Format("2006-01-02"), n))
		tenant := tenants[b.Practice]
		done, err := core.Store.Imported(ctx, tenant, digest[:])
		if err != nil {
			return err
		}
		if !done {
			if err := store(ctx, core, tenant, b, digest[:]); err != nil {
				return fmt.Errorf("seed: %s: %w", b.Title, err)
			}
		}
		if progress != nil {
			stored := len(b.Resources)
			if done {
				stored = 0
			}
			progress(b.Title, stored)
		}
	}
	return nil
}

func store(ctx context.Context, core *server.Core, tenant int32, b clinic.Batch, digest []byte) error {
	grant, err := core.Engine.Authorize(ctx, server.Operator(tenant, "seed"), fhir.Transaction, "")
	if err != nil {
		return err
	}
	cleared := make([]record.Cleared, 0, len(b.Resources))
	for _, root := range b.Resources {
		c, err := admit(ctx, core, grant, root)
		if err != nil {
			return err
		}
		cleared = append(cleared, c)
	}
	_, err = core.Store.Import(ctx, cleared, digest)
	var ce *record.ChangeError
	if errors.As(err, &ce) {
		return fmt.Errorf("resource %d: %w", ce.Index, err)
	}
	return err
}

func admit(ctx context.Context, core *server.Core, grant authz.Grant, root *element.Node) (record.Cleared, error) {
	r, err := codec.Check(root)
	if err != nil {
		return record.Cleared{}, err
	}
	return core.Gate.Admit(ctx, grant, record.Change{Interaction: fhir.Update, Ref: r.Ref(), Content: r, Upsert: true, Import: true})
}
