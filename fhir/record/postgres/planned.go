package postgres

import (
	"context"
	"slices"
)

// What a transaction that writes resources sets for itself. Nearly all of its statements lead from keys
// to rows, and planning them took twenty times as long as running them. A kept plan may be older than
// what fills its tables: it never reads one from end to end. Only what searches is planned with its values.
const (
	byKeys   = "SET LOCAL plan_cache_mode = " + keptPlans + "; SET LOCAL enable_seqscan = off"
	byValues = "SET LOCAL plan_cache_mode = " + customPlans + "; SET LOCAL enable_seqscan = on"
)

// searching is a step that looks for what criteria mean, in a transaction that has any.
func (w *write) searching(step func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if w.emergency == nil && !slices.ContainsFunc(w.rows, func(r *row) bool { return r.c.Condition != nil || len(r.c.Conditional) > 0 }) {
			return step(ctx)
		}
		if _, err := w.tx.Exec(ctx, byValues); err != nil {
			return err
		}
		if err := step(ctx); err != nil {
			return err
		}
		_, err := w.tx.Exec(ctx, byKeys)
		return err
	}
}
