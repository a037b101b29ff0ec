package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/postgres"
)

// crowd is a clinic with a record of every kind that a Restriction tells apart,
// and callers of every kind.
func crowd(t *testing.T) (*house, []authz.Principal, []fhir.Ref) {
	t.Helper()
	h := clinic(t)
	h.load("{'resourceType':'Organization','id':'hie','name':'Exchange'}")
	h.load(strings.NewReplacer("'team'", "'team2'", "dora", "emil", "anna", "bert").Replace(team))
	h.load(encounter("e1", "sud"))
	h.load(specific().String())
	refs := []fhir.Ref{{Type: "Patient", ID: "anna"}, {Type: "Patient", ID: "bert"}, {Type: "Practitioner", ID: "dora"}, {Type: "Observation", ID: "none"}}
	for i, who := range []string{"anna", "bert"} {
		for j, extra := range []string{"", ",'encounter':{'reference':'Encounter/e1'}", ",'meta':{'security':[{'system':'http://terminology.hl7.org/CodeSystem/v3-Confidentiality','code':'R'}]}"} {
			if who == "bert" && j == 1 {
				continue // the encounter is anna's
			}
			text := strings.Replace(observation(extra), "{", fmt.Sprintf("{'id':'o-%d-%d',", i, j), 1)
			refs = append(refs, h.load(strings.ReplaceAll(text, "Patient/anna", "Patient/"+who)))
		}
	}
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	refs = append(refs, h.mustCreate(dora, psychNote))
	gone := h.load(strings.Replace(observation(""), "{", "{'id':'gone',", 1))
	if err := h.delete(h.operator(), gone); err != nil {
		t.Fatal(err)
	}
	twice := h.load(strings.Replace(observation(""), "{", "{'id':'twice',", 1))
	h.load(strings.Replace(strings.Replace(observation(""), "{", "{'id':'twice',", 1), "'valueInteger':12", "'valueInteger':3", 1))
	refs = append(refs, gone, twice)

	launched := h.as("therapist", "TREAT", "Practitioner/dora")
	launched.Scopes, launched.Patient = mustScopes("patient/*.rs"), "anna"
	elsewhere := dora
	elsewhere.Tenant = h.other
	return h, []authz.Principal{
		dora, h.as("therapist", "TREAT", "Practitioner/emil"), h.as("therapist", "ETREAT", "Practitioner/emil"), launched, elsewhere,
		h.as("hie", "TREAT", "", "hie"), h.as("hie", "TREAT", "", "other"), h.as("hie", "HPAYMT", "", "hie"),
		h.as("sud-counselor", "TREAT", "Practitioner/emil", "sud"), h.as("patient", "PATRQT", "Patient/anna"), h.as("patient", "PATRQT", "Patient/bert"),
		h.as("front-desk", "HOPERAT", "Practitioner/emil"), h.as("privacy-officer", "HOPERAT", "Practitioner/emil"), h.operator(),
	}, refs
}

