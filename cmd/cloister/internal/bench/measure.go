package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cloister-health/cloister/authz/oidc"
	"github.com/cloister-health/cloister/cmd/cloister/internal/clinic"
	"github.com/cloister-health/cloister/cmd/cloister/internal/server"
	"github.com/cloister-health/cloister/fhir"
)

// caller is who asks: the name for the report, and what the token says.
func (b *bench) caller() (name string, c claims, err error) {
	if b.Synthea != "" {
		return "a health information exchange (role hie)", claims{
			Subject: "bench", Client: "bench", Practice: practice, Roles: []string{"hie"}, Purpose: "TREAT", Scope: "system/*.rs",
		}, nil
	}
	for _, p := range clinic.Personas(b.clinic()) {
		if p.Name == "therapist" {
			return "a therapist, by her treating relations", claims{
				Subject: p.Claims.Subject, Client: p.Claims.Client, Practice: p.Claims.Practice, Roles: p.Claims.Roles, User: p.Claims.FHIRUser,
				Organizations: p.Claims.Organizations, Purpose: p.Claims.Purpose, Scope: p.Claims.Scope,
			}, nil
		}
	}
	return "", claims{}, errors.New("bench: the sample clinic has no therapist")
}

// serve answers on the loopback interface until stop is called.
func serve(ctx context.Context, handler func(address string) (http.Handler, error)) (address string, stop func(), err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("bench: %w", err)
	}
	h, err := handler(l.Addr().String())
	if err != nil {
		_ = l.Close()
		return "", nil, err
	}
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func() { _ = s.Serve(l) }()
	return l.Addr().String(), func() { _ = s.Close() }, nil
}

// house starts Cloister with all that a request passes in production, and
// returns its address and a token.
func (b *bench) house(ctx context.Context, c claims) (address, token string, stop func(), err error) {
	var ended []func()
	stop = func() {
		for _, f := range ended {
			f()
		}
	}
	address, end, err := serve(ctx, func(address string) (http.Handler, error) {
		base := "http://" + address + "/fhir"
		iss, t, end, err := identity(ctx, base, c)
		if err != nil {
			return nil, err
		}
		ended = append(ended, end)
		token = t
		a, err := oidc.New([]oidc.Issuer{{URL: iss, Audience: base}}, b.store, time.Now)
		if err != nil {
			return nil, err
		}
		return b.core.Handler(server.Config{
			Base: base, Authenticator: a, Version: "bench", Released: time.Now(), Deadline: time.Minute, MaxBody: 1 << 20,
			Cursors: [32]byte{1}, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		})
	})
	if err != nil {
		stop()
		return "", "", nil, err
	}
	ended = append(ended, end)
	return address, token, stop, nil
}

// workload is one kind of request, in the same order for both sides.
type workload struct {
	name, file    string
	raw, cloister [][]byte
}

// run loads, starts both sides, and measures them in turns.
func (b *bench) run(ctx context.Context) (*report, error) {
	r := &report{rounds: b.Rounds, duration: b.Duration, maxConns: b.MaxConns, workers: b.Workers}
	var who claims
	var err error
	if r.caller, who, err = b.caller(); err != nil {
		return nil, err
	}
	if r.load, err = b.load(ctx); err != nil {
		return nil, err
	}
	if r.machine, err = b.machine(ctx); err != nil {
		return nil, err
	}
	ours, token, stop, err := b.house(ctx, who)
	if err != nil {
		return nil, err
	}
	defer stop()
	codes := map[string]int64{}
	theirs, end, err := serve(ctx, func(string) (http.Handler, error) { return b.rawHandler(codes), nil })
	if err != nil {
		return nil, err
	}
	defer end()
	reads, err := b.reads(ctx, who, theirs, ours, token)
	if err != nil {
		return nil, err
	}
	searches, err := b.searches(ctx, who, codes, theirs, ours, token)
	if err != nil {
		return nil, err
	}
	for _, w := range []workload{reads, searches} {
		for _, n := range b.Clients {
			m, err := b.measure(ctx, w, n, theirs, ours)
			if err != nil {
				return nil, err
			}
			r.measures = append(r.measures, m)
		}
	}
	return r, nil
}

// measured is what a workload came to at a number of clients.
type measured struct {
	name          string
	clients       int
	raw, cloister sample
	ratio         float64 // median over the rounds of Cloister's rate by the raw rate of the same round
}

func (b *bench) measure(ctx context.Context, w workload, n int, theirs, ours string) (measured, error) {
	m := measured{name: w.name, clients: n}
	var raw, cloister []sample
	var ratios []float64
	for round := range b.Rounds {
		x, err := drive(ctx, theirs, w.raw, n, b.Duration)
		if err != nil {
			return m, err
		}
		var y sample
		if err := b.profile(fmt.Sprintf("%s-%d", w.file, n), func() error { y, err = drive(ctx, ours, w.cloister, n, b.Duration); return err }); err != nil {
			return m, err
		}
		b.say("%s, %d clients, round %d of %d: raw %.0f/s, Cloister %.0f/s", w.name, n, round+1, b.Rounds, x.rate, y.rate)
		raw, cloister, ratios = append(raw, x), append(cloister, y), append(ratios, y.rate/x.rate)
	}
	m.raw, m.cloister, m.ratio = middle(raw), middle(cloister), median(ratios)
	return m, nil
}

