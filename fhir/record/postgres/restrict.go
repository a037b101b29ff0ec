package postgres

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
)

// statement builds one SQL statement with positional arguments.
type statement struct {
	strings.Builder
	args    []any
	once    map[any]string // what an argument is -> its placeholder
	columns bool           // arguments are columns of w, a table with a row per caller: see [statement.shared]
	ctes    []string       // common table expressions before it, as they are written
}

// String is the text with what comes before it.
func (q *statement) String() string {
	if q.ctes == nil {
		return q.Builder.String()
	}
	return "WITH " + strings.Join(q.ctes, ", ") + " " + q.Builder.String()
}

// with adds a common table expression, which is made when something asks for it.
func (q *statement) with(name, sql string) {
	cte := name + " AS MATERIALIZED (" + sql + ")"
	if !slices.Contains(q.ctes, cte) {
		q.ctes = append(q.ctes, cte)
	}
}

// arg adds an argument and returns its placeholder.
func (q *statement) arg(v any) string {
	q.args = append(q.args, v)
	if q.columns {
		return "w.a" + strconv.Itoa(len(q.args))
	}
	return "$" + strconv.Itoa(len(q.args))
}

// named adds an argument unless the statement has one of that name already.
func (q *statement) named(name any, v func() any) string {
	p, ok := q.once[name]
	if !ok {
		if q.once == nil {
			q.once = map[any]string{}
		}
		p = q.arg(v())
		q.once[name] = p
	}
	return p
}

// facts are all of them; the decision point hands out a copy each time.
var facts = authz.Facts()

// restriction is a Restriction ready to be written into a statement: it is
// written once for every table reference of the statement, and its arguments
// are shared between them.
type restriction struct {
	r      authz.Restriction
	c      authz.Caller
	q      *statement
	tenant string
	typed  string // the SQL of the type, where types take turns; "" is the Restriction's own
	// beside says that rows are found by something else: tenant and type are
	// written as what no index answers, or the planner reads the index of a whole
	// type beside the few rows that it has.
	beside bool
	// keyed says that rows are found by their keys, a few of them, so that what the
	// caller is to each is looked up for each.
	keyed bool
	// besides are further Restrictions for whose rows facts are computed, where types take turns.
	besides []authz.Restriction
	// computed is the alias whose columns are the facts, see [restriction.once].
	computed string
	// patient is the one whose rows are looked for, where it is one: what the caller is to it is asked once.
	patient fhir.ID
}

// restrict prepares r. All Restrictions of one statement belong to one grant,
// so that they share the arguments that tell of the caller.
func restrict(q *statement, r authz.Restriction) *restriction {
	x := &restriction{r: r, c: r.Grant().Caller(), q: q}
	x.tenant = x.arg("tenant", func() any { return x.c.Tenant })
	return x
}

func (x *restriction) arg(name string, v func() any) string { return x.q.named(name, v) }

// code is the type code of t.
func (x *restriction) code(t fhir.ResourceType) string {
	return x.arg("type "+string(t), func() any { return t.Code() })
}

// where is the predicate that makes rows of alias visible. It always fixes
// tenant and type, and it is "false" for the zero Restriction.
func (x *restriction) where(alias string) string {
	if x.r.Empty() {
		return "false"
	}
	return x.was(alias) + x.fullest(alias)
}

// was is where for the versions of a row, which come with the row itself.
func (x *restriction) was(alias string) string {
	if x.r.Empty() {
		return "false"
	}
	return x.scope(alias) + " AND " + x.arms(alias)
}

// arms is the part of where that the policy says. What all arms ask for is written once:
// a statement takes as long to plan and to begin as it is long.
func (x *restriction) arms(alias string) string {
	possible := x.r.Arms()
	common := ^authz.Fact(0)
	possible = slices.DeleteFunc(possible, func(a authz.Arm) bool { return x.never(a.Needs) })
	for _, a := range possible {
		common &= a.Needs
	}
	if len(possible) == 0 {
		return x.ready() + "(false)"
	}
	arms := make([]string, len(possible))
	for i, a := range possible {
		arms[i] = "(" + alias + ".label_class = ANY (" + x.arg("classes "+intArray(a.Classes), func() any { return a.Classes }) + "::smallint[])" + x.all(alias, a.Needs&^common) + ")"
	}
	return x.ready() + "(" + strings.Join(arms, " OR ") + ")" + x.all(alias, common)
}

// all is the conjunction of facts, behind another condition.
func (x *restriction) all(alias string, needs authz.Fact) string {
	var b strings.Builder
	for _, f := range facts {
		if needs.Has(f.Bit) {
			b.WriteString(" AND " + x.fact(alias, f.Bit))
		}
	}
	return b.String()
}

