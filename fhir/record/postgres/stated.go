package postgres

import "context"

// stated remembers the labels that a sender stated: they are in no stored
// content, and a downgrade must not drop them.
func (w *write) stated(ctx context.Context) error {
	for _, r := range w.rows {
		if r.unchanged || r.c.Stated == 0 {
			continue
		}
		if _, err := w.tx.Exec(ctx, `INSERT INTO record.stated_label AS s (tenant, pk, labels) VALUES ($1, $2, $3)
ON CONFLICT (tenant, pk) DO UPDATE SET labels = s.labels | excluded.labels WHERE s.labels <> s.labels | excluded.labels`, w.practice, r.pk, int32(r.c.Stated)); err != nil {
			return err
		}
	}
	return nil
}
