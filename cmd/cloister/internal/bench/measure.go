package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-health/cloister/fhir"
)

// Sides of a measurement.
const (
	sideRaw       = "raw"
	sideCloister  = "Cloister"
	sideUnaudited = "Cloister without audit"
	// To it, the same with somebody who is told is compared as Cloister to the raw side.
	sideUnsubscribed = "nobody subscribed"
)

// side is one server that is asked.
type side struct {
	name     string
	address  string
	requests []request
	before   func(context.Context) error // each round; nil: nothing
}

// stage is what a run measures on.
type stage struct {
	*bench
	who         people
	raw         *raw
	rawAddress  string
	house, bare *house // bare keeps no audit
	spy         *spy
	ours        *client // of house
	theirs      *client // of the raw side
}

// run loads, starts all sides, and measures them in turns.
func (b *bench) run(ctx context.Context) (*Report, error) {
	r := &Report{Set: b.set.name, Rounds: b.Rounds, Duration: b.Duration, MaxConns: b.MaxConns}
	var err error
	if r.Load, err = b.load(ctx); err != nil {
		return nil, err
	}
	if r.Machine, err = b.machine(ctx); err != nil {
		return nil, err
	}
	st := &stage{bench: b}
	defer func() {
		for _, h := range []*house{st.house, st.bare} {
			if h != nil {
				h.stop()
			}
		}
	}()
	if st.who, err = b.people(ctx); err != nil {
		return nil, err
	}
	r.Caller = st.who.name
	if st.house, err = b.open(ctx, b.core, st.who, false); err != nil {
		return nil, err
	}
	if st.bare, err = b.open(ctx, b.unrecorded(), st.who, false); err != nil {
		return nil, err
	}
	var stop func()
	if st.spy, stop, err = b.spied(ctx, st.who); err != nil {
		return nil, err
	}
	defer stop()
	st.raw = &raw{b: b}
	if st.raw.searches, err = b.pool(ctx, freshPlans); err != nil {
		return nil, err
	}
	defer st.raw.searches.Close()
	if st.rawAddress, stop, err = serve(ctx, func(string) (http.Handler, error) { return st.raw.handler(), nil }); err != nil {
		return nil, err
	}
	defer stop()
	if st.ours, err = dial(ctx, st.house.address); err != nil {
		return nil, err
	}
	defer func() { _ = st.ours.conn.Close() }()
	if st.theirs, err = dial(ctx, st.rawAddress); err != nil {
		return nil, err
	}
	defer func() { _ = st.theirs.conn.Close() }()
	if err := st.measureAll(ctx, r); err != nil {
		return nil, err
	}
	r.judge()
	return r, nil
}

func (st *stage) measureAll(ctx context.Context, r *Report) error {
	if st.wanted(readFamily) {
		if err := st.reads(ctx, r); err != nil {
			return err
		}
	}
	for _, f := range families {
		if st.wanted(f.name) {
			if err := st.search(ctx, r, f); err != nil {
				return err
			}
		}
	}
	if st.wanted(segmentationName) {
		if err := st.segmentation(ctx, r); err != nil {
			return err
		}
	}
	for _, w := range []struct {
		name string
		run  func(context.Context, *Report) error
	}{{mixName, st.mix}, {transactionName, st.transactions}, {notifyName, st.notifications}} {
		if st.wanted(w.name) {
			if err := w.run(ctx, r); err != nil {
				return err
			}
		}
	}
	if err := st.bulk(ctx, r); err != nil {
		return err
	}
	if st.Mix > 0 {
		return st.watch(ctx, r)
	}
	return nil
}

func (st *stage) wanted(name string) bool { return st.Only == nil || st.Only.MatchString(name) }

// member limits what is sampled to the patients of a caller who sees only hers.
func (st *stage) member() string { return st.who.reader.User }

