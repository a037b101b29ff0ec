package evidence

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloister-health/cloister/authz/audit/trail"
)

// Fault says what is wrong with something in the trail.
type Fault string

// The faults.
const (
	Altered      Fault = "altered"    // a row is not what it was when it was sealed
	Removed      Fault = "removed"    // a sealed row is not there
	Inserted     Fault = "inserted"   // a row is there that was not when its number was sealed
	Forged       Fault = "forged"     // no server wrote the row
	BadLink      Fault = "link"       // a link was altered, removed, inserted, or reordered
	BadPoint     Fault = "checkpoint" // a checkpoint is forged or missing, or the chains do not agree with it
	Truncated    Fault = "truncated"  // a checkpoint from outside is not in the database
	BadStructure Fault = "structure"  // a table is not what the migrations made
)

// Finding is one fault.
type Finding struct {
	Fault  Fault
	Month  string // or ""
	Table  string // or ""
	ID     string // of the row, or ""
	Seq    int64  // of the row, or number of the link or the checkpoint
	Detail string
}

// String is a line for the terminal. It holds nothing of what a row says.
func (f Finding) String() string {
	s := string(f.Fault) + ":"
	if f.Month != "" {
		s += " " + f.Month
	}
	if f.Table != "" {
		s += " audit." + f.Table
	}
	if f.ID != "" {
		s += " " + f.ID
	}
	return s + fmt.Sprintf(" (number %d): %s", f.Seq, f.Detail)
}

// Report is what was verified.
type Report struct {
	Rows, Links, Checkpoints int64
	Found                    int64 // rows that were there before rows were marked
	Months                   []string
	Dropped                  []string // months that retention ended
	Unsealed                 int64    // rows that no link seals yet
	Oldest                   time.Time
	Unsigned                 int64 // rows in links that no checkpoint names yet
	Last                     trail.Checkpoint
	Findings                 int64
}

// Verification says what is verified.
type Verification struct {
	URL      string // connection string of a login that is a member of RoleSeal
	Keys     *trail.Keys
	From, To trail.Month // of the rows; the zero value leaves open. Checkpoints are always verified
	// Outside yields checkpoints that were kept outside of the database, one after the other, io.EOF at the end. Or nil.
	Outside  func() (trail.Signed, error)
	Finding  func(Finding)
	Progress func(rows int64) // or nil
}

type verifier struct {
	Verification
	pool    *pgxpool.Pool
	tables  []table
	through int64 // what is sealed when it begins
	handed  int64
	newest  int64 // checkpoint when it begins
	state   state
	dropped map[string]int64 // by the checkpoint of that number
	report  Report
}

// Verify reads the whole trail, or the months that are asked for, in bounded memory, and reports every fault that it finds.
func Verify(ctx context.Context, v Verification) (Report, error) {
	const kinds = 3
	// One connection for each table that is read beside the others, one for links, one for the rest.
	pool, err := connect(ctx, v.URL, RoleSeal, kinds+2)
	if err != nil {
		return Report{}, err
	}
	defer pool.Close()
	r := &verifier{Verification: v, pool: pool, dropped: map[string]int64{}}
	if err := r.run(ctx); err != nil {
		return r.report, fmt.Errorf("evidence: the trail cannot be read to its end: %w", private(err))
	}
	return r.report, nil
}

func (v *verifier) fault(f Finding) {
	v.report.Findings++
	v.Finding(f)
}

func (v *verifier) run(ctx context.Context) (err error) {
	if err := v.structure(ctx); err != nil {
		return err
	}
	if v.tables, err = tables(ctx, v.pool); err != nil {
		return err
	}
	// Links are written before what is signed of them: in this order no checkpoint names one that is not looked at.
	if err := v.pool.QueryRow(ctx, "SELECT COALESCE(max(number), 0) FROM audit.checkpoint").Scan(&v.newest); err != nil {
		return err
	}
	if v.through, err = sealed(ctx, v.pool); err != nil {
		return err
	}
	if v.handed, err = handed(ctx, v.pool); err != nil {
		return err
	}
	if err := v.checkpoints(ctx); err != nil {
		return err
	}
	if err := v.outside(ctx); err != nil {
		return err
	}
	months, err := v.months(ctx)
	if err != nil {
		return err
	}
	begin := v.From
	for _, m := range months {
		if !v.asked(m) {
			continue
		}
		if err := v.between(ctx, begin, m); err != nil {
			return err
		}
		if err := v.month(ctx, m); err != nil {
			return err
		}
		begin = m.Next()
		v.report.Months = append(v.report.Months, m.String())
	}
	end := trail.Month{}
	if !v.To.IsZero() {
		end = v.To.Next()
	}
	return v.between(ctx, begin, end)
}