// never reports that some of these facts can hold between this caller and no row
// at all. It is known before anything is written: what is written and then dropped
// would leave arguments behind that no part of the statement uses.
func (x *restriction) never(needs authz.Fact) bool {
	var not authz.Fact
	if x.c.User.Type != "Patient" {
		not |= authz.Self
	}
	if x.c.User == (fhir.Ref{}) {
		not |= authz.Originator | authz.Treating | authz.Proxy | authz.Supervising | authz.Exception
	}
	if !x.declares() {
		not |= authz.Emergency
	}
	if len(x.c.Organizations) == 0 {
		not |= authz.Managing
	}
	return needs&not != 0
}

// scope is the part of where that no policy can widen: practice, type, and that
// to which the token's scopes narrow the request.
func (x *restriction) scope(alias string) string {
	if !x.r.Grant().Valid() {
		return "false"
	}
	zero := ""
	if x.beside {
		zero = " + 0"
	}
	return alias + ".tenant" + zero + " = " + x.tenant + " AND " + alias + ".type" + zero + " = " + x.ofType() + x.extent(alias)
}

func (x *restriction) ofType() string {
	if x.typed != "" {
		return x.typed
	}
	return x.code(x.r.Type())
}

// visible is the predicate that makes rows of alias visible which are of one of
// several types and found by something else, where Restrictions that differ in
// the type alone are written once. What x knows of the rows holds for all of them.
func (x *restriction) visible(alias string, rs []authz.Restriction) string {
	q, facts, patient := x.q, x.computed, x.patient
	var order []string
	groups := map[string][]authz.Restriction{}
	for _, r := range rs {
		if r.Empty() || !r.Grant().Valid() {
			continue
		}
		like := narrowing(r)
		for _, a := range r.Arms() {
			like += " " + strconv.Itoa(int(a.Needs)) + intArray(a.Classes)
		}
		if groups[like] == nil {
			order = append(order, like)
		}
		groups[like] = append(groups[like], r)
	}
	if len(order) == 0 {
		return "false"
	}
	terms := make([]string, len(order))
	ready := ""
	for i, like := range order {
		x := restrict(q, groups[like][0])
		x.beside, x.computed, x.patient = true, facts, patient
		if s := x.ready(); !strings.Contains(ready, s) {
			ready += s
		}
		if len(groups[like]) == 1 {
			terms[i] = "(" + x.where(alias) + ")"
			continue
		}
		codes := make([]int16, len(groups[like]))
		for j, r := range groups[like] {
			codes[j] = r.Type().Code()
		}
		terms[i] = "(" + alias + ".tenant + 0 = " + x.tenant + " AND " + alias + ".type + 0 = ANY (" +
			x.arg("types "+intArray(codes), func() any { return codes }) + "::smallint[]::integer[])" + x.extent(alias) + " AND " + x.arms(alias) + x.fullest(alias) + ")"
	}
	return ready + "(" + strings.Join(terms, " OR ") + ")"
}

// needed is every fact that some arm of rs asks for.
func needed(rs ...authz.Restriction) (all authz.Fact) {
	for _, r := range rs {
		for _, a := range r.Arms() {
			all |= a.Needs
		}
	}
	return all
}

// once is what comes behind a table in FROM, so that the facts asked for are
// computed once for each row, beside it: for the condition, and for the column.
func (x *restriction) once(alias string, ask authz.Fact) string {
	var list []string
	for _, f := range facts {
		if ask.Has(f.Bit) {
			list = append(list, x.fact(alias, f.Bit)+" AS "+factColumn(f.Bit))
		}
	}
	if list == nil {
		return ""
	}
	x.computed = "f"
	return " CROSS JOIN LATERAL (SELECT " + strings.Join(list, ", ") + " OFFSET 0) AS f"
}

func factColumn(f authz.Fact) string { return "fact" + strconv.Itoa(int(f)) }

// facts is the expression of the set of facts that hold for a row, of those asked for.
func (x *restriction) facts(alias string, ask authz.Fact) string {
	var terms []string
	for _, f := range facts {
		if ask.Has(f.Bit) {
			terms = append(terms, "CASE WHEN "+x.fact(alias, f.Bit)+" THEN "+strconv.Itoa(int(f.Bit))+" ELSE 0 END")
		}
	}
	if len(terms) == 0 {
		return "0"
	}
	return strings.Join(terms, " + ")
}

// Kinds of relations between a caller and a patient. The first two are those of
// record.relation; the others have tables of their own: see [restriction.relations].
const (
	relationTreating    = 1
	relationProxy       = 2
	relationSupervising = 3
	relationEmergency   = 4
)