// measure asks all sides in turns, round by round, and appends the medians.
func (st *stage) measure(ctx context.Context, r *Report, name string, n int, entries float64, sides []side) error {
	all := make([][]sample, len(sides))
	for round := range st.Rounds {
		var said []string
		for i, s := range sides {
			if s.before != nil {
				if err := s.before(ctx); err != nil {
					return fmt.Errorf("bench: %s, %s: %w", name, s.name, err)
				}
			}
			var got []sample
			measure := func() (err error) { got, err = drive(ctx, s.address, s.requests, n, st.Duration); return err }
			var err error
			if s.name == sideCloister {
				err = st.profile(fmt.Sprintf("%s-%d", strings.Map(plainName, name), n), measure)
			} else {
				err = measure()
			}
			if err != nil {
				return fmt.Errorf("bench: %s, %s: %w", name, s.name, err)
			}
			all[i] = append(all[i], got[0])
			said = append(said, fmt.Sprintf("%s %.0f/s (%v + %v)", s.name, got[0].Rate, got[0].Own.Round(time.Microsecond), got[0].Database.Round(time.Microsecond)))
		}
		st.say("%s, %d clients, round %d of %d: %s", name, n, round+1, st.Rounds, strings.Join(said, ", "))
	}
	m := Measured{Name: name, Clients: n, Entries: entries}
	for i, s := range sides {
		x := Side{Name: s.name, sample: middle(all[i])}
		if base := sides[0].name; i > 0 && (base == sideRaw || base == sideUnsubscribed) {
			var ratios, costs []float64
			for k := range all[i] {
				ratios = append(ratios, all[i][k].Rate/all[0][k].Rate)
				if cost := all[i][k].Own + all[i][k].Database; cost > 0 {
					costs = append(costs, float64(all[0][k].Own+all[0][k].Database)/float64(cost))
				}
			}
			x.Ratio = median(ratios)
			if len(costs) > 0 {
				x.CPURatio = median(costs)
			}
		}
		m.Sides = append(m.Sides, x)
	}
	r.Measures = append(r.Measures, m)
	return nil
}

func plainName(c rune) rune {
	if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' {
		return c
	}
	return '-'
}

func middle(in []sample) sample {
	of := func(f func(sample) time.Duration) time.Duration {
		all := make([]time.Duration, len(in))
		for i, s := range in {
			all[i] = f(s)
		}
		return median(all)
	}
	rates := make([]float64, len(in))
	for i, s := range in {
		rates[i] = s.Rate
	}
	return sample{
		median(rates), of(func(s sample) time.Duration { return s.P50 }), of(func(s sample) time.Duration { return s.P95 }),
		of(func(s sample) time.Duration { return s.P99 }), of(func(s sample) time.Duration { return s.Own }), of(func(s sample) time.Duration { return s.Database }),
	}
}

func median[T time.Duration | float64](in []T) T {
	in = slices.Clone(in)
	slices.Sort(in)
	return in[(len(in)-1)/2]
}

