package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

const (
	mixName         = "CRUD mix"
	transactionName = "transactions"
)

// mixKinds are the interactions of the mix with their share of a hundred
// requests. Nobody at the bench may delete: the policy keeps that to few.
var mixKinds = []struct {
	name  string
	share int
}{{"read", 55}, {"search", 25}, {"create", 10}, {"update", 10}}

// ward is what the writer works on: Observations of hers, made for the run.
type ward struct {
	patients []string
	own      []string // ids of her Observations
}

const observation = `{"resourceType":"Observation",%s"status":"final","code":{"coding":[{"system":"http://loinc.org","code":"44261-6"}]},` +
	`"subject":{"reference":"Patient/%s"},"effectiveDateTime":"2026-02-01T10:00:00Z","valueQuantity":{"value":%d,"unit":"{score}","system":"http://unitsofmeasure.org","code":"{score}"}}`

// admitted makes the ward.
func (st *stage) admitted(ctx context.Context) (*ward, error) {
	w := &ward{}
	var related []string
	rows, err := st.sql.Query(ctx, "SELECT DISTINCT patient FROM record.relation WHERE tenant = $1 AND member = $2 AND kind = 1 ORDER BY patient LIMIT 100", st.tenant, st.who.writer.User)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var p string
		if err := rows.Scan(&p); err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		related = append(related, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	for _, p := range related { // some may be closed to her, or her relation over
		status, err := st.ours.do(get(st.house.address, "/fhir/Patient/"+p, st.house.writer))
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		if status == http.StatusOK {
			w.patients = append(w.patients, p)
		}
	}
	if len(w.patients) == 0 {
		return nil, errors.New("bench: the writer treats nobody whom she may see")
	}
	for i := range 200 {
		body := fmt.Sprintf(observation, "", w.patients[i%len(w.patients)], i%28)
		request := ask("POST", st.house.address, "/fhir/Observation", st.house.writer, []byte(body))
		status, err := st.ours.do([]byte(strings.Replace(string(request), "return=minimal", "return=representation", 1)))
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		var made struct{ ID string }
		if status != http.StatusCreated || json.Unmarshal(st.ours.body.Bytes(), &made) != nil || made.ID == "" {
			return nil, fmt.Errorf("bench: a create is answered %d: %.300s", status, st.ours.body.Bytes())
		}
		w.own = append(w.own, made.ID)
	}
	return w, nil
}

// mixed are the requests of the mix, in an order that repeats, so that no two
// runs differ.
func (st *stage) mixed(w *ward) []request {
	var out []request
	left := make([]int, len(mixKinds))
	for i := range 400 {
		kind := 0
		for k := range mixKinds { // the kind that is furthest behind its share comes next
			left[k] += mixKinds[k].share
			if left[k] > left[kind] {
				kind = k
			}
		}
		left[kind] -= 100
		id, patient := w.own[i%len(w.own)], w.patients[i%len(w.own)%len(w.patients)]
		method, path, body := "GET", "/fhir/Observation/"+id, ""
		switch mixKinds[kind].name {
		case "search":
			path = "/fhir/Observation?patient=" + patient + "&_count=20"
		case "create":
			method, path, body = "POST", "/fhir/Observation", fmt.Sprintf(observation, "", patient, i%28)
		case "update":
			method, body = "PUT", fmt.Sprintf(observation, `"id":"`+id+`",`, patient, i%28)
		}
		var b []byte
		if body != "" {
			b = []byte(body)
		}
		out = append(out, request{ask(method, st.house.address, path, st.house.writer, b), kind})
	}
	return out
}

// mix measures create, read, update and search of one caller, all at once.
func (st *stage) mix(ctx context.Context, r *Report) error {
	w, err := st.admitted(ctx)
	if err != nil {
		return err
	}
	asked, n := st.mixed(w), st.Clients[len(st.Clients)-1]
	all := make([][]sample, len(mixKinds))
	for round := range st.Rounds {
		var got []sample
		if err := st.profile("mix", func() (err error) { got, err = drive(ctx, st.house.address, asked, n, st.Duration); return err }); err != nil {
			return fmt.Errorf("bench: %s: %w", mixName, err)
		}
		sum := 0.0
		for k, s := range got {
			all[k] = append(all[k], s)
			sum += s.Rate
		}
		st.say("%s, %d clients, round %d of %d: %.0f/s", mixName, n, round+1, st.Rounds, sum)
	}
	for k, kind := range mixKinds {
		r.Measures = append(r.Measures, Measured{Name: mixName + ": " + kind.name, Clients: n, Sides: []Side{{Name: sideCloister, sample: middle(all[k])}}})
	}
	return nil
}

// transactionSize is the number of entries of each transaction.
const transactionSize = 20

// transactions measures Bundles of creates that refer to each other.
func (st *stage) transactions(ctx context.Context, r *Report) error {
	w, err := st.admitted(ctx)
	if err != nil {
		return err
	}
	var asked []request
	for i := range 40 {
		var entries []string
		patient := w.patients[i%len(w.patients)]
		for k := range transactionSize {
			body := fmt.Sprintf(observation, "", patient, k)
			if k > 0 {
				body = strings.Replace(body, `"status"`, `"derivedFrom":[{"reference":"urn:uuid:00000000-0000-4000-8000-000000000000"}],"status"`, 1)
			}
			entries = append(entries, fmt.Sprintf(`{"fullUrl":"urn:uuid:00000000-0000-4000-8000-%012d","resource":%s,"request":{"method":"POST","url":"Observation"}}`, k, body))
		}
		bundle := `{"resourceType":"Bundle","type":"transaction","entry":[` + strings.Join(entries, ",") + `]}`
		asked = append(asked, request{ask("POST", st.house.address, "/fhir", st.house.writer, []byte(bundle)), 0})
	}
	if status, err := st.ours.do(asked[0].bytes); err != nil || status != http.StatusOK {
		r.Measures = append(r.Measures, Measured{Name: transactionName, Note: fmt.Sprintf("not supported (%d)", status)})
		return err
	}
	return st.measure(ctx, r, fmt.Sprintf("%s of %d", transactionName, transactionSize), st.Clients[0], transactionSize, []side{{name: sideCloister, address: st.house.address, requests: asked}})
}

// watch lets the mix run and looks at the memory of this process, which holds
// server and clients both.
func (st *stage) watch(ctx context.Context, r *Report) error {
	w, err := st.admitted(ctx)
	if err != nil {
		return err
	}
	asked, n := st.mixed(w), st.Clients[len(st.Clients)-1]
	debug.FreeOSMemory() // what loading and sampling took
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	var got []sample
	go func() {
		var err error
		got, err = drive(ctx, st.house.address, asked, n, st.Mix)
		done <- err
	}()
	every := max(st.Mix/100, 100*time.Millisecond)
	t := time.NewTicker(every)
	defer t.Stop()
	m := &Memory{Clients: n, Every: every}
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("bench: %s: %w", mixName, err)
			}
			for _, s := range got {
				m.Rate += s.Rate
			}
			r.Memory = m
			return nil
		case <-t.C:
			m.Resident = append(m.Resident, resident())
			if len(m.Resident)%10 == 0 {
				st.say("%s: %.0f MB after %v", mixName, float64(m.Resident[len(m.Resident)-1])/1e6, (time.Duration(len(m.Resident)) * every).Round(time.Second))
			}
		}
	}
}