func (x *restriction) fact(alias string, f authz.Fact) string {
	if x.computed != "" {
		return x.computed + "." + factColumn(f)
	}
	switch f {
	case authz.Self:
		if x.c.User.Type != "Patient" {
			return "false"
		}
		me := x.arg("patient", func() any { return string(x.c.User.ID) })
		if x.r.Type() == "Organization" {
			return x.attended(alias, me)
		}
		return "(" + alias + ".patient = " + me + " AND (" + alias + ".co_patients IS NULL OR " + alias + ".co_patients <@ ARRAY[" + me + "]))"
	case authz.Treating:
		return x.related(alias, relationTreating)
	case authz.Proxy:
		return x.related(alias, relationProxy)
	case authz.Program:
		return "(cardinality(" + alias + ".programs) > 0 AND " + alias + ".programs <@ " + x.arg("organizations", func() any { return x.c.Organizations }) + "::text[])"
	case authz.Originator:
		if x.c.User == (fhir.Ref{}) {
			return "false"
		}
		return "COALESCE(" + alias + ".originator = " + x.arg("user", func() any { return x.c.User.String() }) + ", false)"
	case authz.Consent:
		return x.consented(alias)
	case authz.Unrestricted:
		return x.unrestricted(alias)
	case authz.Supervising:
		return x.related(alias, relationSupervising)
	case authz.Emergency:
		return x.emergency(alias)
	case authz.Exception:
		return x.excepted(alias)
	case authz.Agreement:
		return x.served(alias)
	case authz.Managing:
		return x.managed(alias)
	default:
		return "false"
	}
}

// related holds when the caller stands in the relation to every patient of the row now.
func (x *restriction) related(alias string, kind int) string {
	if x.c.User == (fhir.Ref{}) {
		return "false"
	}
	co := alias + ".co_patients"
	if x.each() {
		mine := "SELECT rel.patient " + x.relations(kind)
		return "(" + alias + ".patient IS NOT NULL AND EXISTS (" + mine + " AND rel.patient = " + alias + ".patient OFFSET 0) AND (" + co + " IS NULL OR " + co + " <@ ARRAY(" + mine + ")))"
	}
	mine := x.mine(kind)
	if x.patient != "" {
		// Rows of others, or of several, are rare here: of them a function says it, or it would be planned for nothing.
		return "(" + alias + ".patient IS NOT NULL AND CASE WHEN " + alias + ".patient = " + x.of() + " AND " + co + " IS NULL THEN " + mine +
			" ELSE record.related(" + x.tenant + ", " + strconv.Itoa(kind) + ", " + x.arg("user", func() any { return x.c.User.String() }) + ", " +
			x.arg("now", func() any { return x.c.Now }) + ", array_append(" + co + ", " + alias + ".patient)) END)"
	}
	return "(" + alias + ".patient IS NOT NULL AND " + mine + " ? " + alias + ".patient AND (" + co + " IS NULL OR " + mine + " ?& " + co + "))"
}

// each says that patients are looked up one by one. Where the caller is a column
// there is no set for the whole statement.
func (x *restriction) each() bool { return x.q.columns || x.keyed }

// mine is the set of those patients, as the keys of an object: a look-up in it
// costs little, and it is made once for the statement. Of one patient it says
// whether she is among them.
func (x *restriction) mine(kind int) string {
	name := "related" + strconv.Itoa(kind)
	if x.patient != "" {
		name += "_" + strings.TrimPrefix(x.of(), "$")
		x.q.with(name, "SELECT EXISTS (SELECT "+x.relations(kind)+" AND rel.patient = "+x.of()+") AS patients")
		return "(SELECT patients FROM " + name + ")"
	}
	x.q.with(name, "SELECT COALESCE(jsonb_object_agg(rel.patient, 1), '{}') AS patients "+x.relations(kind))
	return "(SELECT patients FROM " + name + ")"
}

// of is the patient whose rows are looked for.
func (x *restriction) of() string {
	return x.arg("patient "+string(x.patient), func() any { return string(x.patient) })
}

// ready has the sets made that the arms ask for before any row is found: else
// the time that it takes would tell whether there is a row.
func (x *restriction) ready() (s string) {
	if x.each() {
		return ""
	}
	s = x.readyConsents()
	if x.c.User == (fhir.Ref{}) {
		return s
	}
	for _, f := range []struct {
		fact authz.Fact
		kind int
	}{{authz.Treating, relationTreating}, {authz.Proxy, relationProxy}, {authz.Supervising, relationSupervising}, {authz.Emergency, relationEmergency}} {
		if needed(x.r).Has(f.fact) && (f.kind != relationEmergency || x.declares()) {
			s += x.mine(f.kind) + " IS NOT NULL AND "
		}
	}
	return s
}