// reads measures reads by id of resources that both sides give, with and without audit.
func (st *stage) reads(ctx context.Context, r *Report) error {
	rows, err := st.sql.Query(ctx, "SELECT r.type, r.id FROM record.resource r WHERE r.tenant = $1 AND NOT r.deleted AND r.patient IS NOT NULL"+mine+" ORDER BY md5(r.id) LIMIT $3", st.tenant, st.member(), maxReads)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer rows.Close()
	var paths []string
	for rows.Next() {
		var t int16
		var id string
		if err := rows.Scan(&t, &id); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		paths = append(paths, "/fhir/"+string(fhir.TypeOf(t))+"/"+id)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	var same []string
	for _, path := range paths {
		if ok, _, err := st.alike(path, path); err != nil {
			return err
		} else if ok {
			same = append(same, path)
		}
	}
	if len(same) < leastRaw {
		return fmt.Errorf("bench: %s: only %d of %d requests have the same answer on both sides", readFamily, len(same), len(paths))
	}
	st.say("%s: %d of %d candidates have the same answer on both sides", readFamily, len(same), len(paths))
	for _, n := range st.Clients {
		if err := st.measure(ctx, r, readFamily, n, 1, st.sides(same, same)); err != nil {
			return err
		}
	}
	return nil
}

// sides makes the servers of a comparison with and without audit.
func (st *stage) sides(raw, ours []string) []side {
	var rawAsked, audited, bare []request
	for _, p := range raw {
		rawAsked = append(rawAsked, request{get(st.rawAddress, p, ""), 0})
	}
	for _, p := range ours {
		audited = append(audited, request{get(st.house.address, p, st.house.reader), 0})
		bare = append(bare, request{get(st.bare.address, p, st.bare.reader), 0})
	}
	return []side{{name: sideRaw, address: st.rawAddress, requests: rawAsked}, {name: sideCloister, address: st.house.address, requests: audited}, {name: sideUnaudited, address: st.bare.address, requests: bare}}
}

// alike tells whether the raw side and Cloister give the same resources, and
// how many; -1 where Cloister gives none.
func (st *stage) alike(rawPath, path string) (same bool, entries int, err error) {
	status, err := st.ours.do(get(st.house.address, path, st.house.reader))
	if err != nil {
		return false, 0, fmt.Errorf("bench: %s: %w", path, err)
	}
	if status != http.StatusOK {
		return false, -1, nil
	}
	got := ids(st.ours.body.Bytes())
	if rawPath == "" {
		return false, len(got), nil
	}
	if status, err = st.theirs.do(get(st.rawAddress, rawPath, "")); err != nil {
		return false, 0, fmt.Errorf("bench: %s: %w", rawPath, err)
	}
	if status != http.StatusOK {
		return false, 0, fmt.Errorf("bench: %s: the raw side answers %d", path, status)
	}
	want := ids(st.theirs.body.Bytes())
	return len(want) > 0 && slices.Equal(want, got), len(got), nil
}

// ids lists the resources of an answer, sorted.
func ids(body []byte) []string {
	var r struct {
		ResourceType, ID string
		Entry            []struct {
			Resource struct{ ResourceType, ID string }
		}
	}
	if json.Unmarshal(body, &r) != nil {
		return nil
	}
	if r.ResourceType != "Bundle" {
		return []string{r.ResourceType + "/" + r.ID}
	}
	var out []string
	for _, e := range r.Entry {
		if e.Resource.ResourceType != "OperationOutcome" {
			out = append(out, e.Resource.ResourceType+"/"+e.Resource.ID)
		}
	}
	slices.Sort(out)
	return out
}

// search measures a family: with few clients, and the patient-and-code search
// with all numbers and without audit, too.
func (st *stage) search(ctx context.Context, r *Report, f family) error {
	w, err := st.prepare(ctx, f)
	if err != nil {
		return err
	}
	if len(w.cloister) == 0 {
		status := "not supported"
		if w.status == 0 {
			status = "no data"
		} else if w.status != http.StatusOK {
			status += " (" + strconv.Itoa(w.status) + ")"
		}
		st.say("%s: %s", f.name, status)
		r.Measures = append(r.Measures, Measured{Name: f.name, Note: status})
		return nil
	}
	sides := st.sides(w.raw, w.cloister)
	counts := st.Clients[:1]
	if f.name == searchFamily {
		counts = st.Clients
	} else {
		sides = sides[:2]
	}
	if len(w.raw) == 0 {
		sides = sides[1:]
	}
	for _, n := range counts {
		err := st.measure(ctx, r, f.name, n, w.entries, sides)
		if errors.Is(err, errNoAnswer) {
			r.Measures = append(r.Measures, Measured{Name: f.name, Clients: n, Note: fmt.Sprintf("no answer within %v", st.Duration)})
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pageSize is _count of a path.
func pageSize(path string) int {
	u, err := url.Parse(path)
	if err != nil {
		return 0
	}
	if n, err := strconv.Atoi(u.Query().Get("_count")); err == nil {
		return n
	}
	return 20
}

// prepare samples a family, and keeps the requests that the server answers and,
// where it can be compared, those to which the operator's SQL by hand gives the same.
func (st *stage) prepare(ctx context.Context, f family) (*workload, error) {
	w := &workload{family: f}
	paths, err := st.paths(ctx, f, st.member())
	if err != nil || len(paths) == 0 {
		return w, err
	}
	status, ok, err := supported(st.ours, get(st.house.address, paths[0], st.house.reader), paths[0])
	if w.status = status; err != nil || !ok {
		return w, err
	}
	var same, rawPaths []string
	total := 0
	for n, path := range paths {
		rawPath := ""
		if f.page {
			statements, err := st.spy.watch(path, operatorToken)
			if err != nil {
				return w, fmt.Errorf("bench: %s: %w", path, err)
			}
			if n < explained {
				if err := st.explain(ctx, f.name, path, statements); err != nil {
					return w, err
				}
			}
			if len(statements) > 0 {
				st.raw.plans = append(st.raw.plans, plan{statements, pageSize(path)})
				rawPath = "/search/" + strconv.Itoa(len(st.raw.plans)-1)
			}
		}
		ok, entries, err := st.alike(rawPath, path)
		if err != nil {
			return w, err
		}
		if ok {
			same, rawPaths = append(same, path), append(rawPaths, rawPath)
		}
		if entries >= 0 {
			total += entries
			w.cloister = append(w.cloister, path)
		}
	}
	w.entries = float64(total) / float64(max(len(w.cloister), 1))
	if len(same) >= leastRaw || len(same) == len(paths) && len(same) > 0 {
		w.cloister, w.raw = same, rawPaths
	}
	st.say("%s: %d requests, %d with the same answer on both sides, %.1f entries each", f.name, len(paths), len(same), w.entries)
	return w, nil
}