func (v *verifier) asked(m trail.Month) bool {
	return (v.From.IsZero() || !m.Before(v.From.Time)) && (v.To.IsZero() || !m.After(v.To.Time))
}

// structure looks whether the tables are those that the migrations made: a view or a rule in their place could show anything.
func (v *verifier) structure(ctx context.Context) error {
	var name, fault string
	return forEach(ctx, v.pool, `SELECT name, COALESCE(CASE
 WHEN c.oid IS NULL THEN 'is not there'
 WHEN c.relkind NOT IN ('p', 'r') OR (c.relkind = 'p') <> (name <> 'checkpoint') THEN 'is no table of the right kind'
 WHEN pg_get_userbyid(c.relowner) <> $1 THEN 'does not belong to ' || $1
 WHEN c.relrowsecurity THEN 'hides rows'
 WHEN c.relhasrules THEN 'has rules' END, '')
FROM unnest(ARRAY['event', 'security', 'downgrade', 'link', 'checkpoint']) AS name LEFT JOIN pg_class c ON c.relname = name AND c.relnamespace = 'audit'::regnamespace
UNION ALL
SELECT c.relname, CASE
 WHEN c.relkind <> 'r' THEN 'is no table'
 WHEN pg_get_userbyid(c.relowner) <> $1 THEN 'does not belong to ' || $1
 WHEN c.relrowsecurity THEN 'hides rows'
 WHEN c.relhasrules THEN 'has rules' ELSE '' END
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent WHERE p.relnamespace = 'audit'::regnamespace AND p.relkind = 'p'
UNION ALL
SELECT c.relname, 'may be changed: its trigger append_only is missing or disabled'
FROM pg_class c WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'forwarded'
AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'append_only' AND t.tgenabled IN ('O', 'A') AND t.tgfoid = 'audit.append_only()'::regprocedure)
UNION ALL
SELECT p.relname, 'lacks its default partition' FROM pg_class p JOIN pg_partitioned_table t ON t.partrelid = p.oid WHERE p.relnamespace = 'audit'::regnamespace AND t.partdefid = 0`, []any{RoleOwner}, []any{&name, &fault}, func() error {
		if fault != "" {
			v.fault(Finding{Fault: BadStructure, Table: name, Detail: fault})
		}
		return nil
	})
}

// mention is a link that a checkpoint names.
type mention struct {
	number int64
	trail.Head
}

// mentions is how many links are looked up at a time.
const mentions = 500

