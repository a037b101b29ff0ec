package notify_test

import (
	"context"
	"testing"

	"github.com/cloister-health/cloister/authz"
	"github.com/cloister-health/cloister/fhir"
	"github.com/cloister-health/cloister/fhir/record"
	"github.com/cloister-health/cloister/fhir/record/notify"
)

// slowRecords are read slowly; each is called between two reads.
type slowRecords struct {
	notify.Records
	each func()
}

func (x slowRecords) VRead(ctx context.Context, r authz.Restriction, id fhir.ID, v fhir.VersionID) (record.Sealed, error) {
	x.each()
	return x.Records.VRead(ctx, r, id, v)
}

// What takes longer to look through than a turn is held for, such as everything that an import
// wrote and hid, is looked through once, by one worker.
func TestBacklogLongerThanATurn(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	id := h.active(h.exchange(), subscription("resource-change", "id-only", "", "Encounter"))
	for range 125 {
		h.Load(encounter("eb", "bert", "sud", "planned"))
		h.Load(encounter("eb", "bert", "sud", "finished"))
	}
	h.Load(encounter("ec", "anna", "general", "planned"))
	if err := h.Subscriptions.Sequence(ctx); err != nil {
		t.Fatal(err)
	}

	reads := 0
	cfg := h.cfg
	cfg.Records = slowRecords{cfg.Records, func() {
		reads++
		h.Clock.Add(800) // milliseconds: a page takes less than a turn, all of them take more
		if reads%50 == 0 {
			if busy, err := h.Step(ctx); err != nil || busy {
				t.Errorf("another worker took the turn after %d reads: %v", reads, err)
			}
		}
	}}
	slow, err := notify.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if busy, err := slow.Step(ctx); err != nil || !busy {
		t.Fatal(busy, err)
	}
	if reads < 251 {
		t.Fatalf("%d reads: the changes fit into one turn, so nothing was tested", reads)
	}
	sent := h.box.take()
	if len(sent) != 1 {
		t.Fatalf("%d messages", len(sent))
	}
	if got := readBundle(t, sent[0].Body).events; len(got) != 1 || got[0] != "1 Encounter/ec" {
		t.Fatalf("told %q", got)
	}
	if st := h.state(id); st != "active " {
		t.Fatal(st)
	}
}
