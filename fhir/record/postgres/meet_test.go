package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/authz/pdp"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
)

// deleting is a policy under which everybody may delete what she may read.
type deleting struct{ authz.PolicyDecisionPoint }

func (p deleting) Permit(q authz.Question) ([]authz.Fact, error) {
	if q.Action == authz.ActionDelete {
		q.Action = authz.ActionRead
	}
	return p.PolicyDecisionPoint.Permit(q)
}

// Hidden resources that refer to one do not keep it from being deleted, and
// nothing tells that they are there.
func TestDeleteOfWhatIsReferredTo(t *testing.T) {
	h := clinic(t)
	policy, err := pdp.New(pdp.Embedded())
	if err != nil {
		t.Fatal(err)
	}
	h.engine = authz.NewEngine(deleting{policy}, h.store, h.now)
	h.gate = record.NewGate(h.engine, h.store, h.now).Explaining(h.store)
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	del := func(ref fhir.Ref, integrity bool) error {
		_, err := h.write(dora, record.Change{Interaction: fhir.Delete, Ref: ref, Integrity: integrity})
		return err
	}
	for _, c := range []struct {
		name, referrer string
		integrity      bool
		status         int
	}{
		{"nobody refers to it", "", true, 0},
		{"a visible one refers to it", "anna", true, 409},
		{"a visible one refers to it, and that is allowed", "anna", false, 0},
		{"a hidden one refers to it", "bert", true, 0},
	} {
		t.Run(c.name, func(*testing.T) {
			ref := h.mustCreate(dora, observation(""))
			if c.referrer != "" {
				h.load(strings.Replace(observation(",'id':'r-"+string(ref.ID)+"','derivedFrom':[{'reference':'"+ref.String()+"'}]"), "Patient/anna", "Patient/"+c.referrer, 1))
			}
			h.wantStatus(c.name, del(ref, c.integrity), c.status)
		})
	}
}

// A key belongs to one attempt at a time, and what it has stored is found again.
func TestOnce(t *testing.T) {
	h := clinic(t)
	ctx := context.Background()
	now := h.now()
	o := record.Once{Tenant: h.tenant, Caller: [32]byte{1}, Key: [32]byte{2}, Request: [32]byte{3}, Attempt: record.NewID(), Lease: now.Add(1e9), Expires: now.Add(3600e9)}
	begin := func(o record.Once) (*record.Done, int) {
		t.Helper()
		d, err := h.store.Begin(ctx, o)
		return d, status(err)
	}
	if d, s := begin(o); d != nil || s != 0 {
		t.Fatal(d, s)
	}
	second := o
	second.Attempt = record.NewID()
	if _, s := begin(second); s != 409 {
		t.Errorf("two attempts at the same moment: %d", s)
	}
	other := second
	other.Request = [32]byte{4}
	if _, s := begin(other); s != 422 {
		t.Errorf("another request: %d", s)
	}
	other.Caller = [32]byte{9}
	if _, s := begin(other); s != 0 {
		t.Errorf("another caller: %d", s)
	}
	// The first attempt hangs; the second takes over, and the first can store nothing more.
	h.tick()
	h.tick()
	second.Lease = h.now().Add(60e9)
	if d, s := begin(second); d != nil || s != 0 {
		t.Fatal(d, s)
	}
	dora := h.as("therapist", "TREAT", "Practitioner/dora")
	commit := func(o record.Once) ([]record.Receipt, error) {
		g, err := h.engine.Authorize(ctx, dora, fhir.Create, "Observation")
		if err != nil {
			t.Fatal(err)
		}
		c, err := h.gate.Admit(ctx, g, record.Change{Interaction: fhir.Create, Ref: fhir.Ref{Type: "Observation"}, Content: h.resource(observation(""))})
		if err != nil {
			t.Fatal(err)
		}
		return h.store.CommitOnce(ctx, []record.Cleared{c}, o)
	}
	if _, err := commit(o); status(err) != 409 {
		t.Errorf("an attempt that was overtaken commits: %v", err)
	}
	if found, _ := h.search(dora, "Observation", "code=44261-6"); len(found) != 0 {
		t.Error("and leaves something behind")
	}
	rcs, err := commit(second)
	if err != nil {
		t.Fatal(err)
	}
	d, s := begin(o)
	if s != 0 || d == nil || len(d.Receipts) != 1 || d.Receipts[0].Ref != rcs[0].Ref || d.Receipts[0].Version != 1 || !d.Receipts[0].Created || !d.Receipts[0].Updated.Equal(rcs[0].Updated) {
		t.Fatalf("%+v %d", d, s)
	}
	if err := h.store.Settle(ctx, second, record.Done{}); err != nil {
		t.Error(err)
	}
	if d, _ := begin(o); len(d.Receipts) != 1 {
		t.Error("what was stored is overwritten")
	}
	if n, err := h.store.Forget(ctx); n != 0 || err != nil {
		t.Errorf("%d keys are forgotten too early: %v", n, err)
	}
}