// shown is what the caller gets of an answer: the body as the gate releases it,
// or the error.
func (h *house) shown(g authz.Grant, t fhir.ResourceType, a postgres.PointAnswer) string {
	if a.Err != nil {
		return "error: " + a.Err.Error()
	}
	out, err := h.gate.Release(context.Background(), g, t, a.Sealed)
	if err != nil {
		return "not released: " + err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %t %t ", out[0].Ref(), out[0].Version(), out[0].Deleted(), out[0].Created())
	if _, err := out[0].WriteTo(&b); err != nil {
		return "not written: " + err.Error()
	}
	return b.String()
}

// Whoever shares a statement gets what she would have got alone: her rows, with
// her facts, sealed for her request.
func TestSharedReadsAreReadsAlone(t *testing.T) {
	h, callers, refs := crowd(t)
	ctx := context.Background()
	var found, missing, shared int
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 24).Draw(rt, "reads")
		reads := make([]postgres.PointRead, 0, n)
		grants := make([]authz.Grant, 0, n)
		types := make([]fhir.ResourceType, 0, n)
		for range n {
			p := rapid.SampledFrom(callers).Draw(rt, "caller")
			ref := rapid.SampledFrom(refs).Draw(rt, "resource")
			i, v := fhir.Read, fhir.VersionID(0)
			if rapid.IntRange(0, 3).Draw(rt, "kind") == 0 {
				i, v = fhir.VRead, fhir.VersionID(rapid.IntRange(1, 3).Draw(rt, "version"))
			}
			g, r, err := h.plan(p, i, ref.Type)
			if err != nil || r.Empty() {
				continue
			}
			reads, grants, types = append(reads, postgres.PointRead{Context: ctx, Restriction: r, ID: ref.ID, Version: v}), append(grants, g), append(types, ref.Type)
		}
		answers, batches := h.store.Together(reads)
		shared += len(reads) - batches
		for i, a := range answers {
			got, want := h.shown(grants[i], types[i], a), h.shown(grants[i], types[i], h.store.Alone(reads[i]))
			if got != want {
				rt.Fatalf("%s of %s by %s for %s:\n shared %s\n alone  %s", types[i], reads[i].ID, grants[i].Caller().Subject, grants[i].Caller().Purpose, got, want)
			}
			if strings.HasPrefix(got, "error: ") {
				missing++
			} else {
				found++
			}
			for j, b := range answers {
				if a.Err == nil && i != j && b.Err == nil {
					if _, err := h.gate.Release(ctx, grants[j], types[i], a.Sealed); err == nil {
						rt.Fatal("a resource was released to another request of the same statement")
					}
					break
				}
			}
		}
	})
	if found == 0 || missing == 0 || shared == 0 {
		t.Fatalf("%d found, %d missing, %d shared: the test shows nothing", found, missing, shared)
	}
}

// barred keeps every read waiting until the returned function is called.
func (h *house) barred() (release func()) {
	h.t.Helper()
	ctx := context.Background()
	c, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := c.Exec(ctx, "BEGIN; LOCK TABLE record.resource IN ACCESS EXCLUSIVE MODE"); err != nil {
		h.t.Fatal(err)
	}
	var once sync.Once
	release = func() { once.Do(func() { _ = c.Close(ctx) }) }
	h.t.Cleanup(release)
	return release
}

// eventually waits until the condition holds.
func (h *house) eventually(what string, cond func() bool) {
	h.t.Helper()
	for end := time.Now().Add(30 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("it never came about that %s", what)
		}
	}
}

type reply struct {
	sealed record.Sealed
	err    error
}

// start reads in the background.
func (h *house) start(ctx context.Context, p authz.Principal, ref fhir.Ref) <-chan reply {
	h.t.Helper()
	_, r, err := h.plan(p, fhir.Read, ref.Type)
	if err != nil {
		h.t.Fatal(err)
	}
	c := make(chan reply, 1)
	go func() {
		s, err := h.store.Read(ctx, r, ref.ID)
		c <- reply{s, err}
	}()
	return c
}

func TestReadsShareStatements(t *testing.T) {
	h := clinic(t)
	desk, ref := h.as("front-desk", "HOPERAT", "Practitioner/emil"), fhir.Ref{Type: "Patient", ID: "anna"}
	release := h.barred()
	var all []<-chan reply
	for range 300 {
		all = append(all, h.start(context.Background(), desk, ref))
	}
	h.eventually("all but one batch wait", func() bool { queued, statements := h.store.Waiting(); return queued >= 300-64 && statements == 1 })
	release()
	for _, c := range all {
		if a := <-c; a.err != nil {
			t.Fatal(a.err)
		}
	}
	h.eventually("the queue is gone", func() bool { queued, statements := h.store.Waiting(); return queued+statements == 0 })
}

// timed is a context whose time is over when the test says so.
type timed struct {
	context.Context
	over chan struct{}
}

func (c timed) Done() <-chan struct{} { return c.over }

