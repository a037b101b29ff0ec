package postgres

import "github.com/cloister-health/cloister/fhir/search"

// number compares a number, or a quantity in its unit, see R4 search.html#number.
func (k *compiler) number(v *search.Value) string {
	arms := k.numbers(v)
	return either(len(arms), func(i int) string { return "(" + arms[i] + ")" })
}

// numbers are conditions of which a row that compares satisfies exactly one. The
// column hi is there for ranges only: what is above something by its lower
// end is found by an index, and the few ranges that only reach above by another.
func (k *compiler) numbers(v *search.Value) []string {
	lo, hi, unit := "i.lo", "i.hi", ""
	if v.Unit != 0 {
		lo, hi, unit = "i.unit_lo", "i.unit_hi", "i.unit = "+k.value(v, "unit", v.Unit)+" AND "
	}
	at := func(op string) string { return op + k.value(v, "at", v.At) }
	low := func(op string) string { return op + k.value(v, "low", v.Low) }
	high := func(op string) string { return op + k.value(v, "high", v.High) }
	above := func(limit, rest string) []string {
		return []string{unit + lo + limit + rest, unit + "NOT " + lo + limit + " AND i.hi IS NOT NULL AND " + hi + limit + rest}
	}
	below := func(limit string) string { return lo + limit + " AND (i.hi IS NULL OR " + hi + limit + ")" }
	within := func() string { return "(" + lo + low(" >= ") + " AND " + below(high(" < ")) + ")" }
	switch v.Prefix {
	case "", "eq":
		return []string{unit + within()}
	case "ne":
		return []string{unit + "NOT " + within()}
	case "gt":
		return above(at(" > "), "")
	case "ge":
		return above(at(" >= "), "")
	case "lt":
		return []string{unit + lo + at(" < ")}
	case "le":
		return []string{unit + lo + at(" <= ")}
	case "sa":
		return []string{unit + lo + at(" > ")}
	case "eb":
		return []string{unit + below(at(" < "))}
	case "ap":
		return above(low(" >= "), " AND "+lo+high(" <= "))
	default:
		return nil
	}
}

// maxScans is up to how many values have scans of their own.
const maxScans = 8

// alternatives are conditions of which an index row that has one of c's values
// satisfies at least one, each for a scan of its own.
func (k *compiler) alternatives(table string, c *term) (all []string) {
	if len(c.Any) > maxScans {
		some := make([]int, len(c.Any))
		for i := range some {
			some[i] = i
		}
		return []string{k.values(table, c, some)}
	}
	for i := range c.Any {
		v := &c.Any[i]
		arms := []string{k.compare(table, v)}
		if table == "resource_quantity" {
			arms = k.numbers(v)
		}
		for _, arm := range arms {
			all = append(all, k.keyed(v)+arm)
		}
	}
	return all
}