// checkpoints verifies the signed statements, and that the links that they name are there.
func (v *verifier) checkpoints(ctx context.Context) error {
	rows, err := v.pool.Query(ctx, "SELECT number, at, body, signature FROM audit.checkpoint WHERE number <= $1 ORDER BY number", v.newest)
	if err != nil {
		return err
	}
	defer rows.Close()
	var open, missing []mention
	first := int64(0)
	bad := func(n int64, detail string) { v.fault(Finding{Fault: BadPoint, Seq: n, Detail: detail}) }
	for rows.Next() {
		var number int64
		var at time.Time
		var x trail.Signed
		if err := rows.Scan(&number, &at, &x.Body, &x.Signature); err != nil {
			return err
		}
		v.report.Checkpoints++
		c, err := v.Keys.Open(x)
		switch {
		case err != nil:
			bad(number, "no key of the key set signed it")
		case c.Number != number || !c.At.Equal(at):
			bad(number, "its row says something else than what is signed")
		case first == 0 && !c.Whole:
			bad(number, "the ones before it are missing")
		case first != 0 && c.Number != v.state.number+1:
			bad(number, fmt.Sprintf("the ones after %d and before it are missing", v.state.number))
		case first != 0 && c.Previous != v.state.hash:
			bad(number, "it follows another checkpoint than the one before it")
		case first != 0 && c.Through < v.state.through:
			bad(number, "it goes back behind the one before it")
		}
		if first == 0 {
			first = number
		}
		if err != nil {
			v.state.number, v.state.hash = number, x.Hash()
			continue
		}
		for _, s := range c.Suspect {
			if s.Month == "" {
				bad(s.N, fmt.Sprintf("it was changed before checkpoint %d was signed", c.Number))
			} else {
				v.fault(Finding{Fault: BadLink, Month: s.Month, Seq: s.N, Detail: fmt.Sprintf("no sealer made it, or it was removed, before checkpoint %d was signed", c.Number)})
			}
		}
		if c.Whole && first != number {
			for name := range v.state.heads {
				if !slices.ContainsFunc(append(c.Months, c.Dropped...), func(h trail.Head) bool { return h.Month == name }) {
					bad(number, "it does not name the month "+name)
				}
			}
		}
		v.state.apply(c, x.Hash())
		for _, h := range c.Dropped {
			v.dropped[h.Month] = c.Number
		}
		v.report.Last = c
		for _, h := range c.Months {
			open = append(open, mention{c.Number, h})
		}
		if len(open) >= mentions {
			if missing, err = v.lookUp(ctx, open, missing); err != nil {
				return err
			}
			open = open[:0]
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if missing, err = v.lookUp(ctx, open, missing); err != nil {
		return err
	}
	for _, m := range missing {
		v.disagree(m)
	}
	switch {
	case first == 0 && (v.through != math.MinInt64 || v.handed > 0):
		bad(0, "there is none, but there are rows: the trail was never signed, or all checkpoints were removed")
		v.state.through = math.MinInt64
	case first > v.state.first:
		bad(first, fmt.Sprintf("the ones from %d on and before it are missing", v.state.first))
	}
	if v.state.through > v.through {
		bad(v.state.number, "links that it names are missing")
	}
	for name, n := range v.dropped {
		if _, again := v.state.heads[name]; !again && n > 0 {
			v.report.Dropped = append(v.report.Dropped, name)
		}
	}
	slices.Sort(v.report.Dropped)
	return nil
}

// lookUp compares what checkpoints name with the links that there are; disagreeing is what the end of a month may explain.
func (v *verifier) lookUp(ctx context.Context, list, disagreeing []mention) ([]mention, error) {
	months, numbers := make([]time.Time, 0, len(list)), make([]int64, 0, len(list))
	for _, m := range list {
		month, err := trail.ParseMonth(m.Month)
		if err != nil {
			return nil, err
		}
		months, numbers = append(months, month.Time), append(numbers, m.Links)
	}
	i := 0
	var hash string
	if err := forEach(ctx, v.pool, "SELECT COALESCE(encode(l.hash, 'hex'), '') FROM unnest($1::date[], $2::bigint[]) WITH ORDINALITY AS x(month, n, i) LEFT JOIN audit.link l ON l.month = x.month AND l.n = x.n ORDER BY x.i", []any{months, numbers}, []any{&hash}, func() error {
		if hash != list[i].Hash {
			disagreeing = append(disagreeing, list[i])
		}
		i++
		return nil
	}); err != nil {
		return nil, err
	}
	// A database that is all wrong must not fill the memory: the first ones say enough.
	if len(disagreeing) > 4*mentions {
		for _, m := range disagreeing {
			v.disagree(m)
		}
		disagreeing = disagreeing[:0]
	}
	return disagreeing, nil
}

func (v *verifier) disagree(m mention) {
	if m.number <= v.dropped[m.Month] {
		return
	}
	v.fault(Finding{Fault: BadPoint, Month: m.Month, Seq: m.number, Detail: fmt.Sprintf("link %d is not the one that it names, or is missing", m.Links)})
}

// outside compares checkpoints that were kept elsewhere with those of the database.
func (v *verifier) outside(ctx context.Context) error {
	if v.Outside == nil {
		return nil
	}
	for {
		x, err := v.Outside()
		if x.Body == "" && err != nil {
			if isEnd(err) {
				return nil
			}
			return err
		}
		c, err := v.Keys.Open(x)
		if err != nil {
			v.fault(Finding{Fault: BadPoint, Detail: "a checkpoint from outside is signed by no key of the key set"})
			continue
		}
		var have trail.Signed
		err = v.pool.QueryRow(ctx, "SELECT body, signature FROM audit.checkpoint WHERE number = $1", c.Number).Scan(&have.Body, &have.Signature)
		switch {
		case errors.Is(err, pgx.ErrNoRows) && c.Number < v.state.first: // retention ended it
		case errors.Is(err, pgx.ErrNoRows):
			v.fault(Finding{Fault: Truncated, Seq: c.Number, Detail: "the database does not know this checkpoint: what was recorded up to it is missing, or was replaced"})
		case err != nil:
			return err
		case have.Hash() != x.Hash():
			v.fault(Finding{Fault: Truncated, Seq: c.Number, Detail: "the database has another checkpoint of this number: the trail was replaced from some earlier one on"})
		}
	}
}

// months lists those that have links, or that checkpoints name.
func (v *verifier) months(ctx context.Context) ([]trail.Month, error) {
	rows, err := v.pool.Query(ctx, `WITH RECURSIVE m(month) AS (SELECT min(month) FROM audit.link UNION ALL SELECT (SELECT min(l.month) FROM audit.link l WHERE l.month > m.month) FROM m WHERE m.month IS NOT NULL)
SELECT month FROM m WHERE month IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (trail.Month, error) {
		var t time.Time
		err := row.Scan(&t)
		return trail.MonthOf(t), err
	})
	if err != nil {
		return nil, err
	}
	for name := range v.state.heads {
		m, err := trail.ParseMonth(name)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(list, func(x trail.Month) bool { return x.Equal(m.Time) }) {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b trail.Month) int { return a.Compare(b.Time) })
	return list, nil
}
