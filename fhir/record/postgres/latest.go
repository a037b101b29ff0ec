package postgres

// latest keeps, of the matches with the same code, the so many latest that
// query.Last says. Only matches are counted, so what is hidden takes no place.
func (f *finder) latest(k *compiler, schema string, l leg) string {
	if f.query.Last == 0 {
		return ""
	}
	n := k.q.named("last", func() any { return f.query.Last })
	return " AND r.pk IN (SELECT w.pk FROM (SELECT l.pk, row_number() OVER (PARTITION BY" +
		" jsonb_path_query_array(l.body, '$.code.coding.system') || jsonb_path_query_array(l.body, '$.code.coding.code')," +
		" CASE WHEN l.body #> '{code,coding}' IS NULL THEN l.body #> '{code,text}' END" +
		" ORDER BY l.at_lo DESC NULLS LAST, l.id DESC) AS n FROM " + schema + ".resource l WHERE " + k.live("l", l.t) + k.where("l", schema, l.t, l.where) +
		") AS w WHERE w.n <= " + n + ")"
}
