package postgres

// fullest is the part of where by which a caller sees one view of a resource: a
// row is hidden when a fuller view of the same resource is visible. Notes have one view each.
func (x *restriction) fullest(alias string) string {
	return x.fuller(alias, "fv"+alias, x)
}

// fuller hides rows of alias of which a fuller view satisfies y, which is of the same grant.
func (x *restriction) fuller(alias, view string, y *restriction) string {
	if y.r.Empty() || !y.r.Grant().Valid() {
		return ""
	}
	each := *y
	each.q, each.computed, each.tenant, each.typed, each.keyed = x.q, "", x.tenant, x.typed, x.keyed // what is known of alias is not known of its views
	return " AND NOT (" + alias + ".view > 0 AND EXISTS (SELECT FROM record.resource " + view + " WHERE " + view + ".family = " + alias + ".family AND " +
		view + ".view > " + alias + ".view" + each.extent(view) + " AND " + each.arms(view) + "))"
}