func middle(in []sample) sample {
	of := func(f func(sample) time.Duration) time.Duration {
		var all []time.Duration
		for _, s := range in {
			all = append(all, f(s))
		}
		return median(all)
	}
	var rates []float64
	for _, s := range in {
		rates = append(rates, s.rate)
	}
	return sample{
		median(rates), of(func(s sample) time.Duration { return s.p50 }),
		of(func(s sample) time.Duration { return s.p95 }), of(func(s sample) time.Duration { return s.p99 }),
	}
}

func median[T time.Duration | float64](in []T) T {
	in = slices.Clone(in)
	slices.Sort(in)
	return in[len(in)/2]
}

const (
	maxReads    = 3000 // resources that are read in turns
	maxSearches = 1000
	leastAsked  = 5
)

// within limits a selection to the patients of a caller who sees only hers.
const within = ` AND ($2 = '' OR r.patient IN (SELECT rel.patient FROM record.relation rel WHERE rel.tenant = r.tenant AND rel.member = $2 AND rel.kind = 1))`

// reads picks resources that the caller may see, and proves that both sides answer each.
func (b *bench) reads(ctx context.Context, who claims, theirs, ours, token string) (workload, error) {
	w := workload{name: "read by id", file: "read"}
	b.say("choosing resources to read")
	rows, err := b.sql.Query(ctx, `SELECT r.type, r.id FROM record.resource r WHERE r.tenant = $1 AND NOT r.deleted AND r.patient IS NOT NULL`+within+` ORDER BY md5(r.id) LIMIT $3`, b.tenant, who.User, maxReads)
	if err != nil {
		return w, fmt.Errorf("bench: %w", err)
	}
	defer rows.Close()
	var paths []string
	for rows.Next() {
		var t int16
		var id string
		if err := rows.Scan(&t, &id); err != nil {
			return w, fmt.Errorf("bench: %w", err)
		}
		paths = append(paths, "/fhir/"+string(fhir.TypeOf(t))+"/"+id)
	}
	if err := rows.Err(); err != nil {
		return w, fmt.Errorf("bench: %w", err)
	}
	err = b.choose(ctx, &w, paths, theirs, ours, token)
	return w, err
}

// searches picks pairs of patient and code, likewise.
func (b *bench) searches(ctx context.Context, who claims, codes map[string]int64, theirs, ours, token string) (workload, error) {
	w := workload{name: "search by patient and code", file: "search"}
	b.say("choosing searches")
	rows, err := b.sql.Query(ctx, `SELECT r.patient, c->>'system', c->>'code' FROM record.resource r, jsonb_array_elements(r.body->'code'->'coding') c
WHERE r.tenant = $1 AND NOT r.deleted AND r.type = $4 AND r.patient IS NOT NULL AND r.co_patients IS NULL AND c->>'code' IS NOT NULL AND c->>'system' IS NOT NULL`+within+`
GROUP BY 1, 2, 3 HAVING count(*) > 1 ORDER BY md5(r.patient || (c->>'code')) LIMIT $3`, b.tenant, who.User, maxSearches, fhir.ResourceType("Observation").Code())
	if err != nil {
		return w, fmt.Errorf("bench: %w", err)
	}
	defer rows.Close()
	var paths []string
	for rows.Next() {
		var patient, system, code string
		if err := rows.Scan(&patient, &system, &code); err != nil {
			return w, fmt.Errorf("bench: %w", err)
		}
		text := system + "|" + code
		if codes[text], err = b.codeIndex(text); err != nil {
			return w, err
		}
		paths = append(paths, "/fhir/Observation?patient="+url.QueryEscape(patient)+"&code="+url.QueryEscape(text)+"&_count=20")
	}
	if err := rows.Err(); err != nil {
		return w, fmt.Errorf("bench: %w", err)
	}
	err = b.choose(ctx, &w, paths, theirs, ours, token)
	return w, err
}

// choose keeps the paths under which both sides give the same resources. The
// caller may see less than all, and then the raw side would do more work.
func (b *bench) choose(ctx context.Context, w *workload, paths []string, theirs, ours, token string) error {
	x, err := dial(ctx, theirs)
	if err != nil {
		return err
	}
	defer func() { _ = x.conn.Close() }()
	y, err := dial(ctx, ours)
	if err != nil {
		return err
	}
	defer func() { _ = y.conn.Close() }()
	for _, path := range paths {
		raw, cloister := get(theirs, path, ""), get(ours, path, token)
		xs, err := x.do(raw)
		if err != nil {
			return fmt.Errorf("bench: %s: %w", path, err)
		}
		ys, err := y.do(cloister)
		if err != nil {
			return fmt.Errorf("bench: %s: %w", path, err)
		}
		if xs != http.StatusOK {
			return fmt.Errorf("bench: the raw side answers %d", xs)
		}
		if ys != http.StatusOK {
			continue
		}
		want, got := ids(x.body.Bytes()), ids(y.body.Bytes())
		if len(want) > 0 && slices.Equal(want, got) {
			w.raw, w.cloister = append(w.raw, raw), append(w.cloister, cloister)
		}
	}
	b.say("%s: %d of %d candidates have the same answer on both sides", w.name, len(w.raw), len(paths))
	if len(w.raw) < leastAsked {
		return fmt.Errorf("bench: %s: only %d of %d requests have the same answer on both sides", w.name, len(w.raw), len(paths))
	}
	return nil
}

// ids lists the resources of an answer, in order.
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
		out = append(out, e.Resource.ResourceType+"/"+e.Resource.ID)
	}
	return out
}