func (c timed) Err() error {
	select {
	case <-c.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A request that goes away takes nothing from those who share its statement.
func TestOneWaiterLeaves(t *testing.T) {
	h := clinic(t)
	desk, ref := h.as("front-desk", "HOPERAT", "Practitioner/emil"), fhir.Ref{Type: "Patient", ID: "anna"}
	release := h.barred()
	first := h.start(context.Background(), desk, ref) // its statement is under way when the others queue
	h.eventually("the first read runs", func() bool { queued, statements := h.store.Waiting(); return queued == 0 && statements == 1 })
	leaving, leave := context.WithCancel(context.Background())
	soon := timed{context.Background(), make(chan struct{})}
	gone, late, stays := h.start(leaving, desk, ref), h.start(soon, desk, ref), h.start(context.Background(), desk, ref)
	h.eventually("they wait together", func() bool { queued, _ := h.store.Waiting(); return queued == 3 })
	leave()
	if a := <-gone; !errors.Is(a.err, context.Canceled) {
		t.Fatalf("who leaves gets %v", a.err)
	}
	close(soon.over)
	if a := <-late; status(a.err) != 504 {
		t.Fatalf("who has no time left gets %v", a.err)
	}
	release()
	for _, c := range []<-chan reply{first, stays} {
		if a := <-c; a.err != nil {
			t.Fatal(a.err)
		}
	}
}

// The failure of a statement is the failure of all who share it, one of the
// server that says nothing, and the next statement is not touched by it.
func TestFailedStatementFailsForAll(t *testing.T) {
	h := clinic(t)
	ctx := context.Background()
	desk, ref := h.as("front-desk", "HOPERAT", "Practitioner/emil"), fhir.Ref{Type: "Patient", ID: "anna"}
	if !h.sees(desk, ref) {
		t.Fatal("the desk does not see its patient")
	}
	c, err := pgx.Connect(ctx, h.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(ctx) }()
	if _, err := c.Exec(ctx, "REVOKE SELECT ON record.resource FROM cloister_app"); err != nil {
		t.Fatal(err)
	}
	var all []<-chan reply
	for range 20 {
		all = append(all, h.start(ctx, desk, ref))
	}
	for _, c := range all {
		a := <-c
		if status(a.err) != 500 || strings.Contains(a.err.Error(), "resource") {
			t.Fatalf("got %d, %v", status(a.err), a.err)
		}
	}
	if _, err := c.Exec(ctx, "GRANT SELECT ON record.resource TO cloister_app"); err != nil {
		t.Fatal(err)
	}
	if !h.sees(desk, ref) {
		t.Fatal("the failure lasts")
	}
}

// Close answers what waits, and what comes later fails at once.
func TestCloseAnswersReads(t *testing.T) {
	h := clinic(t)
	desk, ref := h.as("front-desk", "HOPERAT", "Practitioner/emil"), fhir.Ref{Type: "Patient", ID: "anna"}
	release := h.barred()
	all := []<-chan reply{h.start(context.Background(), desk, ref)}
	h.eventually("the first read runs", func() bool { queued, statements := h.store.Waiting(); return queued == 0 && statements == 1 })
	for range 100 {
		all = append(all, h.start(context.Background(), desk, ref))
	}
	h.eventually("the others wait", func() bool { queued, _ := h.store.Waiting(); return queued == 100 })
	closed := make(chan struct{})
	go func() { h.store.Close(); close(closed) }()
	h.eventually("no read is taken any more", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		a := <-h.start(ctx, desk, ref)
		return status(a.err) == 500
	})
	select {
	case <-closed:
		t.Fatal("the store is closed while reads are under way")
	default:
	}
	release()
	for _, c := range all {
		if a := <-c; a.err != nil {
			t.Fatal(a.err)
		}
	}
	<-closed
}

// An event that the database cannot store takes only its own request along,
// although others share its commit.
func TestOneEventIsRefused(t *testing.T) {
	h := clinic(t)
	desk := h.as("front-desk", "HOPERAT", "Practitioner/emil")
	odd := desk
	odd.Subject = "test|\x00"
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			p, want := desk, 0
			if i%20 == 0 {
				p, want = odd, 503
			}
			if _, err := h.read(p, fhir.Ref{Type: "Patient", ID: "anna"}); status(err) != want {
				t.Errorf("read %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}
